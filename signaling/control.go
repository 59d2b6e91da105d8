package signaling

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ControlType is the number that starts a Moonlight control packet.
type ControlType uint16

// Control packets, generation 7, as Moonlight numbers them.
const (
	ControlPing          ControlType = 0x0200 // both ways: Ping up, Pong down
	ControlLossStats     ControlType = 0x0201
	ControlInput         ControlType = 0x0206 // DecodeInput
	ControlInvalidate    ControlType = 0x0301
	ControlRequestIDR    ControlType = 0x0302
	ControlStartA        ControlType = 0x0305
	ControlStartB        ControlType = 0x0307
	ControlTermination   ControlType = 0x0109 // server to client: Termination
	ControlRumble        ControlType = 0x010B // server to client: Rumble
	ControlTriggerRumble ControlType = 0x5500 // server to client: Rumble
	ControlMotionReports ControlType = 0x5501 // server to client
	ControlFECStatus     ControlType = 0x5502
	ControlReleaseAll    ControlType = 0x5F01 // Fenrir's own: everything that the client holds goes up; no payload
	ControlCopies        ControlType = 0x5F02 // Fenrir's own, on `motion`: DecodeCopies
)

// TerminationNormal is the reason of a termination that clients show as a
// normal end.
const TerminationNormal uint32 = 0x80030023

const (
	controlHeader      = 4
	maxControlPayload  = 1024 // far above any packet that exists
	pingPayload        = 12
	pongPayload        = 20
	rumblePayload      = 10
	triggerPayload     = 6
	terminationPayload = 4
)

// What can be wrong with a packet. Errors of this package's decoders wrap one
// of these; none of them ever panics.
var (
	// ErrShort: the packet ends before its fields do.
	ErrShort = errors.New("packet too short")
	// ErrRange: a field holds what it must not.
	ErrRange = errors.New("field out of range")
	// ErrUnknown: a type that this version does not know. Moonlight's clients
	// send such packets; whoever reads them skips them and counts.
	ErrUnknown = errors.New("unknown packet")
)

// Control is one framed control packet. Payload aliases the bytes it was decoded from.
type Control struct {
	Type    ControlType
	Payload []byte
}

// DecodeControl reads the first packet of b and returns what follows it.
// Errors wrap ErrShort or ErrRange.
func DecodeControl(b []byte) (c Control, rest []byte, err error) {
	if len(b) < controlHeader {
		return Control{}, nil, fmt.Errorf("control header: %w", ErrShort)
	}
	n := int(binary.LittleEndian.Uint16(b[2:]))
	if n > maxControlPayload {
		return Control{}, nil, fmt.Errorf("control payload of %d bytes: %w", n, ErrRange)
	}
	if len(b)-controlHeader < n {
		return Control{}, nil, fmt.Errorf("control payload: %w", ErrShort)
	}
	return Control{
		Type:    ControlType(binary.LittleEndian.Uint16(b)),
		Payload: b[controlHeader : controlHeader+n : controlHeader+n],
	}, b[controlHeader+n:], nil
}

// AppendControl appends a framed packet to dst. Payloads above 1024 bytes are ErrRange.
func AppendControl(dst []byte, t ControlType, payload []byte) ([]byte, error) {
	if len(payload) > maxControlPayload {
		return dst, fmt.Errorf("control payload of %d bytes: %w", len(payload), ErrRange)
	}
	return append(appendHeader(dst, t, len(payload)), payload...), nil
}

func appendHeader(dst []byte, t ControlType, n int) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(t))
	return binary.LittleEndian.AppendUint16(dst, uint16(n))
}

// Ping is a client's heartbeat on the data channel `input`.
type Ping struct {
	Seq      uint32
	ClientMs float64 // the client's performance.now(), milliseconds; finite
}

// DecodePing reads the payload of a ControlPing from a browser. Moonlight's
// own pings are shorter and give ErrShort: they carry no clock.
func DecodePing(payload []byte) (Ping, error) {
	if len(payload) < pingPayload {
		return Ping{}, fmt.Errorf("ping: %w", ErrShort)
	}
	p := Ping{
		Seq:      binary.LittleEndian.Uint32(payload),
		ClientMs: math.Float64frombits(binary.LittleEndian.Uint64(payload[4:])),
	}
	if math.IsNaN(p.ClientMs) || math.IsInf(p.ClientMs, 0) {
		return Ping{}, fmt.Errorf("ping clock: %w", ErrRange)
	}
	return p, nil
}

// AppendPing appends p as a control packet.
func AppendPing(dst []byte, p Ping) []byte {
	dst = appendHeader(dst, ControlPing, pingPayload)
	dst = binary.LittleEndian.AppendUint32(dst, p.Seq)
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(p.ClientMs))
}

// Pong answers a Ping.
type Pong struct {
	Seq      uint32
	ClientMs float64 // as it came in the Ping
	ServerNs uint64  // the server's CLOCK_MONOTONIC when it read the Ping, nanoseconds
}

// DecodePong reads the payload of a ControlPing from the server.
func DecodePong(payload []byte) (Pong, error) {
	if len(payload) < pongPayload {
		return Pong{}, fmt.Errorf("pong: %w", ErrShort)
	}
	return Pong{
		Seq:      binary.LittleEndian.Uint32(payload),
		ClientMs: math.Float64frombits(binary.LittleEndian.Uint64(payload[4:])),
		ServerNs: binary.LittleEndian.Uint64(payload[12:]),
	}, nil
}

// AppendPong appends p as a control packet.
func AppendPong(dst []byte, p Pong) []byte {
	dst = appendHeader(dst, ControlPing, pongPayload)
	dst = binary.LittleEndian.AppendUint32(dst, p.Seq)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(p.ClientMs))
	return binary.LittleEndian.AppendUint64(dst, p.ServerNs)
}

// Rumble sets the motors of a pad until the next one. With Trigger the motors
// are those of the triggers, left in Low and right in High.
type Rumble struct {
	Pad       uint16
	Low, High uint16 // 0…65535
	Trigger   bool
}

// AppendRumble appends r as a control packet.
func AppendRumble(dst []byte, r Rumble) []byte {
	if r.Trigger {
		dst = appendHeader(dst, ControlTriggerRumble, triggerPayload)
	} else {
		dst = appendHeader(dst, ControlRumble, rumblePayload)
		dst = binary.LittleEndian.AppendUint32(dst, 0) // clients ignore it
	}
	dst = binary.LittleEndian.AppendUint16(dst, r.Pad)
	dst = binary.LittleEndian.AppendUint16(dst, r.Low)
	return binary.LittleEndian.AppendUint16(dst, r.High)
}

// DecodeRumble reads a ControlRumble or ControlTriggerRumble.
func DecodeRumble(c Control) (Rumble, error) {
	p := c.Payload
	switch c.Type {
	case ControlRumble:
		if len(p) < rumblePayload {
			return Rumble{}, fmt.Errorf("rumble: %w", ErrShort)
		}
		p = p[4:]
	case ControlTriggerRumble:
		if len(p) < triggerPayload {
			return Rumble{}, fmt.Errorf("trigger rumble: %w", ErrShort)
		}
	default:
		return Rumble{}, fmt.Errorf("rumble %#04x: %w", uint16(c.Type), ErrUnknown)
	}
	return Rumble{
		Pad:     binary.LittleEndian.Uint16(p),
		Low:     binary.LittleEndian.Uint16(p[2:]),
		High:    binary.LittleEndian.Uint16(p[4:]),
		Trigger: c.Type == ControlTriggerRumble,
	}, nil
}

// AppendTermination appends the packet that tells a client that the stream is
// over. The reason is big-endian, unlike everything around it.
func AppendTermination(dst []byte, reason uint32) []byte {
	dst = appendHeader(dst, ControlTermination, terminationPayload)
	return binary.BigEndian.AppendUint32(dst, reason)
}

// DecodeTermination reads the payload of a ControlTermination.
func DecodeTermination(payload []byte) (reason uint32, err error) {
	if len(payload) < terminationPayload {
		return 0, fmt.Errorf("termination: %w", ErrShort)
	}
	return binary.BigEndian.Uint32(payload), nil
}
