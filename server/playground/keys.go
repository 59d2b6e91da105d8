package playground

import (
	"fmt"
	"unicode"

	"fenrir/media/input/keysym"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/text/unicode/norm"
)

// keymap is the display's keyboard as X core clients see it: per keycode the
// keysyms plain, shifted, (the same of a second group,) with AltGr, with AltGr and Shift.
type keymap struct {
	first xproto.Keycode
	per   int
	syms  []xproto.Keysym
	level uint16 // modifier bit of AltGr, 0 when the layout has none
	num   uint16 // modifier bit of Num Lock
}

// readKeymap asks the server; it blocks for two round trips.
func readKeymap(x *xgb.Conn) (keymap, error) {
	setup := xproto.Setup(x)
	k := keymap{first: setup.MinKeycode}
	r, err := xproto.GetKeyboardMapping(x, k.first, byte(setup.MaxKeycode-setup.MinKeycode)+1).Reply()
	if err != nil {
		return keymap{}, fmt.Errorf("read keyboard mapping: %w", err)
	}
	k.per, k.syms = int(r.KeysymsPerKeycode), r.Keysyms
	m, err := xproto.GetModifierMapping(x).Reply()
	if err != nil {
		return keymap{}, fmt.Errorf("read modifier mapping: %w", err)
	}
	for i, code := range m.Keycodes {
		if code == 0 || m.KeycodesPerModifier == 0 {
			continue
		}
		bit := uint16(1) << (i / int(m.KeycodesPerModifier))
		for col := range k.per {
			switch k.at(code, col) {
			case keysym.Level3Shift:
				k.level = bit
			case keysym.NumLock:
				k.num = bit
			}
		}
	}
	return k, nil
}

// at is the keysym in a column, None beyond the table.
func (k keymap) at(code xproto.Keycode, column int) keysym.Sym {
	i := int(code-k.first)*k.per + column
	if code < k.first || column >= k.per || i >= len(k.syms) {
		return keysym.None
	}
	return keysym.Sym(k.syms[i])
}

// sym is what a key means under the modifiers of an event's state.
func (k keymap) sym(code xproto.Keycode, state uint16) keysym.Sym {
	base := 0
	if state>>13&3 != 0 && k.at(code, 2) != keysym.None { // a second group is on
		base = 2
	}
	if k.level != 0 && state&k.level != 0 && k.at(code, 4) != keysym.None {
		base = 4
	}
	shift := state&xproto.ModMaskShift != 0
	plain, shifted := k.at(code, base), k.at(code, base+1)
	if shifted == keysym.None {
		shifted = plain
	}
	if shifted >= keysym.KPFirst && shifted <= keysym.KPLast && k.num != 0 && state&k.num != 0 {
		shift = !shift
	} else if r, ok := plain.Rune(); ok && state&xproto.ModMaskLock != 0 && unicode.IsLetter(r) {
		shift = !shift
	}
	if shift {
		return shifted
	}
	return plain
}

// composer joins dead keys and the letters after them.
type composer struct {
	dead keysym.Sym
}

// marks are the combining characters that dead keys stand for, and what they
// type alone.
var marks = map[string]struct{ combining, alone rune }{
	"dead_grave":         {0x300, '`'},
	"dead_acute":         {0x301, '´'},
	"dead_circumflex":    {0x302, '^'},
	"dead_tilde":         {0x303, '~'},
	"dead_macron":        {0x304, '¯'},
	"dead_breve":         {0x306, '˘'},
	"dead_abovedot":      {0x307, '˙'},
	"dead_diaeresis":     {0x308, '¨'},
	"dead_abovering":     {0x30a, '°'},
	"dead_doubleacute":   {0x30b, '˝'},
	"dead_caron":         {0x30c, 'ˇ'},
	"dead_cedilla":       {0x327, '¸'},
	"dead_ogonek":        {0x328, '˛'},
	"dead_belowdot":      {0x323, '.'},
	"dead_hook":          {0x309, '?'},
	"dead_horn":          {0x31b, '\''},
	"dead_belowcomma":    {0x326, ','},
	"dead_belowmacron":   {0x331, '_'},
	"dead_stroke":        {0x335, '/'},
	"dead_iota":          {0x345, 'ͺ'},
	"dead_doublegrave":   {0x30f, '`'},
	"dead_belowring":     {0x325, '˳'},
	"dead_abovecomma":    {0x313, '’'},
	"dead_invertedbreve": {0x311, '^'},
}

// press is what a key press types, "" for none or while a dead key waits for
// its letter.
func (c *composer) press(s keysym.Sym) string {
	if s.Dead() {
		if c.dead == s { // twice: the accent itself
			c.dead = keysym.None
			return string(marks[s.Name()].alone)
		}
		c.dead = s
		return ""
	}
	r, ok := s.Rune()
	if !ok {
		if s < keysym.ShiftL || s > 0xffee { // anything but a modifier gives up
			if s != keysym.Level3Shift && s != keysym.ModeSwitch {
				c.dead = keysym.None
			}
		}
		return ""
	}
	mark := marks[c.dead.Name()]
	c.dead = keysym.None
	switch {
	case mark.combining == 0:
		return string(r)
	case r == ' ':
		return string(mark.alone)
	}
	if joined := norm.NFC.String(string([]rune{r, mark.combining})); len([]rune(joined)) == 1 {
		return joined
	}
	return string([]rune{mark.alone, r})
}
