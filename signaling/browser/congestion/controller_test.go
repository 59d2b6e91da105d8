package congestion

import (
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
)

func TestPacketsAreNumberedAcrossStreamsAndRetransmissions(t *testing.T) {
	c := NewController(bounds, nil)
	var seqs []uint16
	sink := interceptor.RTPWriterFunc(func(h *rtp.Header, _ []byte, _ interceptor.Attributes) (int, error) {
		var e rtp.TransportCCExtension
		if err := e.Unmarshal(h.GetExtension(5)); err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, e.TransportSequence)
		return 0, nil
	})
	ext := []interceptor.RTPHeaderExtension{{URI: sdp.TransportCCURI, ID: 5}}
	video := c.BindLocalStream(&interceptor.StreamInfo{SSRC: 1, MimeType: "video/H264", RTPHeaderExtensions: ext}, sink)
	audio := c.BindLocalStream(&interceptor.StreamInfo{SSRC: 2, MimeType: "audio/opus", RTPHeaderExtensions: ext}, sink)
	for _, w := range []struct {
		to   interceptor.RTPWriter
		ssrc uint32
	}{{video, 1}, {audio, 2}, {video, 77}, {video, 1}} {
		if _, err := w.to.Write(&rtp.Header{SSRC: w.ssrc, Timestamp: 9}, make([]byte, 100), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range seqs {
		if int(s) != i {
			t.Errorf("packet %d has number %d", i, s)
		}
	}
	if r := c.Report(); r.Packets != 4 || r.Resent != 1 || r.Known {
		t.Errorf("report %+v", r)
	}
	if p := c.est.sent.get(0); !p.first || p.frame != 1 {
		t.Errorf("first packet of the frame: %+v", p)
	}
	if p := c.est.sent.get(2); p.frame != 0 {
		t.Errorf("retransmission counts as frame: %+v", p)
	}
	if p := c.est.sent.get(3); p.first || p.frame != 1 {
		t.Errorf("second packet of the frame: %+v", p)
	}
}

func TestAStreamWithoutTheExtensionIsLeftAlone(t *testing.T) {
	c := NewController(bounds, nil)
	w := c.BindLocalStream(&interceptor.StreamInfo{SSRC: 1, MimeType: "video/VP8"}, interceptor.RTPWriterFunc(func(h *rtp.Header, _ []byte, _ interceptor.Attributes) (int, error) {
		if h.Extension {
			t.Error("an extension was added")
		}
		return 0, nil
	}))
	if _, err := w.Write(&rtp.Header{SSRC: 1}, nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestFeedbackIsUnpacked(t *testing.T) {
	c := NewController(bounds, nil)
	fb := &rtcp.TransportLayerCC{
		BaseSequenceNumber: 65534, PacketStatusCount: 6, ReferenceTime: 0xFFFFFF,
		PacketChunks: []rtcp.PacketStatusChunk{
			&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 2},
			&rtcp.StatusVectorChunk{SymbolList: []uint16{rtcp.TypeTCCPacketNotReceived, rtcp.TypeTCCPacketReceivedLargeDelta, rtcp.TypeTCCPacketNotReceived, rtcp.TypeTCCPacketReceivedSmallDelta, 0, 0, 0}},
		},
		RecvDeltas: []*rtcp.RecvDelta{{Delta: 250}, {Delta: 1000}, {Delta: -500}, {Delta: 0}},
	}
	base := time.Duration(0xFFFFFF) * 64 * time.Millisecond
	want := []Arrival{
		{65534, true, base + 250*time.Microsecond}, {65535, true, base + 1250*time.Microsecond},
		{Seq: 0}, {1, true, base + 750*time.Microsecond}, {Seq: 2}, {3, true, base + 750*time.Microsecond},
	}
	got := c.arrivals(fb, nil)
	if len(got) != len(want) {
		t.Fatalf("%d arrivals, want %d: %v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("arrival %d: got %v, want %v", i, got[i], want[i])
		}
	}
	// The reference time wraps around; the clock goes on.
	fb.ReferenceTime, fb.BaseSequenceNumber = 0, 10
	if next := c.arrivals(fb, nil); next[0].At-got[0].At != 64*time.Millisecond {
		t.Errorf("after the wrap: %v, before: %v", next[0].At, got[0].At)
	}
	// More symbols than deltas: what is there counts.
	fb.RecvDeltas = fb.RecvDeltas[:1]
	if got := c.arrivals(fb, nil); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// FuzzTWCC: no report of a peer makes the controller panic or leave its bounds.
func FuzzTWCC(f *testing.F) {
	seed := &rtcp.TransportLayerCC{
		Header:            rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback},
		MediaSSRC:         1,
		PacketStatusCount: 2,
		PacketChunks:      []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 2}},
		RecvDeltas:        []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 250}, {Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 500}},
	}
	seed.Header.Length = uint16(seed.MarshalSize()/4 - 1)
	b, err := seed.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewController(bounds, nil)
		ext := []interceptor.RTPHeaderExtension{{URI: sdp.TransportCCURI, ID: 5}}
		w := c.BindLocalStream(&interceptor.StreamInfo{SSRC: 1, MimeType: "video/H264", RTPHeaderExtensions: ext},
			interceptor.RTPWriterFunc(func(*rtp.Header, []byte, interceptor.Attributes) (int, error) { return 0, nil }))
		for i := range 64 {
			if _, err := w.Write(&rtp.Header{SSRC: 1, Timestamp: uint32(i / 4)}, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		r := c.BindRTCPReader(interceptor.RTCPReaderFunc(func(to []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
			return copy(to, b), a, nil
		}))
		buf := make([]byte, 1500)
		for range 2 {
			if _, _, err := r.Read(buf, nil); err != nil {
				t.Fatal(err)
			}
		}
		if rep := c.Report(); rep.Known && (rep.Bitrate < bounds.Min || rep.Bitrate > bounds.Max) {
			t.Fatalf("report %+v", rep)
		}
	})
}
