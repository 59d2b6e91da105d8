package legs

import "fenrir/signaling"

// frameLegs is how many of signaling.Legs are of frames; the rest is of inputs.
const frameLegs = 5

// painted is how many values of each leg the client told so far.
type painted [8]uint64

// bound cuts from l what exceeds one value for each frame and input that there
// was, counted over all messages.
func (p *painted) bound(l *signaling.Legs, sent, inputs uint64) {
	for i, leg := range l.All() {
		most := sent
		if i >= frameLegs {
			most = inputs
		}
		n := min(uint64(len(*leg.Values)), most-min(p[i], most))
		*leg.Values = (*leg.Values)[:n]
		p[i] += n
	}
}
