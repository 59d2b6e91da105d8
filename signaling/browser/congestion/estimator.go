// Package congestion estimates what the path to one peer carries, from the
// transport-wide feedback (TWCC) of WebRTC clients, with the control loop of
// Google congestion control (draft-ietf-rmcat-gcc-02 and libwebrtc's goog_cc):
// a trend line over one-way delays, an adaptive threshold, additive and
// multiplicative increase, and a loss controller on top.
//
// It is our own because streams of a desktop differ from those of a camera, for
// which pion's and libwebrtc's are made. Frames leave at once, without pacing;
// so delay is measured on the first packet of each frame, which does not wait
// behind its own frame, and the rest of the frame is a packet train that
// shows the path's capacity. And a screen often stands still: then nothing is
// known of the path, and the estimate neither grows nor falls into the
// little that was sent.
//
// It imports media, pion/interceptor, pion/rtp and pion/rtcp.
package congestion

import (
	"math"
	"slices"
	"time"

	"fenrir/media"
)

// Config bounds an Estimator, bits per second. All fields are required.
type Config struct {
	Min, Start, Max int
}

// Estimator is the control loop. It has no clock of its own and is not safe
// for concurrent use.
type Estimator struct {
	cfg   Config
	rate  float64 // the estimate, bit/s
	drain float64 // 0.4…1: share of it to be sent while a queue drains

	sent  history
	acked rateMeter // by arrival, at the peer's clock
	out   rateMeter // by departure, at ours
	busy  rateMeter // the same over a longer time

	trend    trendline
	trains   trains
	capacity capacity

	heard        bool
	lastFeedback media.Stamp
	lastUpdate   media.Stamp // of the rate by the delay controller
	lastDecrease media.Stamp
	overuseSince media.Stamp // 0: no overuse now
	starved      media.Stamp // last decrease because no feedback came
	hold         bool        // after a decrease, until the queue stands still
	startup      bool        // nothing has ever limited us
	rtt          time.Duration

	lossWindow   struct{ lost, all int }
	lossSince    media.Stamp
	loss         float64
	lastLossDrop media.Stamp
}

const (
	decreaseFactor    = 0.85
	startupGrowth     = 2.0  // a second, while nothing has ever limited us
	trainGrowth       = 1.35 // a second, while packet trains show much more room
	normalGrowth      = 1.08 // a second
	trainShare        = 0.6  // of the trains' capacity that is grown into quickly
	ackedHeadroom     = 1.5  // the estimate stays below this times what arrived
	busyShare         = 0.7  // of the estimate: what is sent then says something about the path
	lossHigh          = 0.10
	lossLow           = 0.02
	lossMinPackets    = 20
	lossInterval      = 200 * time.Millisecond
	feedbackTimeout   = time.Second
	persistentOveruse = 300 * time.Millisecond
	drainTime         = 2 * time.Second       // after a decrease, in which its queue is drained
	drainFrom         = 30 * time.Millisecond // of queue, which is left alone
	drainWithin       = 600 * time.Millisecond
	drainLeast        = 0.4
	decreaseGap       = 100 * time.Millisecond
	maxStep           = 200 * time.Millisecond // of growth at once
)

// New makes an Estimator that starts at cfg.Start.
func New(cfg Config) *Estimator {
	return &Estimator{
		cfg: cfg, rate: float64(cfg.Start), drain: 1, startup: true,
		sent:  newHistory(),
		acked: rateMeter{window: 400 * time.Millisecond},
		out:   rateMeter{window: 300 * time.Millisecond},
		busy:  rateMeter{window: time.Second, whole: true},
		trend: newTrendline(),
	}
}

// Bitrate is what should be sent, bits per second: the estimate of what the path
// carries, and for a moment after it fell less than that, so that the queue
// drains which had built up. It means nothing until Known.
func (e *Estimator) Bitrate() int { return int(max(e.rate*e.drain, float64(e.cfg.Min))) }

// Known says that the peer has sent feedback.
func (e *Estimator) Known() bool { return e.heard }

// RTT is the round-trip time of the last feedback, including how long the peer
// waited with it.
func (e *Estimator) RTT() time.Duration { return e.rtt }

// Loss is the share of packets lost, 0…1, over the last 200 ms or more.
func (e *Estimator) Loss() float64 { return e.loss }

// Sent notes a packet. frame numbers the video frame that it belongs to, and 0
// what belongs to none: sound and retransmissions.
func (e *Estimator) Sent(seq uint16, size int, frame uint32, at media.Stamp) {
	e.sent.add(seq, size, frame, at)
	e.out.add(at, size)
	e.busy.add(at, size)
}

// Arrival is what the peer says about one packet.
type Arrival struct {
	Seq      uint16
	Received bool
	At       time.Duration // on the peer's clock
}

// Feedback takes one report of the peer, in the order of sequence numbers.
func (e *Estimator) Feedback(now media.Stamp, arrivals []Arrival) {
	e.heard = true
	e.lastFeedback = now
	state := usageNormal
	any := false
	for _, a := range arrivals {
		p := e.sent.get(a.Seq)
		if p == nil || p.received {
			continue // too old, never sent, or told before
		}
		if !a.Received {
			if !p.lost {
				p.lost = true
				e.lossWindow.lost++
				e.lossWindow.all++
			}
			continue
		}
		p.received = true
		if !p.lost {
			e.lossWindow.all++
		}
		any = true
		e.rtt = now.Sub(p.at)
		at := media.Stamp(a.At)
		e.acked.add(at, p.size)
		if p.frame == 0 {
			continue
		}
		if p.first {
			if u, ok := e.trend.add(p.at, at); ok {
				state = max(state, u) // overuse wins over the rest of the report
			}
		}
		e.trains.add(p, at, now)
	}
	e.sent.acked()
	e.updateLoss(now)
	if any {
		e.update(now, state)
		e.drain = 1
		if now.Sub(e.lastDecrease) < drainTime {
			e.drain = min(max(1-(e.trend.queue()-drainFrom).Seconds()/drainWithin.Seconds(), drainLeast), 1)
		}
	}
	e.clamp()
}

// Tick is called some times a second, also when nothing is heard.
func (e *Estimator) Tick(now media.Stamp) {
	if !e.heard || e.sent.unheard < lossMinPackets || now.Sub(e.lastFeedback) < feedbackTimeout || now.Sub(e.starved) < feedbackTimeout {
		return
	}
	// We talk and nobody answers: the path is broken or full.
	e.starved = now
	e.rate *= 0.8
	e.startup = false
	e.clamp()
}

// usage is what the delays say of the path.
type usage int

const (
	usageUnder usage = iota - 1
	usageNormal
	usageOver
)

// update moves the estimate by what the delays say.
func (e *Estimator) update(now media.Stamp, u usage) {
	step := min(now.Sub(e.lastUpdate), maxStep)
	if e.lastUpdate == 0 {
		step = 0
	}
	e.lastUpdate = now
	if u != usageOver {
		e.overuseSince = 0
	}
	switch u {
	case usageOver:
		if e.overuseSince == 0 {
			e.overuseSince = now
		}
		e.decrease(now)
	case usageUnder:
		e.hold = true // the queue drains; let it
	case usageNormal:
		if e.hold {
			e.hold = false
			return
		}
		e.increase(now, step)
	}
}

func (e *Estimator) decrease(now media.Stamp) {
	acked := e.acked.rate()
	ours := e.out.at(now) >= busyShare*e.rate*e.drain
	// What arrives through a full queue is what the path carries, whatever we
	// do: that may be looked at again soon. Any other decrease has to show its
	// effect before the next.
	gap := decreaseGap
	if !ours {
		gap += e.rtt
	}
	if now.Sub(e.lastDecrease) < gap {
		return
	}
	e.startup = false
	e.hold = true
	e.lastDecrease = now
	switch {
	case ours:
		e.capacity.add(acked)
		e.rate = min(e.rate, decreaseFactor*acked)
	case now.Sub(e.overuseSince) >= persistentOveruse:
		// Even the little that we send is too much.
		e.rate = min(e.rate, decreaseFactor*acked)
	default:
		// A hiccup of the network, or other people's traffic. What we sent
		// says nothing about how much is left.
		e.rate *= decreaseFactor
	}
}

func (e *Estimator) increase(now media.Stamp, step time.Duration) {
	if e.busy.at(now) < busyShare*e.rate {
		return // whether more would fit is not known
	}
	if e.loss > lossLow {
		return
	}
	acked := e.acked.rate()
	limit := ackedHeadroom*acked + 10_000
	if e.capacity.above(acked) {
		e.capacity.reset()
	}
	seconds := step.Seconds()
	next := e.rate
	switch train, ok := e.trains.capacity(now); {
	case e.startup:
		next *= math.Pow(startupGrowth, seconds)
	case e.capacity.near(acked):
		// Close to where it was too much before: a packet for each response time.
		packet := 1200.0 * 8
		next += max(packet/(e.rtt.Seconds()+0.1), 4000) * seconds
	case ok && e.rate < trainShare*train:
		next *= math.Pow(trainGrowth, seconds)
	default:
		next *= math.Pow(normalGrowth, seconds)
	}
	if next > limit {
		next = max(limit, e.rate)
	}
	e.rate = next
}

// updateLoss closes a loss window and cuts the estimate when too much is lost.
func (e *Estimator) updateLoss(now media.Stamp) {
	if e.lossSince == 0 {
		e.lossSince = now
	}
	w := &e.lossWindow
	if now.Sub(e.lossSince) < lossInterval || w.all < lossMinPackets {
		return
	}
	e.loss = float64(w.lost) / float64(w.all)
	w.lost, w.all = 0, 0
	e.lossSince = now
	if e.loss > lossLow {
		e.startup = false
	}
	if e.loss > lossHigh && now.Sub(e.lastLossDrop) > e.rtt+lossInterval {
		e.lastLossDrop = now
		e.rate *= 1 - 0.5*e.loss
	}
}

func (e *Estimator) clamp() {
	e.rate = min(max(e.rate, float64(e.cfg.Min)), float64(e.cfg.Max))
}

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
	trainPackets = 6
	trainMemory  = 10 * time.Second
	trainCount   = 8
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
