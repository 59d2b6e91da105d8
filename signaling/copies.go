package signaling

import (
	"fmt"
	"sync"
)

// MaxCopies is how many control packets one message of copies carries at most.
const MaxCopies = 4

// Copies are control packets that went out on the data channel `input` and go
// out again on `motion`, which waits for nothing: where one is lost on a lossy
// path, its copy comes long before SCTP sends it again. Last numbers the last of
// them, counting all packets on `input` but pings from 1; the others count down.
type Copies struct {
	Last   uint32
	N      int // 1…MaxCopies
	Packet [MaxCopies]Control
}

// IsCopies tells such a message from others on `motion`.
func IsCopies(b []byte) bool {
	return len(b) >= 4+controlHeader && ControlType(le.Uint16(b[4:])) == ControlCopies
}

// DecodeCopies reads a message: u32le last, then a control packet 0x5F02 whose
// payload is 1…4 control packets, oldest first; no pings. Their payloads alias b.
// Errors wrap ErrShort or ErrRange.
func DecodeCopies(b []byte) (c Copies, err error) {
	if len(b) < 4 {
		return Copies{}, fmt.Errorf("copies: %w", ErrShort)
	}
	c.Last = le.Uint32(b)
	outer, rest, err := DecodeControl(b[4:])
	if err != nil {
		return Copies{}, err
	}
	if outer.Type != ControlCopies || len(rest) > 0 {
		return Copies{}, fmt.Errorf("copies %#04x and %d bytes more: %w", uint16(outer.Type), len(rest), ErrRange)
	}
	for rest = outer.Payload; len(rest) > 0; c.N++ {
		if c.N == MaxCopies {
			return Copies{}, fmt.Errorf("copies of more than %d packets: %w", MaxCopies, ErrRange)
		}
		if c.Packet[c.N], rest, err = DecodeControl(rest); err != nil {
			return Copies{}, err
		}
		if t := c.Packet[c.N].Type; t == ControlPing || t == ControlCopies {
			return Copies{}, fmt.Errorf("copy of %#04x: %w", uint16(t), ErrRange)
		}
	}
	if c.N == 0 {
		return Copies{}, fmt.Errorf("copies of nothing: %w", ErrShort)
	}
	return c, nil
}

// AppendCopies appends c as a message.
func AppendCopies(dst []byte, c Copies) ([]byte, error) {
	if c.N < 1 || c.N > MaxCopies {
		return dst, fmt.Errorf("copies of %d packets: %w", c.N, ErrRange)
	}
	var inner []byte
	var err error
	for _, p := range c.Packet[:c.N] {
		if inner, err = AppendControl(inner, p.Type, p.Payload); err != nil {
			return dst, err
		}
	}
	return AppendControl(le.AppendUint32(dst, c.Last), ControlCopies, inner)
}

// CopySequence puts the packets of `input` and their copies into one order, each
// of them once. Its zero value is ready.
type CopySequence struct {
	mu      sync.Mutex // guards what follows; apply is called while it is held
	heard   uint32     // packets that came on `input`
	applied uint32     // of all, in order, without a gap
	ahead   uint64     // packets of which the copy was first
}

// Ahead is how many packets came first as a copy.
func (s *CopySequence) Ahead() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ahead
}

// Packet takes the next packet of `input` and applies it, unless a copy was first.
func (s *CopySequence) Packet(p Control, apply func(Control) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard++
	if int32(s.heard-s.applied) <= 0 {
		return nil
	}
	s.applied = s.heard
	return apply(p)
}

// Copies applies those that are next, and nothing behind a gap: order matters
// more than haste.
func (s *CopySequence) Copies(c *Copies, apply func(Control) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range c.Packet[:c.N] {
		if n := c.Last - uint32(c.N-1-i); n != s.applied+1 {
			continue
		}
		s.applied++
		s.ahead++
		if err := apply(p); err != nil {
			return err
		}
	}
	return nil
}
