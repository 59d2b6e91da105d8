package rtpstream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
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
	}{{300, 0.1, 1}, {5_000, 0.1, 1}, {16_000, 0.1, 2}, {16_000, 0.25, 4}, {40_000, 0.05, 2}, {60_000, 0.05, 4}, {40_000, 0.4, 16}, {16_000, 0, 0}} {
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
			tr.SetParity(c.share)
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
				// Each single loss is repaired by each that covers it.
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
					if repaired == 0 {
						t.Fatalf("packet %d is repaired by nothing", lost.SequenceNumber)
					}
				}
			}
		})
	}
}

// mended tells whether all of a block of so many packets is there in the end, where
// these of them and of its n parity packets are lost.
func mended(n, packets int, lost func(i int) bool, lostParity func(i int) bool) bool {
	missing := map[int]mix{}
	for i := range packets {
		if lost(i) {
			missing[i] = mixes[n][i%len(mixes[n])]
		}
	}
	for {
		before := len(missing)
		for p := range n {
			only, of := -1, 0
			for i, m := range missing {
				if m>>p&1 == 1 {
					only, of = i, of+1
				}
			}
			if of == 1 && !lostParity(p) {
				delete(missing, only)
			}
		}
		switch len(missing) {
		case 0:
			return true
		case before:
			return false
		}
	}
}

func TestMixes(t *testing.T) {
	none := func(int) bool { return false }
	for n := 1; n <= maxParity; n++ {
		all := mixes[n]
		if want := min(1<<n-1, maxBlock); len(all) != want {
			t.Errorf("%d parity packets: %d mixes, want %d", n, len(all), want)
		}
		for i, m := range all {
			if m == 0 || int(m) >= 1<<n || slices.Contains(all[:i], m) {
				t.Errorf("%d parity packets: mix %d is %#b", n, i, m)
			}
		}
		// One loss in any case, and two in a row.
		for packets := 1; packets <= maxBlock; packets++ {
			for run := 1; run <= min(2, n); run++ {
				for at := 0; at+run <= packets; at++ {
					if !mended(n, packets, func(i int) bool { return at <= i && i < at+run }, none) {
						t.Errorf("%d parity packets for %d: a run of %d from %d is not mended", n, packets, run, at)
					}
				}
			}
		}
		// Any two, while no mix comes twice.
		packets := len(all)
		for a := range packets {
			for b := range a {
				if !mended(n, packets, func(i int) bool { return i == a || i == b }, none) {
					t.Errorf("%d parity packets for %d: %d and %d are not mended", n, packets, a, b)
				}
			}
		}
	}
}

// TestParityIsStrong holds how much is not whole where every twentieth packet is lost:
// packets, parity packets, share of the blocks. With each packet in one parity packet alone
// it was 0.036, 0.028, 0.050, 0.08 and 0.10.
func TestParityIsStrong(t *testing.T) {
	const loss, rounds = 0.05, 40_000
	for _, c := range []struct {
		packets, parity int
		most            float64
	}{{7, 2, 0.027}, {7, 3, 0.012}, {10, 3, 0.024}, {14, 4, 0.024}, {20, 5, 0.024}} {
		r := rand.New(rand.NewPCG(1, uint64(c.packets)))
		broken := 0
		for range rounds {
			var lost, lostParity uint64
			for i := range c.packets + c.parity {
				if r.Float64() >= loss {
					continue
				}
				if i < c.packets {
					lost |= 1 << i
				} else {
					lostParity |= 1 << (i - c.packets)
				}
			}
			if lost != 0 && !mended(c.parity, c.packets, func(i int) bool { return lost>>i&1 == 1 }, func(i int) bool { return lostParity>>i&1 == 1 }) {
				broken++
			}
		}
		if share := float64(broken) / rounds; share > c.most {
			t.Errorf("%d packets and %d of parity: %.4f of the blocks are not whole, want at most %.4f", c.packets, c.parity, share, c.most)
		}
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
