package rtpstream

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"fenrir/media"
)

// payloadMTU is how many payload bytes a packet takes. With RTP header,
// extensions, the header of a parity packet, SRTP tag, and the headers of TURN,
// UDP and IPv6 it stays below 1280 bytes, which every network carries.
const payloadMTU = 1110

// packetizer cuts the units of one stream into RTP payloads. push is called
// with each; the bytes are valid until the call after the next. A unit without
// payloads is not an error. pion's packetisers are not used: they allocate each
// packet, and that for VP9 marks every frame as a key frame.
type packetizer interface {
	packetize(u *media.Unit, push func([]byte) error) error
}

func newPacketizer(codec media.Codec) (packetizer, error) {
	switch codec {
	case media.H264:
		return &nalPacketizer{header: 1}, nil
	case media.H265:
		return &nalPacketizer{header: 2}, nil
	case media.AV1:
		return &av1Packetizer{}, nil
	case media.VP8:
		return &vpPacketizer{id: uint16(rand.Uint32())}, nil
	case media.VP9:
		return &vpPacketizer{id: uint16(rand.Uint32()), nine: true}, nil
	}
	return nil, fmt.Errorf("no packetiser for codec %q", codec)
}

// pages are two buffers in turn, so that one payload can wait while the next
// is made.
type pages struct {
	buf [2][payloadMTU]byte
	n   int
}

func (p *pages) next() []byte {
	p.n ^= 1
	return p.buf[p.n][:0]
}

// nalPacketizer does H.264 (RFC 6184, mode 1) and H.265 (RFC 7798), which differ
// in the length of the NAL unit header and in numbers.
type nalPacketizer struct {
	pages
	header int      // bytes of a NAL unit's header
	wait   [][]byte // small NAL units that go into one packet
	size   int      // of that packet
}

const (
	h264AUD, h264Filler, h264STAPA, h264FUA = 9, 12, 24, 28
	h265AUD, h265Filler, h265AP, h265FU     = 35, 38, 48, 49
)

func (p *nalPacketizer) packetize(u *media.Unit, push func([]byte) error) error {
	p.wait, p.size = p.wait[:0], p.header
	for nal := range nalUnits(u.Data) {
		if len(nal) <= p.header || p.skip(nal) {
			continue
		}
		if p.size+2+len(nal) > payloadMTU {
			if err := p.flush(push); err != nil {
				return err
			}
		}
		if len(nal) > payloadMTU {
			if err := p.fragment(nal, push); err != nil {
				return err
			}
			continue
		}
		p.wait = append(p.wait, nal)
		p.size += 2 + len(nal)
	}
	return p.flush(push)
}

// skip tells what need not be sent: delimiters and filling.
func (p *nalPacketizer) skip(nal []byte) bool {
	if p.header == 1 {
		t := nal[0] & 0x1F
		return t == h264AUD || t == h264Filler
	}
	t := nal[0] >> 1 & 0x3F
	return t == h265AUD || t == h265Filler
}

// flush sends what waits, as it is or as an aggregation packet.
func (p *nalPacketizer) flush(push func([]byte) error) error {
	defer func() { p.wait, p.size = p.wait[:0], p.header }()
	switch len(p.wait) {
	case 0:
		return nil
	case 1:
		return push(append(p.next(), p.wait[0]...))
	}
	out := p.next()
	if p.header == 1 {
		h := byte(h264STAPA)
		for _, n := range p.wait {
			h |= n[0] & 0x80 // forbidden bit: of any
			h = h&^0x60 | max(h&0x60, n[0]&0x60)
		}
		out = append(out, h)
	} else {
		layer, tid := byte(0x3F), byte(7)
		for _, n := range p.wait {
			layer = min(layer, n[0]&1<<5|n[1]>>3)
			tid = min(tid, n[1]&7)
		}
		out = append(out, h265AP<<1|layer>>5, layer<<3|tid)
	}
	for _, n := range p.wait {
		out = append(out, byte(len(n)>>8), byte(len(n)))
		out = append(out, n...)
	}
	return push(out)
}

// fragment sends one NAL unit in several packets.
func (p *nalPacketizer) fragment(nal []byte, push func([]byte) error) error {
	var head [3]byte
	if p.header == 1 {
		head = [3]byte{nal[0]&0xE0 | h264FUA, nal[0] & 0x1F}
	} else {
		head = [3]byte{nal[0]&0x81 | h265FU<<1, nal[1], nal[0] >> 1 & 0x3F}
	}
	mark := p.header // index of the byte with start, end and type
	rest := nal[p.header:]
	for first := true; len(rest) > 0; first = false {
		n := min(len(rest), payloadMTU-p.header-1)
		h := head
		if first {
			h[mark] |= 0x80
		}
		if n == len(rest) {
			h[mark] |= 0x40
		}
		out := append(p.next(), h[:mark+1]...)
		if err := push(append(out, rest[:n]...)); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// nalUnits yields the NAL units of an Annex B byte stream.
func nalUnits(b []byte) func(func([]byte) bool) {
	start := []byte{0, 0, 1}
	return func(yield func([]byte) bool) {
		i := bytes.Index(b, start)
		if i < 0 {
			return
		}
		b := b[i+3:]
		for len(b) > 0 {
			nal, rest := b, []byte(nil)
			if i := bytes.Index(b, start); i >= 0 {
				nal, rest = b[:i], b[i+3:]
			}
			for len(nal) > 0 && nal[len(nal)-1] == 0 {
				nal = nal[:len(nal)-1] // zeros before a start code belong to it
			}
			if !yield(nal) {
				return
			}
			b = rest
		}
	}
}

// av1Packetizer does AV1 (AOM's RTP payload format, version 1.0). Every OBU
// element carries its length, which costs a byte or two.
type av1Packetizer struct{ pages }

const (
	obuSequence, obuDelimiter, obuTileList, obuPadding = 1, 2, 8, 15

	av1Continues, av1Continued, av1NewSequence = 0x80, 0x40, 0x08
)

func (p *av1Packetizer) packetize(u *media.Unit, push func([]byte) error) error {
	out := append(p.next(), 0)
	begun := false // out holds an element
	first := true
	b := u.Data
	for len(b) > 0 {
		head, body, rest, ok := nextOBU(b)
		if !ok {
			return fmt.Errorf("broken OBU: %w", ErrUnit)
		}
		b = rest
		kind := head[0] >> 3 & 0xF
		if kind == obuDelimiter || kind == obuTileList || kind == obuPadding {
			continue
		}
		if kind == obuSequence && first {
			out[0] |= av1NewSequence
		}
		first = false
		// The element is head and body, cut wherever a packet is full.
		for left, off := len(head)+len(body), 0; left > 0; {
			space := payloadMTU - len(out)
			if space < 3 { // length, and a byte worth sending
				if off > 0 {
					out[0] |= av1Continued
				}
				if err := push(out); err != nil {
					return err
				}
				out, begun = append(p.next(), 0), false
				if off > 0 {
					out[0] |= av1Continues
				}
				continue
			}
			n := min(left, space-1)
			if n >= 128 {
				n = min(left, space-2)
				out = append(out, byte(n)|0x80, byte(n>>7))
			} else {
				out = append(out, byte(n))
			}
			for i := off; i < off+n; {
				if i < len(head) {
					out = append(out, head[i])
					i++
					continue
				}
				out = append(out, body[i-len(head):off+n-len(head)]...)
				break
			}
			begun = true
			off += n
			left -= n
		}
	}
	if !begun {
		return nil
	}
	return push(out)
}

// nextOBU takes one OBU off b: its header without size field, and its body.
func nextOBU(b []byte) (head, body, rest []byte, ok bool) {
	n := 1
	if b[0]&4 != 0 {
		n = 2
	}
	if len(b) < n || b[0]&0x80 != 0 {
		return nil, nil, nil, false
	}
	h, rest := b[:n], b[n:]
	size := len(rest)
	if b[0]&2 != 0 {
		size = 0
		for i := 0; ; i++ {
			if i == 8 || len(rest) == 0 {
				return nil, nil, nil, false
			}
			c := rest[0]
			rest = rest[1:]
			if i < 5 {
				size |= int(c&0x7F) << (7 * i)
			}
			if c&0x80 == 0 {
				break
			}
		}
		if size > len(rest) {
			return nil, nil, nil, false
		}
	}
	head = []byte{h[0] &^ 2}
	if n == 2 {
		head = []byte{h[0] &^ 2, h[1]}
	}
	return head, rest[:size], rest[size:], true
}

// vpPacketizer does VP8 (RFC 7741) and VP9 (RFC 9628, flexible mode: each frame
// but a key frame names the one before as its reference).
type vpPacketizer struct {
	pages
	nine bool
	id   uint16 // of the picture, 15 bits
}

func (p *vpPacketizer) packetize(u *media.Unit, push func([]byte) error) error {
	p.id = (p.id + 1) & 0x7FFF
	for rest, first := u.Data, true; len(rest) > 0; first = false {
		out := p.next()
		if p.nine {
			out = p.describe9(out, u, first)
		} else {
			start := byte(0)
			if first {
				start = 0x10
			}
			out = append(out, 0x80|start, 0x80, 0x80|byte(p.id>>8), byte(p.id))
		}
		n := min(len(rest), payloadMTU-len(out))
		if p.nine && n == len(rest) {
			out[0] |= 0x04 // the frame's last packet
		}
		if err := push(append(out, rest[:n]...)); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// describe9 appends the payload descriptor of VP9: I P L F B E V Z, picture id,
// reference, and on a key frame's first packet its size.
func (p *vpPacketizer) describe9(out []byte, u *media.Unit, first bool) []byte {
	flags := byte(0x90) // I, F
	if first {
		flags |= 0x08
	}
	if !u.Key {
		flags |= 0x40
	}
	size := u.Key && first && u.Width > 0
	if size {
		flags |= 0x02
	}
	out = append(out, flags, 0x80|byte(p.id>>8), byte(p.id))
	if !u.Key {
		out = append(out, 1<<1) // the picture before this one; no more
	}
	if size {
		out = append(out, 0x10, byte(u.Width>>8), byte(u.Width), byte(u.Height>>8), byte(u.Height))
	}
	return out
}
