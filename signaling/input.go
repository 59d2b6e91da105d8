package signaling

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"fenrir/media"
)

// magic is the number that says what an input packet carries.
type magic uint32

const (
	magicKeyDown    magic = 0x03
	magicKeyUp      magic = 0x04
	magicAbsolute   magic = 0x05
	magicRelative   magic = 0x07
	magicButtonDown magic = 0x08
	magicButtonUp   magic = 0x09
	magicScrollV    magic = 0x0A
	magicPadState   magic = 0x0C
	magicText       magic = 0x17
	magicScrollH    magic = 0x55000001
	magicTouch      magic = 0x55000002
	magicPen        magic = 0x55000003
	magicPadArrival magic = 0x55000004
	magicPadTouch   magic = 0x55000005
	magicPadMotion  magic = 0x55000006
	magicPadBattery magic = 0x55000007
)

// inputHeader is u32be size (of what follows it) and u32le magic.
const inputHeader = 8

// Fixed words inside a pad-state packet. Clients send them, nobody reads them.
const (
	padStateHead   uint16 = 0x001A
	padStateMiddle uint16 = 0x0014
	padStateTail   uint16 = 0x009C
	padStateEnd    uint16 = 0x0055
)

const (
	unknownByte = 0xFF // battery percent and pen tilt
	maxText     = 32   // bytes
	maxPads     = 16
)

// bodySize is how many bytes an input body has at least. Longer ones are
// accepted: later clients append fields.
var bodySize = map[magic]int{
	magicKeyDown: 4, magicKeyUp: 4, magicAbsolute: 10, magicRelative: 4,
	magicButtonDown: 1, magicButtonUp: 1, magicScrollV: 2, magicScrollH: 2,
	magicPadState: 26, magicText: 1, magicTouch: 28, magicPen: 28,
	magicPadArrival: 8, magicPadTouch: 20, magicPadMotion: 16, magicPadBattery: 4,
}

// DecodeInput reads the payload of a ControlInput. Coordinates that lie
// outside of the picture are clamped to its edge, as pointers that leave it do;
// other values outside of their range are ErrRange. Received is left for the
// caller to fill.
func DecodeInput(payload []byte) (media.Input, error) {
	if len(payload) < inputHeader {
		return media.Input{}, fmt.Errorf("input header: %w", ErrShort)
	}
	size := binary.BigEndian.Uint32(payload)
	m := magic(binary.LittleEndian.Uint32(payload[4:]))
	if size < 4 {
		return media.Input{}, fmt.Errorf("input size %d: %w", size, ErrRange)
	}
	if uint64(size) > uint64(len(payload)-4) {
		return media.Input{}, fmt.Errorf("input %#x: %w", uint32(m), ErrShort)
	}
	b := payload[inputHeader : 4+size]
	least, known := bodySize[m]
	if !known {
		return media.Input{}, fmt.Errorf("input %#x: %w", uint32(m), ErrUnknown)
	}
	if len(b) < least {
		return media.Input{}, fmt.Errorf("input %#x of %d bytes: %w", uint32(m), len(b), ErrShort)
	}
	in, ok := decodeBody(m, b)
	if !ok {
		return media.Input{}, fmt.Errorf("input %#x: %w", uint32(m), ErrRange)
	}
	return in, nil
}

var be, le = binary.BigEndian, binary.LittleEndian

// decodeBody reads a body that is long enough; ok says whether all is in range.
func decodeBody(m magic, b []byte) (in media.Input, ok bool) {
	switch m {
	case magicKeyDown, magicKeyUp:
		in.Kind = media.KeyDown
		if m == magicKeyUp {
			in.Kind = media.KeyUp
		}
		in.Key = le.Uint16(b[1:]) & 0xFF // the high byte is 0x80 in most clients and says nothing
		in.Modifiers = b[3] & 0x0F
		return in, in.Key != 0 && in.Key != 0xFF
	case magicText:
		in.Kind = media.Text
		in.Text = string(b)
		return in, len(b) <= maxText && utf8.Valid(b)
	case magicRelative:
		in.Kind = media.PointerDelta
		in.DX, in.DY = int(int16(be.Uint16(b))), int(int16(be.Uint16(b[2:])))
		return in, true
	case magicAbsolute:
		in.Kind = media.PointerMove
		in.W, in.H = int(int16(be.Uint16(b[6:]))), int(int16(be.Uint16(b[8:])))
		if in.W <= 0 || in.H <= 0 {
			return in, false
		}
		in.X = min(max(int(int16(be.Uint16(b))), 0), in.W)
		in.Y = min(max(int(int16(be.Uint16(b[2:]))), 0), in.H)
		return in, true
	case magicButtonDown, magicButtonUp:
		in.Kind = media.ButtonDown
		if m == magicButtonUp {
			in.Kind = media.ButtonUp
		}
		in.Button = b[0]
		return in, in.Button >= media.ButtonLeft && in.Button <= media.ButtonX2
	case magicScrollV:
		in.Kind = media.ScrollV
		in.DY = int(int16(be.Uint16(b)))
		return in, true
	case magicScrollH:
		in.Kind = media.ScrollH
		in.DX = int(int16(be.Uint16(b)))
		return in, true
	case magicTouch:
		in.Kind = media.Touch
		in.Contact = media.Contact{Event: b[0], Rotation: le.Uint16(b[2:]), ID: le.Uint32(b[4:])}
		return in, b[0] <= 7 && unit(b[8:], &in.Contact.X, &in.Contact.Y, &in.Contact.Pressure, &in.Contact.Major, &in.Contact.Minor)
	case magicPen:
		in.Kind = media.Pen
		in.Contact = media.Contact{Event: b[0], Tool: b[1], Buttons: b[2], Rotation: le.Uint16(b[16:]), Tilt: b[18]}
		return in, b[0] <= 7 && b[1] <= 2 && (b[18] <= 90 || b[18] == unknownByte) &&
			unit(b[4:], &in.Contact.X, &in.Contact.Y, &in.Contact.Pressure) && unit(b[20:], &in.Contact.Major, &in.Contact.Minor)
	}
	return decodePad(m, b)
}

func decodePad(m magic, b []byte) (in media.Input, ok bool) {
	p := &in.Pad
	switch m {
	case magicPadArrival:
		in.Kind = media.PadArrival
		*p = media.Pad{Number: b[0], Type: b[1], Caps: le.Uint16(b[2:]), Buttons: le.Uint32(b[4:])}
		return in, p.Number < maxPads && p.Type <= 4
	case magicPadState:
		in.Kind = media.PadState
		number := le.Uint16(b[2:])
		*p = media.Pad{
			Number: uint8(number), ActiveMask: le.Uint16(b[4:]),
			Buttons: uint32(le.Uint16(b[8:])) | uint32(le.Uint16(b[22:]))<<16,
			LT:      b[10], RT: b[11],
			LX: int16(le.Uint16(b[12:])), LY: int16(le.Uint16(b[14:])),
			RX: int16(le.Uint16(b[16:])), RY: int16(le.Uint16(b[18:])),
		}
		return in, number < maxPads
	case magicPadTouch:
		in.Kind = media.PadTouch
		*p = media.Pad{Number: b[0], Touchpad: b[3]}
		in.Contact = media.Contact{Event: b[1], ID: le.Uint32(b[4:])}
		return in, p.Number < maxPads && b[1] <= 7 && unit(b[8:], &in.Contact.X, &in.Contact.Y, &in.Contact.Pressure)
	case magicPadMotion:
		in.Kind = media.PadMotion
		*p = media.Pad{Number: b[0], Motion: b[1]}
		for i := range p.Vector {
			p.Vector[i] = math.Float32frombits(le.Uint32(b[4+4*i:]))
			if f := float64(p.Vector[i]); math.IsNaN(f) || math.IsInf(f, 0) {
				return in, false
			}
		}
		return in, p.Number < maxPads && (p.Motion == 1 || p.Motion == 2)
	case magicPadBattery:
		in.Kind = media.PadBattery
		*p = media.Pad{Number: b[0], Battery: b[1], Percent: b[2]}
		return in, p.Number < maxPads && p.Battery <= 5 && (p.Percent <= 100 || p.Percent == unknownByte)
	}
	return in, false
}

// unit reads float32s of 0…1 from b, clamped; false when one is no number.
func unit(b []byte, to ...*float32) bool {
	for i, f := range to {
		*f = math.Float32frombits(le.Uint32(b[4*i:]))
		if math.IsNaN(float64(*f)) {
			return false
		}
		*f = min(max(*f, 0), 1) + 0 // +0 turns −0 into 0
	}
	return true
}

// AppendInput appends in as one complete control packet: ControlInput, or
// ControlReleaseAll for media.ReleaseAll. What DecodeInput would refuse or
// change is ErrRange, a kind without a packet ErrUnknown; dst is then returned
// as it was.
func AppendInput(dst []byte, in media.Input) ([]byte, error) {
	if in.Kind == media.ReleaseAll {
		return appendHeader(dst, ControlReleaseAll, 0), nil
	}
	start := len(dst)
	out := append(dst, make([]byte, controlHeader+inputHeader)...)
	m, out := appendBody(out, in)
	if m == 0 {
		return dst, fmt.Errorf("input kind %d: %w", in.Kind, ErrUnknown)
	}
	body := len(out) - start - controlHeader - inputHeader
	le.PutUint16(out[start:], uint16(ControlInput))
	le.PutUint16(out[start+2:], uint16(inputHeader+body))
	be.PutUint32(out[start+4:], uint32(4+body))
	le.PutUint32(out[start+8:], uint32(m))

	back, err := DecodeInput(out[start+controlHeader:])
	if err != nil {
		return dst, err
	}
	want := in
	want.Received = 0
	if back != want {
		return dst, fmt.Errorf("input %#x: %w", uint32(m), ErrRange)
	}
	return out, nil
}

// appendBody appends the body of in; magic 0 means that there is none for its
// kind. Numbers that do not fit are cut here and found by AppendInput.
func appendBody(b []byte, in media.Input) (magic, []byte) {
	c := in.Contact
	switch in.Kind {
	case media.KeyDown, media.KeyUp:
		m := magicKeyDown
		if in.Kind == media.KeyUp {
			m = magicKeyUp
		}
		b = append(b, 0)
		b = le.AppendUint16(b, 0x8000|in.Key)
		return m, append(b, in.Modifiers, 0, 0)
	case media.Text:
		return magicText, append(b, in.Text...)
	case media.PointerDelta:
		b = be.AppendUint16(b, uint16(in.DX))
		return magicRelative, be.AppendUint16(b, uint16(in.DY))
	case media.PointerMove:
		for _, v := range [...]int{in.X, in.Y, 0, in.W, in.H} {
			b = be.AppendUint16(b, uint16(v))
		}
		return magicAbsolute, b
	case media.ButtonDown:
		return magicButtonDown, append(b, in.Button)
	case media.ButtonUp:
		return magicButtonUp, append(b, in.Button)
	case media.ScrollV:
		b = be.AppendUint16(b, uint16(in.DY))
		b = be.AppendUint16(b, uint16(in.DY))
		return magicScrollV, append(b, 0, 0)
	case media.ScrollH:
		return magicScrollH, be.AppendUint16(b, uint16(in.DX))
	case media.Touch:
		b = append(b, c.Event, 0)
		b = le.AppendUint16(b, c.Rotation)
		b = le.AppendUint32(b, c.ID)
		return magicTouch, appendFloats(b, c.X, c.Y, c.Pressure, c.Major, c.Minor)
	case media.Pen:
		b = append(b, c.Event, c.Tool, c.Buttons, 0)
		b = appendFloats(b, c.X, c.Y, c.Pressure)
		b = le.AppendUint16(b, c.Rotation)
		b = append(b, c.Tilt, 0)
		return magicPen, appendFloats(b, c.Major, c.Minor)
	}
	return appendPad(b, in)
}

func appendPad(b []byte, in media.Input) (magic, []byte) {
	p, c := in.Pad, in.Contact
	switch in.Kind {
	case media.PadArrival:
		b = append(b, p.Number, p.Type)
		b = le.AppendUint16(b, p.Caps)
		return magicPadArrival, le.AppendUint32(b, p.Buttons)
	case media.PadState:
		for _, v := range [...]uint16{padStateHead, uint16(p.Number), p.ActiveMask, padStateMiddle, uint16(p.Buttons)} {
			b = le.AppendUint16(b, v)
		}
		b = append(b, p.LT, p.RT)
		for _, v := range [...]uint16{uint16(p.LX), uint16(p.LY), uint16(p.RX), uint16(p.RY), padStateTail, uint16(p.Buttons >> 16), padStateEnd} {
			b = le.AppendUint16(b, v)
		}
		return magicPadState, b
	case media.PadTouch:
		b = append(b, p.Number, c.Event, 0, p.Touchpad)
		b = le.AppendUint32(b, c.ID)
		return magicPadTouch, appendFloats(b, c.X, c.Y, c.Pressure)
	case media.PadMotion:
		b = append(b, p.Number, p.Motion, 0, 0)
		return magicPadMotion, appendFloats(b, p.Vector[0], p.Vector[1], p.Vector[2])
	case media.PadBattery:
		return magicPadBattery, append(b, p.Number, p.Battery, p.Percent, 0)
	}
	return 0, b
}

func appendFloats(b []byte, fs ...float32) []byte {
	for _, f := range fs {
		b = le.AppendUint32(b, math.Float32bits(f))
	}
	return b
}
