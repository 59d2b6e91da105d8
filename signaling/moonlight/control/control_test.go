package control

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/moonlight/launch"
)

type hexed []byte

func (h *hexed) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type sealed struct {
	Channel   uint8
	Seq       uint32
	Payload   hexed `json:"enet_payload"`
	Plaintext hexed
	Parsed    string
}

type known struct {
	Crypto []struct {
		sealed
		Name, Direction, Scheme string
		Key                     hexed
	} `json:"control_crypto"`
	Messages struct {
		Key      hexed
		Messages []sealed
	} `json:"control_messages_from_real_client"`
	Loss struct {
		Key      hexed
		Messages []sealed
	} `json:"control_messages_under_loss"`
}

func vectors(t testing.TB) (v known) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func opener(t testing.TB, key []byte, legacy bool) *Opener {
	t.Helper()
	o, err := NewOpener(launch.Key(key), legacy)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestSealedAsClientsDo(t *testing.T) {
	for _, c := range vectors(t).Crypto {
		legacy := !strings.Contains(c.Scheme, "v2")
		if strings.HasPrefix(c.Direction, "host") {
			s, err := NewSealer(launch.Key(c.Key), legacy)
			if err != nil {
				t.Fatal(err)
			}
			s.seq = uint64(c.Seq)
			if got, err := s.Seal([]byte("before"), c.Plaintext); err != nil || !bytes.Equal(got, append([]byte("before"), c.Payload...)) {
				t.Errorf("%s: sealed %x, want %x: %v", c.Name, got, c.Payload, err)
			}
			continue
		}
		if got, err := opener(t, c.Key, legacy).Open(c.Payload); err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: opened %x, want %x: %v", c.Name, got, c.Plaintext, err)
		}
	}
}

// TestMessagesOfARealClient: all of them are understood.
func TestMessagesOfARealClient(t *testing.T) {
	v := vectors(t)
	for _, group := range []struct {
		key      []byte
		messages []sealed
	}{{v.Messages.Key, v.Messages.Messages}, {v.Loss.Key, v.Loss.Messages}} {
		o := opener(t, group.key, false)
		for _, m := range group.messages {
			got, err := o.Open(m.Payload)
			if err != nil || !bytes.Equal(got, m.Plaintext) {
				t.Errorf("message %d: opened %x, want %x: %v", m.Seq, got, m.Plaintext, err)
				continue
			}
			c, rest, err := signaling.DecodeControl(got)
			if err != nil || len(rest) > 0 {
				t.Errorf("message %d, %x: %v", m.Seq, got, err)
				continue
			}
			switch c.Type {
			case signaling.ControlInput:
				// The one that clients send and no host uses.
				if _, err := signaling.DecodeInput(c.Payload); err != nil && !strings.Contains(m.Parsed, "haptics") {
					t.Errorf("input %s, %x: %v", m.Parsed, got, err)
				}
			case signaling.ControlInvalidate:
				if v, err := DecodeInvalid(c.Payload); err != nil || v.First == 0 || v.Last < v.First {
					t.Errorf("invalidation %+v: %v", v, err)
				}
			case signaling.ControlFECStatus:
				if v, err := DecodeFECStatus(c.Payload); err != nil || v.Frame == 0 || v.Data == 0 || v.ReceivedData > v.Data || v.ReceivedParity > v.Parity || v.Blocks != 1 {
					t.Errorf("FEC status %+v: %v", v, err)
				}
			case signaling.ControlPing, signaling.ControlRequestIDR, signaling.ControlStartB, LongTermAck:
			default:
				t.Errorf("message %d of type %#x", m.Seq, c.Type)
			}
		}
	}
}

func TestReplaysAndForgeries(t *testing.T) {
	key := launch.Key([]byte("sixteen bytes ok"))
	// What a client seals differs in one letter.
	w, err := newWay(key, false, 'C')
	if err != nil {
		t.Fatal(err)
	}
	message := func(seq uint64) []byte {
		b, err := (&Sealer{way: w, seq: seq}).Seal(nil, []byte{byte(seq)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	o := opener(t, key[:], false)
	for _, step := range []struct {
		seq  uint64
		want error
	}{{5, nil}, {5, ErrReplay}, {3, nil}, {3, ErrReplay}, {4, nil}, {100, nil}, {99, nil}, {5, ErrReplay}, {36, ErrReplay}, {37, nil}, {1 << 31, nil}, {100, ErrReplay}} {
		if _, err := o.Open(message(step.seq)); !errors.Is(err, step.want) || (err == nil) != (step.want == nil) {
			t.Errorf("message %d: %v, want %v", step.seq, err, step.want)
		}
	}
	good := message(1<<32 - 1)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if o.Fresh(bad) {
			t.Errorf("with another byte %d it is authentic", i)
		}
	}
	if !o.Fresh(good) || opener(t, []byte("another key of s"), false).Fresh(good) {
		t.Error("it is not, or anybody's")
	}
	if o.Fresh(message(101)) || o.Fresh(message(5)) {
		t.Error("what may have come before is fresh")
	}
	if _, err := (&Sealer{way: w, seq: 1 << 32}).Seal(nil, nil); !errors.Is(err, ErrSpent) {
		t.Errorf("after all numbers: %v", err)
	}
	// Ours do not open as the client's: the letter keeps the directions apart.
	s, err := NewSealer(key, false)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.Seal(nil, []byte("x")); err != nil || o.Fresh(b) {
		t.Error("our own message is taken for the client's")
	}
}

func TestReasons(t *testing.T) {
	for code, want := range map[string]uint32{
		media.CauseAppExited: 0x80030023, media.CauseUser: 0x80030023, media.CauseSuperseded: 0x80030023,
		media.CauseMedia: reasonFailed, media.CauseNoEncoder: reasonFailed,
	} {
		if got := Reason(&media.Cause{Code: code}); got != want {
			t.Errorf("%s: %#x, want %#x", code, got, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	v := vectors(f)
	for _, m := range v.Messages.Messages {
		f.Add([]byte(m.Payload))
	}
	o := opener(f, v.Messages.Key, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		_, _ = o.Open(b)
		_, _ = DecodeInvalid(b)
		_, _ = DecodeFECStatus(b)
		if !bytes.Equal(b, before) {
			t.Fatal("it was changed")
		}
	})
}
