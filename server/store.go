package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"fenrir/media"
	"fenrir/server/api"
	"fenrir/server/auth"
	"fenrir/server/journal"
	"fenrir/server/session"
	"fenrir/signaling"
)

// store shows the registry to the API.
type store struct{ h *host }

var _ api.Sessions = store{}

// Create implements api.Sessions.
func (s store) Create(_ context.Context, r api.CreateRequest) (media.SessionState, error) {
	req := session.Request{
		App:   media.AppRef{ID: r.App.ID, Title: r.App.Title},
		Owner: r.Owner, Width: r.Width, Height: r.Height, FPS: r.FPS, MaxKbps: r.MaxKbps, Layout: r.Layout,
	}
	if req.Layout == "" {
		req.Layout = s.h.cfg.Display.Layout
	}
	if r.Codec != "" {
		req.Codecs = []media.Codec{r.Codec}
	}
	made, err := s.h.start(r.App, req)
	if err != nil {
		return media.SessionState{}, err
	}
	return made.State(), nil
}

// List implements api.Sessions.
func (s store) List() []media.SessionState {
	all := s.h.registry.All()
	out := make([]media.SessionState, 0, len(all))
	for _, x := range all {
		out = append(out, x.State())
	}
	return out
}

// Get implements api.Sessions.
func (s store) Get(id string) (media.SessionState, bool) {
	if x, err := s.h.registry.Get(session.ID(id)); err == nil {
		return x.State(), true
	}
	return s.h.registry.Past(session.ID(id))
}

// Patch implements api.Sessions.
func (s store) Patch(ctx context.Context, id string, r api.PatchRequest) (media.SessionState, error) {
	x, err := s.h.registry.Get(session.ID(id))
	if err != nil {
		return media.SessionState{}, err
	}
	err = x.Change(ctx, session.Change{Width: r.Width, Height: r.Height, FPS: r.FPS, MaxKbps: r.MaxKbps, Layout: r.Layout})
	return x.State(), err
}

// End implements api.Sessions.
func (s store) End(id string, cause *media.Cause) (<-chan struct{}, bool) {
	x, err := s.h.registry.Get(session.ID(id))
	if err != nil {
		return nil, false
	}
	x.End(cause)
	return x.Done(), true
}

// Log implements api.Sessions.
func (s store) Log(id string) ([]journal.Line, int) {
	lines, dropped, _ := s.h.books.Lines(id) // of a session that is forgotten there are none
	return lines, dropped
}

// Watch implements api.Sessions.
func (s store) Watch(ctx context.Context, id string) (func(context.Context) (media.SessionState, error), bool) {
	x, err := s.h.registry.Get(session.ID(id))
	if err != nil {
		past, ok := s.h.registry.Past(session.ID(id))
		told := false
		return func(context.Context) (media.SessionState, error) {
			if told {
				return media.SessionState{}, io.EOF
			}
			told = true
			return past, nil
		}, ok
	}
	next, stop := x.Watch()
	context.AfterFunc(ctx, stop)
	return func(ctx context.Context) (media.SessionState, error) {
		st, err := next(ctx)
		if errors.Is(err, session.ErrOver) {
			err = io.EOF
		}
		return st, err
	}, true
}

// Screenshot implements api.Sessions.
func (s store) Screenshot(ctx context.Context, id string) ([]byte, error) {
	x, err := s.h.registry.Get(session.ID(id))
	if err != nil {
		return nil, err
	}
	return x.Screenshot(ctx)
}

// attach gives a door a place in a session. Whether the person may have the
// session was decided by the API before; the place is lost with the login that
// ctx tells of.
func (h *host) attach(ctx context.Context, id string, spec media.PeerSpec) (signaling.Attachment, error) {
	x, err := h.registry.Get(session.ID(id))
	if err != nil {
		if past, ok := h.registry.Past(session.ID(id)); ok && past.Cause != nil {
			return nil, past.Cause // says why it ended rather than that it is unknown
		}
		return nil, err
	}
	p, err := x.Attach(spec, session.Full)
	if err != nil {
		return nil, err
	}
	if id, ok := api.IdentityOf(ctx); ok {
		h.guests.enter(p, id)
	}
	return p, nil
}

// guests are the attached peers with the logins that they came with.
type guests struct {
	mu   sync.Mutex // guards what follows
	here map[*session.Peer]auth.Identity
}

func (g *guests) enter(p *session.Peer, id auth.Identity) {
	g.mu.Lock()
	if g.here == nil {
		g.here = make(map[*session.Peer]auth.Identity)
	}
	g.here[p] = id
	g.mu.Unlock()
	context.AfterFunc(p.Context(), func() {
		g.mu.Lock()
		delete(g.here, p)
		g.mu.Unlock()
	})
}

// revoked sends those away whose login is no longer good.
func (g *guests) revoked(r auth.Revocation) {
	g.mu.Lock()
	var out []*session.Peer
	for p, id := range g.here {
		if r.Matches(id) {
			out = append(out, p)
		}
	}
	g.mu.Unlock()
	for _, p := range out {
		p.Detach(media.NewCause(media.CauseRevoked, "the login was ended"))
	}
}
