package congestion

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"fenrir/media"
)

// link is a simulated path: a queue that drains at a rate, a delay, and loss.
type link struct {
	rate   func(t time.Duration) float64 // bit/s
	delay  time.Duration
	jitter time.Duration // of the delay, uniform; order is kept
	queue  time.Duration // that it holds at most
	every  time.Duration // so often it stands still,
	hold   time.Duration // for so long, as Wi-Fi does
	loss   float64
	back   float64 // share of the reports that get lost
	seed   uint64
}

// sender is a simulated stream of frames: its bitrate follows the estimate at
// most once a second upwards, as encoders are steered.
type sender struct {
	fps   int
	share func(t time.Duration) float64 // of the estimate that is really sent; 0 sends no video
	most  float64                       // bit/s that the picture can use, 0 for no bound
}

type trace struct {
	at          time.Duration
	estimate    float64
	sent        float64 // bit/s over the last second
	delay       time.Duration
	loss, stray float64
}

// simulate runs the estimator over l for a time and returns a sample for each 100 ms.
func simulate(cfg Config, l link, s sender, length time.Duration) (out []trace) {
	rnd := rand.New(rand.NewPCG(1, 1+l.seed))
	e := New(cfg)
	const begin = media.Stamp(1e15) // any
	skew := time.Duration(-77 * time.Hour)

	type event struct {
		at time.Duration // arrival at the peer
		a  Arrival
	}
	var inflight []event
	var free time.Duration // when the link's queue is empty
	var lastArrival time.Duration
	var seq uint16
	var frame uint32
	maxDelay := time.Duration(0)
	sentBytes := 0
	target, raised, probed := float64(cfg.Start), time.Duration(0), time.Duration(0)

	send := func(t time.Duration, size int, frame uint32) {
		e.Sent(seq, size, frame, begin.Add(t))
		sentBytes += size
		a := event{a: Arrival{Seq: seq}}
		seq++
		begins := max(free, t)
		if l.every > 0 {
			begins += max(l.hold-begins%l.every, 0)
		}
		if begins-t > l.queue || rnd.Float64() < l.loss {
			a.at = t + l.delay // known as lost when its time has come
			inflight = append(inflight, a)
			return
		}
		free = begins + time.Duration(float64(size)*8/l.rate(t)*1e9)
		at := free + l.delay
		if l.jitter > 0 {
			at += time.Duration(rnd.Int64N(int64(l.jitter)))
		}
		lastArrival = max(lastArrival, at)
		maxDelay = max(maxDelay, lastArrival-t)
		a.at, a.a.Received, a.a.At = lastArrival, true, lastArrival+skew
		inflight = append(inflight, a)
	}

	const step = time.Millisecond
	nextFrame, nextAudio, nextReport := time.Duration(0), time.Duration(0), 50*time.Millisecond
	type report struct {
		at time.Duration
		a  []Arrival
	}
	var reports []report
	for t := time.Duration(0); t < length; t += step {
		if t >= nextAudio {
			nextAudio += 10 * time.Millisecond
			send(t, 140, 0)
		}
		if t >= nextFrame {
			nextFrame += time.Second / time.Duration(s.fps)
			if share := s.share(t); share > 0 {
				frame++
				uses := target * share
				if s.most > 0 {
					uses = min(uses, s.most)
				}
				bytes := int(uses / 8 / float64(s.fps) * (0.7 + 0.6*rnd.Float64()))
				for ; bytes > 0; bytes -= 1150 {
					send(t, min(bytes, 1150)+40, frame)
				}
				if t-probed > 400*time.Millisecond && e.Blind(begin.Add(t)) {
					probed = t
					for range 3 {
						send(t, 1190, frame)
					}
				}
			}
		}
		if t >= nextReport {
			nextReport += 50 * time.Millisecond
			slices.SortStableFunc(inflight, func(a, b event) int { return int(int16(a.a.Seq - b.a.Seq)) })
			last := -1
			for i, ev := range inflight {
				if ev.a.Received && ev.at <= t {
					last = i
				}
			}
			if last >= 0 {
				r := report{at: t + l.delay}
				for _, ev := range inflight[:last+1] {
					r.a = append(r.a, ev.a)
				}
				inflight = append(inflight[:0], inflight[last+1:]...)
				if l.back == 0 || rnd.Float64() >= l.back {
					reports = append(reports, r)
				}
			}
		}
		for len(reports) > 0 && reports[0].at <= t {
			e.Feedback(begin.Add(t), reports[0].a)
			reports = reports[1:]
		}
		if est := float64(e.Bitrate()); est < target {
			target = est
		} else if t-raised > time.Second {
			target, raised = est, t
		}
		if t%(100*time.Millisecond) == 0 {
			e.Tick(begin.Add(t))
			out = append(out, trace{at: t, estimate: float64(e.Bitrate()), sent: float64(sentBytes) * 80, delay: maxDelay, loss: e.Loss(), stray: e.Stray()})
			maxDelay, sentBytes = 0, 0
		}
	}
	return out
}

func between(out []trace, from, to time.Duration) []trace {
	var r []trace
	for _, x := range out {
		if x.at >= from && x.at < to {
			r = append(r, x)
		}
	}
	return r
}

func mean(out []trace, f func(trace) float64) float64 {
	sum := 0.0
	for _, x := range out {
		sum += f(x)
	}
	return sum / float64(len(out))
}

func percentile(out []trace, p float64, f func(trace) float64) float64 {
	var v []float64
	for _, x := range out {
		v = append(v, f(x))
	}
	slices.Sort(v)
	return v[int(p*float64(len(v)-1))]
}

func estimate(x trace) float64 { return x.estimate }
func sentRate(x trace) float64 { return x.sent }
func delayMs(x trace) float64  { return float64(x.delay) / 1e6 }

func constant(bps float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return bps }
}

func full(time.Duration) float64 { return 1 }

var bounds = Config{Min: 300_000, Start: 8_000_000, Max: 100_000_000}

func TestLinksAreFilledWithoutQueues(t *testing.T) {
	for name, tt := range map[string]struct {
		l        link
		least    float64 // share of the link that is used from 10 s on
		p95Delay float64 // ms
	}{
		"2 Mbit/s":               {link{rate: constant(2e6), delay: 15 * time.Millisecond, queue: 300 * time.Millisecond}, 0.6, 130},
		"10 Mbit/s":              {link{rate: constant(10e6), delay: 15 * time.Millisecond, queue: 300 * time.Millisecond}, 0.65, 90},
		"10 Mbit/s, far away":    {link{rate: constant(10e6), delay: 60 * time.Millisecond, queue: 300 * time.Millisecond}, 0.6, 180},
		"40 Mbit/s":              {link{rate: constant(40e6), delay: 8 * time.Millisecond, queue: 200 * time.Millisecond}, 0.6, 70},
		"10 Mbit/s, 3 % loss":    {link{rate: constant(10e6), delay: 15 * time.Millisecond, queue: 300 * time.Millisecond, loss: 0.03}, 0.5, 90},
		"20 Mbit/s, 8 ms jitter": {link{rate: constant(20e6), delay: 15 * time.Millisecond, jitter: 8 * time.Millisecond, queue: 300 * time.Millisecond}, 0.35, 90},
		"10 Mbit/s, small queue": {link{rate: constant(10e6), delay: 15 * time.Millisecond, queue: 25 * time.Millisecond}, 0.5, 60},
	} {
		t.Run(name, func(t *testing.T) {
			out := simulate(bounds, tt.l, sender{fps: 60, share: full}, 60*time.Second)
			steady := between(out, 10*time.Second, time.Minute)
			used := mean(steady, sentRate) / tt.l.rate(0)
			p50, p95 := percentile(steady, 0.5, delayMs), percentile(steady, 0.95, delayMs)
			t.Logf("used %.2f of the link, delay p50 %.0f p95 %.0f ms", used, p50, p95)
			if used < tt.least || used > 1.05 {
				t.Errorf("%.2f of the link was used, want %.2f to 1.05", used, tt.least)
			}
			if p95 > tt.p95Delay {
				t.Errorf("p95 of the delay is %.0f ms, want at most %.0f", p95, tt.p95Delay)
			}
		})
	}
}

func TestAFastLinkIsReachedQuickly(t *testing.T) {
	l := link{rate: constant(200e6), delay: 3 * time.Millisecond, queue: 100 * time.Millisecond}
	out := simulate(Config{Min: 300_000, Start: 4_000_000, Max: 50_000_000}, l, sender{fps: 60, share: full}, 12*time.Second)
	for _, x := range out {
		if x.estimate >= 50e6 {
			t.Logf("50 Mbit/s after %v", x.at)
			if x.at > 8*time.Second {
				t.Errorf("took %v", x.at)
			}
			return
		}
	}
	t.Errorf("never reached, ended at %.1f Mbit/s", out[len(out)-1].estimate/1e6)
}

func TestADropOfTheLinkIsFollowedAtOnce(t *testing.T) {
	l := link{delay: 15 * time.Millisecond, queue: 500 * time.Millisecond, rate: func(t time.Duration) float64 {
		if t > 20*time.Second && t < 40*time.Second {
			return 3e6
		}
		return 12e6
	}}
	out := simulate(bounds, l, sender{fps: 60, share: full}, 70*time.Second)
	for _, x := range between(out, 20*time.Second, 40*time.Second) {
		if x.estimate < 3.3e6 {
			t.Logf("followed after %v", x.at-20*time.Second)
			if x.at-20*time.Second > 1500*time.Millisecond {
				t.Errorf("took %v", x.at-20*time.Second)
			}
			break
		}
	}
	low := between(out, 24*time.Second, 40*time.Second)
	if d := percentile(low, 0.95, delayMs); d > 150 {
		t.Errorf("p95 of the delay on the slow link is %.0f ms", d)
	}
	if m := mean(low, sentRate); m < 0.5*3e6 {
		t.Errorf("%.1f Mbit/s of 3 were used", m/1e6)
	}
	back := between(out, 60*time.Second, 70*time.Second)
	t.Logf("20 s after the link came back: %.1f of 12 Mbit/s", mean(back, estimate)/1e6)
	if m := mean(back, estimate); m < 6e6 {
		t.Errorf("20 s after the link came back the estimate is %.1f of 12 Mbit/s", m/1e6)
	}
}

// Parity and copies of what a full queue lost would only fill it more.
func TestLossesOfAFullQueueAreNoStrays(t *testing.T) {
	stray := func(x trace) float64 { return x.stray }
	loss := func(x trace) float64 { return x.loss }
	falling := link{delay: 10 * time.Millisecond, queue: 80 * time.Millisecond, rate: func(t time.Duration) float64 {
		if t > 8*time.Second {
			return 2e6
		}
		return 8e6
	}}
	after := between(simulate(bounds, falling, sender{fps: 60, share: full}, 12*time.Second), 8*time.Second, 12*time.Second)
	lost, strays := percentile(after, 1, loss), percentile(after, 1, stray)
	t.Logf("after a fall: %.3f lost, %.3f strays at most", lost, strays)
	if lost < 0.02 || strays > 0.004 {
		t.Errorf("after a fall %.3f lost and %.3f strays at most, want some and none", lost, strays)
	}
	lossy := link{rate: constant(10e6), delay: 15 * time.Millisecond, queue: 300 * time.Millisecond, loss: 0.05}
	steady := between(simulate(bounds, lossy, sender{fps: 60, share: full}, 30*time.Second), 5*time.Second, 30*time.Second)
	if m := mean(steady, stray); m < 0.04 || m > 0.06 {
		t.Errorf("of 5 %% random loss %.3f are strays", m)
	}
}

// A desktop stands still most of the time.
func TestAStaticScreenKeepsTheEstimate(t *testing.T) {
	for name, jitter := range map[string]time.Duration{"calm": 0, "jittery": 15 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			l := link{rate: constant(10e6), delay: 15 * time.Millisecond, queue: 300 * time.Millisecond, jitter: jitter}
			s := sender{fps: 60, share: func(t time.Duration) float64 {
				if t > 20*time.Second && t < 80*time.Second {
					if t%time.Second < 20*time.Millisecond { // a blinking caret
						return 0.2
					}
					return 0
				}
				return 1
			}}
			out := simulate(bounds, l, s, 100*time.Second)
			before := mean(between(out, 15*time.Second, 20*time.Second), estimate)
			during := between(out, 21*time.Second, 80*time.Second)
			low, high := percentile(during, 0, estimate), percentile(during, 1, estimate)
			t.Logf("before %.1f Mbit/s, while static %.1f…%.1f", before/1e6, low/1e6, high/1e6)
			if low < 0.5*before {
				t.Errorf("the estimate fell from %.1f to %.1f Mbit/s on a static screen", before/1e6, low/1e6)
			}
			if high > 1.3*before {
				t.Errorf("the estimate grew from %.1f to %.1f Mbit/s on a static screen", before/1e6, high/1e6)
			}
			after := between(out, 80*time.Second, 84*time.Second)
			if d := percentile(after, 0.9, delayMs); d > 150 {
				t.Errorf("p90 of the delay when motion begins is %.0f ms", d)
			}
		})
	}
}

func TestAStreamBelowTheEstimateDoesNotInflateIt(t *testing.T) {
	l := link{rate: constant(100e6), delay: 5 * time.Millisecond, queue: 100 * time.Millisecond}
	out := simulate(bounds, l, sender{fps: 60, share: constant(0.3)}, 30*time.Second)
	if last := out[len(out)-1].estimate; last > 1.05*float64(bounds.Start) {
		t.Errorf("the estimate grew to %.1f Mbit/s although 30 %% of it were sent", last/1e6)
	}
}

func TestALinkTooSlowForEverythingIsNoticedOnAQuietStream(t *testing.T) {
	// 0.8 Mbit/s are sent of an estimate of 8; the link takes 0.5.
	l := link{rate: constant(0.5e6), delay: 15 * time.Millisecond, queue: time.Second}
	out := simulate(bounds, l, sender{fps: 30, share: constant(0.1)}, 20*time.Second)
	if m := mean(between(out, 10*time.Second, 20*time.Second), estimate); m > 5e6 {
		t.Errorf("the estimate is still %.1f Mbit/s", m/1e6)
	}
}

func TestSilenceOfThePeerCutsTheEstimate(t *testing.T) {
	e := New(bounds)
	now := media.Stamp(1e12)
	for i := range uint16(10) {
		e.Sent(i, 1000, 1, now)
		e.Feedback(now.Add(10*time.Millisecond), []Arrival{{Seq: i, Received: true, At: time.Duration(i) * time.Millisecond}})
	}
	before := e.Bitrate()
	for i := uint16(10); i < 1000; i++ {
		now = now.Add(5 * time.Millisecond)
		e.Sent(i, 1000, uint32(i), now)
		e.Tick(now)
	}
	if got := e.Bitrate(); got >= before*6/10 || got < bounds.Min {
		t.Errorf("after 5 s of silence the estimate went from %d to %d", before, got)
	}
	// An idle sender hears nothing either, and that means nothing.
	idle := New(bounds)
	idle.Sent(0, 100, 1, 1e12)
	idle.Feedback(1e12+1e6, []Arrival{{Seq: 0, Received: true}})
	for i := range 100 {
		idle.Tick(media.Stamp(1e12).Add(time.Duration(i) * 100 * time.Millisecond))
	}
	if idle.Bitrate() != bounds.Start {
		t.Errorf("an idle stream's estimate went to %d", idle.Bitrate())
	}
}

func TestTheEstimateStaysInItsBounds(t *testing.T) {
	cfg := Config{Min: 1_000_000, Start: 2_000_000, Max: 3_000_000}
	for _, rate := range []float64{0.3e6, 1e9} {
		for _, x := range simulate(cfg, link{rate: constant(rate), delay: time.Millisecond, queue: 200 * time.Millisecond}, sender{fps: 60, share: full}, 10*time.Second) {
			if x.estimate < 1e6 || x.estimate > 3e6 {
				t.Fatalf("estimate %.0f", x.estimate)
			}
		}
	}
}

// Whatever a hostile peer reports, the estimate is a number within its bounds.
func FuzzFeedback(f *testing.F) {
	f.Add([]byte{0, 1, 1, 10, 1, 1, 1, 20, 2, 0, 0, 0, 3, 1, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		e := New(bounds)
		now := media.Stamp(1e12)
		var seq uint16
		for len(b) >= 4 {
			now = now.Add(time.Duration(b[3]) * time.Millisecond)
			e.Sent(seq, int(b[2])*6, uint32(seq/4), now)
			seq++
			e.Feedback(now, []Arrival{{Seq: uint16(b[0]), Received: b[1]&1 == 1, At: time.Duration(int64(int8(b[2]))<<(b[1]%56)) * time.Microsecond}})
			e.Tick(now)
			b = b[4:]
		}
		if r := e.Bitrate(); math.IsNaN(e.rate) || r < bounds.Min || r > bounds.Max {
			t.Fatalf("estimate %v, %v", r, e.rate)
		}
	})
}

func BenchmarkFeedback(b *testing.B) {
	e := New(bounds)
	now := media.Stamp(1e12)
	arrivals := make([]Arrival, 50)
	var seq uint16
	b.ReportAllocs()
	for b.Loop() {
		for i := range arrivals {
			now = now.Add(time.Millisecond)
			e.Sent(seq, 1150, uint32(seq/16)+1, now)
			arrivals[i] = Arrival{Seq: seq, Received: true, At: time.Duration(now)}
			seq++
		}
		e.Feedback(now.Add(10*time.Millisecond), arrivals)
	}
}
