package api

import (
	"context"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"fenrir/media"
	"fenrir/server/auth"
)

// Pairings are Moonlight devices that wait for a person to type the PIN that they
// show.
type Pairings interface {
	// Waiting are the devices that wait, oldest first, and where Moonlight finds
	// this server. It does not block.
	Waiting() Moonlight
	// Enter tries a PIN for the device that waits under that id, for the person who
	// typed it. It waits, at most until ctx ends, for the device to finish. Errors are
	// those of package problem.
	Enter(ctx context.Context, id, pin string, person media.PersonRef) error
}

// Moonlight is what /api/moonlight tells.
type Moonlight struct {
	Enabled bool      `json:"enabled"`
	Port    int       `json:"port"` // TCP, that a client is told besides the host's name; 0 when not enabled
	Waiting []Waiting `json:"waiting"`
}

// Waiting is a device that wants to be paired.
type Waiting struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"` // as it calls itself; empty, or not to be trusted
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Entered bool      `json:"entered"` // somebody typed a PIN, and its outcome is not known yet
}

type deviceJSON struct {
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Person  media.PersonRef `json:"person"`
	Created time.Time       `json:"created"`
	Seen    *time.Time      `json:"seen"`
}

func deviceOf(d auth.Device) deviceJSON {
	j := deviceJSON{ID: d.ID, Name: d.Name, Person: media.PersonRef{ID: string(d.Person.ID), Name: d.Person.Name}, Created: d.Created}
	if !d.Seen.IsZero() {
		j.Seen = &d.Seen
	}
	return j
}

func (a *API) getMoonlight(w http.ResponseWriter, r *http.Request) {
	m := Moonlight{Waiting: []Waiting{}}
	if a.Pairings != nil {
		m = a.Pairings.Waiting()
	}
	writeJSON(w, http.StatusOK, m)
}

func (a *API) postPIN(w http.ResponseWriter, r *http.Request) {
	var req struct{ PIN string }
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	if a.Pairings == nil {
		a.fail(w, r, auth.ErrNotFound)
		return
	}
	p := person(r)
	if err := a.Pairings.Enter(r.Context(), chi.URLParam(r, "id"), req.PIN, media.PersonRef{ID: string(p.ID), Name: p.Name}); err != nil {
		a.fail(w, r, err)
		return
	}
	a.Log.InfoContext(r.Context(), "device paired", "person", p.Name, "client", visitOf(r).addr)
	w.WriteHeader(http.StatusNoContent)
}

// own is whose devices a request is about: an admin's is about everybody's.
func own(r *http.Request) auth.PersonID {
	if p := person(r); p.Role != auth.Admin {
		return p.ID
	}
	return ""
}

func (a *API) getDevices(w http.ResponseWriter, r *http.Request) {
	list, err := a.Auth.Devices(own(r))
	if err != nil {
		a.fail(w, r, err)
		return
	}
	devices := make([]deviceJSON, 0, len(list))
	for _, d := range list {
		devices = append(devices, deviceOf(d))
	}
	writeJSON(w, http.StatusOK, map[string]any{"devices": devices})
}

func (a *API) patchDevice(w http.ResponseWriter, r *http.Request) {
	var req struct{ Name string }
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	d, err := a.Auth.RenameDevice(own(r), chi.URLParam(r, "id"), req.Name)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, deviceOf(d))
}

func (a *API) deleteDevice(w http.ResponseWriter, r *http.Request) {
	if err := a.Auth.ForgetDevice(own(r), chi.URLParam(r, "id")); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
