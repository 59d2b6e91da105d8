package rtpstream

import (
	"crypto/subtle"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

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
// the version that browsers read): each packet of a block goes into the parity
// packets that its mix names. It keeps running sums and nothing of the packets themselves.
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
	mix := mixes[p.n][p.count%len(mixes[p.n])]
	for i := range p.sums[:p.n] {
		if mix>>i&1 == 1 {
			p.sums[i].add(p.count, size, header, payload)
		}
	}
	p.count++
	return true
}

// add takes packet i of the block in, of size bytes without the RTP header.
func (s *sum) add(i, size int, header, payload []byte) {
	s.mask |= 1 << (maxBlock - 1 - i)
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

// mix names the parity packets that a packet goes into, a bit for each.
type mix uint8

// mixes are, for each number of parity packets, the mixes of a block's packets in
// their order, which begins anew where there are more packets.
//
// A receiver repairs a packet where all others of a parity packet came, then looks
// again. Two losses with different mixes are always repaired so, while with every packet in
// one parity packet alone two losses in the same one are not, nor one loss whose parity
// packet is lost as well. So the mixes differ for as long as they can. In two or three
// parity packets each is best at the losses that this is for (a twentieth of all packets);
// those in one alone come last.
var mixes = func() (all [maxParity + 1][]mix) {
	for n := 1; n <= maxParity; n++ {
		all[n] = mixesOf(n)
	}
	return all
}()

// mixesOf orders the mixes of n parity packets, the first maxBlock of them: by how many they
// are in (2, 3 … n, then 1), and among those so that neighbours share as few
// as possible, for losses that come in runs.
func mixesOf(n int) (order []mix) {
	for i := 1; i <= n; i++ {
		weight := i%n + 1
		var left []mix
		for m := 1; m < 1<<n; m++ {
			if bits.OnesCount(uint(m)) == weight {
				left = append(left, mix(m))
			}
		}
		for len(left) > 0 && len(order) < maxBlock {
			best, least := 0, math.MaxInt
			for i, m := range left {
				shared := 0
				for back := 1; back <= min(2, len(order)); back++ {
					shared += (3 - back) * bits.OnesCount8(uint8(m&order[len(order)-back]))
				}
				if shared < least {
					best, least = i, shared
				}
			}
			order = append(order, left[best])
			left = slices.Delete(left, best, best+1)
		}
	}
	return order
}
