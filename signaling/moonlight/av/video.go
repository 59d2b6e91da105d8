package av

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

var be, le = binary.BigEndian, binary.LittleEndian

// FrameType is what a frame refers to, for the client.
type FrameType uint8

// The types of frames.
const (
	Ordinary     FrameType = 1
	IDR          FrameType = 2
	IntraRefresh FrameType = 4
	Recovered    FrameType = 5 // refers only to frames that are valid after an invalidation
)

// Bounds of what ANNOUNCE may ask for.
const (
	MinPacketSize = 64
	MaxPacketSize = 2048
	MaxMinParity  = 2
)

// Bounds of the parity, percent of a block's data packets.
const (
	MinPercent = 1
	MaxPercent = 100
)

const (
	rtpHeader   = 12
	head        = 32 // RTP header, 4 reserved bytes, the protocol's own header
	frameHeader = 8
	sealHead    = 32 // nonce, frame number, tag

	maxBlocks    = 4
	maxBlockData = 1023 // of a block without parity: 10 bits
)

// Flags of a data packet.
const (
	flagPicture = 1
	flagEnd     = 2 // of a block
	flagStart   = 4
)

// ErrFrame is wrapped by the error for a frame that cannot be sent: it is empty,
// or larger than four blocks.
var ErrFrame = errors.New("frame cannot be packetised")

// VideoConfig is what was negotiated about the packets of a video stream.
type VideoConfig struct {
	PacketSize int    // bytes, as announced; a datagram has 16 more, 48 with a key
	MinParity  int    // least parity packets of a block, 0…2
	Key        []byte // 16 bytes, nil: not encrypted
}

// Video packetises one stream. Frames are numbered from 1, packets from 0.
type Video struct {
	payload, packet, stride int // bytes: of a packet's payload, of a packet, of a datagram
	minParity               int
	seal                    cipher.AEAD // nil: none
	sealed                  uint64      // packets; the nonce
	scratch                 []byte

	codes  codes
	seq    uint32 // of the next packet
	frame  uint32 // of the last frame
	slab   []byte // all datagrams of a frame
	out    [][]byte
	shards [][]byte
}

// NewVideo makes a packetiser.
func NewVideo(c VideoConfig) (*Video, error) {
	if c.PacketSize < MinPacketSize || c.PacketSize > MaxPacketSize || c.MinParity < 0 || c.MinParity > MaxMinParity {
		return nil, fmt.Errorf("packets of %d bytes with at least %d for parity are not possible", c.PacketSize, c.MinParity)
	}
	v := &Video{payload: c.PacketSize - 16, packet: c.PacketSize + 16, minParity: c.MinParity}
	v.stride = v.packet
	if c.Key != nil {
		block, err := aes.NewCipher(c.Key)
		if err != nil {
			return nil, fmt.Errorf("video key: %w", err)
		}
		if v.seal, err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("video key: %w", err)
		}
		v.stride += sealHead
	}
	return v, nil
}

// First is how many bytes of a frame are in its first packet.
func (v *Video) First() int { return v.payload - frameHeader }

// Frame is one access unit.
type Frame struct {
	Data      []byte
	Type      FrameType
	Latency   time.Duration // since it was captured; clients show it
	Timestamp uint32        // 90 kHz
}

// plan says how a frame is split.
type plan struct {
	blocks, data int // data packets of each block but the last, which has the rest
	total        int // data packets
	percent      int // 0: no parity
}

func (v *Video) plan(size, percent int) (plan, error) {
	p := plan{total: (frameHeader + size + v.payload - 1) / v.payload, percent: min(max(percent, MinPercent), MaxPercent)}
	most := min(maxShards*100/(100+p.percent), maxShards-v.minParity)
	p.blocks = (p.total + most - 1) / most
	if p.blocks > maxBlocks {
		p.blocks, p.percent = maxBlocks, 0
	}
	p.data = (p.total + p.blocks - 1) / p.blocks
	p.blocks = (p.total + p.data - 1) / p.data
	if size == 0 || p.data > maxBlockData {
		return p, fmt.Errorf("frame of %d bytes: %w", size, ErrFrame)
	}
	return p, nil
}

// parityOf is how many parity packets a block has, and the percentage from which
// the client computes the same number.
func (v *Video) parityOf(data, percent int) (parity, announced int) {
	if percent == 0 {
		return 0, 0
	}
	count := func(percent int) int { return (data*percent + 99) / 100 }
	if parity = count(percent); parity >= v.minParity {
		return parity, percent
	}
	percent = 100 * v.minParity / data
	if count(percent) < v.minParity {
		percent++
	}
	return count(percent), percent
}

// Packets makes the datagrams of a frame, in the order to send them, with parity of
// so many percent. They are valid until the next call. A frame that is refused
// takes no number.
func (v *Video) Packets(f Frame, percent int) ([][]byte, error) {
	p, err := v.plan(len(f.Data), percent)
	if err != nil {
		return nil, err
	}
	v.frame++
	v.reserve(p)
	rest := f.Data
	for b, left := 0, p.total; b < p.blocks; b++ {
		data := min(p.data, left)
		left -= data
		parity, announced := v.parityOf(data, p.percent)
		block := v.take(data + parity)
		for i, packet := range block[:data] {
			n := 0
			if b == 0 && i == 0 {
				n = v.header(packet[head:], &f)
			}
			c := copy(packet[head+n:], rest)
			rest = rest[c:]
			clear(packet[head+n+c:])
			v.describe(packet, i, data, b, p.blocks)
		}
		if parity > 0 {
			if err := v.codes.parity(block, data); err != nil {
				return nil, err
			}
		}
		v.finish(block, data, announced, b, p.blocks, f.Timestamp)
	}
	if v.seal != nil {
		v.encrypt()
	}
	return v.out, nil
}

// reserve makes room for all datagrams of a frame.
func (v *Video) reserve(p plan) {
	n := 0
	for b, left := 0, p.total; b < p.blocks; b++ {
		data := min(p.data, left)
		left -= data
		parity, _ := v.parityOf(data, p.percent)
		n += data + parity
	}
	if cap(v.slab) < n*v.stride {
		v.slab = make([]byte, n*v.stride)
	}
	v.slab = v.slab[:0]
	v.out = v.out[:0]
}

// take is room for the next packets, as the code sees them.
func (v *Video) take(n int) [][]byte {
	v.shards = v.shards[:0]
	for range n {
		at := len(v.slab)
		v.slab = v.slab[:at+v.stride]
		datagram := v.slab[at : at+v.stride : at+v.stride]
		v.out = append(v.out, datagram)
		v.shards = append(v.shards, datagram[v.stride-v.packet:])
	}
	return v.shards
}

// header writes the header of a frame and returns its length.
func (v *Video) header(to []byte, f *Frame) int {
	last := (frameHeader + len(f.Data)) % v.payload
	if last == 0 {
		last = v.payload
	}
	to[0] = 1
	le.PutUint16(to[1:], uint16(min(max(f.Latency/(100*time.Microsecond), 0), math.MaxUint16)))
	to[3] = byte(f.Type)
	le.PutUint16(to[4:], uint16(last))
	to[6], to[7] = 0, 0
	return frameHeader
}

// describe writes what the code covers of a data packet's headers; the rest of
// them is zero.
func (v *Video) describe(packet []byte, index, data, block, blocks int) {
	clear(packet[:head])
	flags := byte(flagPicture)
	if index == 0 {
		flags |= flagStart
	}
	if index == data-1 {
		flags |= flagEnd
	}
	le.PutUint32(packet[16:], (v.seq+uint32(index))&0xFFFFFF<<8)
	le.PutUint32(packet[20:], v.frame)
	packet[24] = flags
	packet[26] = 0x10
	packet[27] = byte(block<<4 | (blocks-1)<<6)
}

// finish writes the headers that the code does not cover.
func (v *Video) finish(block [][]byte, data, percent, number, blocks int, timestamp uint32) {
	for i, packet := range block {
		clear(packet[:16])
		packet[0] = 0x90
		be.PutUint16(packet[2:], uint16(v.seq))
		be.PutUint32(packet[4:], timestamp)
		le.PutUint32(packet[28:], uint32(percent<<4|i<<12|data<<22))
		if i >= data {
			le.PutUint32(packet[20:], v.frame)
			packet[27] = byte(number<<4 | (blocks-1)<<6)
		}
		v.seq++
	}
}

// encrypt seals the datagrams where they are.
func (v *Video) encrypt() {
	for _, datagram := range v.out {
		nonce := datagram[:12]
		le.PutUint64(nonce, v.sealed)
		nonce[8], nonce[9], nonce[10], nonce[11] = 0, 0, 0, 'V'
		v.sealed++
		v.scratch = v.seal.Seal(v.scratch[:0], nonce, datagram[sealHead:], nil)
		le.PutUint32(datagram[12:], v.frame)
		tag := len(v.scratch) - v.seal.Overhead()
		copy(datagram[16:], v.scratch[tag:])
		copy(datagram[sealHead:], v.scratch[:tag])
	}
}
