package congestion

import (
	"math"
	"time"

	"fenrir/media"
)

// trendline finds out from one-way delays whether the queue on the path grows:
// libwebrtc's TrendlineEstimator and overuse detector, fed with the first packet
// of each frame.
type trendline struct {
	begun               bool
	lastSent, lastArr   media.Stamp
	firstArr            media.Stamp
	deltas              int
	accumulated, smooth float64 // ms
	points              []point // ring in time order, at most trendWindow

	oneWay  time.Duration    // of the last frame; the zero is arbitrary
	least   [2]time.Duration // the least in this and in the last leastSpan
	leastAt media.Stamp      // when this one began, at the peer's clock

	threshold   float64 // ms
	lastUpdate  media.Stamp
	overFor     float64 // ms; below 0: not over
	overCount   int
	prevSlope   float64
	lastVerdict usage
}

type point struct{ at, delay float64 } // ms

// crossing is the way of a frame's first packet: when it left here and when it
// arrived there, each by its own clock.
type crossing struct{ sent, arrived media.Stamp }

// bursts takes the frames of one report, in order, and leaves the last of those that
// arrived in less than half the time in which they were sent. They waited for a path
// that stood still for a moment, as Wi-Fi does, and carries at least twice what is sent:
// only the last tells what it is like now. libwebrtc merges what arrives within 5 ms,
// which a slower path takes for one frame.
func bursts(frames []crossing) []crossing {
	kept := frames[:0]
	var begun media.Stamp
	for i, c := range frames {
		if i > 0 {
			last := kept[len(kept)-1]
			gap := c.arrived.Sub(last.arrived)
			if gap >= 0 && gap <= c.sent.Sub(last.sent)/2 && c.arrived.Sub(begun) <= burstMost {
				kept[len(kept)-1] = c
				continue
			}
		}
		begun = c.arrived
		kept = append(kept, c)
	}
	return kept
}

const (
	trendWindow    = 20
	trendMinPoints = 10
	trendMaxAge    = 1000.0 // ms
	trendPause     = time.Second
	smoothing      = 0.9
	trendGain      = 4.0
	maxDeltas      = 60
	overuseTime    = 10.0 // ms
	maxAdapt       = 15.0 // ms
	kUp, kDown     = 0.0087, 0.039
	minThreshold   = 6.0
	maxThreshold   = 600.0
	firstThreshold = 12.5
	leastSpan      = 10 * time.Second
	burstMost      = 100 * time.Millisecond // that a burst takes to arrive
)

func newTrendline() trendline {
	return trendline{threshold: firstThreshold, overFor: -1, points: make([]point, 0, trendWindow)}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// add takes the moments at which the first packet of a frame left here and
// arrived there. ok is false while there is too little to say.
func (t *trendline) add(sent, arrived media.Stamp) (u usage, ok bool) {
	t.oneWay = arrived.Sub(sent)
	if t.leastAt == 0 || arrived.Sub(t.leastAt) > leastSpan {
		t.least[1] = t.least[0]
		if t.leastAt == 0 || arrived.Sub(t.leastAt) > 2*leastSpan {
			t.least[1] = t.oneWay
		}
		t.least[0], t.leastAt = t.oneWay, arrived
	}
	t.least[0] = min(t.least[0], t.oneWay)
	if !t.begun || arrived.Sub(t.lastArr) > trendPause || arrived < t.lastArr || sent.Sub(t.lastSent) > trendPause {
		// After a pause the next delay has nothing to do with the last one.
		if !t.begun {
			t.firstArr = arrived
		}
		t.begun = true
		t.lastSent, t.lastArr = sent, arrived
		t.points = t.points[:0]
		t.accumulated, t.smooth = 0, 0
		t.overFor, t.overCount = -1, 0
		t.lastVerdict = usageNormal
		return usageNormal, false
	}
	sendDelta, arrDelta := ms(sent.Sub(t.lastSent)), ms(arrived.Sub(t.lastArr))
	t.lastSent, t.lastArr = sent, arrived
	t.deltas = min(t.deltas+1, 1000)
	t.accumulated += arrDelta - sendDelta
	t.smooth = smoothing*t.smooth + (1-smoothing)*t.accumulated
	now := ms(arrived.Sub(t.firstArr))
	for len(t.points) > 0 && (len(t.points) == trendWindow || now-t.points[0].at > trendMaxAge) {
		copy(t.points, t.points[1:])
		t.points = t.points[:len(t.points)-1]
	}
	t.points = append(t.points, point{now, t.smooth})
	if len(t.points) < trendMinPoints {
		return usageNormal, false
	}
	return t.judge(slope(t.points), sendDelta, arrived), true
}

// queue is how much longer the last frame was under way than the fastest of the
// last 10 to 20 s.
func (t *trendline) queue() time.Duration { return t.oneWay - min(t.least[0], t.least[1]) }

// slope is that of the straight line through the points (least squares).
func slope(points []point) float64 {
	var x, y float64
	for _, p := range points {
		x += p.at
		y += p.delay
	}
	n := float64(len(points))
	x, y = x/n, y/n
	var num, den float64
	for _, p := range points {
		num += (p.at - x) * (p.delay - y)
		den += (p.at - x) * (p.at - x)
	}
	if den == 0 {
		return 0
	}
	return num / den
}

func (t *trendline) judge(slope, sendDelta float64, now media.Stamp) usage {
	trend := float64(min(t.deltas, maxDeltas)) * slope * trendGain
	switch {
	case trend > t.threshold:
		if t.overFor < 0 {
			t.overFor = sendDelta / 2
		} else {
			t.overFor += sendDelta
		}
		t.overCount++
		if t.overFor > overuseTime && t.overCount > 1 && slope >= t.prevSlope {
			t.overFor, t.overCount = 0, 0
			t.lastVerdict = usageOver
		}
	case trend < -t.threshold:
		t.overFor, t.overCount = -1, 0
		t.lastVerdict = usageUnder
	default:
		t.overFor, t.overCount = -1, 0
		t.lastVerdict = usageNormal
	}
	t.prevSlope = slope
	t.adapt(math.Abs(trend), now)
	return t.lastVerdict
}

// adapt moves the threshold, slowly up and faster down, so that the controller
// is not starved by flows that fill queues.
func (t *trendline) adapt(trend float64, now media.Stamp) {
	if t.lastUpdate == 0 {
		t.lastUpdate = now
	}
	if trend > t.threshold+maxAdapt {
		t.lastUpdate = now
		return // a spike, not a habit
	}
	k := kUp
	if trend < t.threshold {
		k = kDown
	}
	dt := min(ms(now.Sub(t.lastUpdate)), 100)
	t.threshold = min(max(t.threshold+k*(trend-t.threshold)*dt, minThreshold), maxThreshold)
	t.lastUpdate = now
}
