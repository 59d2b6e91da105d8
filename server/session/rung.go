package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"fenrir/media"
)

const (
	keyFrameGap  = 500 * time.Millisecond // at most one asked-for key frame per gap and encoder,
	showingGap   = time.Second            // and per this gap one more for who has nothing to show
	bitrateGap   = time.Second            // at most one raise of the bitrate per gap
	breakerLives = 10                     // worker lives in a row without a single frame until the session gives up
	breakerShort = 100                    // worker lives in a row of less than shortLife until the session gives up
	shortLife    = 5 * time.Second
	startBound   = 9 * time.Second // for the first frame of a session; a second worker is tried in any case
	maxBackoff   = 2 * time.Second
)

// rung is one worker of a session: a Source that is run again when it dies, and
// the fan-outs of what it makes: a picture, the sound, or both.
type rung struct {
	s      *Session
	choice Choice
	wish   media.VideoWish // which picture; with the encoder, all that makes it another stream
	voice  bool            // no picture at all
	sound  *sound          // nil: none; never changes once it runs
	video  *Fanout
	orders chan media.Order

	cancel context.CancelCauseFunc

	resting   bool      // guarded by Session.mu: being stopped because nobody watches
	unwatched time.Time // guarded by Session.mu: since when there is no reader
	restarted time.Time // guarded by Session.mu: when the worker was last replaced because nobody painted
	fruitless int       // guarded by Session.mu: times that this was done since somebody painted

	mu       sync.Mutex // guards what follows
	kbps     int        // target
	raised   time.Time  // when kbps last went up
	fps      int        // what the encoder was told
	scale    int        // the same, percent of the picture's width and height
	stair    stair
	keyAt    time.Time // when a key frame was last ordered
	keyMade  time.Time // when one last came
	showAt   time.Time // when one was last ordered within the gap, for who had nothing to show
	keyTimer *time.Timer
	element  string                  // from the worker's ready report
	frames   uint64                  // of this life
	frameAt  time.Time               // of the last frame of any life
	endLife  context.CancelCauseFunc // of the present life
	counts   media.Counts
}

// order hands o to the worker without waiting. A worker that takes no orders is
// about to be found silent; losing one is then of no account.
func (r *rung) order(o media.Order) {
	select {
	case r.orders <- o:
	default:
	}
}

// askKey orders a key frame, at once if the last one is long enough ago, else
// as soon as it is. Requests in between fold into one. Who has nothing to show need
// not wait, as long as that is rare; nor does it need another one than what is being
// made. Never blocks.
func (r *rung) askKey(why urgency) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	wait := keyFrameGap - now.Sub(r.keyAt)
	switch {
	case wait <= 0:
	case why == showing && r.keyMade.Before(r.keyAt):
		return
	case why == showing && now.Sub(r.showAt) >= showingGap:
		r.showAt = now
	default:
		if r.keyTimer == nil {
			r.keyTimer = time.AfterFunc(wait, func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.keyTimer = nil
				r.orderKey()
			})
		}
		return
	}
	r.orderKey()
}

// orderKey orders a key frame, which is also what a later one was to be ordered for.
// Called with r.mu held.
func (r *rung) orderKey() {
	if r.keyTimer != nil {
		r.keyTimer.Stop() // one that runs already orders one more, which does no harm
		r.keyTimer = nil
	}
	r.keyAt = time.Now()
	r.order(media.Order{Kind: media.OrderKeyFrame})
}

// steer moves the bitrate to kbps: down at once, up at most once a second,
// changes below 3 % not at all.
func (r *rung) steer(kbps int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case kbps == r.kbps, abs(kbps-r.kbps)*100 < 3*r.kbps:
		return
	case kbps > r.kbps && time.Since(r.raised) < bitrateGap:
		return
	case kbps > r.kbps:
		r.raised = time.Now()
	}
	r.kbps = kbps
	r.order(media.Order{Kind: media.OrderBitrate, Kbps: kbps})
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// bound is the session's frame rate as this picture may have it.
func (r *rung) bound(fps int) int {
	if r.wish.FPS > 0 {
		return min(fps, r.wish.FPS)
	}
	return fps
}

// size is that of this picture when the display's is width×height.
func (r *rung) size(width, height int) (int, int) {
	if r.wish.Width > 0 {
		return r.wish.Width, r.wish.Height
	}
	return width, height
}

// steps are those of this picture at the session's frame rate. A size that a
// client asked for is kept.
func (r *rung) steps(fps int) []step {
	all := steps(r.bound(fps))
	if r.wish.Width > 0 {
		all = slices.DeleteFunc(all, func(st step) bool { return st.scale < 100 })
	}
	return all
}

// watch makes the encoder run for somebody who watches, at the session's frame rate.
func (r *rung) watch(fps int) { r.setFPS(r.bound(fps)) }

// setFPS tells the encoder its upper bound, or less where the bitrate is too low
// for it; a rung that nobody watches runs at 1.
func (r *rung) setFPS(fps int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fps > 1 {
		all := r.steps(fps)
		fps = all[min(r.stair.at, len(all)-1)].fps
	}
	if fps == r.fps || r.voice {
		return
	}
	r.fps = fps
	r.order(media.Order{Kind: media.OrderFPS, FPS: fps})
}

// ease lets a rung that nobody watches run at 1 frame a second. Called with
// Session.mu held.
func (r *rung) ease() {
	if r.video.Readers() == 0 {
		r.unwatched = time.Now()
		r.setFPS(1)
	}
}

// target is the bitrate that the encoder is asked for, kbit/s.
func (r *rung) target() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kbps
}

func (r *rung) state() media.VideoState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return media.VideoState{
		Codec: r.choice.Encoder.Codec, Encoder: r.choice.Encoder.Name, Element: r.element,
		Hardware: r.choice.Encoder.Hardware, Reason: r.choice.Reason, Kbps: r.kbps,
	}
}

// spec blocks until the display is up. The worker that asks has then already
// initialised its libraries.
func (r *rung) spec(ctx context.Context) (media.Spec, error) {
	display, sound, err := r.s.waitDesktop(ctx)
	if err != nil {
		return media.Spec{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	spec := media.Spec{
		Session: string(r.s.id),
		Display: display,
		Sound:   sound,
	}
	if !r.voice {
		spec.Video = &media.VideoSpec{
			Encoder: r.choice.Encoder.Name, Codec: r.choice.Encoder.Codec,
			FPS: r.fps, Kbps: r.kbps, Scale: r.scale, Cursor: r.wish.Cursor, Width: r.wish.Width, Height: r.wish.Height,
		}
	}
	if r.sound != nil {
		audio := r.sound.spec
		spec.Audio = &audio
	}
	return spec, nil
}

// Unit implements media.Sink.
func (r *rung) Unit(u media.Unit) {
	switch u.Kind {
	case media.Video:
		r.mu.Lock()
		r.frames++
		r.frameAt = time.Now()
		first := r.frames == 1
		if u.Key {
			r.keyMade = r.frameAt
		}
		r.mu.Unlock()
		r.video.Write(u)
		if first {
			r.s.firstFrame()
		}
	case media.Audio:
		if r.voice {
			r.mu.Lock()
			r.frames++
			r.mu.Unlock()
		}
		if r.sound != nil {
			r.sound.packets.Write(u)
		}
	}
}

// Report implements media.Sink.
func (r *rung) Report(rep media.Report) {
	switch rep.Kind {
	case media.ReportReady:
		r.mu.Lock()
		r.element = rep.Element
		r.mu.Unlock()
		r.s.log.Info("media worker ready", "encoder", r.choice.Encoder.Name, "element", rep.Element, "reason", r.choice.Reason)
		r.s.changed()
	case media.ReportHeartbeat:
		r.mu.Lock()
		fresh := rep.Counts.Dropped - r.counts.Dropped
		if rep.Counts.Dropped < r.counts.Dropped { // another life
			fresh = rep.Counts.Dropped
		}
		r.counts = rep.Counts
		r.mu.Unlock()
		if fresh > 0 {
			r.s.mu.Lock()
			r.s.totals.EncoderDrops += fresh
			r.s.mu.Unlock()
		}
	case media.ReportSound:
		r.s.soundChanged(rep.SoundOK)
	case media.ReportResized:
		r.s.resized(rep.Width, rep.Height)
	}
}

// run keeps a Source alive until ctx ends or it fails for good.
func (r *rung) run(ctx context.Context) error {
	release, err := r.s.parts.Lease(r.choice.Encoder)
	if err != nil {
		return err
	}
	var last error
	defer func() { release(last) }()

	start := time.Now()
	barren, short := 0, 0
	for {
		life, end := context.WithCancelCause(ctx)
		r.mu.Lock()
		r.frames = 0
		r.element = ""
		r.endLife = end
		r.mu.Unlock()
		r.drainOrders()
		began := time.Now()
		last = r.s.parts.Source(r.choice.Encoder, r.spec).Run(life, r.orders, r)
		if ctx.Err() != nil {
			end(nil)
			return last
		}
		if why := context.Cause(life); why != nil { // asked for by restart
			last = errors.Join(why, last)
		}
		end(nil)
		var cause *media.Cause
		if errors.As(last, &cause) && cause.Code == media.CauseNoEncoder {
			return last
		}
		r.mu.Lock()
		frames := r.frames
		r.mu.Unlock()
		if barren++; frames > 0 {
			barren = 0
		}
		if short++; time.Since(began) >= shortLife {
			short = 0
		}
		if barren >= 2 && !r.voice && time.Since(start) >= startBound && r.s.starting() {
			words, why := wordsOf(last)
			return &media.Cause{Code: media.CauseMedia, Detail: fmt.Sprintf("no picture within %v of the start, from %d media workers: %v", time.Since(start).Round(time.Second), barren, why), Output: words}
		}
		if barren >= breakerLives || short >= breakerShort {
			words, why := wordsOf(last)
			return &media.Cause{Code: media.CauseMedia, Detail: fmt.Sprintf("the media worker died %d times in a row: %v", max(barren, short), why), Output: words}
		}
		r.s.workerDied(r, last, time.Since(began), frames)
		r.video.Break()
		if wait := max(backoff(barren), backoff(short-20)/8); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// starting tells whether no frame was made yet.
func (s *Session) starting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == media.Starting
}

// backoff is 0 for n ≤ 0, then 50 ms doubling to 2 s.
func backoff(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	return min(50*time.Millisecond<<min(n-1, 10), maxBackoff)
}

func (r *rung) drainOrders() {
	for {
		select {
		case <-r.orders:
		default:
			return
		}
	}
}
