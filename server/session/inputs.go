package session

import (
	"context"
	"sync"

	"fenrir/media"
)

// maxInputs bounds the inputs that wait for the devices. A hung display fills
// it; then motion is dropped and, should it still not suffice, everything but
// releases.
const maxInputs = 512

// inputs is the queue between peers, which never wait, and the devices.
// Consecutive motion is merged, so that after a stall at most one move applies.
type inputs struct {
	wake chan struct{} // 1 slot

	mu      sync.Mutex // guards what follows
	queue   []media.Input
	dropped uint64
}

func newInputs() *inputs { return &inputs{wake: make(chan struct{}, 1)} }

func (q *inputs) put(in media.Input) {
	q.mu.Lock()
	q.add(in)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *inputs) add(in media.Input) {
	if n := len(q.queue); n > 0 {
		last := &q.queue[n-1]
		switch {
		case in.Kind == media.PointerMove && last.Kind == media.PointerMove:
			received := last.Received
			*last = in
			last.Received = received // the oldest that this move stands for
			return
		case in.Kind == media.PointerDelta && last.Kind == media.PointerDelta:
			last.DX += in.DX
			last.DY += in.DY
			return
		}
	}
	release := in.Kind == media.KeyUp || in.Kind == media.ButtonUp || in.Kind == media.ReleaseAll
	if len(q.queue) >= maxInputs && !release {
		q.dropped++
		return
	}
	if len(q.queue) >= 2*maxInputs { // releases only: the devices know what they hold
		q.dropped += uint64(len(q.queue))
		q.queue = append(q.queue[:0], media.Input{Kind: media.ReleaseAll, Received: in.Received})
		return
	}
	q.queue = append(q.queue, in)
}

// next blocks until there is input or ctx ends.
func (q *inputs) next(ctx context.Context) (media.Input, error) {
	for {
		q.mu.Lock()
		if len(q.queue) > 0 {
			in := q.queue[0]
			q.queue = append(q.queue[:0], q.queue[1:]...)
			q.mu.Unlock()
			return in, nil
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
			return media.Input{}, context.Cause(ctx)
		}
	}
}

// held is what one peer presses down. It turns a peer's departure into the
// releases that it owes.
type held struct {
	keys    map[uint16]struct{}
	buttons map[uint8]struct{}
}

func (h *held) apply(in media.Input) {
	switch in.Kind {
	case media.KeyDown:
		if h.keys == nil {
			h.keys = make(map[uint16]struct{})
		}
		h.keys[in.Key] = struct{}{}
	case media.KeyUp:
		delete(h.keys, in.Key)
	case media.ButtonDown:
		if h.buttons == nil {
			h.buttons = make(map[uint8]struct{})
		}
		h.buttons[in.Button] = struct{}{}
	case media.ButtonUp:
		delete(h.buttons, in.Button)
	}
}

// releases empties h and returns the inputs that undo it.
func (h *held) releases(now media.Stamp) []media.Input {
	out := make([]media.Input, 0, len(h.keys)+len(h.buttons))
	for k := range h.keys {
		out = append(out, media.Input{Kind: media.KeyUp, Key: k, Received: now})
	}
	for b := range h.buttons {
		out = append(out, media.Input{Kind: media.ButtonUp, Button: b, Received: now})
	}
	h.keys, h.buttons = nil, nil
	return out
}
