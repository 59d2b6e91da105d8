package rtpstream

import (
	"context"
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
	timer *time.Timer   // made when one is needed
}

const (
	paceBurst = 12 * time.Millisecond // that may be ahead of the rate
	paceStep  = 2 * time.Millisecond  // that is slept at least: timers cost something
	paceMost  = 60 * time.Millisecond // for one frame
)

// wait blocks until a packet of so many bytes may leave, or ctx ends.
func (p *pace) wait(ctx context.Context, size int) error {
	rate := p.rate.Load()
	if rate <= 0 {
		return nil
	}
	now := media.Now()
	if p.free < now {
		p.free = now
	}
	if ahead := p.free.Sub(now); ahead > paceBurst+paceStep && p.slept < paceMost {
		d := min(ahead-paceBurst, paceMost-p.slept)
		if err := p.sleep(ctx, d); err != nil {
			return err
		}
		p.slept += d
	}
	p.free = min(p.free, media.Now().Add(paceMost)).Add(time.Duration(int64(size) * 8 * int64(time.Second) / rate))
	return nil
}

func (p *pace) sleep(ctx context.Context, d time.Duration) error {
	if p.timer == nil {
		p.timer = time.NewTimer(d)
	} else {
		p.timer.Reset(d)
	}
	select {
	case <-p.timer.C:
		return nil
	case <-ctx.Done():
		p.timer.Stop()
		return context.Cause(ctx)
	}
}
