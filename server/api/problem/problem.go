// Package problem is the one table that turns errors into statuses and stable
// codes, and the document (RFC 9457) that carries them. It knows the errors of
// the nouns beside the API and imports nothing that answers requests.
package problem

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"fenrir/media"
	"fenrir/server/api/profile"
	"fenrir/server/auth"
	"fenrir/server/catalog"
	"fenrir/server/events"
)

// Errors of the door itself.
var (
	ErrNotFound  = errors.New("there is nothing here")
	ErrMethod    = errors.New("the method is not for this resource")
	ErrOrigin    = errors.New("the request comes from another site")
	ErrForbidden = errors.New("this is for admins")
	ErrMediaType = errors.New("the body has the wrong media type")
	ErrBadJSON   = errors.New("the body cannot be read")
	ErrInvalid   = errors.New("a value cannot be used")
	ErrSlow      = errors.New("the request took too long to arrive")
	ErrNoApp     = errors.New("there is no such program")
	ErrNoSession = &media.Cause{Code: media.CauseSessionGone}
	ErrPanic     = errors.New("the handler panicked")

	ErrPIN        = errors.New("a PIN has four digits")
	ErrWrongPIN   = errors.New("the PIN is not the one that the device shows")
	ErrNotWaiting = errors.New("no such device waits to be paired")
	ErrDeviceGone = errors.New("the device has given up")
	ErrPairing    = errors.New("another device is being paired")
)

// Kind is one row of the table of refusals: what it is known by, and what the
// client is told. An error is matched by err, a *media.Cause by code.
type Kind struct {
	Err    error // nil: known by its code only
	Code   string
	Status int
	Title  string
}

// internal is what a client is told of every error that is not in the table.
var internal = Kind{Code: "internal", Status: http.StatusInternalServerError, Title: "Something went wrong on the server"}

// Kinds is the one table of refusals. The document at /api/openapi.json shows
// it under x-problems; a test compares the two.
func Kinds() []Kind {
	const ended = "The session has ended or is ending"
	return []Kind{
		internal,
		{ErrPanic, "internal", http.StatusInternalServerError, internal.Title},
		{ErrBadJSON, "bad-request", http.StatusBadRequest, "The request cannot be understood"},
		{ErrInvalid, "invalid-value", http.StatusUnprocessableEntity, "A value cannot be used"},
		{nil, "too-large", http.StatusRequestEntityTooLarge, "The body is too large"},
		{ErrMediaType, "unsupported-media-type", http.StatusUnsupportedMediaType, "The body has the wrong media type"},
		{ErrSlow, "request-timeout", http.StatusRequestTimeout, "The request took too long to arrive"},
		{os.ErrDeadlineExceeded, "timeout", http.StatusServiceUnavailable, "The server took too long"},
		{context.DeadlineExceeded, "timeout", http.StatusServiceUnavailable, "The server took too long"},
		{ErrNotFound, "not-found", http.StatusNotFound, "There is nothing here"},
		{ErrMethod, "method-not-allowed", http.StatusMethodNotAllowed, "The method is not for this resource"},
		{ErrOrigin, "bad-origin", http.StatusForbidden, "The request comes from another site"},
		{ErrForbidden, "forbidden", http.StatusForbidden, "This is for admins"},
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
		{events.ErrFull, "busy", http.StatusServiceUnavailable, "The server is busy, try again"},
		{profile.ErrBusy, "busy", http.StatusServiceUnavailable, "The server is busy, try again"},
		{auth.ErrTooManyDevices, "too-many-devices", http.StatusConflict, "There are too many devices"},
		{ErrPIN, "invalid-value", http.StatusUnprocessableEntity, "A value cannot be used"},
		{ErrWrongPIN, "wrong-pin", http.StatusForbidden, "The PIN is not the one that the device shows"},
		{ErrNotWaiting, "device-not-waiting", http.StatusNotFound, "No such device waits to be paired"},
		{ErrDeviceGone, "device-gone", http.StatusConflict, "The device has given up"},
		{ErrPairing, "busy", http.StatusServiceUnavailable, "The server is busy, try again"},
		{auth.ErrNotFound, "not-found", http.StatusNotFound, "There is nothing here"},
		{nil, "rate-limited", http.StatusTooManyRequests, "Too many attempts"},
		{ErrNoApp, "app-not-found", http.StatusNotFound, "There is no such program"},
		{nil, "whep-resource-not-found", http.StatusNotFound, "There is no such player"},
		{nil, "etag-mismatch", http.StatusPreconditionFailed, "The ETag is not the player's"},
		{nil, "ice-restart-unsupported", http.StatusUnprocessableEntity, "Make a new player instead of an ICE restart"},
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
		{nil, media.CauseLimit, http.StatusConflict, ended},
		{nil, media.CauseRevoked, http.StatusConflict, "The right to it was taken away"},
		{nil, media.CauseSuperseded, http.StatusConflict, "The same client connected again elsewhere"},
		{nil, media.CauseLeft, http.StatusConflict, "The player has left"},
		{nil, media.CauseNoPicture, http.StatusConflict, "The player saw nothing of what it was sent"},
		{nil, media.CauseLost, http.StatusConflict, "The connection to the player broke"},
	}
}

// Document is a problem document, RFC 9457.
type Document struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
	Output string `json:"output,omitempty"` // what the program printed last
	Setup  bool   `json:"setup,omitempty"`  // there is no admin yet
}

// classify finds the row of an error, and what of it the client may read.
func classify(err error) (Kind, string, string) {
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
	for _, k := range Kinds() {
		if k.Err != nil && errors.Is(err, k.Err) {
			detail := strings.ReplaceAll(err.Error(), "\n", "; ") // of joined errors
			if k.Status >= http.StatusInternalServerError {
				detail = "" // ours to know: it is in the log
			}
			return k, detail, ""
		}
	}
	return internal, "", ""
}

func byCode(code string) Kind {
	for _, k := range Kinds() {
		if k.Code == code {
			return k
		}
	}
	return internal
}

// Of makes the document for an error.
func Of(err error) Document {
	k, detail, output := classify(err)
	return Document{Type: "/api/docs#" + k.Code, Title: k.Title, Status: k.Status, Code: k.Code, Detail: detail, Output: output}
}

// Internal reports whether an error is not in the table: a fault of ours that
// someone must look at.
func (d Document) Internal() bool { return d.Code == internal.Code }

// Invalidf makes a refusal of one value.
func Invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
