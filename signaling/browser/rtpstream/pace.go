package rtpstream

import (
	"sync/atomic"
	"time"

	"fenrir/media"
)

// pace spreads the packets of a large frame, a key frame mostly, so that it does
// not fill a queue on the path that others wait in. What is no larger than usual
// passes at once: no timer, no other goroutine. Sound and what is sent again
// have their own ways and wait for nothing.
type pace struct {
	rate  atomic.Int64  // bit/s, 0 for none
	free  media.Stamp   // when all that was sent has left at that rate
	slept time.Duration // for this frame
}

const (
	paceBurst = 12 * time.Millisecond // that may be ahead of the rate
	paceStep  = 2 * time.Millisecond  // that is slept at least: timers cost something
	paceMost  = 60 * time.Millisecond // for one frame
)

// wait blocks until a packet of so many bytes may leave.
func (p *pace) wait(size int) {
	rate := p.rate.Load()
	if rate <= 0 {
		return
	}
	now := media.Now()
	if p.free < now {
		p.free = now
	}
	if ahead := p.free.Sub(now); ahead > paceBurst+paceStep && p.slept < paceMost {
		d := min(ahead-paceBurst, paceMost-p.slept)
		time.Sleep(d)
		p.slept += d
	}
	p.free = min(p.free, media.Now().Add(paceMost)).Add(time.Duration(int64(size) * 8 * int64(time.Second) / rate))
}
