package browser

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/rtpstream"
)

// clientInterceptors gives a client what browsers have: NACK, RTCP reports, TWCC.
func clientInterceptors(t *testing.T, m *webrtc.MediaEngine) *interceptor.Registry {
	t.Helper()
	r := &interceptor.Registry{}
	must(t, webrtc.RegisterDefaultInterceptors(m, r))
	return r
}

// start plays units into att until the test ends.
func start(t *testing.T, att *fakeAttachment, every time.Duration, size int) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { defer wg.Done(); att.play(ctx, every, size) }()
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func (c *client) open(dc *webrtc.DataChannel) {
	c.t.Helper()
	opened := make(chan struct{})
	dc.OnOpen(func() { close(opened) })
	get(c.t, opened, dc.Label()+" channel")
}

func (c *client) bye() signaling.Bye {
	c.t.Helper()
	b, ok := c.wait().(signaling.Bye)
	if !ok {
		c.t.Fatalf("got another message than bye")
	}
	return b
}

func TestPictureSoundAndInputOverUDP(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	if c.welcome.Codec != media.H264 || c.welcome.Version != 1 || c.welcome.Session.ID != "s1" || c.welcome.HeartbeatMs != 500 || !c.welcome.Grant.Keyboard {
		t.Fatalf("welcome %+v", c.welcome)
	}
	begin := time.Now()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 3000)
	get(t, c.video, "video")
	get(t, c.audio, "audio")
	t.Logf("offer to first packet: %v", time.Since(begin))

	c.open(c.input)
	must(t, c.input.Send(packet(t, media.Input{Kind: media.KeyDown, Key: 0x41})))
	got := get(t, att.inputs, "input")
	if got.Kind != media.KeyDown || got.Key != 0x41 || got.Received == 0 {
		t.Fatalf("input %+v", got)
	}
	c.send(signaling.Bye{Code: media.CauseLeft})
	if cause := get(t, att.detached, "detach"); cause.Code != media.CauseLeft {
		t.Fatalf("detached with %v", cause)
	}
	if bye := c.bye(); bye.Code != media.CauseLeft || bye.Retry {
		t.Fatalf("bye %+v", bye)
	}
}

func TestTheAnswerListsTheAgreedCodecOnly(t *testing.T) {
	for _, codec := range []media.Codec{media.H264, media.VP8, media.VP9, media.AV1, media.H265} {
		t.Run(string(codec), func(t *testing.T) {
			b := newBench(t)
			b.session.codec = codec
			c := b.connect()
			c.offer(nil)
			video := c.answer[strings.Index(c.answer, "m=video"):]
			video = video[:max(strings.Index(video[1:], "m="), 0)+1]
			if !strings.Contains(strings.ToLower(video), " "+string(codec)+"/90000") {
				t.Fatalf("no %s in\n%s", codec, video)
			}
			for line := range strings.SplitSeq(video, "\r\n") {
				if strings.HasPrefix(line, "a=rtpmap:") && !strings.Contains(strings.ToLower(line), string(codec)+"/") && !strings.Contains(line, "rtx/") {
					t.Errorf("%s is offered too", line)
				}
			}
			for _, want := range []string{"rtx/90000", "nack pli", "ccm fir", "transport-cc", "a=sendonly", rtpstream.URIPlayoutDelay, rtpstream.URIAbsCaptureTime, "a=msid:fenrir"} {
				if !strings.Contains(video, want) {
					t.Errorf("no %s in\n%s", want, video)
				}
			}
			c.until(webrtc.PeerConnectionStateConnected)
		})
	}
}

func TestPacketsCarryCaptureTimesAndPlayoutDelay(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	receiver := make(chan *webrtc.RTPReceiver, 1)
	go func() {
		select {
		case r := <-c.senders:
			receiver <- r
		case <-c.done:
		}
	}()
	base := media.Now()
	const frames = 30
	play := func(i uint32) {
		u := h264Unit(i, i == 0, 4000)
		u.Stages.Captured = base.Add(time.Duration(i) * 16667 * time.Microsecond)
		att.video <- u
		a := opusUnit(i)
		a.Stages.Captured = base.Add(time.Duration(i)*10*time.Millisecond + time.Duration(i%3)*time.Millisecond) // a jittery sound server
		att.audio <- a
	}
	play(0)
	r := get(t, receiver, "video track")
	var delay, capture uint8
	for _, e := range r.GetParameters().HeaderExtensions {
		switch e.URI {
		case rtpstream.URIPlayoutDelay:
			delay = uint8(e.ID)
		case rtpstream.URIAbsCaptureTime:
			capture = uint8(e.ID)
		}
	}
	if delay == 0 || capture == 0 {
		t.Fatal("extensions were not negotiated")
	}
	var first *rtp.Packet
	for i := range frames {
		if i > 0 {
			play(uint32(i))
		}
		var p *rtp.Packet
		packets := 0
		for {
			q := get(t, c.video, "video")
			packets++
			if p == nil {
				p = q
			} else if q.GetExtension(capture) != nil || q.Timestamp != p.Timestamp {
				t.Fatalf("frame %d: packet %d has timestamp %d, capture time %x", i, packets, q.Timestamp, q.GetExtension(capture))
			}
			if q.MarshalSize() > 1200 {
				t.Errorf("packet of %d bytes", q.MarshalSize())
			}
			if q.Marker {
				break
			}
		}
		if packets < 4 {
			t.Errorf("frame %d came in %d packets", i, packets)
		}
		if first == nil {
			first = p
		}
		if got, want := p.Timestamp-first.Timestamp, float64(i)*1500.03; math.Abs(float64(got)-want) > 2 {
			t.Errorf("frame %d: timestamp %d after the first, want %.0f", i, got, want)
		}
		var pd rtp.PlayoutDelayExtension
		if err := pd.Unmarshal(p.GetExtension(delay)); err != nil || pd.MinDelay != 0 || pd.MaxDelay != 0 {
			t.Errorf("playout delay %+v, %v", pd, err)
		}
		var at rtp.AbsCaptureTimeExtension
		must(t, at.Unmarshal(p.GetExtension(capture)))
		if off := at.CaptureTime().Sub(base.Add(time.Duration(i) * 16667 * time.Microsecond).Wall()); off < -time.Millisecond || off > time.Millisecond {
			t.Errorf("frame %d: capture time is off by %v", i, off)
		}
		if at.EstimatedCaptureClockOffset == nil || *at.EstimatedCaptureClockOffset != 0 {
			t.Errorf("frame %d: clock offset %v, want 0", i, at.EstimatedCaptureClockOffset)
		}
	}
	var last *rtp.Packet
	for i := range frames {
		p := get(t, c.audio, "audio")
		if last != nil && (p.Timestamp-last.Timestamp != 480 || p.SequenceNumber != last.SequenceNumber+1) {
			t.Errorf("sound packet %d: timestamp advanced by %d, want 480", i, p.Timestamp-last.Timestamp)
		}
		last = p
	}
	// A second of sound is lost; the timestamps say so.
	a := opusUnit(frames + 100)
	a.Stages.Captured = base.Add(frames*10*time.Millisecond + time.Second)
	att.audio <- a
	if p := get(t, c.audio, "audio"); p.Timestamp-last.Timestamp < 48000 || p.Timestamp-last.Timestamp > 48000+2*480 {
		t.Errorf("after a gap of a second the timestamp advanced by %d", p.Timestamp-last.Timestamp)
	}
}

func TestSenderReportsTieBothClocksToCaptureTime(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	reports := make(chan *rtcp.SenderReport, 64)
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	start(t, b.session.get("tab-00000001"), 10*time.Millisecond, 1000)
	video, audio := get(t, c.video, "video"), get(t, c.audio, "audio")
	for _, tr := range c.pc.GetTransceivers() {
		go func() {
			for {
				pkts, _, err := tr.Receiver().ReadRTCP()
				if err != nil {
					return
				}
				for _, p := range pkts {
					if sr, ok := p.(*rtcp.SenderReport); ok {
						reports <- sr
					}
				}
			}
		}()
	}
	seen := make(map[uint32]bool)
	for !seen[video.SSRC] || !seen[audio.SSRC] {
		sr := get(t, reports, "sender report")
		seen[sr.SSRC] = true
		ref, clock := video, 90000.0
		if sr.SSRC == audio.SSRC {
			ref, clock = audio, 48000
		}
		if sr.PacketCount == 0 || sr.OctetCount == 0 {
			t.Errorf("report %+v", sr)
		}
		// Video units here are captured 4 ms before they are sent, sound at once.
		if ahead := float64(int32(sr.RTPTime-ref.Timestamp)) / clock; ahead < 0 || ahead > 5 {
			t.Errorf("SSRC %d: the report is %.3f s after the first packet", sr.SSRC, ahead)
		}
	}
}

// TestClientsLearnTheRoundTrip asks as browsers do: with a number of the client's own, which
// pion takes for whom the report is addressed to.
func TestClientsLearnTheRoundTrip(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	start(t, b.session.get("tab-00000001"), 10*time.Millisecond, 1000)
	video := get(t, c.video, "video")
	const own, asked = 1, 0x1234_5678_9ABC_DEF0
	answers := make(chan rtcp.DLRRReport, 8)
	for _, tr := range c.pc.GetTransceivers() {
		go func() {
			for {
				packets, _, err := tr.Receiver().ReadRTCP()
				if err != nil {
					return
				}
				for _, p := range packets {
					x, ok := p.(*rtcp.ExtendedReport)
					if !ok {
						continue
					}
					for _, r := range x.Reports {
						if d, ok := r.(*rtcp.DLRRReportBlock); ok && len(d.Reports) == 1 {
							answers <- d.Reports[0]
						}
					}
				}
			}
		}()
	}
	// There is an answer once the reports, one a second, tell that the client is near.
	again, late := time.NewTicker(100*time.Millisecond), time.After(20*time.Second)
	defer again.Stop()
	for {
		must(t, c.pc.WriteRTCP([]rtcp.Packet{
			&rtcp.ReceiverReport{SSRC: own, Reports: []rtcp.ReceptionReport{{SSRC: video.SSRC}}},
			&rtcp.ExtendedReport{SenderSSRC: own, Reports: []rtcp.ReportBlock{&rtcp.ReceiverReferenceTimeReportBlock{NTPTimestamp: asked}}},
		}))
		select {
		case got := <-answers:
			if got.SSRC != own || got.LastRR != 0x5678_9ABC || got.DLRR != 0 {
				t.Errorf("answered %+v", got)
			}
			return
		case <-again.C:
		case <-late:
			t.Fatal("no answer")
		}
	}
}

func TestPictureLossAsksForAKeyFrame(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	att.video <- h264Unit(0, true, 100)
	p := get(t, c.video, "video")
	for _, m := range []rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: p.SSRC}, &rtcp.FullIntraRequest{MediaSSRC: p.SSRC, FIR: []rtcp.FIREntry{{SSRC: p.SSRC}}}} {
		must(t, c.pc.WriteRTCP([]rtcp.Packet{m}))
		get(t, att.keys, fmt.Sprintf("request after %T", m))
	}
	c.open(c.input)
	idr, err := signaling.AppendControl(nil, signaling.ControlRequestIDR, []byte{0, 0})
	must(t, err)
	must(t, c.input.Send(idr))
	get(t, att.keys, "request after a control packet")
	if plis := b.server.Stats().Totals.PLIs; plis != 3 {
		t.Errorf("%d requests counted, want 3", plis)
	}
}

func TestASecondConnectionSupersedesTheFirst(t *testing.T) {
	b := newBench(t)
	first := b.connect()
	first.offer(nil)
	first.until(webrtc.PeerConnectionStateConnected)
	old := b.session.get("tab-00000001")
	second := b.connect()
	if bye := first.bye(); bye.Code != media.CauseSuperseded || bye.Retry {
		t.Errorf("bye %+v", bye)
	}
	if code := closeCode(get(t, first.closed, "close")); code != signaling.CloseSuperseded {
		t.Errorf("close code %d", code)
	}
	if cause := get(t, old.detached, "detach"); cause.Code != media.CauseSuperseded {
		t.Errorf("detached with %v", cause)
	}
	second.offer(nil)
	second.until(webrtc.PeerConnectionStateConnected)
}

func TestRefusalsAreTold(t *testing.T) {
	for code, status := range map[string]int{
		media.CauseSessionGone: signaling.CloseNotFound, media.CauseNoEncoder: signaling.CloseNoEncoder,
		media.CauseNoSlot: signaling.CloseNoEncoder, media.CauseTooMany: signaling.CloseTooMany, media.CauseAppExited: signaling.CloseEnded,
	} {
		t.Run(code, func(t *testing.T) {
			b := newBench(t)
			b.session.refuse = &media.Cause{Code: code, Detail: "because", Output: "last words"}
			ws := b.dial("/api/sessions/s1/signal")
			write(t, ws, `{"type":"hello","version":1,"codecs":["h264"]}`)
			bye, err := readBye(ws)
			must(t, err)
			if bye.Code != code || bye.Detail != "because" || bye.Output != "last words" {
				t.Errorf("bye %+v", bye)
			}
			if _, err := readBye(ws); closeCode(err) != status {
				t.Errorf("closed with %v, want %d", err, status)
			}
		})
	}
}

func TestFaultsOfOursAreNotTold(t *testing.T) {
	b := newBench(t)
	b.session.refuse = fmt.Errorf("open /secret/path: permission denied")
	ws := b.dial("/api/sessions/s1/signal")
	write(t, ws, `{"type":"hello","version":1,"codecs":["h264"]}`)
	bye, err := readBye(ws)
	must(t, err)
	if bye.Code != signaling.CauseInternal || strings.Contains(bye.Detail, "secret") {
		t.Errorf("bye %+v", bye)
	}
}

func TestTheEndOfTheSessionReachesTheClient(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	begin := time.Now()
	b.session.get("tab-00000001").end(&media.Cause{Code: media.CauseAppExited, Output: "bye"})
	if bye := c.bye(); bye.Code != media.CauseAppExited || bye.Output != "bye" {
		t.Errorf("bye %+v", bye)
	}
	if code := closeCode(get(t, c.closed, "close")); code != signaling.CloseEnded {
		t.Errorf("close code %d", code)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestTheEstimateReachesTheSessionAndHonoursTheCap(t *testing.T) {
	t.Parallel() // it waits for seconds
	b := newBench(t, func(s *Server) { s.Bitrate = Bitrate{Min: 500, Start: 3000, Max: 20000} })
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 6000) // 5 Mbit/s: nothing holds it back
	first := get(t, att.estimates, "estimate")
	if first < 2000 || first > 3000 {
		t.Errorf("first estimate %d kbit/s", first)
	}
	for last := time.Now(); ; {
		kbps, now := get(t, att.estimates, "higher estimate"), time.Now()
		if gap := now.Sub(last); kbps > first && gap < 900*time.Millisecond {
			t.Errorf("raised twice within %v", gap)
		}
		last = now
		if kbps > 4000 {
			break
		}
	}
	c.send(signaling.Settings{MaxKbps: 1234})
	for get(t, att.estimates, "capped estimate") != 1234 {
	}
	c.send(signaling.Settings{})
	for get(t, att.estimates, "estimate without cap") <= 1234 {
	}
	peers := b.server.Stats().Peers
	if len(peers) != 1 || peers[0].Kbps < 3000 || peers[0].State != "connected" || peers[0].Totals.Frames == 0 || peers[0].Person.ID != "p1" {
		t.Errorf("stats %+v", peers)
	}
}
