package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"strconv"

	"fenrir/media"
	"fenrir/server/auth"
	"fenrir/server/catalog"
)

// Errors of the door itself.
var (
	errNotFound    = errors.New("there is nothing here")
	errMethod      = errors.New("the method is not for this resource")
	errOrigin      = errors.New("the request comes from another site")
	errForbidden   = errors.New("this is for admins")
	errTooLarge    = errors.New("the body is too large")
	errMediaType   = errors.New("the body has the wrong media type")
	errBadJSON     = errors.New("the body cannot be read")
	errInvalid     = errors.New("a value cannot be used")
	errSlow        = errors.New("the request took too long to arrive")
	errNoApp       = errors.New("there is no such program")
	errNoSession   = &media.Cause{Code: media.CauseSessionGone}
	errPanic       = errors.New("the handler panicked")
	errMetricsOnly = errors.New("metrics are not for you")
)

// kind is one row of the table of refusals: what it is known by, and what the
// client is told. An error is matched by err, a *media.Cause by code.
type kind struct {
	err    error
	code   string
	status int
	title  string
}

// internal is what a client is told of every error that is not in the table.
var internal = kind{code: "internal", status: http.StatusInternalServerError, title: "Something went wrong on the server"}

// kinds is the one table of refusals. The document at /api/openapi.json shows
// it under x-problems; a test compares the two.
func kinds() []kind {
	const ended = "The session has ended or is ending"
	return []kind{
		internal,
		{errPanic, "internal", http.StatusInternalServerError, internal.title},
		{errBadJSON, "bad-request", http.StatusBadRequest, "The request cannot be understood"},
		{errInvalid, "invalid-value", http.StatusUnprocessableEntity, "A value cannot be used"},
		{errTooLarge, "too-large", http.StatusRequestEntityTooLarge, "The body is too large"},
		{errMediaType, "unsupported-media-type", http.StatusUnsupportedMediaType, "The body has the wrong media type"},
		{errSlow, "request-timeout", http.StatusRequestTimeout, "The request took too long to arrive"},
		{context.DeadlineExceeded, "timeout", http.StatusServiceUnavailable, "The server took too long"},
		{errNotFound, "not-found", http.StatusNotFound, "There is nothing here"},
		{errMethod, "method-not-allowed", http.StatusMethodNotAllowed, "The method is not for this resource"},
		{errOrigin, "bad-origin", http.StatusForbidden, "The request comes from another site"},
		{errForbidden, "forbidden", http.StatusForbidden, "This is for admins"},
		{errMetricsOnly, "forbidden", http.StatusForbidden, "This is for admins"},
		{auth.ErrUnauthenticated, "unauthenticated", http.StatusUnauthorized, "Log in first"},
		{auth.ErrBadCredentials, "bad-credentials", http.StatusUnauthorized, "Wrong name or password"},
		{auth.ErrBadSetupToken, "bad-setup-token", http.StatusForbidden, "Wrong setup token"},
		{auth.ErrSetupDone, "setup-done", http.StatusConflict, "The server is set up already"},
		{auth.ErrNameTaken, "name-taken", http.StatusConflict, "The name is taken"},
		{auth.ErrBadName, "bad-name", http.StatusUnprocessableEntity, "The name cannot be used"},
		{auth.ErrBadPassword, "bad-password", http.StatusUnprocessableEntity, "The password cannot be used"},
		{auth.ErrBadRole, "invalid-value", http.StatusUnprocessableEntity, "A value cannot be used"},
		{auth.ErrLastAdmin, "last-admin", http.StatusConflict, "The last admin must stay one"},
		{auth.ErrTooMany, "too-many-tokens", http.StatusConflict, "There are too many tokens"},
		{auth.ErrBusy, "busy", http.StatusServiceUnavailable, "The server is busy, try again"},
		{auth.ErrNotFound, "not-found", http.StatusNotFound, "There is nothing here"},
		{nil, "rate-limited", http.StatusTooManyRequests, "Too many attempts"},
		{errNoApp, "app-not-found", http.StatusNotFound, "There is no such program"},
		{catalog.ErrNoIcon, "icon-not-found", http.StatusNotFound, "There is no such icon"},

		{nil, media.CauseSessionGone, http.StatusNotFound, "There is no such session"},
		{nil, media.CauseNoEncoder, http.StatusServiceUnavailable, "No encoder works for what was asked"},
		{nil, media.CauseNoSlot, http.StatusServiceUnavailable, "All encoder slots are taken"},
		{nil, media.CauseTooMany, http.StatusConflict, "A limit of sessions is reached"},
		{nil, media.CauseShutdown, http.StatusServiceUnavailable, "The server is going down"},
		{nil, media.CauseNegotiation, http.StatusBadRequest, "Offer or answer cannot be used"},
		{nil, media.CauseProtocol, http.StatusBadRequest, "The request breaks the protocol"},
		{nil, media.CauseVersion, http.StatusBadRequest, "The versions do not overlap"},
		{nil, media.CauseICE, http.StatusServiceUnavailable, "There is no network path"},
		{nil, media.CauseDesktop, http.StatusInternalServerError, "The desktop failed"},
		{nil, media.CauseMedia, http.StatusInternalServerError, "The media worker failed"},
		{nil, media.CauseAppFailed, http.StatusConflict, "The program could not be started"},
		{nil, media.CauseAppExited, http.StatusConflict, ended},
		{nil, media.CauseUser, http.StatusConflict, ended},
		{nil, media.CauseIdle, http.StatusConflict, ended},
		{nil, media.CauseMaxAge, http.StatusConflict, ended},
		{nil, media.CauseRevoked, http.StatusConflict, "The right to it was taken away"},
		{nil, media.CauseSuperseded, http.StatusConflict, "The same client connected again elsewhere"},
		{nil, media.CauseLeft, http.StatusConflict, "The player has left"},
		{nil, media.CauseLost, http.StatusConflict, "The connection to the player broke"},
	}
}

// problem is a problem document, RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
	Output string `json:"output,omitempty"` // what the program printed last
	Setup  bool   `json:"setup,omitempty"`  // there is no admin yet
}

// classify finds the row of an error, and what of it the client may read.
func classify(err error) (kind, string, string) {
	var rate *auth.RateError
	if errors.As(err, &rate) {
		return byCode("rate-limited"), rate.Error(), ""
	}
	var cause *media.Cause
	if errors.As(err, &cause) {
		return byCode(cause.Code), cause.Detail, cause.Output
	}
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return byCode("too-large"), fmt.Sprintf("at most %d bytes", big.Limit), ""
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return byCode("request-timeout"), "", ""
	}
	for _, k := range kinds() {
		if k.err != nil && errors.Is(err, k.err) {
			detail := err.Error()
			if k.status >= http.StatusInternalServerError {
				detail = "" // ours to know: it is in the log
			}
			return k, detail, ""
		}
	}
	return internal, "", ""
}

func byCode(code string) kind {
	for _, k := range kinds() {
		if k.code == code {
			return k
		}
	}
	return internal
}

// fail answers with the problem document of err. Faults of ours are logged
// with their detail, which the client does not see.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	k, detail, output := classify(err)
	if k.status >= http.StatusInternalServerError {
		level := a.Log.WarnContext
		if k.code == internal.code {
			level = a.Log.ErrorContext
		}
		level(r.Context(), "request failed", "request", visitOf(r).id, "method", r.Method, "path", r.URL.Path, "code", k.code, "err", err)
	}
	p := problem{Type: "/api/docs#" + k.code, Title: k.title, Status: k.status, Code: k.code, Detail: detail, Output: output}
	var rate *auth.RateError
	switch {
	case errors.As(err, &rate):
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(rate.RetryAfter.Seconds()))))
	case errors.Is(err, auth.ErrBusy):
		w.Header().Set("Retry-After", "5")
	case errors.Is(err, auth.ErrUnauthenticated):
		p.Setup = a.needsSetup(r)
		w.Header().Set("WWW-Authenticate", `Bearer realm="fenrir"`)
	case errors.Is(err, errTooLarge), errors.Is(err, errSlow), errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close") // the rest of the body is not worth reading
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(k.status)
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

// invalidf makes a refusal of one value.
func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errInvalid, fmt.Sprintf(format, args...))
}
