// Package events passes on what happens in the server as it happens: to any
// number of listeners, none of which can hold it up, and into counts that metrics
// read. It imports the vocabulary of media only.
package events

import (
	"context"
	"errors"
	"sync"
	"time"

	"fenrir/media"
)

// Bounds of a Hub.
const (
	Remembered = 256 // events that a new listener may still be told of
	Queue      = 256 // events that a listener may be behind
	Listeners  = 16  // at a time
)

// Kinds are all kinds of events.
var Kinds = []media.EventKind{
	media.EventSessionStarted, media.EventSessionRunning, media.EventSessionEnded, media.EventWorkerRestarted,
	media.EventPeerAttached, media.EventPeerGone, media.EventPeerBlack, media.EventPeerPainted, media.EventHealth, media.EventOrphan,
}

// ErrSlow is what a listener gets that fell more than Queue events behind.
var ErrSlow = errors.New("events: the listener is too slow")

// ErrFull is what Listen returns when there are Listeners already.
var ErrFull = errors.New("events: there are too many listeners")

// Count is how often something happened, and why.
type Count struct {
	Kind media.EventKind
	Why  string // empty for kinds that have no reason
}

// Hub is where events come together. The zero value is ready; its methods do not
// block but where it is said.
type Hub struct {
	mu        sync.Mutex // guards what follows; nothing is called while it is held
	seq       uint64
	past      []media.Event // oldest first
	counts    map[Count]uint64
	listeners map[*listener]struct{}
}

type listener struct {
	wake chan struct{} // 1 slot

	queue []media.Event // guarded by Hub.mu
	slow  bool          // guarded by Hub.mu: it lost something and is cut off
}

// Publish numbers and dates an event and passes it on.
func (h *Hub) Publish(ev media.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	ev.Seq = h.seq
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	if h.counts == nil {
		h.counts = map[Count]uint64{}
	}
	h.counts[Count{ev.Kind, ev.Why}]++
	if len(h.past) == Remembered {
		h.past = append(h.past[:0], h.past[1:]...)
	}
	h.past = append(h.past, ev)
	for l := range h.listeners {
		l.put(ev)
	}
}

// put queues ev. Called with the Hub's mu held.
func (l *listener) put(ev media.Event) {
	switch {
	case l.slow:
		return
	case len(l.queue) >= Queue:
		l.slow, l.queue = true, nil
	default:
		l.queue = append(l.queue, ev)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Counts is how often each thing has happened since the server started.
func (h *Hub) Counts() map[Count]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[Count]uint64, len(h.counts))
	for k, n := range h.counts {
		out[k] = n
	}
	return out
}

// Listen subscribes. next blocks for the next event until its ctx ends; the first
// are those that are remembered with a number above after. It returns ErrSlow for
// good when the listener fell behind. stop must be called.
func (h *Hub) Listen(after uint64) (next func(context.Context) (media.Event, error), stop func(), err error) {
	l := &listener{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) >= Listeners {
		return nil, nil, ErrFull
	}
	if h.listeners == nil {
		h.listeners = map[*listener]struct{}{}
	}
	h.listeners[l] = struct{}{}
	for _, ev := range h.past {
		if ev.Seq > after {
			l.put(ev)
		}
	}
	next = func(ctx context.Context) (media.Event, error) {
		for {
			h.mu.Lock()
			slow := l.slow
			if len(l.queue) > 0 {
				ev := l.queue[0]
				l.queue = append(l.queue[:0], l.queue[1:]...)
				h.mu.Unlock()
				return ev, nil
			}
			h.mu.Unlock()
			if slow {
				return media.Event{}, ErrSlow
			}
			select {
			case <-l.wake:
			case <-ctx.Done():
				return media.Event{}, context.Cause(ctx)
			}
		}
	}
	return next, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, l)
	}, nil
}
