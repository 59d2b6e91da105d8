package signaling

import (
	"fmt"
	"math"
	"time"

	"fenrir/media"
)

// MaxStages is how many frames, and how many inputs, one message on the data
// channel `stages` tells of at most: a tenth of a second at 240 frames a second.
const MaxStages = 24

// Stages is one message on the data channel `stages`: what the frames that were
// sent and the inputs that were injected since the last message went through on
// the server, to the microsecond. Where a channel loses a message, Seq has a gap.
type Stages struct {
	Seq    uint16
	At     media.Stamp // when the message was made; the other times are told as spans before it
	Frames []FrameStages
	Inputs []InputStages
}

// FrameStages are the stages of one frame. Spans are never negative.
type FrameStages struct {
	RTPTimestamp uint32
	Captured     media.Stamp
	Wait         time.Duration // change on the display → Captured; NoChange when the frame shows none
	Convert      time.Duration // Captured → pixels in the encoder's format
	Encode       time.Duration // → access unit
	Wire         time.Duration // → read by the server process
	Send         time.Duration // → last packet handed to the network
}

// NoChange is the Wait of a frame that shows no change.
const NoChange time.Duration = -1

// InputStages are those of one packet of the channel `input`.
type InputStages struct {
	Number   uint32 // of the packet, as Copies count them
	Received media.Stamp
	Inject   time.Duration // Received → handed to the X server
}

const (
	stagesHeader = 12
	frameStages  = 28
	inputStages  = 12
	noSpan       = math.MaxUint32
)

// AppendStages appends s as a message. More than MaxStages frames or inputs are
// ErrRange; spans are cut to what 32 bits of microseconds hold, 71 minutes.
func AppendStages(dst []byte, s Stages) ([]byte, error) {
	if len(s.Frames) > MaxStages || len(s.Inputs) > MaxStages {
		return dst, fmt.Errorf("stages of %d frames and %d inputs: %w", len(s.Frames), len(s.Inputs), ErrRange)
	}
	dst = le.AppendUint16(dst, s.Seq)
	dst = append(dst, byte(len(s.Frames)), byte(len(s.Inputs)))
	dst = le.AppendUint64(dst, uint64(max(s.At, 0)/1000))
	span := func(d time.Duration) {
		dst = le.AppendUint32(dst, uint32(min(max(d.Microseconds(), 0), noSpan-1)))
	}
	for _, f := range s.Frames {
		dst = le.AppendUint32(dst, f.RTPTimestamp)
		span(s.At.Sub(f.Captured))
		if f.Wait < 0 {
			dst = le.AppendUint32(dst, noSpan)
		} else {
			span(f.Wait)
		}
		span(f.Convert)
		span(f.Encode)
		span(f.Wire)
		span(f.Send)
	}
	for _, in := range s.Inputs {
		dst = le.AppendUint32(dst, in.Number)
		span(s.At.Sub(in.Received))
		span(in.Inject)
	}
	return dst, nil
}

// DecodeStages reads such a message. Errors wrap ErrShort or ErrRange.
func DecodeStages(b []byte) (Stages, error) {
	if len(b) < stagesHeader {
		return Stages{}, fmt.Errorf("stages header: %w", ErrShort)
	}
	s := Stages{Seq: le.Uint16(b)}
	frames, inputs := int(b[2]), int(b[3])
	us := le.Uint64(b[4:])
	if frames > MaxStages || inputs > MaxStages || us > math.MaxInt64/1000 {
		return Stages{}, fmt.Errorf("stages of %d frames and %d inputs at %d µs: %w", frames, inputs, us, ErrRange)
	}
	s.At = media.Stamp(us * 1000)
	b = b[stagesHeader:]
	if len(b) < frames*frameStages+inputs*inputStages {
		return Stages{}, fmt.Errorf("stages of %d frames and %d inputs: %w", frames, inputs, ErrShort)
	}
	span := func(at int) time.Duration { return time.Duration(le.Uint32(b[at:])) * time.Microsecond }
	for range frames {
		f := FrameStages{
			RTPTimestamp: le.Uint32(b), Captured: s.At.Add(-span(4)), Wait: span(8),
			Convert: span(12), Encode: span(16), Wire: span(20), Send: span(24),
		}
		if f.Wait == noSpan*time.Microsecond {
			f.Wait = NoChange
		}
		s.Frames = append(s.Frames, f)
		b = b[frameStages:]
	}
	for range inputs {
		s.Inputs = append(s.Inputs, InputStages{Number: le.Uint32(b), Received: s.At.Add(-span(4)), Inject: span(8)})
		b = b[inputStages:]
	}
	return s, nil
}
