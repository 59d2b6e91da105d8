package browser

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
)

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
