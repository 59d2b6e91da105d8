package browser

import (
	"encoding/json"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/peer"
)

// tooManyBroken is above what the protocol tolerates, 100 packets.
const tooManyBroken = 101

func packet(t *testing.T, in media.Input) []byte {
	t.Helper()
	b, err := signaling.AppendInput(nil, in)
	must(t, err)
	return b
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
