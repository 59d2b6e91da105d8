package session

import (
	"time"

	"fenrir/media"
)

// step is how a picture is encoded: every so many frames a second, at a share of
// its width and height. Where the bitrate is too low for all of it, frames go
// first, then size: a smaller picture that moves shows more than a large one of
// blocks.
type step struct {
	fps   int
	scale int // percent
}

const (
	// sparse is the bitrate below which a picture falls apart, thousandths of a bit a pixel.
	sparse   = 30
	fewest   = 30 // frames a second; from there on size goes
	stepDown = 1500 * time.Millisecond
	stepUp   = 4 * time.Second
	stepRoom = 1.35 // of what the next step up needs, before it is taken
)

// needs is the least bitrate, kbit/s, at which a picture of this size is encoded so.
func (st step) needs(width, height int) int {
	return width * st.scale / 100 * height * st.scale / 100 * st.fps / 1000 * sparse / 1000
}

// steps are those of a session, the best first.
func steps(fps int) []step {
	all := []step{{fps, 100}}
	least := fps
	if fps > fewest {
		least = max(fps/2, fewest)
		all = append(all, step{least, 100})
	}
	return append(all, step{least, 75}, step{least, 50})
}

// stair is where an encoder stands among the steps. It has no clock of its own.
type stair struct {
	at          int
	below, room time.Time // since when the bitrate is too low for it, or enough for the one above
}

// walk says on which step to encode at kbps. It goes down one after the other
// when the bitrate stays too low, and up when there has been room for a while:
// a change of size costs a key frame.
func (s *stair) walk(now time.Time, all []step, kbps, width, height int) step {
	s.at = min(s.at, len(all)-1)
	if kbps >= all[s.at].needs(width, height) || s.at == len(all)-1 {
		s.below = time.Time{}
	} else if s.below.IsZero() {
		s.below = now
	}
	if s.at == 0 || float64(kbps) < stepRoom*float64(all[s.at-1].needs(width, height)) {
		s.room = time.Time{}
	} else if s.room.IsZero() {
		s.room = now
	}
	switch {
	case !s.below.IsZero() && now.Sub(s.below) >= stepDown:
		s.at++
		s.below, s.room = time.Time{}, time.Time{}
	case !s.room.IsZero() && now.Sub(s.room) >= stepUp:
		s.at--
		s.below, s.room = time.Time{}, time.Time{}
	}
	return all[s.at]
}

// shape moves the encoder to the step that suits a bitrate.
func (r *rung) shape(kbps, fps, width, height int) {
	width, height = r.size(width, height)
	if fps < 1 || width < 1 || height < 1 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fps <= 1 {
		return // nobody watches
	}
	st := r.stair.walk(time.Now(), r.steps(fps), kbps, width, height)
	if st.fps != r.fps {
		r.fps = st.fps
		r.order(media.Order{Kind: media.OrderFPS, FPS: st.fps})
	}
	if st.scale != r.scale {
		r.scale = st.scale
		r.order(media.Order{Kind: media.OrderScale, Scale: st.scale})
		r.s.log.Info("picture size follows the bitrate", "encoder", r.choice.Encoder.Name, "percent", st.scale, "kbps", kbps)
	}
}
