// Package keysym knows X keysyms: their names and the characters they stand
// for, in both directions. It promises pure look-ups, safe from any goroutine,
// and imports the standard library only.
//
// keysyms.txt is extracted from X.Org's keysymdef.h and XF86keysym.h (MIT/X11
// licence): "hex name [code point]", without the keysyms 0x01000000…0x0110ffff,
// which encode their code point themselves.
package keysym

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Sym is an X keysym.
type Sym uint32

// None is the keysym of nothing.
const None Sym = 0

// Keysyms that code names.
const (
	BackSpace      Sym = 0xff08
	Tab            Sym = 0xff09
	Return         Sym = 0xff0d
	Escape         Sym = 0xff1b
	Multi          Sym = 0xff20 // Compose
	Home           Sym = 0xff50
	Left           Sym = 0xff51
	Up             Sym = 0xff52
	Right          Sym = 0xff53
	Down           Sym = 0xff54
	KPFirst        Sym = 0xff80 // KP_Space
	KPLast         Sym = 0xffbd // KP_Equal
	NumLock        Sym = 0xff7f
	ModeSwitch     Sym = 0xff7e
	F1             Sym = 0xffbe // F2… follow
	ShiftL         Sym = 0xffe1
	ShiftR         Sym = 0xffe2
	ControlL       Sym = 0xffe3
	ControlR       Sym = 0xffe4
	CapsLock       Sym = 0xffe5
	ShiftLock      Sym = 0xffe6
	HyperR         Sym = 0xffee // Meta, Alt, Super and Hyper lie between the two
	Delete         Sym = 0xffff
	Level3Shift    Sym = 0xfe03 // AltGr
	Level5Shift    Sym = 0xfe11
	deadFirst      Sym = 0xfe50
	deadLast       Sym = 0xfe93
	unicodeFlag    Sym = 0x01000000
	unicodeLastSym Sym = 0x0110ffff
)

// table is what keysyms.txt says.
type table struct {
	name map[Sym]string
	char map[Sym]rune
	syms map[rune][]Sym
}

//go:embed keysyms.txt
var source string

var load = sync.OnceValue(func() table {
	t := table{name: map[Sym]string{}, char: map[Sym]rune{}, syms: map[rune][]Sym{}}
	for line := range strings.Lines(source) {
		f := strings.Fields(line)
		v, err := strconv.ParseUint(f[0], 16, 32)
		if err != nil {
			panic("keysym: damaged table: " + line) // embedded at build time
		}
		s := Sym(v)
		t.name[s] = f[1]
		if len(f) < 3 || s.Dead() {
			continue
		}
		c, err := strconv.ParseUint(f[2], 16, 32)
		if err != nil {
			panic("keysym: damaged table: " + line)
		}
		t.char[s] = rune(c)
		t.syms[rune(c)] = append(t.syms[rune(c)], s)
	}
	return t
})

// Name is the keysym's name without the XK_ prefix ("a", "EuroSign",
// "dead_acute", "U1F642"), or its number in hex when it has none.
func (s Sym) Name() string {
	if n, ok := load().name[s]; ok {
		return n
	}
	if s >= unicodeFlag+0x100 && s <= unicodeLastSym {
		return fmt.Sprintf("U%04X", uint32(s-unicodeFlag))
	}
	return fmt.Sprintf("0x%x", uint32(s))
}

// Dead tells whether the keysym is a dead key.
func (s Sym) Dead() bool { return s >= deadFirst && s <= deadLast }

// Rune is the character that the keysym types, false for function keys, dead
// keys and modifiers. Return, Tab, BackSpace and Escape are no characters here.
func (s Sym) Rune() (rune, bool) {
	switch {
	case s >= 0x20 && s <= 0x7e, s >= 0xa0 && s <= 0xff:
		return rune(s), true
	case s >= unicodeFlag+0x20 && s <= unicodeLastSym:
		return rune(s - unicodeFlag), true
	case s >= KPFirst && s <= KPLast:
		return keypad(s)
	}
	r, ok := load().char[s]
	return r, ok
}

// keypad is what the keys of the numeric pad type with Num Lock on.
func keypad(s Sym) (rune, bool) {
	switch {
	case s == 0xff80:
		return ' ', true
	case s == 0xffbd:
		return '=', true
	case s >= 0xffaa && s <= 0xffb9: // KP_Multiply … KP_9: ASCII 0x2a…0x39
		return rune(s - 0xff80), true
	}
	return 0, false
}

// FromRune is the keysym to map when a key shall type r: Latin-1 stands for
// itself, everything else is in the Unicode range, as X11 prescribes.
func FromRune(r rune) Sym {
	if r >= 0x20 && r <= 0x7e || r >= 0xa0 && r <= 0xff {
		return Sym(r)
	}
	return unicodeFlag + Sym(r)
}

// All lists every keysym that a layout may use for r, the one of FromRune first.
func All(r rune) []Sym {
	syms := []Sym{FromRune(r)}
	for _, s := range load().syms[r] {
		if s != syms[0] && s > 0xff {
			syms = append(syms, s)
		}
	}
	return syms
}
