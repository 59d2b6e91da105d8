package congestion

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// reversals counts changes of direction of at least a share of the value, which
// is a mean over a second.
func reversals(out []trace, share float64) (n int) {
	var last int
	low, high := math.Inf(1), 0.0
	for i := 10; i < len(out); i++ {
		x := mean(out[i-10:i], estimate)
		low, high = min(low, x), max(high, x)
		switch {
		case last <= 0 && x > low*(1+share):
			if last < 0 {
				n++
			}
			last, high = 1, x
		case last >= 0 && x < high*(1-share):
			if last > 0 {
				n++
			}
			last, low = -1, x
		}
	}
	return n
}

func TestRandomLossIsNoReasonToSendLess(t *testing.T) {
	for _, loss := range []float64{0.02, 0.05, 0.1} {
		for _, delay := range []time.Duration{10 * time.Millisecond, 75 * time.Millisecond} {
			t.Run(fmt.Sprintf("%v, %v", loss, delay), func(t *testing.T) {
				l := link{rate: constant(100e6), delay: delay, queue: 200 * time.Millisecond, loss: loss}
				out := simulate(Config{Min: 300_000, Start: 4_000_000, Max: 20_000_000}, l, sender{fps: 60, share: full}, 60*time.Second)
				low, after := percentile(out, 0, estimate), mean(between(out, 30*time.Second, time.Minute), estimate)
				t.Logf("least %.1f Mbit/s, from 30 s on %.1f", low/1e6, after/1e6)
				if low < 2e6 {
					t.Errorf("the estimate fell to %.1f Mbit/s", low/1e6)
				}
				if after < 8e6 {
					t.Errorf("after 30 s the estimate is %.1f of 20 Mbit/s", after/1e6)
				}
			})
		}
	}
}

// TestRandomLossLeavesAPictureItsBitrate: a picture that uses 9 Mbit/s of a wide path
// keeps them for a minute, whatever chance does.
func TestRandomLossLeavesAPictureItsBitrate(t *testing.T) {
	for _, loss := range []float64{0.02, 0.05, 0.1} {
		for _, delay := range []time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 75 * time.Millisecond} {
			t.Run(fmt.Sprintf("%v, %v", loss, delay), func(t *testing.T) {
				worst, sum := math.Inf(1), 0.0
				const seeds = 8
				for seed := range uint64(seeds) {
					l := link{rate: constant(1e9), delay: delay, queue: 200 * time.Millisecond, loss: loss, back: loss, seed: seed}
					out := simulate(Config{Min: 500_000, Start: 8_000_000, Max: 20_000_000}, l, sender{fps: 60, share: full, most: 9e6}, time.Minute)
					m := mean(between(out, 10*time.Second, time.Minute), estimate)
					worst, sum = min(worst, percentile(between(out, 10*time.Second, time.Minute), 0, estimate)), sum+m
				}
				t.Logf("least %.1f Mbit/s, mean %.1f", worst/1e6, sum/seeds/1e6)
				if worst < 5e6 || sum/seeds < 9e6 {
					t.Errorf("the estimate fell to %.1f Mbit/s, its mean is %.1f", worst/1e6, sum/seeds/1e6)
				}
			})
		}
	}
}

// TestAPathThatStandsStillNowAndThenIsNotFull: Wi-Fi does, while it looks for other access
// points or sleeps; what waited arrives at once, and nothing else is wrong.
func TestAPathThatStandsStillNowAndThenIsNotFull(t *testing.T) {
	for _, hold := range []time.Duration{30 * time.Millisecond, 80 * time.Millisecond, 120 * time.Millisecond} {
		for _, rate := range []float64{20e6, 40e6, 100e6} {
			t.Run(fmt.Sprintf("%v, %.0f Mbit/s", hold, rate/1e6), func(t *testing.T) {
				l := link{rate: constant(rate), delay: 10 * time.Millisecond, queue: 200 * time.Millisecond, every: 523 * time.Millisecond, hold: hold}
				out := simulate(Config{Min: 500_000, Start: 8_000_000, Max: 20_000_000}, l, sender{fps: 60, share: full, most: 9e6}, time.Minute)
				later := between(out, 10*time.Second, time.Minute)
				low, m := percentile(later, 0, estimate), mean(later, estimate)
				t.Logf("least %.1f Mbit/s, mean %.1f", low/1e6, m/1e6)
				if low < 4e6 || m < 8e6 {
					t.Errorf("the estimate fell to %.1f Mbit/s, its mean is %.1f", low/1e6, m/1e6)
				}
			})
		}
	}
}

func TestASteadyLinkIsLeftInPeace(t *testing.T) {
	for _, rate := range []float64{2e6, 10e6, 30e6} {
		l := link{rate: constant(rate), delay: 10 * time.Millisecond, queue: 200 * time.Millisecond}
		out := simulate(bounds, l, sender{fps: 60, share: full}, 130*time.Second)
		n := reversals(between(out, 10*time.Second, 130*time.Second), 0.1)
		t.Logf("%.0f Mbit/s: %d changes of direction in two minutes", rate/1e6, n)
		if n > 8 {
			t.Errorf("%.0f Mbit/s: %d changes of direction in two minutes, want at most 4 in one", rate/1e6, n)
		}
	}
}

func TestASinusoidalLinkIsFollowedCalmly(t *testing.T) {
	l := link{delay: 10 * time.Millisecond, queue: 200 * time.Millisecond, rate: func(t time.Duration) float64 {
		return 8e6 + 2e6*math.Sin(2*math.Pi*t.Seconds()/20)
	}}
	out := simulate(bounds, l, sender{fps: 60, share: full}, 130*time.Second)
	n := reversals(between(out, 10*time.Second, 130*time.Second), 0.15)
	t.Logf("%d changes of direction in two minutes, %.1f Mbit/s", n, mean(out, sentRate)/1e6)
	if n > 8 {
		t.Errorf("%d changes of direction in two minutes, want at most 4 in one", n)
	}
}

func TestFallsAreFollowedWithinASecond(t *testing.T) {
	for _, fall := range [][3]float64{{8e6, 2e6}, {2e6, 0.8e6}, {30e6, 3e6}, {40e6, 3e6, 8e6}} { // the last sends far less than it could
		l := link{delay: 10 * time.Millisecond, queue: 200 * time.Millisecond, rate: func(t time.Duration) float64 {
			if t < 20*time.Second {
				return fall[0]
			}
			return fall[1]
		}}
		out := simulate(bounds, l, sender{fps: 60, share: full, most: fall[2]}, 40*time.Second)
		below, calm := time.Duration(0), time.Duration(0)
		for _, x := range between(out, 20*time.Second, 30*time.Second) {
			if x.sent > 1.2*fall[1] && x.at < 22*time.Second {
				below = x.at - 20*time.Second
			}
			if x.delay > 110*time.Millisecond {
				calm = x.at - 20*time.Second
			}
		}
		used := mean(between(out, 25*time.Second, 40*time.Second), sentRate) / fall[1]
		t.Logf("%.0f → %.1f Mbit/s: below after %v, queue gone after %v, then %.2f used", fall[0]/1e6, fall[1]/1e6, below, calm, used)
		if below > time.Second || calm > 1500*time.Millisecond {
			t.Errorf("%.0f → %.1f Mbit/s: below after %v, queue gone after %v", fall[0]/1e6, fall[1]/1e6, below, calm)
		}
		if used < 0.5 {
			t.Errorf("%.0f → %.1f Mbit/s: only %.2f of it is used", fall[0]/1e6, fall[1]/1e6, used)
		}
	}
}

// An encoder that has little to work with does not even use that, and few frames
// are small ones. The estimate must find back up all the same.
func TestAnUnusedTrickleIsNoDeadlock(t *testing.T) {
	for _, fps := range []int{60, 15} {
		l := link{rate: constant(30e6), delay: 10 * time.Millisecond, queue: 200 * time.Millisecond, loss: 0.03}
		out := simulate(Config{Min: 300_000, Start: 300_000, Max: 20_000_000}, l, sender{fps: fps, share: constant(0.3)}, 30*time.Second)
		last := out[len(out)-1].estimate
		t.Logf("%d frames a second: %.1f Mbit/s after 30 s", fps, last/1e6)
		if last < 3.5e6 {
			t.Errorf("%d frames a second: the estimate is %.1f Mbit/s after 30 s", fps, last/1e6)
		}
	}
}
