package xwin

import (
	"encoding/binary"
	"fmt"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// Requests of the two extensions that xgb has no package for. Layouts: the X
// keyboard extension protocol and XI2proto.

// raw sends a request with the given minor opcode and body and waits for its
// reply if it has one, else for the server to have accepted it.
func raw(x *xgb.Conn, major, minor byte, body []byte, reply bool) ([]byte, error) {
	b := append([]byte{major, minor, 0, 0}, body...)
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)/4))
	c := x.NewCookie(true, reply)
	x.NewRequest(b, c)
	if reply {
		return c.Reply()
	}
	return nil, c.Check()
}

// words packs 16-bit values.
func words(v ...uint16) []byte {
	var b []byte
	for _, w := range v {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	return b
}

// useKeyboardExtension asks for key repeats without made-up releases, and to
// keep being told of changed keyboard mappings.
func useKeyboardExtension(x *xgb.Conn, s *stream) error {
	const name = "XKEYBOARD"
	q, err := xproto.QueryExtension(x, uint16(len(name)), name).Reply()
	if err != nil || !q.Present {
		return fmt.Errorf("x keyboard extension: present %t: %w", q != nil && q.Present, err)
	}
	s.xkb = q.FirstEvent
	const useExtension, selectEvents, perClientFlags, coreKeyboard = 0, 1, 21, 0x100
	if _, err := raw(x, q.MajorOpcode, useExtension, words(1, 0), true); err != nil {
		return fmt.Errorf("x keyboard extension: use: %w", err)
	}
	const newKeyboard, mapNotify = 1, 2
	if _, err := raw(x, q.MajorOpcode, selectEvents, words(coreKeyboard, newKeyboard|mapNotify, 0, 0, 0xff, 0xff, 7, 7), false); err != nil {
		return fmt.Errorf("x keyboard extension: select: %w", err)
	}
	const detectableRepeat = 1
	flags := words(coreKeyboard, 0, detectableRepeat, 0, detectableRepeat, 0, 0, 0, 0, 0, 0, 0)
	if _, err := raw(x, q.MajorOpcode, perClientFlags, flags, true); err != nil {
		return fmt.Errorf("x keyboard extension: flags: %w", err)
	}
	return nil
}

// selectRawMotion asks for what mice do before the screen's edges stop the pointer.
func selectRawMotion(x *xgb.Conn, s *stream, root xproto.Window) error {
	const name = "XInputExtension"
	q, err := xproto.QueryExtension(x, uint16(len(name)), name).Reply()
	if err != nil || !q.Present {
		return fmt.Errorf("x input extension: present %t: %w", q != nil && q.Present, err)
	}
	const queryVersion, selectEvents = 47, 46
	if _, err := raw(x, q.MajorOpcode, queryVersion, words(2, 2), true); err != nil {
		return fmt.Errorf("x input extension: version: %w", err)
	}
	s.xi = q.MajorOpcode
	const allMasters, rawMotion = 1, 17
	body := binary.LittleEndian.AppendUint32(nil, uint32(root))
	body = append(body, words(1, 0, allMasters, 1)...)
	body = binary.LittleEndian.AppendUint32(body, 1<<rawMotion)
	if _, err := raw(x, q.MajorOpcode, selectEvents, body, false); err != nil {
		return fmt.Errorf("x input extension: select: %w", err)
	}
	return nil
}
