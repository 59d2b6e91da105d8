package keysym

import (
	"slices"
	"testing"
)

func TestCharactersAndBack(t *testing.T) {
	for r := rune(0x20); r <= 0x10ffff; r++ {
		if r >= 0x7f && r < 0xa0 || r >= 0xd800 && r < 0xe000 {
			continue
		}
		s := FromRune(r)
		if got, ok := s.Rune(); !ok || got != r {
			t.Fatalf("%U becomes %s, which types %U, %t", r, s.Name(), got, ok)
		}
	}
	for r, want := range map[rune][]Sym{
		'a': {'a'}, 'ä': {0xe4}, '€': {0x010020ac, 0x20ac}, 'ж': {0x01000436, 0x6d6}, '漢': {0x01006f22}, '→': {0x01002192, 0x8fd},
	} {
		if got := All(r); !slices.Equal(got, want) {
			t.Errorf("All(%q) = %#x, want %#x", r, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[Sym]string{
		'a': "a", ' ': "space", 0xe4: "adiaeresis", 0x20ac: "EuroSign", Return: "Return", F1: "F1", F1 + 11: "F12",
		Level3Shift: "ISO_Level3_Shift", 0xfe51: "dead_acute", 0x0101f642: "U1F642", 0x01006f22: "U6F22", 0x1008ff13: "XF86AudioRaiseVolume", 0x12345: "0x12345", HyperR: "Hyper_R",
	} {
		if got := s.Name(); got != want {
			t.Errorf("%#x is called %s, want %s", uint32(s), got, want)
		}
	}
}

func TestWhatTypesNothing(t *testing.T) {
	for _, s := range []Sym{None, Return, Tab, Escape, BackSpace, F1, ShiftL, Level3Shift, 0xfe51, Left, 0x1008ff13} {
		if r, ok := s.Rune(); ok {
			t.Errorf("%s types %q", s.Name(), r)
		}
	}
	for s := deadFirst; s <= deadLast; s++ {
		if !s.Dead() {
			t.Errorf("%s is not dead", s.Name())
		}
	}
}
