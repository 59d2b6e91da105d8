package udp

import (
	"context"
	"sync/atomic"
	"time"
)

// burst is how many datagrams go out at once: a usual frame is one or two of these.
const burst = 16

// A frame that is larger than usual, a key frame mostly, is spread, or it would fill
// a queue on the path that others wait in. No frame waits for longer than mostPaced,
// and none for what timers cost.
const (
	leastSleep = time.Millisecond
	mostPaced  = 12 * time.Millisecond
)

// pace spreads the datagrams of one call.
type pace struct {
	rate  atomic.Int64 // bit/s, 0 for none
	began time.Time
	bits  int64 // sent since
	timer *time.Timer
}

func (p *pace) begin() { p.began, p.bits = time.Now(), 0 }

// wait blocks until the datagrams may leave, or ctx ends.
func (p *pace) wait(ctx context.Context, datagrams [][]byte) error {
	rate := p.rate.Load()
	if rate > 0 {
		due := min(time.Duration(p.bits*int64(time.Second)/rate), mostPaced)
		if err := p.sleep(ctx, due-time.Since(p.began)); err != nil {
			return err
		}
	}
	for _, d := range datagrams {
		p.bits += int64(len(d)) * 8
	}
	return nil
}

func (p *pace) sleep(ctx context.Context, d time.Duration) error {
	if d < leastSleep {
		return nil
	}
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
