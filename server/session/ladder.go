package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fenrir/media"
)

func (s *Session) workerDied(r *rung, err error, lived time.Duration, frames uint64) {
	s.mu.Lock()
	s.restarts++
	s.mu.Unlock()
	s.log.Warn("media worker died, starting another", "encoder", r.choice.Encoder.Name, "err", err, "lived", lived.Round(time.Millisecond), "frames", frames)
	words, why := wordsOf(err)
	s.tell(media.Event{
		Kind: media.EventWorkerRestarted, Why: reasonOf(err), Output: words, Frames: frames,
		Detail: fmt.Sprintf("%s, after %v and %d frames: %v", r.choice.Encoder.Name, lived.Round(time.Millisecond), frames, why),
	})
	s.changed()
}

// maxPictures bounds the encoders of one session that make pictures at once. Each
// is a process that may take a processor for itself, and peers could ask for a new
// picture each.
const maxPictures = 4

// makeRoom makes sure that another picture may be encoded: one that nobody is
// attached to makes room at once. The error is a *media.Cause: too-many-sessions.
// Called with mu held.
func (s *Session) makeRoom() error {
	active, resting := 0, 0
	var unused *rung
	for _, r := range s.rungs {
		switch {
		case r.voice:
		case r.resting:
			resting++
		default:
			active++
			if !s.used(r) && (unused == nil || r.unwatched.Before(unused.unwatched)) {
				unused = r
			}
		}
	}
	switch {
	case resting >= maxPictures, active >= maxPictures && unused == nil:
		return media.NewCause(media.CauseTooMany, "the session encodes %d pictures already", maxPictures)
	case active >= maxPictures:
		s.rest(unused)
	}
	return nil
}

// used tells whether a peer has what r makes, away or not. Called with mu held.
func (s *Session) used(r *rung) bool {
	if r.sound != nil && s.listeners(r.sound) > 0 {
		return true
	}
	for _, p := range s.peers {
		if p.rung == r {
			return true
		}
	}
	return false
}

// rest ends a rung that nobody needs; another takes its place when somebody does.
// Called with mu held.
func (s *Session) rest(r *rung) {
	r.resting = true
	s.uncarry(r)
	r.cancel(errUnwatched)
}

// startRung adds an encoder, which makes the sound a as well if nobody does yet and
// begins at kbps. Called with mu held.
func (s *Session) startRung(choice Choice, wish media.VideoWish, a *sound, kbps int) *rung {
	r := s.newRung(choice)
	r.wish = wish
	r.kbps = min(kbps, s.maxKbps)
	r.fps = r.bound(s.fps)
	s.carry(r, a)
	s.launch(r)
	return r
}

// newRung makes a rung that does not run yet. Called with mu held.
func (s *Session) newRung(choice Choice) *rung {
	r := &rung{
		s: s, choice: choice, orders: make(chan media.Order, 32),
		kbps: min(s.cfg.StartKbps, s.maxKbps), fps: s.fps, scale: 100,
		unwatched: time.Now(),
	}
	r.video = NewFanout(media.Video, r.askKey)
	return r
}

// launch runs a rung. Called with mu held.
func (s *Session) launch(r *rung) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	r.cancel = cancel
	choice := r.choice
	s.rungs = append(s.rungs, r)
	name := "encoder " + choice.Encoder.Name
	s.tasks[name]++
	s.spawn(name, func(context.Context) error {
		defer cancel(nil)
		err := r.run(ctx)
		stopped := ctx.Err() != nil
		s.dropRung(r, err)
		if stopped {
			return err // what is left, if anything
		}
		// For good: with nobody left who could be served, the session is over.
		s.mu.Lock()
		last := !slices.ContainsFunc(s.rungs, func(x *rung) bool { return !x.voice })
		s.mu.Unlock()
		if last && !r.voice {
			return err
		}
		s.log.Error("encoder given up", "encoder", choice.Encoder.Name, "err", err)
		if r.voice {
			s.soundChanged(false)
		}
		return nil
	})
}

// dropRung forgets r and sends its readers away with the reason.
func (s *Session) dropRung(r *rung, err error) {
	s.mu.Lock()
	s.rungs = slices.DeleteFunc(s.rungs, func(x *rung) bool { return x == r })
	s.uncarry(r)
	var gone []*Peer
	for _, p := range s.peers {
		if p.rung == r {
			gone = append(gone, p)
		}
	}
	s.mu.Unlock()
	if err == nil {
		if err = s.Err(); err == nil {
			err = errUnwatched
		}
	}
	r.video.Close(err)
	for _, p := range gone {
		p.Detach(asCause(err))
	}
	if r.sound != nil && !r.voice {
		s.mu.Lock()
		if s.phase != media.Ending && s.phase != media.Ended && s.listeners(r.sound) > 0 {
			s.voice(r.sound) // for those who had only the sound from it
		}
		s.mu.Unlock()
	}
	s.changed()
}

// runClock ends the session when it is idle or old, and encoders that nobody
// watches.
func (s *Session) runClock(ctx context.Context) error {
	tick := time.NewTicker(min(time.Second, s.cfg.IdleTimeout/4+time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		s.mu.Lock()
		nobody := len(s.peers) == 0
		alone := now.Sub(s.alone)
		var stop []*rung
		for _, r := range s.rungs {
			if s.phase == media.Starting || r.resting || r.video.Readers() > 0 {
				continue // while starting, the picture is what the start waits for
			}
			heard := r.sound != nil && s.listeners(r.sound) > 0
			if nobody && alone >= s.cfg.Linger || !nobody && !heard && now.Sub(r.unwatched) >= s.cfg.Linger {
				s.rest(r)
				stop = append(stop, r)
			}
		}
		s.mu.Unlock()
		s.steer()
		for _, r := range stop {
			s.log.Info("encoder rests, nobody watches", "encoder", r.choice.Encoder.Name)
		}
		switch {
		case nobody && alone >= s.cfg.IdleTimeout:
			s.End(media.NewCause(media.CauseIdle, "nobody was attached for %v", s.cfg.IdleTimeout))
		case now.Sub(s.created) >= s.cfg.MaxAge:
			s.End(media.NewCause(media.CauseMaxAge, "the session reached its maximum age of %v", s.cfg.MaxAge))
		}
	}
}

var errUnwatched = errors.New("nobody watches")
