package congestion

import (
	"math"
	"slices"
	"time"

	"fenrir/media"
)

// capacity remembers how much arrived when it was too much.
type capacity struct {
	mean, variance float64 // of kbit/s; mean 0: unknown
}

func (c *capacity) add(bps float64) {
	kbps := bps / 1000
	if c.mean == 0 {
		c.mean, c.variance = kbps, 0
		return
	}
	const alpha = 0.05
	diff := kbps - c.mean
	c.mean += alpha * diff
	// Normalised by the mean, as libwebrtc does, and within its bounds.
	c.variance = (1-alpha)*c.variance + alpha*diff*diff/max(c.mean, 1)
}

func (c *capacity) deviation() float64 {
	return math.Sqrt(min(max(c.variance, 0.4), 2.5) * c.mean)
}

func (c *capacity) above(bps float64) bool {
	return c.mean > 0 && bps/1000 > c.mean+3*c.deviation()
}

func (c *capacity) near(bps float64) bool {
	return c.mean > 0 && math.Abs(bps/1000-c.mean) <= 3*c.deviation()
}

func (c *capacity) reset() { *c = capacity{} }

// trains keeps what the last packet trains, frames sent at once, showed.
type trains struct {
	frame       uint32
	first, last media.Stamp // arrivals
	bytes       int         // after the first packet
	packets     int
	broken      bool
	seen        [16]struct {
		rate float64
		at   media.Stamp
	}
	next int
}

const (
	trainPackets = 3
	trainMemory  = 4 * time.Second
	trainCount   = 6
	trainMaxRate = 1e9
)

func (t *trains) add(p *packet, at, now media.Stamp) {
	if p.frame != t.frame {
		t.finish(now)
		t.frame, t.first, t.last, t.bytes, t.packets, t.broken = p.frame, at, at, 0, 1, !p.first
		return
	}
	if at < t.last {
		t.broken = true // reordered: no train
	}
	t.last = at
	t.bytes += p.size
	t.packets++
}

func (t *trains) finish(now media.Stamp) {
	if t.broken || t.packets < trainPackets {
		return
	}
	rate := trainMaxRate
	if d := t.last.Sub(t.first); d > 0 {
		rate = min(rate, float64(t.bytes)*8/d.Seconds())
	}
	t.seen[t.next].rate, t.seen[t.next].at = rate, now
	t.next = (t.next + 1) % len(t.seen)
}

// capacity is what a quarter of the last trains stayed below, when there were enough.
func (t *trains) capacity(now media.Stamp) (bps float64, ok bool) {
	var rates [len(t.seen)]float64
	n := 0
	for _, s := range t.seen {
		if s.at != 0 && now.Sub(s.at) < trainMemory {
			rates[n] = s.rate
			n++
		}
	}
	if n < trainCount {
		return 0, false
	}
	slices.Sort(rates[:n])
	return rates[n/4], true
}
