package api

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"fenrir/server/api/problem"
	"fenrir/server/auth"
)

// fail answers with the problem document of err. Faults of ours are logged
// with their detail, which the client does not see.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.Of(err)
	if p.Status >= http.StatusInternalServerError {
		level := a.Log.WarnContext
		if p.Internal() {
			level = a.Log.ErrorContext
		}
		level(r.Context(), "request failed", "request", visitOf(r).id, "method", r.Method, "path", r.URL.Path, "code", p.Code, "err", err)
	}
	var rate *auth.RateError
	switch {
	case errors.As(err, &rate):
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(rate.RetryAfter.Seconds()))))
	case errors.Is(err, auth.ErrBusy):
		w.Header().Set("Retry-After", "5")
	case errors.Is(err, auth.ErrUnauthenticated):
		p.Setup = a.needsSetup(r)
		w.Header().Set("WWW-Authenticate", `Bearer realm="fenrir"`)
	case errors.Is(err, problem.ErrSlow):
		w.Header().Set("Connection", "close") // the rest of the body is not worth waiting for
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(p)
}

// Fail lets other doors answer in the same way: a *media.Cause anywhere in err
// decides the status and the code.
func (a *API) Fail(w http.ResponseWriter, r *http.Request, err error) { a.fail(w, r, err) }

func (a *API) needsSetup(r *http.Request) bool {
	if a.isSetUp.Load() {
		return false
	}
	need, err := a.Auth.NeedsSetup()
	if err != nil {
		a.Log.ErrorContext(r.Context(), "user database cannot be read", "err", err)
		return false
	}
	a.isSetUp.Store(!need)
	return need
}
