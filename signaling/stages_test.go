package signaling

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"
)

// someStages is a message with all that one can have; the page's tests read
// the same bytes.
var someStages = Stages{
	Seq: 0xFFFE, At: 86_400_123_456_000,
	Frames: []FrameStages{
		{RTPTimestamp: 0xDEADBEEF, Captured: 86_400_123_456_000 - 20_000_000, Wait: 400 * time.Microsecond, Convert: 1100 * time.Microsecond, Encode: 3900 * time.Microsecond, Wire: 200 * time.Microsecond, Send: 300 * time.Microsecond},
		{RTPTimestamp: 5, Captured: 86_400_123_456_000 - 3_000_000, Wait: NoChange},
	},
	Inputs: []InputStages{{Number: 7, Received: 86_400_123_456_000 - 30_000_000, Inject: 90 * time.Microsecond}},
}

const someStagesHex = "feff0201" + "4042d91d14000000" +
	"efbeadde" + "204e0000" + "90010000" + "4c040000" + "3c0f0000" + "c8000000" + "2c010000" +
	"05000000" + "b80b0000" + "ffffffff" + "00000000" + "00000000" + "00000000" + "00000000" +
	"07000000" + "30750000" + "5a000000"

func TestStagesAreWhatTheProtocolSays(t *testing.T) {
	b, err := AppendStages(nil, someStages)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b); got != someStagesHex {
		t.Errorf("got\n%s, want\n%s", got, someStagesHex)
	}
	got, err := DecodeStages(b)
	if err != nil || !reflect.DeepEqual(got, someStages) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestStagesThatCannotBe(t *testing.T) {
	whole, _ := hex.DecodeString(someStagesHex)
	for name, tt := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":        {nil, ErrShort},
		"half a header":  {whole[:11], ErrShort},
		"half an input":  {whole[:len(whole)-1], ErrShort},
		"25 frames":      {append([]byte{0, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 25*28)...), ErrRange},
		"after 292000 a": {append([]byte{0, 0, 0, 0}, bytes.Repeat([]byte{0xFF}, 8)...), ErrRange},
	} {
		if got, err := DecodeStages(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %+v, %v, want %v", name, got, err, tt.want)
		}
	}
	if _, err := AppendStages(nil, Stages{Inputs: make([]InputStages, MaxStages+1)}); !errors.Is(err, ErrRange) {
		t.Errorf("25 inputs: got %v", err)
	}
	// What does not fit is cut, not wrapped around.
	b, err := AppendStages(nil, Stages{At: 5, Frames: []FrameStages{{Captured: 9000, Convert: -time.Second, Encode: 100 * time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeStages(b); err != nil || got.Frames[0].Captured != 0 || got.Frames[0].Convert != 0 || got.Frames[0].Encode != (noSpan-1)*time.Microsecond {
		t.Errorf("got %+v, %v", got, err)
	}
}

// FuzzStages: reading never panics, and what was read is written again as it was.
func FuzzStages(f *testing.F) {
	whole, _ := hex.DecodeString(someStagesHex)
	f.Add(whole)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeStages(b)
		if err != nil {
			if !errors.Is(err, ErrShort) && !errors.Is(err, ErrRange) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(s.Frames) > MaxStages || len(s.Inputs) > MaxStages || s.At < 0 {
			t.Fatalf("let through %+v", s)
		}
		again, err := AppendStages(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeStages(again)
		// A span of 2³²−1 µs means none for Wait only: elsewhere it is cut by one.
		if err != nil || len(back.Frames) != len(s.Frames) || len(back.Inputs) != len(s.Inputs) || back.At != s.At {
			t.Fatalf("%+v came back as %+v, %v", s, back, err)
		}
	})
}
