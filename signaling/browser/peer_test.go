package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"runtime"
	"slices"
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
	"fenrir/signaling/browser/peer"
	"fenrir/signaling/browser/rtpstream"
)

// tooManyBroken is above what the protocol tolerates, 100 packets.
const tooManyBroken = 101

func isLoopback(ip net.IP) bool { return ip.IsLoopback() }

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

func packet(t *testing.T, in media.Input) []byte {
	t.Helper()
	b, err := signaling.AppendInput(nil, in)
	must(t, err)
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

func TestTCPOnly(t *testing.T) {
	b := newBench(t, func(s *Server) { s.Network.UDP = "" })
	c := b.connect(func(c *clientConfig) { c.tcp = true })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	start(t, b.session.get("tab-00000001"), 10*time.Millisecond, 20000)
	for range 200 {
		get(t, c.video, "video")
	}
	pair, err := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	must(t, err)
	if pair.Local.Protocol != webrtc.ICEProtocolTCP {
		t.Errorf("went over %s", pair)
	}
}

func TestICERestartKeepsTheSession(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 500)
	before := get(t, c.video, "video")
	c.open(c.input)
	for range 3 {
		c.offer(&webrtc.OfferOptions{ICERestart: true})
		c.until(webrtc.PeerConnectionStateConnected)
		after := get(t, c.video, "video")
		if after.SSRC != before.SSRC {
			t.Errorf("stream %d became %d", before.SSRC, after.SSRC)
		}
	}
	must(t, c.input.Send(packet(t, media.Input{Kind: media.ButtonDown, Button: 1})))
	for get(t, att.inputs, "input").Kind != media.ButtonDown {
	}
	if b.session.made != 1 {
		t.Errorf("attached %d times", b.session.made)
	}
}

func TestCandidatesMayComeFirst(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.send(signaling.Candidate{Candidate: "candidate:1 1 udp 1 192.0.2.1 1 typ host"})
	c.send(signaling.Candidate{Candidate: "candidate:1 1 udp 1 aaaa.local 1 typ host"})
	c.send(signaling.Candidate{Candidate: "complete nonsense"})
	c.send(signaling.Candidate{})
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
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

func TestMotionSurvivesLoss(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	c.open(c.motion)
	att := b.session.get("tab-00000001")
	const moves = 400
	var last []media.Input
	for i := range uint32(moves) {
		last = append(last, media.Input{Kind: media.PointerDelta, DX: int(i) + 1, DY: -1})
		if len(last) > signaling.MaxMotionPackets {
			last = last[1:]
		}
		if i%4 != 3 { // three of four messages are lost on the way
			continue
		}
		m := signaling.Motion{Seq: i, N: len(last)}
		copy(m.Move[:], last)
		msg, err := signaling.AppendMotion(nil, m)
		must(t, err)
		must(t, c.motion.Send(msg))
		must(t, c.motion.Send(msg)) // and some come twice
		// Arrival is awaited so that the channel itself loses nothing.
		for range 4 {
			in := get(t, att.inputs, "motion")
			if want := int(in.DX); in.Kind != media.PointerDelta || in.DY != -1 || want == 0 {
				t.Fatalf("input %+v", in)
			}
		}
	}
	select {
	case in := <-att.inputs:
		if in.Kind != media.ReleaseAll {
			t.Errorf("applied twice: %+v", in)
		}
	default:
	}
	if s := b.server.Stats(); s.Totals.Inputs != moves || s.Totals.MotionLost != 0 {
		t.Errorf("%d inputs, %d lost; want %d and none", s.Totals.Inputs, s.Totals.MotionLost, moves)
	}
	// Where the pointer stands comes back on the same channel.
	att.notes <- media.Note{Move: &media.CursorMove{X: 640, Y: -3}}
	pos, err := signaling.DecodeCursorPosition(get(t, c.onMotion, "position"))
	if err != nil || pos.X != 640 || pos.Y != 0 || pos.Seq != 1 {
		t.Errorf("position %+v, %v", pos, err)
	}
}

func TestMissedHeartbeatsReleaseWhatIsHeld(t *testing.T) {
	t.Parallel() // it waits for seconds
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	c.open(c.input)
	att := b.session.get("tab-00000001")
	ping := signaling.Ping{Seq: 9, ClientMs: 123.25}
	before := media.Now()
	must(t, c.input.Send(signaling.AppendPing(nil, ping)))
	ctl, _, err := signaling.DecodeControl(get(t, c.onInput, "pong"))
	must(t, err)
	pong, err := signaling.DecodePong(ctl.Payload)
	if err != nil || ctl.Type != signaling.ControlPing || pong.Seq != 9 || pong.ClientMs != 123.25 || media.Stamp(pong.ServerNs) < before || media.Stamp(pong.ServerNs) > media.Now() {
		t.Errorf("pong %+v, %v", pong, err)
	}
	must(t, c.input.Send(packet(t, media.Input{Kind: media.KeyDown, Key: 65})))
	begin := time.Now()
	if in := get(t, att.inputs, "key"); in.Kind != media.KeyDown {
		t.Fatalf("input %+v", in)
	}
	if in := get(t, att.inputs, "release"); in.Kind != media.ReleaseAll {
		t.Fatalf("input %+v", in)
	}
	if took := time.Since(begin); took < peer.MissedHeartbeats*peer.Heartbeat || took > peer.MissedHeartbeats*peer.Heartbeat+time.Second {
		t.Errorf("released after %v", took)
	}
	// It is not repeated, and the client's own release works too.
	must(t, c.input.Send(packet(t, media.Input{Kind: media.ReleaseAll})))
	if in := get(t, att.inputs, "release"); in.Kind != media.ReleaseAll {
		t.Fatalf("input %+v", in)
	}
	must(t, c.input.Send(packet(t, media.Input{Kind: media.KeyDown, Key: 66})))
	if in := get(t, att.inputs, "key"); in.Kind != media.KeyDown {
		t.Fatalf("input %+v", in)
	}
	// So does the end of the channel.
	must(t, c.input.Close())
	if in := get(t, att.inputs, "release"); in.Kind != media.ReleaseAll {
		t.Fatalf("input %+v", in)
	}
}

func TestGarbageOnChannelsIsCountedAndThenEndsThePeer(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	c.open(c.input)
	att := b.session.get("tab-00000001")
	unknown, err := signaling.AppendControl(nil, 0x7777, []byte{1})
	must(t, err)
	for range 3 * tooManyBroken { // unknown packets are part of the protocol
		must(t, c.input.Send(unknown))
	}
	must(t, c.input.Send([]byte{6, 2, 200, 0, 1})) // longer than it is
	must(t, c.input.Send(append([]byte{6, 2, 2, 0, 1, 1}, packet(t, media.Input{Kind: media.KeyDown, Key: 65})...)))
	if in := get(t, att.inputs, "input after garbage"); in.Kind != media.KeyDown {
		t.Fatalf("input %+v", in)
	}
	for range 4 * tooManyBroken {
		if err := c.motion.Send([]byte{1, 2, 3}); err != nil {
			break
		}
	}
	if bye := c.bye(); bye.Code != media.CauseProtocol {
		t.Errorf("bye %+v", bye)
	}
}

func TestOverlongChannelMessagesEndThePeer(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	c.open(c.input)
	must(t, c.input.Send(make([]byte, 60_000)))
	if bye := c.bye(); bye.Code != media.CauseProtocol {
		t.Errorf("bye %+v", bye)
	}
}

func TestEventsTellCursorAndTiming(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 3000)
	// The cursor of before the channel was there comes first.
	cur := decode[signaling.Cursor](t, get(t, c.onEvent, "cursor"))
	if cur.Serial != 1 || string(cur.PNG) != "png" {
		t.Errorf("cursor %+v", cur)
	}
	att.notes <- media.Note{Cursor: &media.CursorImage{Serial: 2}}
	var timing signaling.Timing
	for hidden := false; !hidden || timing.Frames < 20 || timing.Estimate == 0; {
		b := get(t, c.onEvent, "event")
		var head struct{ Type string }
		must(t, json.Unmarshal(b, &head))
		switch head.Type {
		case "cursor":
			hidden = decode[signaling.Cursor](t, b).Serial == 2
		case "timing":
			timing = decode[signaling.Timing](t, b)
		default:
			t.Fatalf("event %s", b)
		}
	}
	near := func(name string, got, want float64) {
		if math.Abs(got-want) > 0.01 {
			t.Errorf("%s is %.3f ms, want %.3f", name, got, want)
		}
	}
	near("wait", timing.WaitMs, 1)
	near("convert", timing.ConvertMs, 1)
	near("encode", timing.EncodeMs, 2)
	near("wire", timing.WireMs, 1)
	if timing.SendMs <= 0 || timing.SendMs > 50 || timing.Frames < 20 || timing.Packets == 0 || timing.Kbps < 500 ||
		timing.Target != 4321 || timing.Encoder != "x264" || timing.Width != 1280 || timing.Height != 720 {
		t.Errorf("timing %+v", timing)
	}
	// The line through rtp_timestamp and server_ms dates frames.
	p := get(t, c.video, "video")
	age := timing.ServerMs + float64(int32(p.Timestamp-timing.RTPTimestamp))/90 - float64(media.Now())/1e6
	if age > 0 || age < -5000 {
		t.Errorf("the frame was captured %.1f ms ago", -age)
	}
}

// legsSeen is what a watcher was told.
type legsSeen struct {
	mu       sync.Mutex
	sent     int
	injected []media.Injection
	painted  chan signaling.Legs
}

func (l *legsSeen) Sent(*media.Stages, media.Stamp) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
}

func (l *legsSeen) Injected(in *media.Injection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.injected = append(l.injected, *in)
}

func (l *legsSeen) Painted(p *signaling.Legs) { l.painted <- *p }

func TestStagesTellOfFramesAndInputs(t *testing.T) {
	b := newBench(t)
	watcher := &legsSeen{painted: make(chan signaling.Legs, 1)}
	b.server.Latency = watcher
	c := b.connect(func(c *clientConfig) { c.stages = true })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 3000)

	// The server tells of what comes after it has taken the channel.
	first, err := signaling.DecodeStages(get(t, c.onStages, "stages"))
	must(t, err)
	frames, inputs := first.Frames, first.Inputs

	// Packets of the channel `input` are counted, whatever they are.
	c.open(c.input)
	var msg []byte
	for _, in := range []media.Input{{Kind: media.PointerMove, X: 1, Y: 1, W: 10, H: 10}, {Kind: media.ButtonDown, Button: 1}} {
		var err error
		msg, err = signaling.AppendInput(msg, in)
		must(t, err)
	}
	must(t, c.input.Send(msg))
	get(t, att.inputs, "motion")
	press := get(t, att.inputs, "button")
	if press.Number != 2 {
		t.Errorf("the second packet is number %d", press.Number)
	}
	att.notes <- media.Note{Injected: &media.Injection{Peer: press.Peer, Number: press.Number, Received: press.Received, Injected: press.Received.Add(50 * time.Microsecond)}}

	shown := map[uint32]bool{} // RTP timestamps that came
	for seq := first.Seq + 1; len(frames) < 20 || len(inputs) == 0; seq++ {
		if seq > 100 {
			t.Fatalf("in %d messages %d frames and %d inputs", seq, len(frames), len(inputs))
		}
		s, err := signaling.DecodeStages(get(t, c.onStages, "stages"))
		must(t, err)
		if age := media.Now().Sub(s.At); age < 0 || age > 5*time.Second || s.Seq != seq {
			t.Errorf("message %d is number %d and %v old", seq, s.Seq, age)
		}
		frames, inputs = append(frames, s.Frames...), append(inputs, s.Inputs...)
	}
	if in := inputs[0]; len(inputs) != 1 || in.Number != 2 || in.Inject != 50*time.Microsecond || in.Received.Sub(press.Received).Abs() > 2*time.Microsecond {
		t.Errorf("got %+v, sent %+v", inputs, press)
	}
	told := func(rtp uint32) bool {
		return slices.ContainsFunc(frames, func(f signaling.FrameStages) bool { return f.RTPTimestamp == rtp })
	}
	for n := 0; len(shown) < 10; n++ {
		// What came before the server had taken the channel is not told of.
		if rtp := get(t, c.video, "video").Timestamp; len(shown) > 0 || told(rtp) {
			shown[rtp] = true
		} else if n > 1000 {
			t.Fatal("no frame that came is told of")
		}
	}
	known := 0
	for _, f := range frames {
		if f.Wait != time.Millisecond || f.Convert != time.Millisecond || f.Encode != 2*time.Millisecond || f.Wire != time.Millisecond || f.Send <= 0 || f.Send > time.Second {
			t.Fatalf("got %+v", f)
		}
		if shown[f.RTPTimestamp] {
			known++
		}
	}
	if known < 8 {
		t.Errorf("of ten frames that came %d are told of", known)
	}

	c.send(signaling.Painted{Frames: 5, Legs: &signaling.Legs{Decode: []float64{1, 2, 3}, Photon: make([]float64, 20)}})
	painted := get(t, watcher.painted, "what was painted")
	watcher.mu.Lock()
	defer watcher.mu.Unlock()
	if watcher.sent < 20 || len(watcher.injected) != 1 || len(painted.Decode) != 3 || len(painted.Photon) != 2 {
		t.Errorf("the watcher saw %d frames, %+v, %+v; want three decoded, and two of two inputs", watcher.sent, watcher.injected, painted)
	}
}

func TestAClientThatTakesNoEventsGetsTheNewestInTheEnd(t *testing.T) {
	b := newBench(t)
	gate := make(chan struct{})
	c := b.connect(func(c *clientConfig) { c.gate = gate })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	c.open(c.events)
	att := b.session.get("tab-00000001")
	noise := make([]byte, 60_000)
	const pictures = 400 // 32 MB as base64
	for i := range uint32(pictures) {
		att.notes <- media.Note{Cursor: &media.CursorImage{Serial: 10 + i, Width: 1, PNG: noise}}
	}
	for deadline := time.Now().Add(patience); len(att.notes) > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the news is not taken")
		}
	}
	drops := b.server.Stats().Totals.Drops
	close(gate)
	n := 0
	for serial := uint32(0); serial != 10+pictures-1; {
		var cur struct {
			Type   string
			Serial uint32
		}
		must(t, json.Unmarshal(get(t, c.onEvent, "event"), &cur))
		if cur.Type != "cursor" {
			continue
		}
		if cur.Serial < serial {
			t.Fatalf("picture %d after %d", cur.Serial, serial)
		}
		serial = cur.Serial
		n++
	}
	// What a newer one replaced before it was queued is not counted as dropped.
	t.Logf("%d of %d pictures were sent, %d dropped", n, pictures, drops)
	if n > pictures/2 {
		t.Errorf("%d pictures were sent, %d dropped: too much was kept for a client that does not read", n, drops)
	}
}

func TestStatesAreToldNewestWins(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	att := b.session.get("tab-00000001")
	for i := range 50 {
		att.notes <- media.Note{State: &media.SessionState{ID: "s1", Phase: media.Running, Restarts: i}}
	}
	for {
		select {
		case m := <-c.messages:
			if s, ok := m.(signaling.State); ok && s.Session.Restarts == 49 {
				return
			}
		case <-time.After(patience):
			t.Fatal("the newest state did not come")
		}
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

func TestManyPeersShareOnePort(t *testing.T) {
	const peers = 20
	b := newBench(t)
	port := b.server.UDPAddr().(*net.UDPAddr).Port
	var wg sync.WaitGroup
	clients := make([]*client, peers)
	for i := range peers {
		clients[i] = b.connect(func(c *clientConfig) { c.peer = fmt.Sprintf("tab-%08d", i) })
		clients[i].offer(nil)
	}
	for i, c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.until(webrtc.PeerConnectionStateConnected)
			att := b.session.get(fmt.Sprintf("tab-%08d", i))
			att.video <- h264Unit(0, true, 100+i)
			get(t, c.video, "video")
		}()
	}
	wg.Wait()
	for _, c := range clients {
		pair, err := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		must(t, err)
		if int(pair.Remote.Port) != port {
			t.Errorf("connected to port %d, want %d", pair.Remote.Port, port)
		}
	}
	if n := b.server.Peers(); n != peers {
		t.Errorf("%d peers", n)
	}
}

func TestLostPacketsAreSentAgain(t *testing.T) {
	b := newBench(t)
	drop := newLossy(t, 20)
	c := b.connect(func(c *clientConfig) { c.engine = drop.install })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 5000)
	first := get(t, c.video, "video")
	got := map[uint16]bool{first.SequenceNumber: true}
	missing := func(upTo uint16) (n int) {
		for s := first.SequenceNumber; s != upTo; s++ {
			if !got[s] {
				n++
			}
		}
		return n
	}
	// Of the first 500 packets all arrive in the end, although many were dropped.
	end := first.SequenceNumber + 500
	for deadline := time.After(patience); missing(end) > 0; {
		select {
		case p := <-c.video:
			got[p.SequenceNumber] = true
		case <-deadline:
			t.Fatalf("%d packets never came; %d were dropped; totals %+v", missing(end), drop.dropped.Load(), b.server.Stats().Totals)
		}
	}
	s := b.server.Stats().Totals
	if drop.dropped.Load() == 0 || s.Resent == 0 || s.NACKs == 0 {
		t.Errorf("dropped %d, totals %+v", drop.dropped.Load(), s)
	}
}

// The network goes away and comes back with another path: the session, its
// attachment and the stream stay.
func TestABrokenPathIsRepairedByAnICERestart(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for seconds
	b := newBench(t)
	net := newLossy(t, 1<<60)
	c := b.connect(func(c *clientConfig) { c.engine = net.install })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 20*time.Millisecond, 500)
	before := get(t, c.video, "video")
	net.cut.Store(true)
	begin := time.Now()
	for { // what the peer holds is released when its path breaks
		if in := get(t, att.inputs, "release"); in.Kind == media.ReleaseAll {
			break
		}
	}
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("noticed after %v", took)
	}
	if !get(t, att.away, "word that nothing reaches the client") || time.Since(begin) > 5*time.Second {
		t.Errorf("the session heard of it after %v", time.Since(begin))
	}
	c.until(webrtc.PeerConnectionStateDisconnected)
	net.cut.Store(false)
	for len(att.keys) > 0 {
		<-att.keys
	}
	c.offer(&webrtc.OfferOptions{ICERestart: true})
	c.until(webrtc.PeerConnectionStateConnected)
	if get(t, att.away, "word that the client is back") {
		t.Error("the client is said to be away twice")
	}
	for len(c.video) > 0 {
		<-c.video
	}
	if p := get(t, c.video, "video on the new path"); p.SSRC != before.SSRC {
		t.Errorf("stream %d became %d", before.SSRC, p.SSRC)
	}
	if b.session.made != 1 || b.server.Peers() != 1 {
		t.Errorf("attached %d times, %d peers", b.session.made, b.server.Peers())
	}
}

func TestAPathThatStaysBrokenEndsThePeer(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for half a minute
	b := newBench(t)
	net := newLossy(t, 1<<60)
	c := b.connect(func(c *clientConfig) { c.engine = net.install })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	att.video <- h264Unit(0, true, 100)
	get(t, c.video, "video")
	net.cut.Store(true)
	begin := time.Now()
	select {
	case cause := <-att.detached:
		if cause.Code != media.CauseICE {
			t.Errorf("detached with %v", cause)
		}
	case <-time.After(peer.RestartTimeout + 15*time.Second):
		t.Fatal("the peer is still there")
	}
	if took := time.Since(begin); took < peer.RestartTimeout || took > 29*time.Second {
		t.Errorf("after %v", took)
	}
	if bye := c.bye(); bye.Code != media.CauseICE || !bye.Retry {
		t.Errorf("bye %+v", bye)
	}
	if code := closeCode(get(t, c.closed, "close")); code != signaling.CloseICE {
		t.Errorf("close code %d", code)
	}
}
