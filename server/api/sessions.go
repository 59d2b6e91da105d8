package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"fenrir/media"
	"fenrir/server/api/problem"
)

// layoutForm is what an XKB layout with an optional variant looks like.
var layoutForm = regexp.MustCompile(`^[a-z]{2,12}(\([A-Za-z0-9_-]{1,32}\))?$`)

// session finds the session of a request. Another one's is as good as none:
// whether it exists is nobody else's business.
func (a *API) session(r *http.Request) (media.SessionState, error) {
	s, ok := a.Sessions.Get(chi.URLParam(r, "id"))
	if !ok || s.Owner.ID != string(person(r).ID) && !isAdmin(r) {
		return media.SessionState{}, problem.ErrNoSession
	}
	return full(s), nil
}

// full makes absent lists empty ones, as the API promises.
func full(s media.SessionState) media.SessionState {
	if s.Video == nil {
		s.Video = []media.VideoState{}
	}
	if s.Peers == nil {
		s.Peers = []media.PeerState{}
	}
	return s
}

func (a *API) getSessions(w http.ResponseWriter, r *http.Request) {
	all := r.URL.Query().Get("all") == "1"
	if all && !isAdmin(r) {
		a.fail(w, r, problem.ErrForbidden)
		return
	}
	list := []media.SessionState{}
	for _, s := range a.Sessions.List() {
		if all || s.Owner.ID == string(person(r).ID) {
			list = append(list, full(s))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"sessions": list})
}

func (a *API) postSession(w http.ResponseWriter, r *http.Request) {
	var req struct {
		App     string
		Width   int
		Height  int
		FPS     int
		MaxKbps int `json:"max_kbps"`
		Codec   string
		Layout  string
	}
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	app, ok := a.Apps.Find(r.Context(), req.App)
	if !ok {
		a.fail(w, r, problem.ErrNoApp)
		return
	}
	create := CreateRequest{Owner: personRef(r), App: app, Width: req.Width, Height: req.Height, FPS: req.FPS, MaxKbps: req.MaxKbps, Layout: req.Layout}
	// What the client leaves open the program's entry decides, then the server.
	if create.Width == 0 && create.Height == 0 {
		create.Width, create.Height = app.Width, app.Height
	}
	if create.Width == 0 && create.Height == 0 {
		create.Width, create.Height = a.Limits.Width, a.Limits.Height
	}
	for _, fps := range []int{app.FPS, a.Limits.FPS} {
		if create.FPS == 0 {
			create.FPS = fps
		}
	}
	if req.Codec != "" && req.Codec != "auto" {
		create.Codec = media.Codec(req.Codec)
	}
	err := errors.Join(a.checkSize(create.Width, create.Height), a.checkFPS(create.FPS), a.checkLayout(create.Layout), a.checkCodec(create.Codec))
	if create.MaxKbps != 0 {
		err = errors.Join(err, a.checkKbps(create.MaxKbps))
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	state, err := a.Sessions.Create(r.Context(), create)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/api/sessions/"+url.PathEscape(state.ID))
	writeJSON(w, http.StatusCreated, full(state))
}

func (a *API) checkSize(width, height int) error {
	l := a.Limits
	if width < l.MinWidth || width > l.MaxWidth || height < l.MinHeight || height > l.MaxHeight || width%2 != 0 || height%2 != 0 {
		return problem.Invalidf("width and height are even numbers from %d×%d to %d×%d", l.MinWidth, l.MinHeight, l.MaxWidth, l.MaxHeight)
	}
	return nil
}

func (a *API) checkFPS(fps int) error {
	if fps < a.Limits.MinFPS || fps > a.Limits.MaxFPS {
		return problem.Invalidf("fps is from %d to %d", a.Limits.MinFPS, a.Limits.MaxFPS)
	}
	return nil
}

func (a *API) checkKbps(kbps int) error {
	if kbps < a.Limits.MinKbps || kbps > a.Limits.MaxKbps {
		return problem.Invalidf("max_kbps is from %d to %d", a.Limits.MinKbps, a.Limits.MaxKbps)
	}
	return nil
}

func (a *API) checkLayout(layout string) error {
	if layout != "" && !layoutForm.MatchString(layout) {
		return problem.Invalidf(`layout is an XKB layout like "us" or "de(nodeadkeys)"`)
	}
	return nil
}

func (a *API) checkCodec(codec media.Codec) error {
	if codec != "" && !slices.Contains(a.Limits.Codecs, string(codec)) {
		return problem.Invalidf("codec is auto or one of %v", a.Limits.Codecs)
	}
	return nil
}

func (a *API) getSession(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, s)
}

func (a *API) patchSession(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	var req struct {
		Width, Height, FPS *int
		MaxKbps            *int `json:"max_kbps"`
		Layout             *string
	}
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	switch {
	case req.Width == nil && req.Height == nil:
	case req.Width == nil || req.Height == nil:
		err = problem.Invalidf("width and height come together")
	default:
		err = a.checkSize(*req.Width, *req.Height)
	}
	if req.FPS != nil {
		err = errors.Join(err, a.checkFPS(*req.FPS))
	}
	if req.MaxKbps != nil {
		err = errors.Join(err, a.checkKbps(*req.MaxKbps))
	}
	if req.Layout != nil {
		err = errors.Join(err, a.checkLayout(*req.Layout))
		if *req.Layout == "" {
			err = errors.Join(err, problem.Invalidf("layout is not empty"))
		}
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	s, err = a.Sessions.Patch(r.Context(), s.ID, PatchRequest{req.Width, req.Height, req.FPS, req.MaxKbps, req.Layout})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, full(s))
}

// deleteSession begins the end, waits a moment for it, and answers either way.
func (a *API) deleteSession(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	who := "its owner"
	if s.Owner.ID != string(person(r).ID) {
		who = "an admin"
	}
	done, ok := a.Sessions.End(s.ID, media.NewCause(media.CauseUser, "ended by %s", who))
	if !ok { // it was over before
		w.WriteHeader(http.StatusNoContent)
		return
	}
	wait := time.NewTimer(endWait)
	defer wait.Stop()
	select {
	case <-done:
		w.WriteHeader(http.StatusNoContent)
	case <-wait.C:
		w.WriteHeader(http.StatusAccepted)
	case <-r.Context().Done():
		w.WriteHeader(http.StatusAccepted)
	}
}

func (a *API) getScreenshot(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	b, err := a.Sessions.Screenshot(r.Context(), s.ID)
	if err != nil {
		a.fail(w, r, fmt.Errorf("take screenshot: %w", err))
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Cache-Control", "no-store")
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(b)
}

// Pace of the event stream: a comment when there was no news for heartbeat, so
// that dead connections are noticed, and a bound for every write.
const (
	heartbeat   = 15 * time.Second
	eventWithin = 10 * time.Second
)

// getEvents streams a session's states until it is over.
func (a *API) getEvents(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx, done, err := a.last(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	defer done()
	next, ok := a.Sessions.Watch(ctx, s.ID)
	if !ok {
		a.fail(w, r, problem.ErrNoSession)
		return
	}
	send, err := a.sse(w)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	err = a.stream(ctx, next, send)
	a.Log.DebugContext(ctx, "event stream over", "request", visitOf(r).id, "session", s.ID, "cause", err)
}

// stream returns why it is over, never nil.
func (a *API) stream(ctx context.Context, next func(context.Context) (media.SessionState, error), send func(string, ...any) error) error {
	for {
		beat, cancel := context.WithTimeout(ctx, a.heartbeat)
		state, err := next(beat)
		cancel()
		switch {
		case err == nil:
			b, err := json.Marshal(full(state))
			if err != nil {
				return err
			}
			if err := send("event: state\ndata: %s\n\n", b); err != nil {
				return err
			}
			if state.Phase == media.Ended {
				return io.EOF
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded):
			if err := send(": still here\n\n"); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// getSignal hands the websocket to its door.
func (a *API) getSignal(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil && r.Header.Get("Upgrade") == "" {
		a.fail(w, r, err)
		return
	}
	ctx, done, err := a.last(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	defer done()
	rc := http.NewResponseController(w)
	if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{})); err != nil {
		a.fail(w, r, fmt.Errorf("lift the deadlines: %w", err))
		return
	}
	a.Signal(w, r.WithContext(ctx), s.ID, personRef(r))
}

func (a *API) whep(w http.ResponseWriter, r *http.Request) {
	s, err := a.session(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.WHEP(w, r, s.ID, chi.URLParam(r, "peer"), personRef(r))
}
