package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fenrir/media"
)

const (
	rememberFor  = 30 * time.Minute // how long an ended session can still be asked why
	rememberMost = 256
)

// Registry knows the sessions by id. Its mutex guards the maps and is never held
// across a call into a session that could wait.
type Registry struct {
	// Config, Encoders and Log must be set before the first Create.
	Config    func() Config
	Encoders  func() Encoders
	Log       *slog.Logger
	MaxTotal  int // sessions at once
	PerPerson int // sessions at once of one owner

	mu       sync.Mutex // guards what follows
	sessions map[ID]*Session
	past     []ended // oldest first
	totals   Totals  // of sessions that are gone
	closed   bool
}

type ended struct {
	state media.SessionState
	at    time.Time
}

// ErrUnknown is returned for an id that is not in the registry.
var ErrUnknown = &media.Cause{Code: media.CauseSessionGone}

// Create starts a session below parent. parts makes its parts once its id is
// known; it must not block. The errors are *media.Cause.
func (g *Registry) Create(parent context.Context, req Request, parts func(ID) (Parts, error)) (*Session, error) {
	id := NewID()
	g.mu.Lock()
	err := g.admit(req)
	if err == nil {
		if g.sessions == nil {
			g.sessions = make(map[ID]*Session)
		}
		g.sessions[id] = nil // the place is taken
	}
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s, err := g.start(parent, id, req, parts)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		delete(g.sessions, id)
		return nil, err
	}
	g.sessions[id] = s
	if g.closed {
		s.End(&media.Cause{Code: media.CauseShutdown})
	}
	go g.forget(s) // ends with the session
	return s, nil
}

func (g *Registry) start(parent context.Context, id ID, req Request, parts func(ID) (Parts, error)) (*Session, error) {
	made, err := parts(id)
	if err != nil {
		return nil, err
	}
	return New(parent, id, req, g.Config(), made, g.Encoders(), g.Log)
}

// admit checks the limits. A session that is ending takes nobody's place, or who
// ends one could not start the next for as long as that takes; but of those, too, there
// are only so many. Called with mu held.
func (g *Registry) admit(req Request) error {
	if g.closed {
		return &media.Cause{Code: media.CauseShutdown, Detail: "the server is going down"}
	}
	ending, own, ownEnding := 0, 0, 0
	for _, s := range g.sessions {
		if s == nil {
			continue // being made
		}
		mine, over := s.Owner().ID == req.Owner.ID, s.Err() != nil
		if over {
			ending++
		}
		if mine && over {
			ownEnding++
		} else if mine {
			own++
		}
	}
	switch {
	case len(g.sessions)-ending >= g.MaxTotal:
		return media.NewCause(media.CauseTooMany, "all %d places of this server are taken", g.MaxTotal)
	case own >= g.PerPerson:
		return media.NewCause(media.CauseTooMany, "you have %d sessions already: end one first", own)
	case ending >= g.MaxTotal || ownEnding >= max(g.PerPerson, 4):
		return media.NewCause(media.CauseTooMany, "too many sessions are ending: wait a moment")
	}
	return nil
}

// forget takes an ended session out and keeps its last state for a while.
func (g *Registry) forget(s *Session) {
	<-s.Done()
	state, totals := s.State(), s.Totals()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, s.id)
	g.totals.add(totals)
	g.past = append(g.past, ended{state, time.Now()})
	g.past = slices.DeleteFunc(g.past, func(e ended) bool { return time.Since(e.at) > rememberFor })
	if n := len(g.past); n > rememberMost {
		g.past = slices.Clone(g.past[n-rememberMost:])
	}
}

// Get finds a living session. The error is ErrUnknown.
func (g *Registry) Get(id ID) (*Session, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sessions[id]; s != nil {
		return s, nil
	}
	return nil, ErrUnknown
}

// Has tells whether a session with that id is living, or being made.
func (g *Registry) Has(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.sessions[ID(id)]
	return ok
}

// Past finds the last state of a session that ended within the last minutes.
func (g *Registry) Past(id ID) (media.SessionState, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.past {
		if e.state.ID == string(id) && time.Since(e.at) <= rememberFor {
			return e.state, true
		}
	}
	return media.SessionState{}, false
}

// All are the living sessions, oldest first.
func (g *Registry) All() []*Session {
	g.mu.Lock()
	out := make([]*Session, 0, len(g.sessions))
	for _, s := range g.sessions {
		if s != nil {
			out = append(out, s)
		}
	}
	g.mu.Unlock()
	slices.SortFunc(out, func(a, b *Session) int { return a.created.Compare(b.created) })
	return out
}

// Close admits nothing more, ends every session and waits for them until ctx
// ends. The error names the sessions that left something behind.
func (g *Registry) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	all := g.All()
	for _, s := range all {
		s.End(&media.Cause{Code: media.CauseShutdown})
	}
	var errs []error
	for _, s := range all {
		select {
		case <-s.Done():
			if err := s.Teardown(); err != nil {
				errs = append(errs, fmt.Errorf("session %s: %w", s.id, err))
			}
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("session %s did not end in time", s.id))
		}
	}
	return errors.Join(errs...)
}
