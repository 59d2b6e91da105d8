package legs

import (
	"context"
	"sync"
	"time"

	"fenrir/media"
	"fenrir/signaling"
)

// maxBuffered is what may wait in the channel, bytes: a few messages.
const maxBuffered = 4 << 10

// trailGap is how long the stages of a frame or an input wait for others to be
// told with.
const trailGap = 100 * time.Millisecond

// Channel is the data channel `stages`: pion's.
type Channel interface {
	BufferedAmount() uint64
	// WriteDataChannel queues and never waits.
	WriteDataChannel(b []byte, isString bool) (int, error)
}

// trail collects what single frames and inputs went through until it is told on
// the channel `stages`, if the client has made that. Nothing of it waits for the client:
// what does not fit is lost, and the numbers of the messages tell so.
type trail struct {
	wake chan struct{} // 1 slot: there is something to tell, or no more room

	mu   sync.Mutex // guards what follows
	out  Channel
	kept signaling.Stages // the next message; its lists keep their arrays
	lost bool             // something did not fit
}

func (t *trail) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// open makes raw the channel; false when there is one already.
func (t *trail) open(raw Channel) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out != nil {
		return false
	}
	t.out = raw
	t.kept.Frames, t.kept.Inputs = make([]signaling.FrameStages, 0, signaling.MaxStages), make([]signaling.InputStages, 0, signaling.MaxStages)
	return true
}

func (t *trail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out = nil
}

// frame notes a frame that was sent.
func (t *trail) frame(f signaling.FrameStages) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		return
	}
	t.kept.Frames = keep(t, t.kept.Frames, f)
}

// input notes an input that was injected.
func (t *trail) input(in signaling.InputStages) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		return
	}
	t.kept.Inputs = keep(t, t.kept.Inputs, in)
}

// keep adds v to one of t's lists. Called with t.mu held.
func keep[T any](t *trail, list []T, v T) []T {
	if len(list) == signaling.MaxStages {
		t.lost = true
		return list
	}
	if first := len(t.kept.Frames)+len(t.kept.Inputs) == 0; first || len(list)+1 == signaling.MaxStages {
		t.poke()
	}
	return append(list, v)
}

// full says that the next message has no room left.
func (t *trail) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(len(t.kept.Frames), len(t.kept.Inputs)) == signaling.MaxStages
}

// take empties t into a message, using buf. The channel is nil when there is
// nothing to send or no room for it.
func (t *trail) take(buf []byte, now media.Stamp) ([]byte, Channel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil || len(t.kept.Frames)+len(t.kept.Inputs) == 0 {
		return buf, nil
	}
	t.kept.At = now
	buf, err := signaling.AppendStages(buf[:0], t.kept)
	if err != nil {
		panic("legs: " + err.Error()) // there are never more than a message holds
	}
	t.kept.Frames, t.kept.Inputs = t.kept.Frames[:0], t.kept.Inputs[:0]
	t.kept.Seq++
	if t.lost { // what did not fit came after what is told now
		t.kept.Seq++
		t.lost = false
	}
	if t.out.BufferedAmount() > maxBuffered {
		return buf, nil // nobody gets this number
	}
	return buf, t.out
}

// run tells what was collected until ctx ends: trailGap after the first of it or when
// there is no more room. While nothing happens it sleeps.
func (t *trail) run(ctx context.Context) {
	var buf []byte
	gap := time.NewTimer(time.Hour)
	defer gap.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		if !t.full() {
			gap.Reset(trailGap)
			select {
			case <-ctx.Done():
				return
			case <-t.wake:
			case <-gap.C:
			}
		}
		var out Channel
		if buf, out = t.take(buf, media.Now()); out != nil {
			// It queues and never waits. An error is the channel's end, which its reader sees.
			_, _ = out.WriteDataChannel(buf, false)
		}
	}
}
