package main

import (
	"context"
	"errors"
	"io"

	"fenrir/media"
	"fenrir/server/api"
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
// session was decided by the API before.
func (h *host) attach(_ context.Context, id string, spec media.PeerSpec) (signaling.Attachment, error) {
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
	return p, nil
}
