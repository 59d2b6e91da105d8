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

	frames   []crossing // of the report that is being read
	trend    trendline
	trains   trains
	capacity capacity
	ceiling  struct { // what was nearly too much; not grown beyond for a while
		at    media.Stamp
		rate  float64
		until media.Stamp
		next  time.Duration // how long the next one holds
	}
	backlog backlog
	onset   media.Stamp // when a queue began to stand on the path, at the peer's clock; 0: none does
	through struct {    // the most that came through that queue lately
		rate float64 // bit/s, 0: nothing known
		at   media.Stamp
	}

	heard        bool
	lastFeedback media.Stamp
	lastUpdate   media.Stamp // of the rate by the delay controller
	lastDecrease media.Stamp
	overuseSince media.Stamp // 0: no overuse now
	starved      media.Stamp // last decrease because no feedback came
	hold         bool        // after a decrease, until the queue stands still
	startup      bool        // nothing has ever limited us
	rtt          time.Duration

	lossWindow struct{ lost, all int }
	lossSince  media.Stamp
	loss       float64 // of the last window
	lossMean   float64 // over about a second
	lossStray  float64 // the same without what a full queue lost
	crowded    bool    // a queue stood on the path in this window
	lossBase   float64 // what is lost whatever is sent
	lossTrial  struct {
		at        media.Stamp // when less was sent to see what comes of it; 0 when there is none
		before    float64
		lost, all int
	}
	lastTrial    media.Stamp
	floods       uint64
	flooded      media.Stamp
	drowned      media.Stamp // when the last packet was sent that a flood took
	full         bool        // the path, by the last report
	lastLossDrop media.Stamp
}

const (
	decreaseFactor    = 0.85
	startupGrowth     = 2.0  // a second, while nothing has ever limited us
	trainGrowth       = 1.35 // a second, while packet trains show much more room
	normalGrowth      = 1.08 // a second
	trainShare        = 0.6  // of the trains' capacity that is grown into quickly
	trainTrust        = 4e6  // bit/s, up to which trains suffice, whatever is sent: an encoder that is given too little uses even less
	ackedHeadroom     = 1.5  // the estimate stays below this times what arrived
	busyShare         = 0.7  // of the estimate: what is sent then says something about the path
	lossHigh          = 0.10 // above what is lost in any case: too much is sent
	lossLow           = 0.03 // above it: no time to send more
	lossMinPackets    = 50
	lossInterval      = 200 * time.Millisecond
	lossMeanTime      = time.Second
	lossBaseDown      = 2 * time.Second
	lossTrial         = 0.85            // of the rate, to see whether losses go
	lossTrialGap      = 3 * time.Second // between trials
	lossTrialPackets  = 120
	lossStays         = 0.7  // of what was lost before: it is not the rate
	lossMost          = 0.15 // that can be lived with
	floodShare        = 0.3  // of a report's packets, lost
	floodPackets      = 8
	floodGap          = 500 * time.Millisecond // between two floods
	growShare         = 0.55                   // of the estimate, sent: more may be tried
	feedbackTimeout   = time.Second
	persistentOveruse = 300 * time.Millisecond
	drainTime         = 2 * time.Second       // after a decrease, in which its queue is drained
	drainFrom         = 30 * time.Millisecond // of queue, which is left alone
	drainWithin       = 600 * time.Millisecond
	drainLeast        = 0.4
	decreaseGap       = 100 * time.Millisecond
	ceilingShare      = 0.92             // of what was too much
	ceilingLeast      = 15 * time.Second // that a ceiling holds, twice as long each time that it proves right
	ceilingMost       = 60 * time.Second
	ceilingFalls      = time.Second
	probeGrowth       = 1.02 // a second, above a ceiling that has aged
	throughLasts      = 300 * time.Millisecond
	floodQueue        = 60 * time.Millisecond  // that does not go away: overuse, whatever the trend says
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

// Loss is the share of packets lost, 0…1, over about a second.
func (e *Estimator) Loss() float64 { return e.lossMean }

// Stray is the share of packets lost, 0…1, over about a second, that no queue on
// the path explains. Parity and copies help against those; what a full queue
// loses they make worse.
func (e *Estimator) Stray() float64 { return e.lossStray }

// Blind tells that nothing shows whether the path carries more than the little
// that is estimated. Above it, pictures that move make trains by themselves.
func (e *Estimator) Blind(now media.Stamp) bool {
	_, ok := e.trains.capacity(now)
	return e.heard && !ok && e.rate < min(trainTrust, float64(e.cfg.Max)) && e.backlog.least() < drainFrom
}

// Floods counts the moments at which so much was lost at once that it cannot be
// repaired.
func (e *Estimator) Floods() uint64 { return e.floods }

// Drowned is when the newest packet was sent of those that floods took.
func (e *Estimator) Drowned() media.Stamp { return e.drowned }

// Full tells that the path carries less than is sent, by the last report: frames wait
// longer and longer, or each of the last ones a while.
func (e *Estimator) Full() bool { return e.full }

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
	gone := 0
	var newest media.Stamp // of those
	for _, a := range arrivals {
		p := e.sent.get(a.Seq)
		if p == nil || p.received {
			continue // too old, never sent, or told before
		}
		// What was sent before the last decrease has been answered by it.
		answered := p.at < e.lastDecrease || p.at < e.lastLossDrop
		if !a.Received {
			if !p.lost && !answered {
				e.lossWindow.lost++
				e.lossWindow.all++
			}
			if !p.lost {
				gone++
				newest = p.at
			}
			p.lost = true
			continue
		}
		p.received = true
		if !p.lost && !answered {
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
			e.frames = append(e.frames, crossing{p.at, at})
		}
		e.trains.add(p, at, now)
	}
	e.sent.acked()
	for _, c := range bursts(e.frames) {
		if u, ok := e.trend.add(c.sent, c.arrived); ok {
			state = max(state, u) // overuse wins over the rest of the report
		}
		queue := e.trend.queue()
		e.backlog.add(c.arrived, queue)
		switch {
		case queue <= drainFrom:
			e.onset, e.through.rate = 0, 0
		case e.onset == 0:
			e.onset = c.arrived
		}
	}
	e.frames = e.frames[:0]
	if e.onset != 0 {
		bps, ok := e.acked.since(e.onset)
		if ok && (bps > e.through.rate || now.Sub(e.through.at) > throughLasts) {
			e.through.rate, e.through.at = bps, now
		}
	}
	e.crowded = e.crowded || e.backlog.least() > drainFrom
	if gone >= floodPackets && float64(gone) > floodShare*float64(len(arrivals)) && now.Sub(e.flooded) > floodGap {
		e.floods++
		e.flooded, e.drowned = now, newest
	}
	e.updateLoss(now)
	if e.full = e.backlog.least() > floodQueue || e.backlog.climbs(); e.full {
		state = usageOver
	}
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

// carried is what the path carries. While a queue stands on it, that is what came
// through the queue, and nothing from before: the most of it, because a peer that is
// interrupted for a moment takes less, but no queue gives more.
func (e *Estimator) carried() float64 {
	if e.through.rate > 0 {
		return e.through.rate
	}
	return e.acked.rate()
}

func (e *Estimator) decrease(now media.Stamp) {
	acked := e.carried()
	// So much less comes through a queue that grows than is sent: the queue is ours,
	// however much more was thought to fit.
	out := e.out.at(now)
	ours := out >= busyShare*e.rate*e.drain || e.full && e.through.rate > 0 && e.through.rate < busyShare*out
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
		e.cap(now, acked)
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

// cap notes that so much was too much. On a steady path that is found out again
// and again, less and less often: each time costs a player a queue.
func (e *Estimator) cap(now media.Stamp, acked float64) {
	c := &e.ceiling
	rate := ceilingShare * acked
	switch {
	case now.Sub(c.at) < ceilingFalls:
		rate = max(rate, c.rate) // the same fall: what arrives gets less because less is sent
	case rate < 0.7*c.rate || c.next == 0:
		c.next = ceilingLeast
		c.at = now
	default:
		if now > c.until {
			c.next = min(2*c.next, ceilingMost)
		}
		c.at = now
	}
	c.rate, c.until = rate, now.Add(c.next)
}

func (e *Estimator) increase(now media.Stamp, step time.Duration) {
	train, ok := e.trains.capacity(now)
	enough := 0.0 // that trains alone vouch for
	if ok {
		enough = min(train/2, trainTrust)
	}
	if e.busy.at(now) < growShare*e.rate && e.rate >= enough {
		return // whether more would fit is not known
	}
	if e.lossMean > e.lossBase+lossLow {
		return
	}
	acked := e.acked.rate()
	limit := max(ackedHeadroom*acked+10_000, enough)
	if e.capacity.above(acked) {
		e.capacity.reset()
	}
	seconds := step.Seconds()
	next := e.rate
	if ok && train > 1.8*e.ceiling.rate {
		e.ceiling.rate, e.ceiling.next = 0, 0 // the path has changed
	}
	switch {
	case e.startup:
		next *= math.Pow(startupGrowth, seconds)
	case e.ceiling.rate > 0 && now > e.ceiling.until && e.rate > 0.9*e.ceiling.rate:
		next *= math.Pow(probeGrowth, seconds)
	case e.capacity.near(acked):
		// Close to where it was too much before: a packet for each response time.
		packet := 1200.0 * 8
		next += max(packet/(e.rtt.Seconds()+0.1), 4000) * seconds
	case ok && e.rate < trainShare*train:
		next *= math.Pow(trainGrowth, seconds)
	default:
		next *= math.Pow(normalGrowth, seconds)
	}
	if e.ceiling.rate > 0 && now < e.ceiling.until {
		limit = min(limit, e.ceiling.rate)
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
	if e.lossSince != 0 && now.Sub(e.lossSince) < lossInterval || w.all < lossMinPackets {
		return
	}
	lost, all := w.lost, w.all
	e.loss = float64(lost) / float64(all)
	w.lost, w.all = 0, 0
	passed := now.Sub(e.lossSince)
	e.lossSince = now
	// Random losses come at any rate, those of a full queue go when less is sent.
	follow := func(v *float64, over time.Duration) {
		*v += (e.loss - *v) * (1 - math.Exp(-passed.Seconds()/over.Seconds()))
	}
	follow(&e.lossMean, lossMeanTime)
	if !e.crowded {
		follow(&e.lossStray, lossMeanTime)
	}
	e.crowded = false
	base := e.lossBase
	if e.lossMean < e.lossBase {
		follow(&e.lossBase, lossBaseDown)
	}
	e.tryLoss(now, lost, all)
	if e.loss > base+lossLow {
		e.startup = false
	}
	if e.loss > base+lossHigh && now.Sub(e.lastLossDrop) > e.rtt+lossInterval {
		e.lastLossDrop = now
		// Never below what arrives all the same.
		e.rate = min(e.rate, max(e.rate*(1-0.5*(e.loss-base)), decreaseFactor*e.carried()))
	}
}

// tryLoss finds out whether losses come of what is sent: it sends less and looks
// whether less is lost. If not, the path is lossy, and sending less is no use.
func (e *Estimator) tryLoss(now media.Stamp, lost, all int) {
	t := &e.lossTrial
	if t.at != 0 {
		t.lost += lost
		t.all += all
		if t.all < lossTrialPackets {
			return
		}
		if loss := float64(t.lost) / float64(t.all); loss > lossStays*t.before {
			e.lossBase = min(max(e.lossBase, t.before, loss), lossMost)
		}
		t.at = 0
		return
	}
	if e.lossMean <= e.lossBase+lossLow || e.lossMean > lossMost+lossHigh || now.Sub(e.lastTrial) < lossTrialGap {
		return
	}
	*t = struct {
		at        media.Stamp
		before    float64
		lost, all int
	}{at: now, before: e.lossMean}
	e.lastTrial, e.lastLossDrop = now, now // so that only what is sent from now on counts
	e.rate *= lossTrial
}

func (e *Estimator) clamp() {
	e.rate = min(max(e.rate, float64(e.cfg.Min)), float64(e.cfg.Max))
}
