package rtpstream

import (
	"crypto/subtle"
	"encoding/binary"

	"github.com/pion/rtp"
)

// Bounds of one block of packets that parity packets protect together.
const (
	maxBlock   = 46 // packets: what two masks of a FlexFEC header tell
	maxParity  = 8  // parity packets of a block
	fecHeader  = 24 // bytes with both masks, 20 with one
	shortBlock = 15 // packets that the first mask tells
	rtpHeader  = 12
)

// parity makes FlexFEC-03 packets (draft-ietf-payload-flexible-fec-scheme-03,
// the version that browsers read): packet i of a block goes into parity packet
// i mod n, so that a run of up to n losses is one loss for each. It keeps
// running sums and nothing of the packets themselves.
type parity struct {
	ssrc    uint32
	payload uint8
	seq     uint16

	n     int // parity packets of this block
	base  uint16
	count int // packets in the block
	sums  [maxParity]sum
}

// sum is a parity packet that is being made: the XOR of what it protects.
type sum struct {
	packets int
	size    int     // longest packet, without the RTP header
	fixed   [8]byte // of the RTP headers: flags, type, length, timestamp
	mask    uint64  // bit 45−i: packet i of the block
	data    [fecHeader + packetMTU]byte
}

// packetMTU bounds an RTP packet without its fixed header.
const packetMTU = payloadMTU + 64

// begin starts a block with n parity packets.
func (p *parity) begin(n int) {
	p.n, p.count = min(n, maxParity), 0
	for i := range p.sums[:p.n] {
		s := &p.sums[i]
		clear(s.data[:min(fecHeader+s.size, len(s.data))])
		s.packets, s.size, s.fixed, s.mask = 0, 0, [8]byte{}, 0
	}
}

// add takes a packet in: its RTP header as bytes, extensions included, and its
// payload. It reports whether there was room.
func (p *parity) add(header, payload []byte) bool {
	size := len(header) - rtpHeader + len(payload)
	if p.n == 0 || p.count == maxBlock || size > packetMTU {
		return false
	}
	if p.count == 0 {
		p.base = binary.BigEndian.Uint16(header[2:])
	}
	s := &p.sums[p.count%p.n]
	s.mask |= 1 << (maxBlock - 1 - p.count)
	p.count++
	s.packets++
	s.size = max(s.size, size)
	s.fixed[0] ^= header[0] & 0x3F
	s.fixed[1] ^= header[1]
	s.fixed[2] ^= byte(size >> 8)
	s.fixed[3] ^= byte(size)
	subtle.XORBytes(s.fixed[4:8], s.fixed[4:8], header[4:8])
	body := s.data[fecHeader:]
	n := subtle.XORBytes(body, body, header[rtpHeader:])
	body = body[n:]
	subtle.XORBytes(body, body, payload)
	return true
}

// next hands out the parity packets of the block, i from 0; ok is false when
// there are no more. The payload is valid until the next block begins.
func (p *parity) next(i int, h *rtp.Header, timestamp uint32) (payload []byte, ok bool) {
	if i >= p.n || p.sums[i].packets == 0 {
		return nil, false
	}
	s := &p.sums[i]
	start := 0
	if p.count <= shortBlock {
		start = 4 // the second mask is left out
	}
	out := s.data[start : fecHeader+s.size]
	copy(out, s.fixed[:])
	out[8], out[9], out[10], out[11] = 1, 0, 0, 0 // one source
	binary.BigEndian.PutUint32(out[12:], h.SSRC)
	binary.BigEndian.PutUint16(out[16:], p.base)
	binary.BigEndian.PutUint16(out[18:], uint16(s.mask>>31))
	if p.count <= shortBlock {
		out[18] |= 0x80 // no more masks
	} else {
		binary.BigEndian.PutUint32(out[20:], uint32(s.mask&(1<<31-1))|1<<31)
	}
	h.SSRC, h.PayloadType, h.SequenceNumber, h.Timestamp, h.Marker = p.ssrc, p.payload, p.seq, timestamp, false
	h.Extension, h.ExtensionProfile, h.Extensions = false, 0, h.Extensions[:0]
	p.seq++
	return out, true
}
