package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"fenrir/media"
	"fenrir/server/api/problem"
	"fenrir/server/api/profile"
	"fenrir/server/journal"
)

// Events are what happens in the server, as it happens.
type Events interface {
	// Listen subscribes: next blocks for the next event until its ctx ends, the
	// first are remembered ones with a number above after. A listener that is too
	// slow gets an error. stop must be called. Listen itself does not block.
	Listen(after uint64) (next func(context.Context) (media.Event, error), stop func(), err error)
}

// sse makes the answer an event stream without an end, and returns how to send a
// part of it, which blocks for sendWithin at most.
func (a *API) sse(w http.ResponseWriter) (send func(format string, args ...any) error, err error) {
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("lift the read deadline: %w", err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	return func(format string, args ...any) error {
		if err := rc.SetWriteDeadline(time.Now().Add(a.sendWithin)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return rc.Flush()
	}, nil
}

// getServerEvents streams what happens in the server until the client has enough
// of it, or is too slow.
func (a *API) getServerEvents(w http.ResponseWriter, r *http.Request) {
	after := uint64(0)
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			a.fail(w, r, problem.Invalidf("Last-Event-ID is the number of an event"))
			return
		}
		after = n
	}
	ctx, done, err := a.last(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	defer done()
	next, stop, err := a.Events.Listen(after)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	defer stop()
	send, err := a.sse(w)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	err = send(": here\n\n") // the header goes out although nothing has happened yet
	for err == nil {
		var ev media.Event
		beat, cancel := context.WithTimeout(ctx, a.heartbeat)
		ev, err = next(beat)
		cancel()
		switch {
		case err == nil:
			var b []byte
			if b, err = json.Marshal(ev); err == nil {
				err = send("id: %d\nevent: %s\ndata: %s\n\n", ev.Seq, ev.Kind, b)
			}
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded):
			err = send(": still here\n\n")
		}
	}
	a.Log.DebugContext(ctx, "server event stream over", "request", visitOf(r).id, "cause", err)
}

// getLog tells what was logged about a session, its processes' words included.
func (a *API) getLog(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	lines, dropped := a.Sessions.Log(s.ID)
	if lines == nil {
		lines = []journal.Line{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"lines": lines, "dropped": dropped})
}

// getProfile takes a profile of the process.
func (a *API) getProfile(w http.ResponseWriter, r *http.Request) {
	if !a.Profiles {
		a.fail(w, r, problem.ErrNotFound)
		return
	}
	seconds := 5
	if q := r.URL.Query().Get("seconds"); q != "" {
		var err error
		if seconds, err = strconv.Atoi(q); err != nil {
			a.fail(w, r, problem.Invalidf("seconds is a number"))
			return
		}
	}
	text := r.URL.Query().Get("debug") != "" && r.URL.Query().Get("debug") != "0"
	b, err := profile.Take(r.Context(), chi.URLParam(r, "name"), seconds, text)
	switch {
	case errors.Is(err, profile.ErrSeconds):
		err = problem.Invalidf("%v", err)
	case errors.Is(err, profile.ErrUnknown):
		err = fmt.Errorf("%w: the profiles are %v", problem.ErrNotFound, profile.Names)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if text {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.Header().Set("Cache-Control", "no-store")
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(b)
}
