package playground

import (
	"strings"
	"testing"

	"fenrir/media/input/keysym"

	"github.com/jezek/xgb/xproto"
)

func TestComposer(t *testing.T) {
	const acute, circumflex, diaeresis, caron, stroke = 0xfe51, 0xfe52, 0xfe57, 0xfe5a, 0xfe63
	for _, c := range []struct {
		name  string
		press []keysym.Sym
		want  string
	}{
		{"letters", []keysym.Sym{'a', 'B'}, "aB"},
		{"accent and letter", []keysym.Sym{acute, 'e'}, "é"},
		{"accent and capital letter with Shift between", []keysym.Sym{diaeresis, keysym.ShiftL, 'U'}, "Ü"},
		{"accent and AltGr letter", []keysym.Sym{caron, keysym.Level3Shift, 's'}, "š"},
		{"accent and space", []keysym.Sym{circumflex, ' '}, "^"},
		{"accent twice", []keysym.Sym{acute, acute}, "´"},
		{"accent and a letter without it", []keysym.Sym{acute, 'q'}, "´q"},
		{"another accent wins", []keysym.Sym{acute, circumflex, 'a'}, "â"},
		{"a function key gives up", []keysym.Sym{acute, keysym.Left, 'e'}, "e"},
		{"the euro by its old keysym", []keysym.Sym{0x20ac}, "€"},
		{"Cyrillic by its old keysym", []keysym.Sym{0x6d6}, "ж"},
		{"the numeric pad", []keysym.Sym{0xffb7, 0xffab}, "7+"},
		{"no characters", []keysym.Sym{keysym.Return, keysym.Tab, keysym.F1, keysym.ShiftL}, ""},
	} {
		var k composer
		var got strings.Builder
		for _, s := range c.press {
			got.WriteString(k.press(s))
		}
		if got.String() != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got.String(), c.want)
		}
	}
}

func TestKeymapLevels(t *testing.T) {
	k := keymap{first: 8, per: 6, level: xproto.ModMask5, num: xproto.ModMask2, syms: make([]xproto.Keysym, 6*248)}
	row := func(code int, syms ...xproto.Keysym) { copy(k.syms[(code-8)*6:], syms) }
	row(26, 'e', 'E', 'e', 'E', 0x20ac, 0x20ac)
	row(10, '1', '!', '1', '!')
	row(79, 0xff95, 0xffb7)
	const shift, lock, num, altGr = xproto.ModMaskShift, xproto.ModMaskLock, xproto.ModMask2, xproto.ModMask5
	for _, c := range []struct {
		code  xproto.Keycode
		state uint16
		want  keysym.Sym
	}{
		{26, 0, 'e'}, {26, shift, 'E'}, {26, lock, 'E'}, {26, lock | shift, 'e'}, {26, altGr, 0x20ac}, {26, num, 'e'},
		{10, 0, '1'}, {10, shift, '!'}, {10, lock, '1'}, {10, altGr, '1'},
		{79, 0, 0xff95}, {79, num, 0xffb7}, {79, num | shift, 0xff95},
		{9, 0, 0}, {255, shift | altGr, 0}, {7, 0, 0},
	} {
		if got := k.sym(c.code, c.state); got != c.want {
			t.Errorf("sym(%d, %#x) = %s, want %s", c.code, c.state, got.Name(), c.want.Name())
		}
	}
}
