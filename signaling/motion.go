package signaling

import (
	"fmt"

	"fenrir/media"
)

// MaxMotionPackets is how many pointer packets one message on the data channel
// `motion` carries at most: three lost messages in a row lose nothing.
const MaxMotionPackets = 4

// Motion is one message on the data channel `motion`: pointer movement, oldest
// first. Seq numbers the last of them, the others count down from it.
type Motion struct {
	Seq  uint32
	N    int // 1…MaxMotionPackets
	Move [MaxMotionPackets]media.Input
}

// DecodeMotion reads a message of the data channel `motion`: u32le seq, then
// 1…4 control packets that are pointer movement, absolute or relative. Errors
// wrap ErrShort, ErrRange or ErrUnknown.
func DecodeMotion(b []byte) (Motion, error) {
	if len(b) < 4 {
		return Motion{}, fmt.Errorf("motion header: %w", ErrShort)
	}
	m := Motion{Seq: le.Uint32(b)}
	rest := b[4:]
	for len(rest) > 0 {
		if m.N == MaxMotionPackets {
			return Motion{}, fmt.Errorf("motion of more than %d packets: %w", MaxMotionPackets, ErrRange)
		}
		var c Control
		var err error
		if c, rest, err = DecodeControl(rest); err != nil {
			return Motion{}, err
		}
		if c.Type != ControlInput {
			return Motion{}, fmt.Errorf("motion packet %#04x: %w", uint16(c.Type), ErrRange)
		}
		in, err := DecodeInput(c.Payload)
		if err != nil {
			return Motion{}, err
		}
		if in.Kind != media.PointerMove && in.Kind != media.PointerDelta {
			return Motion{}, fmt.Errorf("motion of kind %d: %w", in.Kind, ErrRange)
		}
		m.Move[m.N] = in
		m.N++
	}
	if m.N == 0 {
		return Motion{}, fmt.Errorf("motion without packets: %w", ErrShort)
	}
	return m, nil
}

// AppendMotion appends m as a message.
func AppendMotion(dst []byte, m Motion) ([]byte, error) {
	if m.N < 1 || m.N > MaxMotionPackets {
		return dst, fmt.Errorf("motion of %d packets: %w", m.N, ErrRange)
	}
	out := le.AppendUint32(dst, m.Seq)
	for _, in := range m.Move[:m.N] {
		if in.Kind != media.PointerMove && in.Kind != media.PointerDelta {
			return dst, fmt.Errorf("motion of kind %d: %w", in.Kind, ErrRange)
		}
		var err error
		if out, err = AppendInput(out, in); err != nil {
			return dst, err
		}
	}
	return out, nil
}

// MotionSequence picks from each message what was not applied yet. Its zero
// value is ready; it is not safe for concurrent use.
type MotionSequence struct {
	last    uint32
	started bool
	Lost    uint64 // packets that no message brought
	Late    uint64 // messages that brought nothing new
}

// Fresh returns the packets of m that are newer than all that came before, in
// order; they alias m. Numbers are compared modulo 2^32.
func (s *MotionSequence) Fresh(m *Motion) []media.Input {
	n := m.N
	if s.started {
		ahead := int32(m.Seq - s.last)
		if ahead <= 0 {
			s.Late++
			return nil
		}
		if int64(ahead) > int64(n) {
			s.Lost += uint64(ahead) - uint64(n)
		} else {
			n = int(ahead)
		}
	}
	s.last, s.started = m.Seq, true
	return m.Move[m.N-n : m.N]
}

// CursorPosition is what the server sends on `motion`: where the pointer stands.
type CursorPosition struct {
	Seq  uint32 // of this channel's downward direction; the newest wins
	X, Y uint16 // pixels of the display
}

// AppendCursorPosition appends p as a message of 8 bytes.
func AppendCursorPosition(dst []byte, p CursorPosition) []byte {
	dst = le.AppendUint32(dst, p.Seq)
	dst = le.AppendUint16(dst, p.X)
	return le.AppendUint16(dst, p.Y)
}

// DecodeCursorPosition reads such a message.
func DecodeCursorPosition(b []byte) (CursorPosition, error) {
	if len(b) < 8 {
		return CursorPosition{}, fmt.Errorf("cursor position: %w", ErrShort)
	}
	return CursorPosition{Seq: le.Uint32(b), X: le.Uint16(b[4:]), Y: le.Uint16(b[6:])}, nil
}
