package resend

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

const mainSSRC, rtxSSRC = 11, 22

// rig is a Responder with one video stream and a peer that reports to it.
type rig struct {
	t       *testing.T
	r       *Responder
	in      interceptor.RTPWriter
	reports interceptor.RTCPReader
	next    []byte
	out     []rtp.Packet // since the last call of nack
	losses  int
}

func newRig(t *testing.T, rtx bool) *rig {
	g := &rig{t: t}
	g.r = New(func() { g.losses++ })
	info := &interceptor.StreamInfo{SSRC: mainSSRC, RTCPFeedback: []interceptor.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}}}
	if rtx {
		info.SSRCRetransmission, info.PayloadTypeRetransmission = rtxSSRC, 97
	}
	g.in = g.r.BindLocalStream(info, interceptor.RTPWriterFunc(func(h *rtp.Header, p []byte, _ interceptor.Attributes) (int, error) {
		g.out = append(g.out, rtp.Packet{Header: h.Clone(), Payload: slices.Clone(p)})
		return len(p), nil
	}))
	g.reports = g.r.BindRTCPReader(interceptor.RTCPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		return copy(b, g.next), a, nil
	}))
	return g
}

// send sends packets from…to.
func (g *rig) send(from, to int) {
	g.t.Helper()
	for i := from; i <= to; i++ {
		h := &rtp.Header{Version: 2, SSRC: mainSSRC, PayloadType: 96, SequenceNumber: uint16(i), Timestamp: uint32(i), Marker: i%2 == 0}
		if err := h.SetExtension(3, []byte{byte(i), 1}); err != nil {
			g.t.Fatal(err)
		}
		if _, err := g.in.Write(h, payloadOf(i), nil); err != nil {
			g.t.Fatal(err)
		}
	}
}

func payloadOf(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 300) }

// nack asks for packets again and returns what came.
func (g *rig) nack(seqs ...uint16) []rtp.Packet {
	g.t.Helper()
	g.out = nil
	var err error
	g.next, err = (&rtcp.TransportLayerNack{MediaSSRC: mainSSRC, Nacks: rtcp.NackPairsFromSequenceNumbers(seqs)}).Marshal()
	if err != nil {
		g.t.Fatal(err)
	}
	if _, _, err := g.reports.Read(make([]byte, 1500), nil); err != nil {
		g.t.Fatal(err)
	}
	return g.out
}

func TestLostPacketsComeAgainAsRTX(t *testing.T) {
	g := newRig(t, true)
	g.send(65530, 65540)
	got := g.nack(65531, 3)
	if len(got) != 2 {
		t.Fatalf("%d packets came, want 2", len(got))
	}
	for i, seq := range []int{65531, 65539} {
		p := got[i]
		if p.SSRC != rtxSSRC || p.PayloadType != 97 || p.Timestamp != uint32(seq) || p.Marker != (seq%2 == 0) {
			t.Errorf("header %+v", p.Header)
		}
		if binary.BigEndian.Uint16(p.Payload) != uint16(seq) || !bytes.Equal(p.Payload[2:], payloadOf(seq)) {
			t.Errorf("payload of %d begins %x", seq, p.Payload[:8])
		}
		if ext := p.GetExtension(3); !bytes.Equal(ext, []byte{byte(seq), 1}) {
			t.Errorf("extension %x", ext)
		}
	}
	if got[1].SequenceNumber != got[0].SequenceNumber+1 {
		t.Error("the retransmission stream has gaps of its own")
	}
}

func TestWithoutRTXThePacketItselfComesAgain(t *testing.T) {
	g := newRig(t, false)
	g.send(1, 5)
	got := g.nack(2)
	if len(got) != 1 || got[0].SSRC != mainSSRC || got[0].SequenceNumber != 2 || !bytes.Equal(got[0].Payload, payloadOf(2)) {
		t.Errorf("got %v", got)
	}
}

func TestAnAnswerThatWasLostIsGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, true)
		g.r.Tune(Tuning{RTT: 20 * time.Millisecond})
		g.send(1, 5)
		for i, want := range []int{1, 0, 1} { // at once, 6 ms later, 12 ms later
			if got := g.nack(2); len(got) != want {
				t.Errorf("request %d: %d packets, want %d", i, len(got), want)
			}
			time.Sleep(6 * time.Millisecond) // virtual
		}
		g.r.Tune(Tuning{RTT: 20 * time.Millisecond, Copies: 2})
		time.Sleep(time.Second)
		if got := g.nack(2, 3); len(got) != 4 {
			t.Errorf("%d packets in two copies, want 4", len(got))
		}
	})
}

func TestWhatIsForgottenDoesNotComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, true)
		g.send(1, 5)
		time.Sleep(time.Millisecond) // virtual
		g.r.Forget()
		g.send(6, 8)
		got := g.nack(2, 7)
		if len(got) != 1 || binary.BigEndian.Uint16(got[0].Payload) != 7 {
			t.Errorf("%d packets came, want the one after", len(got))
		}
		if g.losses != 1 || g.r.Refused() != 1 {
			t.Errorf("%d losses told, %d refused, want a key frame asked for", g.losses, g.r.Refused())
		}
	})
}

func TestNothingBeforeAKeyFrameIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, true)
		g.send(1, 5)
		time.Sleep(time.Millisecond) // virtual
		g.r.Forget()
		time.Sleep(time.Millisecond) // virtual
		g.r.Renew()
		g.send(6, 8)
		got := g.nack(2, 3, 7)
		if len(got) != 1 || binary.BigEndian.Uint16(got[0].Payload) != 7 {
			t.Errorf("%d packets came, want the one after", len(got))
		}
		if g.losses != 0 || g.r.Refused() != 0 {
			t.Errorf("%d losses told, %d refused: another key frame is asked for", g.losses, g.r.Refused())
		}
	})
}

func TestWhatCannotBeRepairedIsTold(t *testing.T) {
	g := newRig(t, true)
	g.send(1, 5)
	if g.nack(9); g.losses != 1 || g.r.Refused() != 1 {
		t.Errorf("%d losses told, %d refused", g.losses, g.r.Refused())
	}
}

func TestAnswersKeepTheirBudget(t *testing.T) {
	g := newRig(t, true)
	g.r.Tune(Tuning{Budget: 480_000}) // 100 ms of it are 6000 bytes, ten packets
	g.send(1, 100)
	seqs := make([]uint16, 50)
	for i := range seqs {
		seqs[i] = uint16(i + 1)
	}
	if n := len(g.nack(seqs...)); n < 10 || n > 12 {
		t.Errorf("%d packets came at once, want about 10", n)
	}
	if g.losses != 1 {
		t.Errorf("%d losses told, want 1", g.losses)
	}
}

func TestHistoryGrowsWithTheRate(t *testing.T) {
	g := newRig(t, true)
	g.send(1, 3000) // in a moment
	if got := g.nack(1, 2900); len(got) != 2 {
		t.Errorf("%d of 2 came", len(got))
	}
	g.send(3001, 3000+maxHistory)
	if got := g.nack(2900); len(got) != 0 {
		t.Error("the history has no bound")
	}
}

func TestPadding(t *testing.T) {
	type mark struct{}
	g := newRig(t, true)
	g.r.Pad(mainSSRC, 3, interceptor.Attributes{mark{}: true}) // nothing was sent
	g.send(1, 5)
	g.out = nil
	g.r.Pad(mainSSRC, 3, interceptor.Attributes{mark{}: true})
	if len(g.out) != 3 || g.out[0].SSRC != rtxSSRC {
		t.Errorf("%d packets", len(g.out))
	}
	g = newRig(t, false)
	g.send(1, 5)
	g.out = nil
	if g.r.Pad(mainSSRC, 3, nil); len(g.out) != 0 {
		t.Error("padding without a retransmission stream")
	}
}

// FuzzNACK: no report makes the responder panic.
func FuzzNACK(f *testing.F) {
	b, err := (&rtcp.TransportLayerNack{MediaSSRC: mainSSRC, Nacks: []rtcp.NackPair{{PacketID: 5, LostPackets: 0xFFFF}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		g := newRig(t, true)
		g.send(1, 20)
		g.out = nil
		g.next = b
		if _, _, err := g.reports.Read(make([]byte, 1500), nil); err != nil {
			t.Fatal(err)
		}
		for _, p := range g.out {
			if p.SSRC != rtxSSRC {
				t.Fatalf("sent %v", p.Header)
			}
		}
	})
}

func BenchmarkKeep(b *testing.B) {
	g := New(func() {})
	w := g.BindLocalStream(&interceptor.StreamInfo{SSRC: mainSSRC, RTCPFeedback: []interceptor.RTCPFeedback{{Type: "nack"}}},
		interceptor.RTPWriterFunc(func(*rtp.Header, []byte, interceptor.Attributes) (int, error) { return 0, nil }))
	h := &rtp.Header{Version: 2, SSRC: mainSSRC}
	payload := make([]byte, 1100)
	b.ReportAllocs()
	for b.Loop() {
		h.SequenceNumber++
		if _, err := w.Write(h, payload, nil); err != nil {
			b.Fatal(err)
		}
	}
}
