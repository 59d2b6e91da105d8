package av

import (
	"bytes"
	"testing"

	"fenrir/media"
)

func unitOf(nals ...[]byte) (out []byte) {
	for i, n := range nals {
		if i%2 == 0 {
			out = append(out, 0)
		}
		out = append(append(out, 0, 0, 1), n...)
	}
	return out
}

func TestSupplementalInformationIsLeftOut(t *testing.T) {
	avc := [][]byte{{9, 0x10}, {0x67, 1, 2}, {0x68, 3}, append([]byte{6, 5}, make([]byte, 0)...), {0x65, 7, 7}}
	hevc := [][]byte{{35 << 1, 1}, {32 << 1, 1, 1}, {33 << 1, 1}, {34 << 1, 1}, {39 << 1, 1, 5}, {19 << 1, 1, 9}}
	for _, c := range []struct {
		codec media.Codec
		nals  [][]byte
		sei   int
	}{{media.H264, avc, 3}, {media.H265, hevc, 4}} {
		data := unitOf(c.nals...)
		got := TrimSEI(nil, c.codec, data)
		var kept [][]byte
		eachNAL(got, func(_, nal, end int) bool { kept = append(kept, got[nal:end]); return true })
		want := append(append([][]byte{}, c.nals[:c.sei]...), c.nals[c.sei+1:]...)
		if len(kept) != len(want) {
			t.Fatalf("%s: %d units left, want %d", c.codec, len(kept), len(want))
		}
		for i := range want {
			if !bytes.Equal(kept[i], want[i]) {
				t.Errorf("%s: unit %d is %x, want %x", c.codec, i, kept[i], want[i])
			}
		}
		if at := SliceAt(c.codec, got); at < 0 || !bytes.HasSuffix(got[at:], want[len(want)-1]) || SliceAt(c.codec, data) <= at {
			t.Errorf("%s: the slice is at %d, before at %d", c.codec, at, SliceAt(c.codec, data))
		}
		if again := TrimSEI(nil, c.codec, got); &again[0] != &got[0] {
			t.Errorf("%s: without any it is copied", c.codec)
		}
	}
	if data := unitOf([]byte{6, 5}); !bytes.Equal(TrimSEI(nil, media.AV1, data), data) {
		t.Error("AV1 is changed")
	}
}

func FuzzTrimSEI(f *testing.F) {
	f.Add(unitOf([]byte{0x67}, []byte{6}, []byte{0x65, 0, 0, 3}), true)
	f.Add([]byte{0, 0, 1}, false)
	f.Fuzz(func(t *testing.T, data []byte, hevc bool) {
		codec := media.H264
		if hevc {
			codec = media.H265
		}
		before := bytes.Clone(data)
		got := TrimSEI(nil, codec, data)
		if !bytes.Equal(before, data) || len(got) > len(data) || hasSEI(codec, got) {
			t.Fatalf("%x became %x", before, got)
		}
		if at := SliceAt(codec, got); at >= 0 && SliceAt(codec, data) < 0 {
			t.Fatalf("%x has a slice, %x has none", got, data)
		}
	})
}
