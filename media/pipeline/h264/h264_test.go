package h264

import (
	"bytes"
	"errors"
	"testing"
)

// sps builds a parameter set.
func sps(t testing.TB, profile uint32, refs uint, vui, restriction bool, reorder uint) []byte {
	t.Helper()
	w := &writer{}
	put := func(n int, v uint32) {
		for i := n - 1; i >= 0; i-- {
			w.bit(v >> i & 1)
		}
	}
	put(8, profile)
	put(8, 0xe0)
	put(8, 31)
	w.ue(0)
	if profile == 100 {
		w.ue(1)
		w.ue(0)
		w.ue(0)
		put(2, 0)
	}
	w.ue(0) // frame num
	w.ue(2) // order count by decoding order
	w.ue(refs)
	put(1, 0)
	w.ue(1920/16 - 1)
	w.ue(1088/16 - 1)
	put(1, 1)
	put(1, 1)
	put(1, 1) // cropped to 1080
	w.ue(0)
	w.ue(0)
	w.ue(0)
	w.ue(4)
	if !vui {
		put(1, 0)
	} else {
		put(1, 1)
		put(1, 0) // aspect
		put(1, 0) // overscan
		put(1, 1) // signal, with colours
		put(4, 5<<1)
		put(1, 1)
		put(24, 0x010d05)
		put(1, 0) // chroma
		put(1, 1) // timing: zeros that need escaping
		put(32, 1)
		put(32, 120)
		put(1, 1)
		put(2, 0) // HRDs
		put(1, 0) // structure
		if !restriction {
			put(1, 0)
		} else {
			put(1, 1)
			put(1, 1)
			for _, v := range []uint{0, 0, 11, 11, reorder, max(refs, reorder)} {
				w.ue(v)
			}
		}
	}
	w.bit(1)
	return escape([]byte{0x67}, w.b)
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		profile                  uint32
		vui, restriction, prompt bool
		reorder                  uint
	}{
		"without VUI":         {profile: 66},
		"without restriction": {profile: 77, vui: true},
		"prompt":              {profile: 66, vui: true, restriction: true, prompt: true},
		"reordering":          {profile: 100, vui: true, restriction: true, reorder: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := ParseSPS(sps(t, c.profile, 1, c.vui, c.restriction, c.reorder))
			if err != nil {
				t.Fatal(err)
			}
			if s.Width != 1920 || s.Height != 1080 || s.Level != 31 || s.RefFrames != 1 || s.VUI != c.vui || s.Restriction != c.restriction || s.Reorder != c.reorder || s.Prompt() != c.prompt {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestPromptAddsTheRestriction(t *testing.T) {
	t.Parallel()
	for name, nal := range map[string][]byte{
		"without VUI":         sps(t, 66, 1, false, false, 0),
		"without restriction": sps(t, 66, 1, true, false, 0),
		"high profile":        sps(t, 100, 1, true, false, 0),
		"wrong restriction":   sps(t, 100, 1, true, true, 3),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, err := ParseSPS(nal)
			if err != nil {
				t.Fatal(err)
			}
			au := bytes.Join([][]byte{{9, 0xf0}, nal, {0x68, 1, 2, 3}, {0x65, 0, 0, 3, 1, 0x80}}, []byte{0, 0, 0, 1})
			au = append([]byte{0, 0, 0, 1}, au...)
			kept := bytes.Clone(au)
			out := Prompt(au)
			if !bytes.Equal(au, kept) {
				t.Fatal("the access unit given was changed")
			}
			start, end := nextNAL(out, 6)
			fixed, err := ParseSPS(bytes.TrimRight(out[start:end], "\x00"))
			if err != nil {
				t.Fatal(err)
			}
			if !fixed.Prompt() {
				t.Errorf("%+v", fixed)
			}
			if fixed.Width != before.Width || fixed.Height != before.Height || fixed.Profile != before.Profile || fixed.RefFrames != before.RefFrames {
				t.Errorf("was %+v, is %+v", before, fixed)
			}
			tail := []byte{0, 0, 0, 1, 0x68, 1, 2, 3, 0, 0, 0, 1, 0x65, 0, 0, 3, 1, 0x80}
			if !bytes.HasSuffix(out, tail) || !bytes.HasPrefix(out, []byte{0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67}) {
				t.Errorf("the rest was changed: %x", out)
			}
			if again := Prompt(out); &again[0] != &out[0] {
				t.Error("what is prompt already was copied")
			}
		})
	}
}

func TestPromptLeavesOutWhatEncodersTellOfThemselves(t *testing.T) {
	t.Parallel()
	set := sps(t, 66, 1, true, true, 0)
	unit := func(nals ...[]byte) (au []byte) {
		for _, nal := range nals {
			au = append(append(au, 0, 0, 0, 1), nal...)
		}
		return au
	}
	talk := append([]byte{6, 5, 200}, bytes.Repeat([]byte{'x'}, 200)...)
	point := []byte{6, 6, 1, 0xc4, 0x80} // recovery point
	pps, idr := []byte{0x68, 1, 2, 3}, []byte{0x65, 5, 5, 5}
	want := unit(set, pps, point, idr)
	for _, au := range [][]byte{unit(set, pps, talk, point, idr), unit(talk, set, talk, talk, pps, point, talk, idr), want} {
		if got := Prompt(au); !bytes.Equal(got, want) {
			t.Errorf("%x became %x", au, got)
		}
	}
	if last := unit(talk); !bytes.Equal(Prompt(last), last) {
		t.Error("nothing is left of a unit")
	}
}

func TestPromptLeavesAlone(t *testing.T) {
	t.Parallel()
	for name, au := range map[string][]byte{
		"nothing":      nil,
		"no NAL":       {1, 2, 3},
		"a picture":    {0, 0, 1, 0x41, 5, 5},
		"a broken set": {0, 0, 1, 0x67, 0x42},
		"a start code": {0, 0, 1},
	} {
		if out := Prompt(au); !bytes.Equal(out, au) {
			t.Errorf("%s: %x became %x", name, au, out)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	whole := sps(t, 66, 1, true, true, 0)
	for n := range len(whole) - 1 {
		if _, err := ParseSPS(whole[:n]); !errors.Is(err, ErrSyntax) {
			t.Errorf("%d bytes of %d: %v", n, len(whole), err)
		}
	}
	if _, err := ParseSPS([]byte{0x68, 1, 2, 3, 4}); !errors.Is(err, ErrSyntax) {
		t.Error("took a picture parameter set:", err)
	}
}

func FuzzPrompt(f *testing.F) {
	f.Add(append([]byte{0, 0, 0, 1}, sps(f, 66, 1, false, false, 0)...))
	f.Add(append([]byte{0, 0, 1}, sps(f, 100, 2, true, true, 2)...))
	f.Add([]byte{0, 0, 1, 6, 5, 1, 7, 0, 0, 0, 1, 0x65, 3, 4})
	f.Fuzz(func(t *testing.T, au []byte) {
		out := Prompt(au)
		if again := Prompt(out); !bytes.Equal(again, out) {
			t.Fatalf("%x became %x and then %x", au, out, again)
		}
	})
}
