package av

import "time"

// Parity of a stream, percent of its data packets.
const (
	percentBegin = 20
	percentLeast = 10
	percentMost  = 50

	percentCalm = 10 * time.Second // without loss until there is less
	percentStep = 2                // less each time
)

// Loss is what a client says about one frame of which packets were missing.
type Loss struct {
	Data, Parity       int // packets that the block had
	GotData, GotParity int // that came
}

// Percent is how much parity a stream has: more as soon as it did not suffice or
// nearly so, less after a while without loss. The zero value begins in the middle.
// It has no clock of its own.
type Percent struct {
	value  int
	change time.Time
}

// Now is the percentage at a moment.
func (p *Percent) Now(now time.Time) int {
	if p.value == 0 {
		p.value, p.change = percentBegin, now
	}
	if now.Sub(p.change) >= percentCalm {
		p.value, p.change = max(p.value-percentStep, percentLeast), now
	}
	return p.value
}

// Repaired tells of a frame that had loss: more parity, when it used more than half
// of what it had.
func (p *Percent) Repaired(l Loss, now time.Time) {
	p.Now(now)
	missing := (l.Data - l.GotData) + (l.Parity - l.GotParity)
	switch {
	case missing <= 0:
	case l.GotData+l.GotParity < l.Data:
		p.Lost(now)
	case 2*missing > l.Parity:
		p.value, p.change = min(p.value+percentStep, percentMost), now
	default:
		p.change = now
	}
}

// Lost tells of a frame that was lost.
func (p *Percent) Lost(now time.Time) {
	p.Now(now)
	p.value, p.change = min(p.value+p.value/2, percentMost), now
}
