package input

import (
	"context"
	"fmt"
	"unicode"

	"fenrir/media/input/keysym"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// keymap is the display's keyboard as the core protocol shows it: per keycode
// a row of keysyms. Columns 0, 1 are plain and shifted, 4, 5 the same with AltGr;
// 2, 3 belong to a second group, which is not used here.
type keymap struct {
	first, last xproto.Keycode
	per         int
	syms        []xproto.Keysym
	mods        [8][]xproto.Keycode // keys of Shift, Lock, Control, Mod1…Mod5
	shift       xproto.Keycode      // a key that is Shift and nothing else, 0: none
	altGr       xproto.Keycode
	altGrMask   uint16
	numMask     uint16
	spare       []xproto.Keycode // keys that mean nothing
}

// readKeymap asks the server; two round trips.
func readKeymap(ctx context.Context, c *x11.Conn) (*keymap, error) {
	k := &keymap{first: c.Setup.MinKeycode, last: c.Setup.MaxKeycode}
	_, err := x11.Do(ctx, c, func(x *xgb.Conn) (struct{}, error) {
		symsCookie := xproto.GetKeyboardMapping(x, k.first, byte(k.last-k.first)+1)
		modsCookie := xproto.GetModifierMapping(x)
		syms, err := symsCookie.Reply()
		if err != nil {
			return struct{}{}, err
		}
		k.per, k.syms = int(syms.KeysymsPerKeycode), syms.Keysyms
		mods, err := modsCookie.Reply()
		if err != nil {
			return struct{}{}, err
		}
		for i, code := range mods.Keycodes {
			if code != 0 {
				m := i / int(mods.KeycodesPerModifier)
				k.mods[m] = append(k.mods[m], code)
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the keyboard mapping: %w", err)
	}
	k.study()
	return k, nil
}

// study finds the special keys.
func (k *keymap) study() {
	modifier := map[xproto.Keycode]bool{}
	for m, codes := range k.mods {
		for _, code := range codes {
			modifier[code] = true
			for col := range k.per {
				switch k.at(code, col) {
				case keysym.ShiftL, keysym.ShiftR:
					if col == 0 && k.shift == 0 {
						k.shift = code
					}
				case keysym.Level3Shift:
					if k.altGrMask == 0 || col == 0 {
						k.altGr, k.altGrMask = code, 1<<m
					}
				case keysym.NumLock:
					if k.numMask == 0 || col == 0 {
						k.numMask = 1 << m
					}
				}
			}
		}
	}
	for n := int(k.first); n <= int(k.last); n++ {
		code := xproto.Keycode(n)
		empty := !modifier[code]
		for col := range k.per {
			empty = empty && k.at(code, col) == keysym.None
		}
		if empty {
			k.spare = append(k.spare, code)
		}
	}
}

func (k *keymap) at(code xproto.Keycode, column int) keysym.Sym {
	i := int(code-k.first)*k.per + column
	if code < k.first || column >= k.per || i >= len(k.syms) {
		return keysym.None
	}
	return keysym.Sym(k.syms[i])
}

// stroke is how a character is typed: a key and the levels to hold with it.
type stroke struct {
	code  xproto.Keycode
	shift bool
	altGr bool
}

// find looks for a key that types r, the plainest first. usable says which keys
// may be pressed.
func (k *keymap) find(r rune, locked bool, usable func(xproto.Keycode) bool) (stroke, bool) {
	wanted := keysym.All(r)
	for _, level := range []struct {
		column       int
		shift, altGr bool
	}{{0, false, false}, {1, true, false}, {4, false, true}, {5, true, true}} {
		if level.altGr && k.altGr == 0 || level.shift && k.shift == 0 {
			continue
		}
		for _, want := range wanted {
			for n := int(k.first); n <= int(k.last); n++ {
				code := xproto.Keycode(n)
				if k.at(code, level.column) != want || want >= keysym.KPFirst && want <= keysym.KPLast || !usable(code) {
					continue
				}
				s := stroke{code, level.shift, level.altGr}
				if locked && k.cased(code, level.column&^1) {
					s.shift = !s.shift
				}
				return s, true
			}
		}
	}
	return stroke{}, false
}

// modifier is what a key does to other keys while it is held.
type modifier int

const (
	noModifier modifier = iota
	shiftModifier
	altGrModifier
	otherModifier // Control, Alt, Super, …
)

// modifier goes by the key's meaning: the server's list of modifier keys lacks
// those that act through virtual modifiers, as AltGr does. Locks are none.
func (k *keymap) modifier(code xproto.Keycode) modifier {
	switch s := k.at(code, 0); {
	case s == keysym.ShiftL || s == keysym.ShiftR:
		return shiftModifier
	case s == keysym.Level3Shift:
		return altGrModifier
	case s == keysym.ModeSwitch, s == keysym.Level5Shift, s > keysym.ShiftLock && s <= keysym.HyperR, s == keysym.ControlL, s == keysym.ControlR:
		return otherModifier
	}
	return noModifier
}

// cased tells whether the columns from first on are a letter's two cases, which
// Caps Lock swaps.
func (k *keymap) cased(code xproto.Keycode, first int) bool {
	low, ok1 := k.at(code, first).Rune()
	up, ok2 := k.at(code, first+1).Rune()
	return ok1 && ok2 && low != up && unicode.ToUpper(low) == up
}

// pair is what is mapped on a spare key so that it types r: both cases of a
// letter, so that Caps Lock does what it does everywhere.
func pair(r rune) [2]keysym.Sym {
	low, up := unicode.ToLower(r), unicode.ToUpper(r)
	if low != up && unicode.ToUpper(low) == up && unicode.ToLower(up) == low {
		return [2]keysym.Sym{keysym.FromRune(low), keysym.FromRune(up)}
	}
	return [2]keysym.Sym{keysym.FromRune(r), keysym.FromRune(r)}
}
