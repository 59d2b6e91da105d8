package legs

import (
	"math"
	"sync/atomic"
	"time"

	"fenrir/media"
	"fenrir/signaling"
)

// painted is what the client said of itself. One goroutine writes it.
type painted struct {
	count uint64    // frames, as of the last message
	taken [8]uint64 // values of each leg so far
	rate  atomic.Uint64
	at    atomic.Int64 // media.Stamp of the last message
}

// paintedOld is the age at which a client's word on its frame rate is no longer
// taken for the present.
const paintedOld = 3 * time.Second

// frameLegs is how many of signaling.Legs are of frames; the rest is of inputs.
const frameLegs = 5

func (p *painted) fps(now media.Stamp) float64 {
	if at := media.Stamp(p.at.Load()); at == 0 || now.Sub(at) > paintedOld {
		return 0
	}
	return math.Float64frombits(p.rate.Load())
}

// frames notes how many frames were painted by now.
func (p *painted) frames(n uint64, now media.Stamp) {
	last := media.Stamp(p.at.Load())
	if span := now.Sub(last); last != 0 && span > 0 && n >= p.count {
		p.rate.Store(math.Float64bits(float64(n-p.count) / span.Seconds()))
	}
	p.count = max(n, p.count)
	p.at.Store(int64(now))
}

// bound cuts from l what exceeds one value for each frame and input that there
// was, counted over all messages.
func (p *painted) bound(l *signaling.Legs, sent, inputs uint64) {
	for i, leg := range l.All() {
		most := sent
		if i >= frameLegs {
			most = inputs
		}
		n := min(uint64(len(*leg.Values)), most-min(p.taken[i], most))
		*leg.Values = (*leg.Values)[:n]
		p.taken[i] += n
	}
}
