// Package pace decides when a picture of a display is taken and encoded: at
// once when something changed, at most so many a second; again a few times when
// nothing changes any more, so that the picture becomes good; and then just
// often enough to be seen to live. It imports package media, knows no clock and
// starts nothing.
package pace

import (
	"time"

	"fenrir/media"
)

const (
	calm      = 100 * time.Millisecond // without change until the picture is refined
	keepAlive = time.Second            // between frames of a picture that stays
	maxRefine = 90                     // frames that refine one picture
	enough    = 4                      // of them in a row that tell nothing new
	refineGap = time.Second / 60       // between frames that refine
	catchUp   = 32                     // the limit is exceeded by one in so many frames

	answer = 50 * time.Millisecond // after a press, a change may be the answer to it
	extra  = 2                     // pictures beyond the limit that one press is worth
)

// Action is what to do now.
type Action uint8

// The actions.
const (
	Wait    Action = iota
	Capture        // take a new picture and encode it
	Repeat         // encode the last picture once more
)

// Pacer is the state of one picture stream. One goroutine uses it.
type Pacer struct {
	depth    int
	interval time.Duration
	tat      media.Stamp // theoretical arrival time of the next frame (GCRA)

	started  bool        // a picture has been taken
	changed  bool        // since the last picture was taken
	key      bool        // a key frame is wanted
	inFlight int         // frames given to the encoder that have not come out
	sent     media.Stamp // the last frame, of whatever sort
	still    media.Stamp // the last picture with a change in it
	refine   int         // frames still to be spent on making it good
	settled  int         // frames in a row that had nothing left to tell
	extra    int         // pictures that may still be taken beyond the limit,
	until    media.Stamp // at most until then
}

// New returns a Pacer for at most fps frames a second, of which depth are with
// the encoder at a time. The first picture is due at once.
func New(fps, depth int) *Pacer {
	p := &Pacer{depth: max(depth, 1), changed: true}
	p.SetFPS(fps)
	return p
}

// SetFPS changes the upper bound of frames a second, at least 1. A higher one
// holds from the last frame on.
func (p *Pacer) SetFPS(fps int) {
	p.interval = time.Second / time.Duration(max(fps, 1))
	p.tat = min(p.tat, p.sent.Add(p.interval))
}

// Pause puts the next frames off, but for a key frame and what answers a press:
// those before them have yet to be sent.
func (p *Pacer) Pause(d time.Duration) { p.tat = p.tat.Add(d) }

// Changed tells that the display shows something new.
func (p *Pacer) Changed() { p.changed = true }

// WantKey asks that the next frame be a key frame, and be made at once.
func (p *Pacer) WantKey() { p.key = true }

// Prompt tells that a player pressed something just now. What changes in answer to
// it is not to wait for its turn: a program that draws at the very limit leaves
// no room between two pictures.
func (p *Pacer) Prompt(now media.Stamp) { p.extra, p.until = extra, now.Add(answer) }

// early tells whether a picture at this moment is beyond the limit.
func (p *Pacer) early(now media.Stamp) bool { return now < p.tat.Add(-p.interval) }

// prompted tells whether a picture beyond the limit may be taken.
func (p *Pacer) prompted(now media.Stamp) bool { return p.extra > 0 && now < p.until }

// InFlight is the number of frames that the encoder has not given back.
func (p *Pacer) InFlight() int { return p.inFlight }

// Next says what to do now, whether as a key frame, and when to ask again if
// nothing happens until then (zero: only when something happens).
func (p *Pacer) Next(now media.Stamp) (do Action, key bool, wake media.Stamp) {
	if p.inFlight >= p.depth {
		return Wait, false, 0
	}
	fresh := Repeat
	if p.changed {
		fresh = Capture
	}
	if !p.started || p.key {
		return fresh, true, 0
	}
	if p.changed {
		// An interval of tolerance: what a click changes between two pictures of a
		// program that draws at that very rate is seen at once.
		if p.early(now) && !p.prompted(now) {
			return Wait, false, p.tat.Add(-p.interval)
		}
		return Capture, false, 0
	}
	due := p.sent.Add(max(keepAlive, p.interval))
	if p.refine > 0 {
		due = max(p.still.Add(calm), p.sent.Add(max(refineGap, p.interval)))
	}
	if now < due {
		return Wait, false, due
	}
	return Repeat, false, 0
}

// Sent tells that a frame was given to the encoder. Changes that are told
// between Next and Sent stay: call Taken first, when the picture is being taken.
func (p *Pacer) Sent(now media.Stamp, do Action) {
	// Without the catching up, one picture between two others would make all that
	// come after it wait for as long as the program draws at that very rate.
	if do == Capture && p.early(now) && p.prompted(now) {
		p.extra-- // and none that comes after waits for it
	} else {
		p.tat = max(p.tat, now).Add(p.interval - p.interval/catchUp)
	}
	p.sent = now
	p.key = false
	p.inFlight++
	switch do {
	case Capture:
		p.started = true
		p.still = now
		p.refine, p.settled = maxRefine, 0
	case Repeat:
		p.refine = max(p.refine-1, 0)
	}
}

// Taken tells that a picture is being taken: changes told so far are in it.
func (p *Pacer) Taken() { p.changed = false }

// Done tells that the encoder gave a frame back, and whether it was so small
// that there is nothing left to tell about the picture.
func (p *Pacer) Done(small bool) {
	p.inFlight = max(p.inFlight-1, 0)
	if !small {
		p.settled = 0
	} else if p.settled++; p.settled >= enough {
		p.refine = 0
	}
}
