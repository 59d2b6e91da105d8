//go:build cgo

package pipeline

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// stallBound is how long a loop may be in one place before that is said.
const stallBound = 350 * time.Millisecond

// place is where a loop is just now, for the last words of a worker that hangs:
// the process is killed soon after, and what hangs cannot tell.
type place struct{ at atomic.Pointer[where] }

type where struct {
	what  string
	since time.Time
}

// in notes that the loop does what; nothing when it waits for something to do.
func (p *place) in(what string) {
	if what == "" {
		p.at.Store(nil)
		return
	}
	p.at.Store(&where{what, time.Now()})
}

// watch says on stderr when the loop stays in one place, until ctx ends.
func (p *place) watch(ctx context.Context) {
	t := time.NewTicker(stallBound / 3)
	defer t.Stop()
	var said *where
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if w := p.at.Load(); w != nil && w != said && time.Since(w.since) > stallBound {
			said = w
			fmt.Fprintf(os.Stderr, "picture: %s for %v\n", w.what, time.Since(w.since).Round(time.Millisecond))
		}
	}
}
