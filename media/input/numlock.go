package input

import (
	"context"
	"encoding/binary"
	"fmt"

	"fenrir/media"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// lockNumbers turns Num Lock on, as it is on real keyboards: the page sends keys
// by position, and those of the numeric pad shall be digits. Programs see no key.
func (b *board) lockNumbers(ctx context.Context, display media.Display) error {
	k, state, err := b.look(ctx)
	if err != nil || k.numMask == 0 || state&k.numMask != 0 {
		return err
	}
	// A connection of its own: clients of XKB are no longer told of other
	// layouts by MappingNotify.
	c, err := x11.Dial(ctx, display)
	if err != nil {
		return fmt.Errorf("turn Num Lock on: %w", err)
	}
	defer c.Close()
	_, err = x11.Do(ctx, c, func(x *xgb.Conn) (struct{}, error) { return struct{}{}, lockModifiers(x, byte(k.numMask)) })
	if err != nil {
		return fmt.Errorf("turn Num Lock on: %w", err)
	}
	return nil
}

// lockModifiers locks modifiers of the core keyboard. xgb has no package for
// XKB; layouts: the X keyboard extension protocol, appendix D.
func lockModifiers(x *xgb.Conn, mask byte) error {
	const name = "XKEYBOARD"
	q, err := xproto.QueryExtension(x, uint16(len(name)), name).Reply()
	if err != nil {
		return err
	}
	if !q.Present {
		return nil // a server without XKB has no such lock
	}
	const useExtension, latchLockState = 0, 5
	use := []byte{q.MajorOpcode, useExtension, 2, 0, 1, 0, 0, 0} // version 1.0
	answered := x.NewCookie(true, true)
	x.NewRequest(use, answered)
	if _, err := answered.Reply(); err != nil {
		return err
	}
	lock := make([]byte, 16)
	lock[0], lock[1], lock[2] = q.MajorOpcode, latchLockState, byte(len(lock)/4)
	const coreKeyboard = 0x100
	binary.LittleEndian.PutUint16(lock[4:], coreKeyboard)
	lock[6], lock[7] = mask, mask
	done := x.NewCookie(true, false)
	x.NewRequest(lock, done)
	return done.Check()
}
