package av

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// frames takes an Opus packet apart as a decoder does (RFC 6716, 3.2).
func frames(packet []byte) (toc byte, out [][]byte, ok bool) {
	if len(packet) == 0 {
		return 0, nil, false
	}
	toc, b := packet[0]&^3, packet[1:]
	size := func() (n int) {
		if len(b) == 0 {
			return -1
		}
		n, b = int(b[0]), b[1:]
		if n >= 252 {
			if len(b) == 0 {
				return -1
			}
			n, b = n+4*int(b[0]), b[1:]
		}
		return n
	}
	count, vbr := 1, false
	switch packet[0] & 3 {
	case 1:
		count = 2
	case 2:
		count, vbr = 2, true
	case 3:
		if len(b) == 0 {
			return 0, nil, false
		}
		m := b[0]
		b = b[1:]
		count, vbr = int(m&0x3F), m&0x80 != 0
		if count == 0 || count > 48 {
			return 0, nil, false
		}
		padding := 0
		for n := 255; m&0x40 != 0 && n == 255; {
			if len(b) == 0 {
				return 0, nil, false
			}
			n, b = int(b[0]), b[1:]
			padding += min(n, 254)
		}
		if padding > len(b) {
			return 0, nil, false
		}
		b = b[:len(b)-padding]
	}
	sizes := make([]int, count)
	for i := range count - 1 {
		if vbr {
			sizes[i] = size()
		} else {
			sizes[i] = len(b) / count
		}
		if sizes[i] < 0 {
			return 0, nil, false
		}
	}
	for _, n := range sizes[:count-1] {
		if n > len(b) {
			return 0, nil, false
		}
		out, b = append(out, b[:n]), b[n:]
	}
	if !vbr && count > 1 && len(b) != sizes[0] {
		return 0, nil, false
	}
	return toc, append(out, b), true
}

var packets = [][]byte{
	{0x78},
	{0x78, 1, 2, 3},
	{0x79, 1, 2, 3, 4},
	{0x7A, 1, 1, 2, 3},
	{0x7A, 252, 0, 5},
	{0x7B, 3, 1, 2, 3},
	{0x7B, 0x83, 1, 1, 1, 2, 3},
	{0x7B, 0x42, 2, 7, 8, 0, 0},
	{0x7B, 0x41, 255, 0},
}

func TestPaddedOpusIsTheSame(t *testing.T) {
	for _, p := range packets {
		toc, want, ok := frames(p)
		if !ok {
			continue
		}
		for size := len(p); size < 1200; size++ {
			got, err := PadOpus(nil, p, size)
			if err != nil {
				if size > len(p)+1 {
					t.Fatalf("%x to %d: %v", p, size, err)
				}
				continue
			}
			t2, have, ok := frames(got)
			if len(got) != size || !ok || t2 != toc || !slices.EqualFunc(have, want, bytes.Equal) {
				t.Fatalf("%x padded to %d bytes is %x", p, size, got)
			}
		}
	}
}

func FuzzPadOpus(f *testing.F) {
	for _, p := range packets {
		f.Add(p, 100)
	}
	f.Fuzz(func(t *testing.T, p []byte, size int) {
		if size > 4000 {
			return
		}
		got, err := PadOpus([]byte("before"), p, size)
		if err != nil {
			if !errors.Is(err, ErrOpus) || string(got) != "before" {
				t.Fatal(err, got)
			}
			return
		}
		got = got[len("before"):]
		if len(got) != size {
			t.Fatalf("%d bytes, want %d", len(got), size)
		}
		toc, want, ok := frames(p)
		if !ok {
			return
		}
		if t2, have, ok := frames(got); !ok || t2 != toc || !slices.EqualFunc(have, want, bytes.Equal) {
			t.Fatalf("%x became %x", p, got)
		}
	})
}

func TestSoundOfAnotherSize(t *testing.T) {
	a, err := NewAudio(AudioConfig{Millis: 5, Size: 60})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		size int
		ok   bool
	}{{60, true}, {61, false}, {20, true}, {0, false}, {58, true}} {
		out, err := a.Packets(bytes.Repeat([]byte{0x78}, c.size))
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrSound) {
			t.Errorf("%d: %d bytes: %v", i, c.size, err)
		}
		for _, p := range out {
			if p[1] == typeSound && len(p) != rtpHeader+60 {
				t.Errorf("%d: a packet of %d bytes", i, len(p))
			}
		}
	}
	if a.seq != 3 || a.timestamp != 15 {
		t.Errorf("after three packets the next is %d at %d ms: what was refused takes no number", a.seq, a.timestamp)
	}
}
