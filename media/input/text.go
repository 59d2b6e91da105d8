package input

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fenrir/media/input/keysym"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// reuseAfter is how long a spare key keeps its character after it was pressed:
// programs read the changed mapping only after they were told of it, and must
// not find the next one. It is in the order of a slow frame of a program.
const reuseAfter = 250 * time.Millisecond

// Keycodes that characters stand for.
const (
	keyBackSpace xproto.Keycode = 14 + evdev
	keyTab       xproto.Keycode = 15 + evdev
	keyReturn    xproto.Keycode = 28 + evdev
)

// errNoSpare is why a character could not be typed.
var errNoSpare = errors.New("the keyboard mapping has no spare key")

// char types one character, next to whatever else is held.
func (b *board) char(ctx context.Context, r rune) error {
	switch r {
	case '\n', '\r':
		b.tap(keyReturn)
		return nil
	case '\t':
		b.tap(keyTab)
		return nil
	case '\b':
		b.tap(keyBackSpace)
		return nil
	}
	if r < 0x20 || r >= 0x7f && r < 0xa0 {
		return nil // no key types other control characters
	}
	k, state, err := b.look(ctx)
	if err != nil {
		return err
	}
	locked := state&xproto.ModMaskLock != 0
	// A key that is down cannot be pressed, and a modifier types nothing.
	usable := func(code xproto.Keycode) bool { return !slices.Contains(b.keysDown, code) }
	st, ok := k.find(r, locked, usable)
	if !ok {
		if st, err = b.borrow(ctx, r, locked); err != nil {
			return err
		}
	}
	if l, ok := b.loans[st.code]; ok {
		l.used = time.Now()
		b.loans[st.code] = l
	}
	b.strike(k, st, state)
	return nil
}

// tap presses a key that means the same under all modifiers, unless it is held.
func (b *board) tap(code xproto.Keycode) {
	if !slices.Contains(b.keysDown, code) {
		b.fake(xproto.KeyPress, byte(code))
		b.fake(xproto.KeyRelease, byte(code))
	}
}

// strike presses a key under exactly the modifiers that it needs, and gives
// those that the player holds back afterwards.
func (b *board) strike(k *keymap, st stroke, state uint16) {
	var lifted, added []xproto.Keycode
	for _, code := range b.keysDown {
		switch k.modifier(code) {
		case noModifier:
		case shiftModifier:
			if !st.shift {
				lifted = append(lifted, code)
			}
		case altGrModifier:
			if !st.altGr {
				lifted = append(lifted, code)
			}
		default:
			lifted = append(lifted, code)
		}
	}
	if st.shift && state&xproto.ModMaskShift == 0 {
		added = append(added, k.shift)
	}
	if st.altGr && state&k.altGrMask == 0 {
		added = append(added, k.altGr)
	}
	for _, code := range lifted {
		b.fake(xproto.KeyRelease, byte(code))
	}
	for _, code := range added {
		b.fake(xproto.KeyPress, byte(code))
	}
	b.fake(xproto.KeyPress, byte(st.code))
	b.fake(xproto.KeyRelease, byte(st.code))
	for _, code := range slices.Backward(added) {
		b.fake(xproto.KeyRelease, byte(code))
	}
	for _, code := range slices.Backward(lifted) {
		b.fake(xproto.KeyPress, byte(code))
	}
}

// borrow puts a character on a spare key.
func (b *board) borrow(ctx context.Context, r rune, locked bool) (stroke, error) {
	syms := pair(r)
	st := stroke{shift: syms[0] != syms[1] && (syms[1] == keysym.FromRune(r)) != locked}
	code, err := b.spare(ctx)
	if err != nil {
		return stroke{}, fmt.Errorf("type %q: %w", r, err)
	}
	row := []xproto.Keysym{xproto.Keysym(syms[0]), xproto.Keysym(syms[1])}
	// The server handles requests in order: every program is told of the mapping
	// before it is told of the key.
	_, err = x11.Do(ctx, b.conn, func(x *xgb.Conn) (struct{}, error) {
		return struct{}{}, xproto.ChangeKeyboardMappingChecked(x, 1, code, byte(len(row)), row).Check()
	})
	if err != nil {
		return stroke{}, fmt.Errorf("type %q: map a spare key: %w", r, err)
	}
	if b.loans == nil {
		b.loans = map[xproto.Keycode]loan{}
	}
	b.loans[code] = loan{r, time.Now()}
	b.keys = nil // it has changed
	st.code = code
	return st, nil
}

// spare finds a key to put a character on: one that means nothing, or else the
// one whose character was not typed for the longest time, waiting until it may be
// taken.
func (b *board) spare(ctx context.Context) (xproto.Keycode, error) {
	for _, code := range b.keys.spare {
		if _, ok := b.loans[code]; !ok {
			return code, nil
		}
	}
	var oldest xproto.Keycode
	for code, l := range b.loans {
		if o, ok := b.loans[oldest]; !ok || l.used.Before(o.used) {
			oldest = code
		}
	}
	l, ok := b.loans[oldest]
	if !ok {
		return 0, errNoSpare
	}
	wait := time.NewTimer(time.Until(l.used.Add(reuseAfter)))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-b.conn.Done():
		return 0, b.conn.Err()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	delete(b.loans, oldest)
	return oldest, nil
}

// forget drops the characters that the keymap, just read, does not have any
// more on their spare keys: the layout was changed.
func (b *board) forget() {
	for code, l := range b.loans {
		if b.keys.at(code, 0) != pair(l.r)[0] {
			delete(b.loans, code)
		}
	}
}
