package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"fenrir/media"
)

// State is a snapshot.
func (s *Session) State() media.SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := media.SessionState{
		ID: string(s.id), App: s.req.App, Owner: s.req.Owner,
		Phase: s.phase, Step: s.step, Progress: s.progress,
		Width: s.width, Height: s.height, FPS: s.fps, MaxKbps: s.maxKbps, Layout: s.layout,
		Video: []media.VideoState{}, Audio: s.soundOK, Program: s.program,
		Peers: []media.PeerState{}, Restarts: s.restarts, Created: s.created,
	}
	if s.phase == media.Ending || s.phase == media.Ended {
		st.Cause = asCause(context.Cause(s.ctx))
	} else {
		ends := s.created.Add(s.cfg.MaxAge)
		st.EndsAt = &ends
		if len(s.peers) == 0 {
			idle := s.alone.Add(s.cfg.IdleTimeout)
			st.IdleAt = &idle
		}
	}
	for _, r := range s.rungs {
		if r.voice {
			continue
		}
		st.Video = append(st.Video, r.state())
	}
	for _, p := range s.peers {
		st.Peers = append(st.Peers, p.state())
	}
	slices.SortFunc(st.Peers, func(a, b media.PeerState) int { return a.Since.Compare(b.Since) })
	return st
}

// LastFrame is when the newest frame of the session came from an encoder, zero if
// none has yet.
func (s *Session) LastFrame() (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rungs {
		r.mu.Lock() // order: Session.mu, then rung.mu
		if r.frameAt.After(at) {
			at = r.frameAt
		}
		r.mu.Unlock()
	}
	return at
}

// ErrOver is what a watcher gets after the last state of a session.
var ErrOver = errors.New("the session is over")

// Watch returns a function that blocks for the next state of the session, from
// the present one on, newest only, until its ctx ends or the session is over
// (the last state has phase ended, then ErrOver). stop must be called.
func (s *Session) Watch() (next func(context.Context) (media.SessionState, error), stop func()) {
	box := newMailbox()
	s.mu.Lock()
	s.watchers[box] = struct{}{}
	s.mu.Unlock()
	state := s.State()
	box.put(media.Note{State: &state})
	ended := false
	next = func(ctx context.Context) (media.SessionState, error) {
		if ended {
			return media.SessionState{}, ErrOver
		}
		n, err := box.next(ctx, ctx)
		if err != nil {
			return media.SessionState{}, err
		}
		ended = n.State.Phase == media.Ended
		return *n.State, nil
	}
	return next, func() {
		s.mu.Lock()
		delete(s.watchers, box)
		s.mu.Unlock()
	}
}
