package signaling

import (
	"slices"
	"testing"
)

func copiesOf(last uint32, bodies ...byte) Copies {
	c := Copies{Last: last, N: len(bodies)}
	for i, b := range bodies {
		c.Packet[i] = Control{Type: ControlInput, Payload: []byte{b}}
	}
	return c
}

func TestCopiesFillGapsInOrder(t *testing.T) {
	var s CopySequence
	var got []byte
	apply := func(c Control) error { got = append(got, c.Payload[0]); return nil }
	packet := func(b byte) { s.Packet(Control{Type: ControlInput, Payload: []byte{b}}, apply) }
	again := func(c Copies) { s.Copies(&c, apply) }
	packet(1)
	again(copiesOf(1, 1))       // late
	again(copiesOf(2, 1, 2))    // 2 was lost
	again(copiesOf(2, 1, 2))    // once more
	again(copiesOf(5, 4, 5))    // behind a gap
	again(copiesOf(5, 3, 4, 5)) // and now without it
	packet(2)
	packet(3)
	packet(4)
	packet(5)
	packet(6)
	if want := []byte{1, 2, 3, 4, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
	if s.Ahead() != 4 {
		t.Errorf("%d copies were first, want 4", s.Ahead())
	}
}

func FuzzCopies(f *testing.F) {
	seed, err := AppendCopies(nil, copiesOf(7, 1, 2, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0, 0, 0, 0, 2, 0x5f, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCopies(b)
		if err != nil {
			return
		}
		if !IsCopies(b) {
			t.Fatal("decoded what does not look like copies")
		}
		again, err := AppendCopies(nil, c)
		if err != nil || !slices.Equal(again, b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}
