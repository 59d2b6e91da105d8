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

// startRung adds an encoder. Called with mu held.
func (s *Session) startRung(choice Choice) *rung {
	audio := s.cfg.Audio != nil
	for _, r := range s.rungs {
		audio = audio && (!r.audio || r.resting)
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	r := &rung{
		s: s, choice: choice, audio: audio, cancel: cancel,
		orders: make(chan media.Order, 32),
		kbps:   min(s.cfg.StartKbps, s.maxKbps), fps: s.fps, scale: 100,
		unwatched: time.Now(),
	}
	r.video = NewFanout(media.Video, r.askKey)
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
		last := len(s.rungs) == 0
		s.mu.Unlock()
		if last {
			return err
		}
		s.log.Error("encoder given up", "encoder", choice.Encoder.Name, "err", err)
		return nil
	})
	return r
}

// dropRung forgets r and sends its readers away with the reason.
func (s *Session) dropRung(r *rung, err error) {
	s.mu.Lock()
	s.rungs = slices.DeleteFunc(s.rungs, func(x *rung) bool { return x == r })
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
			if nobody && alone >= s.cfg.Linger || !nobody && !r.audio && now.Sub(r.unwatched) >= s.cfg.Linger {
				r.resting = true
				stop = append(stop, r)
			}
		}
		s.mu.Unlock()
		s.steer()
		for _, r := range stop {
			s.log.Info("encoder rests, nobody watches", "encoder", r.choice.Encoder.Name)
			r.cancel(errUnwatched)
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
