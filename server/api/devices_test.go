package api

import (
	"context"
	"net/http"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/server/api/problem"
	"fenrir/server/auth"
)

// fakePairings have one device that waits.
type fakePairings struct {
	entered chan media.PersonRef
	fails   error
}

func (f *fakePairings) Waiting() Moonlight {
	now := time.Now()
	return Moonlight{Enabled: true, Port: 47989, Waiting: []Waiting{{ID: "w1", Name: "television", Address: "192.0.2.7", Since: now, Until: now.Add(time.Minute)}}}
}

func (f *fakePairings) Enter(_ context.Context, id, pin string, person media.PersonRef) error {
	switch {
	case id != "w1":
		return problem.ErrNotWaiting
	case len(pin) != 4:
		return problem.ErrPIN
	case pin != "1234":
		return problem.ErrWrongPIN
	}
	if f.fails == nil {
		f.entered <- person
	}
	return f.fails
}

func TestPairingOnThePage(t *testing.T) {
	f := &fakePairings{entered: make(chan media.PersonRef, 1)}
	d := open(t, func(a *API) { a.Pairings = f })
	c := d.as("anna", auth.Player)
	m := into[Moonlight](t, c.want(http.StatusOK, "GET", "/api/moonlight", nil))
	if !m.Enabled || m.Port != 47989 || len(m.Waiting) != 1 || m.Waiting[0].Address != "192.0.2.7" {
		t.Errorf("waiting: %+v", m)
	}
	for _, one := range []struct {
		id, pin, code string
		status        int
	}{
		{"w2", "1234", "device-not-waiting", http.StatusNotFound},
		{"w1", "12", "invalid-value", http.StatusUnprocessableEntity},
		{"w1", "4321", "wrong-pin", http.StatusForbidden},
	} {
		c.refused(one.status, one.code, "POST", "/api/moonlight/waiting/"+one.id, map[string]string{"pin": one.pin})
	}
	c.want(http.StatusNoContent, "POST", "/api/moonlight/waiting/w1", map[string]string{"pin": "1234"})
	if p := <-f.entered; p.ID == "" || p.Name == "" {
		t.Errorf("it was paired for %+v", p)
	}
	for _, one := range []struct {
		err    error
		code   string
		status int
	}{
		{problem.ErrDeviceGone, "device-gone", http.StatusConflict},
		{problem.ErrPairing, "busy", http.StatusServiceUnavailable},
		{&auth.RateError{RetryAfter: time.Minute}, "rate-limited", http.StatusTooManyRequests},
		{auth.ErrTooManyDevices, "too-many-devices", http.StatusConflict},
	} {
		f.fails = one.err
		c.refused(one.status, one.code, "POST", "/api/moonlight/waiting/w1", map[string]string{"pin": "1234"})
	}
}

func TestDevicesOfOneself(t *testing.T) {
	d := open(t)
	anna, bert, odin := d.as("anna", auth.Player), d.as("bert", auth.Player), d.as("odin", auth.Admin)
	hers, err := d.store.PairDevice(anna.person.ID, "television", "k1", []byte("c1"))
	if err != nil {
		t.Fatal(err)
	}
	list := func(c *client) []deviceJSON {
		return into[struct{ Devices []deviceJSON }](t, c.want(http.StatusOK, "GET", "/api/devices", nil)).Devices
	}
	if l := list(anna); len(l) != 1 || l[0].Name != "television" || l[0].Person.Name != "anna" || l[0].Seen != nil {
		t.Errorf("anna has %+v", l)
	}
	if l := list(bert); l == nil || len(l) != 0 {
		t.Errorf("bert has %+v", l)
	}
	if l := list(odin); len(l) != 1 {
		t.Errorf("the admin sees %+v", l)
	}
	path := "/api/devices/" + hers.ID
	bert.refused(http.StatusNotFound, "not-found", "PATCH", path, map[string]string{"name": "mine"})
	bert.refused(http.StatusNotFound, "not-found", "DELETE", path, nil)
	anna.refused(http.StatusUnprocessableEntity, "bad-name", "PATCH", path, map[string]string{"name": ""})
	if one := into[deviceJSON](t, anna.want(http.StatusOK, "PATCH", path, map[string]string{"name": "big television"})); one.Name != "big television" {
		t.Errorf("renamed to %+v", one)
	}
	odin.want(http.StatusNoContent, "DELETE", path, nil)
	anna.refused(http.StatusNotFound, "not-found", "DELETE", path, nil)
}

func TestWithoutMoonlight(t *testing.T) {
	c := open(t).as("anna", auth.Player)
	m := into[Moonlight](t, c.want(http.StatusOK, "GET", "/api/moonlight", nil))
	if m.Enabled || m.Waiting == nil {
		t.Errorf("waiting: %+v", m)
	}
	c.refused(http.StatusNotFound, "not-found", "POST", "/api/moonlight/waiting/w1", map[string]string{"pin": "1234"})
}
