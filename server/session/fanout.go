package session

import (
	"context"
	"sync"
	"time"

	"fenrir/media"
)

// What a reader may fall behind before it loses units. What waits longer is
// seen and heard too late to be of use.
const (
	maxWaiting = 100 * time.Millisecond // between the arrivals of the first and the last unit
	maxQueued  = 32                     // units, whenever they came
)

// urgency is why a reader needs a key frame.
type urgency bool

const (
	repair  urgency = false // it lost something, and still shows what it had
	showing urgency = true  // it has nothing to show
)

// Fanout hands the units of one encoder to any number of readers. Write never
// blocks: a video reader that falls behind loses everything up to the next key
// frame, which is asked for; an audio reader loses the oldest packets. Units
// are shared, not copied.
type Fanout struct {
	kind   media.Kind
	askKey func(urgency) // asks the encoder for a key frame; never blocks

	mu      sync.Mutex // guards what follows; nothing is called while it is held
	readers map[*Reader]struct{}
	written uint64
	closed  error // why, once closed
}

// NewFanout makes a Fanout for units of one kind. askKey may be nil for audio.
func NewFanout(kind media.Kind, askKey func(urgency)) *Fanout {
	if askKey == nil {
		askKey = func(urgency) {}
	}
	return &Fanout{kind: kind, askKey: askKey, readers: make(map[*Reader]struct{})}
}

// Reader is one subscriber of a Fanout.
type Reader struct {
	of   *Fanout
	wake chan struct{} // 1 slot: something to read, or closed

	mu      sync.Mutex // guards what follows
	queue   []media.Unit
	begun   bool // it was read from
	needKey bool
	paused  bool
	dropped uint64
	closed  error
}

// NewReader subscribes. Units are kept for the Reader from its first Next on, and a
// video reader gets a key frame first, which is asked for then: a client takes round
// trips to connect, and what was made meanwhile would be too old for it. The caller
// closes the Reader.
func (f *Fanout) NewReader() *Reader {
	r := &Reader{of: f, wake: make(chan struct{}, 1), needKey: f.kind == media.Video}
	f.mu.Lock()
	if f.closed != nil {
		r.closed = f.closed
	} else {
		f.readers[r] = struct{}{}
	}
	f.mu.Unlock()
	return r
}

// Readers is the number of subscribers that are not paused.
func (f *Fanout) Readers() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.mu.Lock() // order: Fanout.mu, then Reader.mu
		if !r.paused {
			n++
		}
		r.mu.Unlock()
	}
	return n
}

// Written is the number of units written so far.
func (f *Fanout) Written() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written
}

// Dropped is the number of units that the present readers lost.
func (f *Fanout) Dropped() (n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.mu.Lock() // order: Fanout.mu, then Reader.mu
		n += r.dropped
		r.mu.Unlock()
	}
	return n
}

// Write hands u to all readers. It never blocks.
func (f *Fanout) Write(u media.Unit) {
	ask := false
	f.mu.Lock()
	f.written++
	for r := range f.readers {
		ask = r.put(u) || ask
	}
	f.mu.Unlock()
	if ask {
		f.askKey(repair)
	}
}

// Break tells the readers that what comes next does not continue what they had:
// a new encoder life. They wait for its key frame.
func (f *Fanout) Break() {
	if f.kind != media.Video {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.mu.Lock() // order: Fanout.mu, then Reader.mu
		r.needKey = true
		r.mu.Unlock()
	}
}

// Close ends all readers with err once they have read what is queued.
func (f *Fanout) Close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed != nil {
		return
	}
	f.closed = err
	for r := range f.readers {
		r.end(err)
	}
	clear(f.readers)
}

// put queues u and reports whether a key frame is needed because of a loss.
// Called with f.mu held.
func (r *Reader) put(u media.Unit) (askKey bool) {
	r.mu.Lock()
	switch {
	case r.paused, !r.begun:
		r.mu.Unlock()
		return false
	case r.needKey && !u.Key:
		r.dropped++
		r.mu.Unlock()
		return false
	case r.needKey:
		r.needKey = false
		r.dropped += uint64(len(r.queue))
		r.queue = append(r.queue[:0], u)
	case r.room(&u):
		r.queue = append(r.queue, u)
	case r.of.kind == media.Audio:
		for len(r.queue) > 0 && !r.room(&u) {
			r.dropped++
			n := copy(r.queue, r.queue[1:])
			r.queue[n] = media.Unit{}
			r.queue = r.queue[:n]
		}
		r.queue = append(r.queue, u)
	case u.Key:
		r.dropped += uint64(len(r.queue))
		clear(r.queue)
		r.queue = append(r.queue[:0], u)
	default:
		r.dropped += uint64(len(r.queue)) + 1
		clear(r.queue)
		r.queue = r.queue[:0]
		r.needKey = true
		askKey = true
	}
	r.mu.Unlock()
	r.signal()
	return askKey
}

// room tells whether u may wait behind what waits. Called with r.mu held.
func (r *Reader) room(u *media.Unit) bool {
	n := len(r.queue)
	return n == 0 || n < maxQueued && u.Stages.Received.Sub(r.queue[0].Stages.Received) <= maxWaiting
}

func (r *Reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Reader) end(err error) {
	r.mu.Lock()
	if r.closed == nil {
		r.closed = err
	}
	r.mu.Unlock()
	r.signal()
}

// begin has units kept from now on, if they were not yet.
func (r *Reader) begin() {
	r.mu.Lock()
	ask := !r.begun && r.needKey && !r.paused
	r.begun = true
	r.mu.Unlock()
	if ask {
		r.of.askKey(showing)
	}
}

// Next blocks until a unit is there, the Fanout was closed (its error), or ctx
// ended (its cause). One goroutine reads.
func (r *Reader) Next(ctx context.Context) (media.Unit, error) {
	r.begin()
	for {
		r.mu.Lock()
		if len(r.queue) > 0 {
			u := r.queue[0]
			n := copy(r.queue, r.queue[1:])
			r.queue[n] = media.Unit{} // let the bytes go
			r.queue = r.queue[:n]
			r.mu.Unlock()
			return u, nil
		}
		err := r.closed
		r.mu.Unlock()
		if err != nil {
			return media.Unit{}, err
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return media.Unit{}, context.Cause(ctx)
		}
	}
}

// Pause makes the reader miss everything until it is unpaused; then it is like a new one.
func (r *Reader) Pause(paused bool) {
	r.mu.Lock()
	if r.paused = paused; paused {
		clear(r.queue)
		r.queue = r.queue[:0]
	}
	r.needKey = r.of.kind == media.Video
	ask := r.needKey && r.begun && !paused
	r.mu.Unlock()
	if ask {
		r.of.askKey(showing)
	}
}

// Dropped is the number of units that this reader lost.
func (r *Reader) Dropped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Close unsubscribes; a Next that waits returns err. Idempotent.
func (r *Reader) Close(err error) {
	r.of.mu.Lock()
	delete(r.of.readers, r)
	r.of.mu.Unlock()
	r.end(err)
}
