// Package xwin is the playground's window: an X connection as any program has
// it (DISPLAY, XAUTHORITY), one window that fills the screen and follows its
// size, and two shared-memory pictures that are shown in turn. It promises
// that showing a picture never blocks: when the X server is slow there is no
// free picture, and the caller skips a frame. Pure Go on jezek/xgb.
package xwin

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// dialLimit bounds connecting and the handshake.
const dialLimit = 5 * time.Second

// dial connects to the display and authenticates with its cookie, if it has one.
func dial(ctx context.Context, display, authority string) (*xgb.Conn, *stream, error) {
	network, address, number, err := endpoint(display)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to display %s: %w", display, err)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	s := &stream{Conn: c, r: bufio.NewReaderSize(c, 64<<10), setup: setupRequest(cookie(authority, number))}
	x, err := xgb.NewConnNet(s)
	if err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("connect to display %s: %w", display, err)
	}
	if !stop() {
		x.Close()
		return nil, nil, fmt.Errorf("connect to display %s: %w", display, context.Cause(ctx))
	}
	return x, s, nil
}

// endpoint takes a display name apart: ":7", "unix:7", "host:7.0", "/path/socket:7".
func endpoint(display string) (network, address string, number int, err error) {
	host, rest, ok := cutLast(display, ":")
	if !ok {
		return "", "", 0, fmt.Errorf("display %q: no colon in it; is DISPLAY set?", display)
	}
	rest, _, _ = strings.Cut(rest, ".")
	number, err = strconv.Atoi(rest)
	if err != nil || number < 0 {
		return "", "", 0, fmt.Errorf("display %q: bad number", display)
	}
	switch {
	case host == "" || host == "unix":
		return "unix", "/tmp/.X11-unix/X" + rest, number, nil
	case strings.HasPrefix(host, "/"):
		return "unix", display, number, nil
	}
	return "tcp", net.JoinHostPort(host, strconv.Itoa(6000+number)), number, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

const cookieName = "MIT-MAGIC-COOKIE-1"

// cookie finds the display's MIT-MAGIC-COOKIE-1 in the authority file (or
// ~/.Xauthority), nil when there is none: then the server decides.
func cookie(file string, display int) []byte {
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		file = filepath.Join(home, ".Xauthority")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	r := bufio.NewReader(io.LimitReader(f, 1<<20))
	host, _ := os.Hostname() // empty matches wildcard entries only
	for {
		var family uint16
		if binary.Read(r, binary.BigEndian, &family) != nil {
			return nil
		}
		var field [4][]byte // address, display number, name, data
		for i := range field {
			var n uint16
			if binary.Read(r, binary.BigEndian, &n) != nil {
				return nil
			}
			field[i] = make([]byte, n)
			if _, err := io.ReadFull(r, field[i]); err != nil {
				return nil
			}
		}
		const local, wild = 256, 65535
		if family != wild && (family != local || string(field[0]) != host) {
			continue
		}
		if n := string(field[1]); n != "" && n != strconv.Itoa(display) {
			continue
		}
		if string(field[2]) == cookieName && len(field[3]) == 16 {
			return field[3]
		}
	}
}

// setupRequest is the first message of a little-endian X11 client.
func setupRequest(cookie []byte) []byte {
	name := ""
	if cookie != nil {
		name = cookieName
	}
	b := make([]byte, 12, 64)
	b[0] = 'l'
	binary.LittleEndian.PutUint16(b[2:], 11)
	binary.LittleEndian.PutUint16(b[6:], uint16(len(name)))
	binary.LittleEndian.PutUint16(b[8:], uint16(len(cookie)))
	b = append(b, name...)
	b = append(b, make([]byte, -len(b)&3)...)
	b = append(b, cookie...)
	return append(b, make([]byte, -len(b)&3)...)
}

// stream is the server's byte stream as xgb can bear it. xgb reads every event
// as 32 bytes, which a GenericEvent (XInput 2) breaks: raw motion is repacked as a
// client message in its place, so that its order among the other events stays;
// every other GenericEvent is left out. Events of XKB, unknown to xgb, become the
// MappingNotify that they stand for.
type stream struct {
	net.Conn
	setup []byte // sent in place of xgb's own first write, nil afterwards
	r     *bufio.Reader
	begun bool   // the reply to the handshake has been passed on
	pass  int    // bytes that go through as they are
	head  []byte // 32 bytes in front of those

	xkb byte // first event code of XKB, 0: unknown. Set before its events can come
	xi  byte // major opcode of XInput
}

func (s *stream) Write(p []byte) (int, error) {
	if s.setup != nil {
		b := s.setup
		s.setup = nil
		if _, err := s.Conn.Write(b); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if len(s.head) > 0 {
			n := copy(p, s.head)
			s.head = s.head[n:]
			return n, nil
		}
		if s.pass > 0 {
			n, err := s.r.Read(p[:min(len(p), s.pass)])
			s.pass -= n
			return n, err
		}
		if err := s.next(); err != nil {
			return 0, err
		}
	}
}

// next reads the head of the next message.
func (s *stream) next() error {
	if !s.begun {
		h := make([]byte, 8)
		if _, err := io.ReadFull(s.r, h); err != nil {
			return err
		}
		s.begun = true
		s.head, s.pass = h, 4*int(binary.LittleEndian.Uint16(h[6:]))
		return nil
	}
	h := make([]byte, 32)
	if _, err := io.ReadFull(s.r, h); err != nil {
		return err
	}
	const reply, generic = 1, 35
	switch code := h[0] & 127; {
	case code == reply:
		s.head, s.pass = h, 4*int(binary.LittleEndian.Uint32(h[4:]))
	case code == generic:
		n := 4 * int(binary.LittleEndian.Uint32(h[4:]))
		if n > 64<<10 {
			return errors.New("x server: event of unreasonable size")
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(s.r, body); err != nil {
			return err
		}
		if h[1] == s.xi {
			s.head = repack(h, body)
		}
	case s.xkb != 0 && code == s.xkb:
		// The only ones that were selected say that there is another keyboard or
		// mapping. Of another layout clients of XKB are told in this way only.
		e := make([]byte, 32)
		e[0], e[4] = xproto.MappingNotify, xproto.MappingKeyboard
		copy(e[2:4], h[2:4])
		s.head = e
	default:
		s.head = h
	}
	return nil
}

// rawMotionType is the Type of the client messages that carry raw motion; no
// server gives out an atom with this number.
const rawMotionType = xproto.Atom(0x1ffffffe)

// repack turns an XI_RawMotion event into a client message with the deltas in
// 1/65536 pixel and the time; it returns nil for other events.
func repack(h, body []byte) []byte {
	const rawMotion = 17
	le := binary.LittleEndian
	if le.Uint16(h[8:]) != rawMotion {
		return nil
	}
	masks := 4 * int(le.Uint16(h[22:]))
	if masks < 4 || len(body) < masks {
		return nil
	}
	var axis [2]int32 // 16.16
	values := body[masks:]
	for i := range axis {
		if body[0]&(1<<i) == 0 {
			continue
		}
		if len(values) < 8 {
			return nil
		}
		axis[i] = int32(le.Uint32(values))<<16 | int32(le.Uint32(values[4:])>>16)
		values = values[8:]
	}
	e := make([]byte, 32)
	e[0], e[1] = xproto.ClientMessage, 32
	copy(e[2:4], h[2:4])
	le.PutUint32(e[8:], uint32(rawMotionType))
	le.PutUint32(e[12:], uint32(axis[0]))
	le.PutUint32(e[16:], uint32(axis[1]))
	le.PutUint32(e[20:], le.Uint32(h[12:])) // time
	return e
}

// RawMotion is what the mouse itself did, before the pointer was stopped at
// an edge. The server sends the position instead for absolute devices.
type RawMotion struct {
	DX, DY float64
	Time   xproto.Timestamp
}

// AsRawMotion recognises raw motion among the events of a Window.
func AsRawMotion(ev xgb.Event) (RawMotion, bool) {
	m, ok := ev.(xproto.ClientMessageEvent)
	if !ok || m.Type != rawMotionType || m.Format != 32 || len(m.Data.Data32) < 3 {
		return RawMotion{}, false
	}
	d := m.Data.Data32
	return RawMotion{
		DX:   float64(int32(d[0])) / 65536,
		DY:   float64(int32(d[1])) / 65536,
		Time: xproto.Timestamp(d[2]),
	}, true
}

// fenceType is the Type of the client messages that Fence sends; it is no atom either.
const fenceType = xproto.Atom(0x1ffffffd)

// Fence has the server send a message with this number behind every event that
// it sent so far; AsFence recognises it. Does not block.
func (w *Window) Fence(number uint32) {
	m := xproto.ClientMessageEvent{
		Format: 32,
		Window: w.ID,
		Type:   fenceType,
		Data:   xproto.ClientMessageDataUnionData32New([]uint32{number, 0, 0, 0, 0}),
	}
	xproto.SendEvent(w.X, false, w.ID, xproto.EventMaskNoEvent, string(m.Bytes()))
}

// AsFence recognises a message of Fence among the events of a Window.
func AsFence(ev xgb.Event) (number uint32, ok bool) {
	m, ok := ev.(xproto.ClientMessageEvent)
	if !ok || m.Type != fenceType || m.Format != 32 || len(m.Data.Data32) < 1 {
		return 0, false
	}
	return m.Data.Data32[0], true
}
