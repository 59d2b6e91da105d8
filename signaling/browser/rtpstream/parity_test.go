package rtpstream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pion/interceptor/pkg/flexfec"
	"github.com/pion/rtp"

	"fenrir/media"
)

// recoverLost puts the one lost packet of a parity packet together, as the draft
// says, of those that came. It is nil when more than one is missing.
func recoverLost(t *testing.T, fec []byte, came map[uint16]*rtp.Packet) *rtp.Packet {
	t.Helper()
	base := binary.BigEndian.Uint16(fec[16:])
	var covered []uint16
	masks := func(b []byte, bits, from int) {
		v := uint64(0)
		for _, x := range b {
			v = v<<8 | uint64(x)
		}
		for i := range bits {
			if v>>(bits-1-i)&1 == 1 {
				covered = append(covered, base+uint16(from+i))
			}
		}
	}
	masks([]byte{fec[18] & 0x7F, fec[19]}, 15, 0)
	at := 20
	if fec[18]&0x80 == 0 {
		if fec[20]&0x80 == 0 {
			t.Fatal("a third mask")
		}
		masks([]byte{fec[20] & 0x7F, fec[21], fec[22], fec[23]}, 31, 15)
		at = 24
	}
	head := slices.Clone(fec[:8])
	body := slices.Clone(fec[at:])
	lost := -1
	for _, seq := range covered {
		p, ok := came[seq]
		if !ok {
			if lost >= 0 {
				return nil
			}
			lost = int(seq)
			continue
		}
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		head[0] ^= b[0] & 0x3F
		head[1] ^= b[1]
		n := len(b) - 12
		head[2] ^= byte(n >> 8)
		head[3] ^= byte(n)
		for i := range 4 {
			head[4+i] ^= b[4+i]
		}
		for i, x := range b[12:] {
			body[i] ^= x
		}
	}
	if lost < 0 {
		t.Fatal("nothing is missing")
	}
	raw := []byte{head[0] | 0x80, head[1], byte(lost >> 8), byte(lost), head[4], head[5], head[6], head[7]}
	raw = append(raw, fec[12:16]...)
	raw = append(raw, body[:int(head[2])<<8|int(head[3])]...)
	p := &rtp.Packet{}
	if err := p.Unmarshal(raw); err != nil {
		t.Fatalf("what was put together is no packet: %v", err)
	}
	return p
}

func TestParityRepairs(t *testing.T) {
	for _, c := range []struct {
		bytes int
		share float64
		fec   int // parity packets
	}{{300, 0.1, 1}, {5_000, 0.1, 1}, {16_000, 0.1, 2}, {16_000, 0.25, 4}, {40_000, 0.05, 2}, {60_000, 0.05, 4}, {16_000, 0, 0}} {
		t.Run(fmt.Sprintf("%d bytes, %v", c.bytes, c.share), func(t *testing.T) {
			var sent, fec []*rtp.Packet
			tr := newBound(t, media.H264, func(h *rtp.Header, p []byte) (int, error) {
				k := &rtp.Packet{Header: h.Clone(), Payload: slices.Clone(p)}
				if h.SSRC == fecSSRC {
					fec = append(fec, k)
				} else {
					sent = append(sent, k)
					// What the congestion control does later must not matter.
					return 0, h.SetExtension(7, []byte{0xAB, byte(len(sent))})
				}
				return 0, nil
			})
			tr.SetParity(c.share, true)
			tr.SetPlayoutDelay(30*time.Millisecond, 50*time.Millisecond)
			for range 3 {
				sent, fec = nil, nil
				u := sampleUnit(media.H264, c.bytes)
				if err := tr.Send(t.Context(), &u); err != nil {
					t.Fatal(err)
				}
				if len(fec) != c.fec {
					t.Fatalf("%d packets and %d parity packets, want %d", len(sent), len(fec), c.fec)
				}
				if c.fec == 0 {
					return
				}
				// Each single loss is repaired by exactly one of them.
				for _, lost := range sent {
					came := map[uint16]*rtp.Packet{}
					for _, p := range sent {
						if p != lost {
							came[p.SequenceNumber] = p
						}
					}
					repaired := 0
					for _, f := range fec {
						if !covers(f.Payload, lost.SequenceNumber) {
							continue
						}
						got := recoverLost(t, f.Payload, came)
						a, _ := got.Marshal()
						b, _ := lost.Marshal()
						if !bytes.Equal(a, b) {
							t.Fatalf("packet %d came back different", lost.SequenceNumber)
						}
						repaired++
					}
					if repaired != 1 {
						t.Fatalf("packet %d is repaired by %d parity packets", lost.SequenceNumber, repaired)
					}
				}
			}
		})
	}
}

func covers(fec []byte, seq uint16) bool {
	i := seq - binary.BigEndian.Uint16(fec[16:])
	switch {
	case i < 15:
		return binary.BigEndian.Uint16(fec[18:])>>(14-i)&1 == 1
	case i < 46 && fec[18]&0x80 == 0:
		return binary.BigEndian.Uint32(fec[20:])>>(45-i)&1 == 1
	}
	return false
}

// TestParityIsFlexFEC compares with pion's encoder, which others decode.
func TestParityIsFlexFEC(t *testing.T) {
	for _, n := range []int{1, 7, 15, 16, 40} {
		var packets []rtp.Packet
		p := &parity{ssrc: fecSSRC, payload: 99, seq: 1000}
		p.begin(1)
		for i := range n {
			k := rtp.Packet{Header: rtp.Header{
				Version: 2, PayloadType: 96, SSRC: 1234, SequenceNumber: uint16(65530 + i), Timestamp: 77777, Marker: i == n-1,
			}, Payload: bytes.Repeat([]byte{byte(i), 3}, 100+i*7)}
			if err := k.Header.SetExtension(5, []byte{0, 0}); err != nil {
				t.Fatal(err)
			}
			packets = append(packets, k)
			head, err := k.Header.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !p.add(head, k.Payload) {
				t.Fatal("no room")
			}
		}
		want := flexfec.NewFlexEncoder03(99, fecSSRC).EncodeFec(packets, 1)
		h := rtp.Header{SSRC: 1234}
		got, ok := p.next(0, &h, 1)
		if !ok || len(want) != 1 || !bytes.Equal(got, want[0].Payload) {
			t.Errorf("%d packets: ours and pion's differ:\n%x\n%x", n, got[:40], want[0].Payload[:40])
		}
	}
}
