package legs

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/signaling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTimingIsMediansOfTheSecond(t *testing.T) {
	var m medians
	base := media.Stamp(1e12)
	for i := range 5 {
		d := time.Duration(i+1) * time.Millisecond
		u := media.Unit{Key: i == 0, Width: 1920, Height: 1080, Data: make([]byte, 25_000)}
		s := &u.Stages
		s.Damage = base
		s.Captured = s.Damage.Add(d)
		s.Converted = s.Captured.Add(2 * d)
		s.Encoded = s.Converted.Add(3 * d)
		s.Received = s.Encoded.Add(4 * d)
		m.sent(&u, s.Received.Add(5*d))
	}
	// A frame without a change on the display has no wait, and one whose clock is odd counts nowhere.
	u := media.Unit{Stages: media.Stages{Captured: base, Converted: base.Add(-time.Second)}}
	m.sent(&u, base)
	got := m.second(77, m.begun.Add(time.Second))
	if got.Frames != 6 || got.KeyFrames != 1 || got.WaitMs != 3 || got.ConvertMs != 6 || got.EncodeMs != 9 || got.WireMs != 12 || got.SendMs != 15 || got.Kbps != 1000 || got.RTPTimestamp != 77 {
		t.Errorf("got %+v", got)
	}
	if again := m.second(78, m.begun.Add(time.Second)); again.Frames != 0 || again.WaitMs != 0 || again.Kbps != 0 {
		t.Errorf("the next second has %+v", again)
	}
}

// pipe is a channel to a client that takes messages until it is full.
type pipe struct {
	mu   sync.Mutex
	full bool
	got  []signaling.Stages
}

func (p *pipe) BufferedAmount() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full {
		return maxBuffered + 1
	}
	return 0
}

func (p *pipe) WriteDataChannel(b []byte, isString bool) (int, error) {
	s, err := signaling.DecodeStages(b)
	if err != nil || isString {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, s)
	return len(b), nil
}

func (p *pipe) setFull(full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = full
}

// take returns what came and forgets it.
func (p *pipe) take() []signaling.Stages {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// serve runs a Meter with a client in a bubble.
func serve(t *testing.T, f func(m *Meter, c *pipe)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m, c := NewMeter(nil), &pipe{}
		done := make(chan struct{})
		go func() { defer close(done); m.Run(ctx) }()
		if !m.Open(c) {
			t.Error("the channel is refused")
		}
		if m.Open(&pipe{}) {
			t.Error("a second channel is taken")
		}
		f(m, c)
		cancel()
		<-done
	})
}

const begin = media.Stamp(5e12)

// frame is a frame captured at so many milliseconds.
func frame(ms int) *media.Unit {
	at := begin.Add(time.Duration(ms) * time.Millisecond)
	return &media.Unit{Kind: media.Video, Stages: media.Stages{
		Damage: at.Add(-time.Millisecond), Captured: at, Converted: at.Add(2 * time.Millisecond), Encoded: at.Add(5 * time.Millisecond), Received: at.Add(6 * time.Millisecond),
	}}
}

func TestFramesAndInputsAreToldTogether(t *testing.T) {
	serve(t, func(m *Meter, c *pipe) {
		u := frame(0)
		m.Sent(u, 90, u.Stages.Received.Add(time.Millisecond))
		still := frame(16)
		still.Stages.Damage = 0
		m.Sent(still, 180, still.Stages.Received)
		m.Injected(&media.Injection{Number: 3, Received: begin, Injected: begin.Add(70 * time.Microsecond)})
		time.Sleep(trailGap - 1) // of the bubble's clock
		synctest.Wait()
		if got := c.take(); len(got) != 0 {
			t.Fatalf("told too early: %+v", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		got := c.take()
		if len(got) != 1 || got[0].Seq != 0 || len(got[0].Frames) != 2 || len(got[0].Inputs) != 1 {
			t.Fatalf("got %+v", got)
		}
		f := got[0].Frames[0]
		if f.RTPTimestamp != 90 || f.Wait != time.Millisecond || f.Convert != 2*time.Millisecond || f.Encode != 3*time.Millisecond || f.Wire != time.Millisecond || f.Send != time.Millisecond {
			t.Errorf("got %+v", f)
		}
		if f := got[0].Frames[1]; f.Wait != signaling.NoChange || f.Send != 0 {
			t.Errorf("a frame without a change: %+v", f)
		}
		if in := got[0].Inputs[0]; in.Number != 3 || in.Inject != 70*time.Microsecond {
			t.Errorf("got %+v", in)
		}
		time.Sleep(time.Hour)
		if got := c.take(); len(got) != 0 {
			t.Errorf("told without anything new: %+v", got)
		}
	})
}

func TestAFullMessageGoesAtOnceAndLossShowsInTheNumbers(t *testing.T) {
	serve(t, func(m *Meter, c *pipe) {
		for i := range signaling.MaxStages + 3 { // the last ones come before it could go
			m.Sent(frame(i), uint32(i), begin)
		}
		synctest.Wait()
		got := c.take()
		if len(got) != 1 || len(got[0].Frames) != signaling.MaxStages || got[0].Seq != 0 {
			t.Fatalf("got %+v", got)
		}
		tell := func(ms int) []signaling.Stages {
			m.Sent(frame(ms), uint32(ms), begin)
			time.Sleep(2 * trailGap)
			synctest.Wait()
			return c.take()
		}
		if got := tell(100); len(got) != 1 || got[0].Seq != 2 {
			t.Fatalf("three frames were lost, got %+v", got)
		}
		c.setFull(true)
		if got := tell(200); len(got) != 0 {
			t.Fatalf("a slow client is told %+v", got)
		}
		c.setFull(false)
		if got := tell(300); len(got) != 1 || got[0].Seq != 4 || got[0].Frames[0].RTPTimestamp != 300 {
			t.Fatalf("after a slow moment: got %+v", got)
		}
		m.Close()
		if got := tell(400); len(got) != 0 {
			t.Errorf("a closed channel gets %+v", got)
		}
	})
}

// saw is a Watcher that remembers the last word of a client.
type saw struct{ legs signaling.Legs }

func (s *saw) Sent(*media.Stages, media.Stamp) {}
func (s *saw) Injected(*media.Injection)       {}
func (s *saw) Painted(l *signaling.Legs)       { s.legs = *l }

func TestAClientIsBelievedWithinReason(t *testing.T) {
	w := &saw{}
	m := NewMeter(w)
	for _, tt := range []struct {
		frames, sent, inputs uint64
		values               int // of each leg that it tells of
		painted              uint64
		decode, photon       int // of those that are taken
	}{
		{1000, 60, 1, 200, 60, 60, 1},
		{110, 120, 2, 200, 110, 60, 1},
		{118, 120, 2, 8, 118, 0, 0},
		{130, 130, 2, 3, 130, 3, 0},
		{130, 140, 3, 8, 130, 8, 1},
	} {
		w.legs = signaling.Legs{}
		says := signaling.Painted{Frames: tt.frames, Legs: &signaling.Legs{Decode: make([]float64, tt.values), Photon: make([]float64, tt.values)}}
		if got := m.Painted(says, tt.sent, tt.inputs); got != tt.painted || len(w.legs.Decode) != tt.decode || len(w.legs.Photon) != tt.photon {
			t.Errorf("%+v: got %d painted, %d decoded, %d photons", tt, got, len(w.legs.Decode), len(w.legs.Photon))
		}
	}
}

func TestAFrameCostsNoAllocation(t *testing.T) {
	m := NewMeter(&saw{})
	m.Open(&pipe{})
	u := frame(0)
	var buf []byte
	n := testing.AllocsPerRun(1000, func() {
		for i := range 10 {
			m.Sent(u, uint32(i), u.Stages.Received)
		}
		buf, _ = m.trail.take(buf, begin)
		m.medians.second(0, begin)
	})
	if n > 1 { // the first seconds grow their lists
		t.Errorf("ten frames and a message allocate %v times", n)
	}
}
