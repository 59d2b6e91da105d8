package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"fenrir/media"
	"fenrir/server/api"
	"fenrir/server/api/problem"
	"fenrir/server/auth"
	"fenrir/server/config"
	"fenrir/server/session"
	"fenrir/signaling"
	"fenrir/signaling/moonlight"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/nvhttp"
	"fenrir/signaling/moonlight/pairing"
)

// What Moonlight clients see of the house: the devices, programs and sessions of
// the persons whom they belong to.
type (
	moonDevices struct {
		h       *host
		persons *auth.Store
	}
	moonPrograms struct{ h *host }
	moonSessions struct {
		h      *host
		codecs []media.Codec // that clients decode
	}
	moonPairings struct {
		pending *pairing.Pending
		port    int
	}
)

var (
	_ nvhttp.Devices  = moonDevices{}
	_ nvhttp.Programs = moonPrograms{}
	_ nvhttp.Sessions = moonSessions{}
	_ api.Pairings    = moonPairings{}
)

// nameless is what a device is called that calls itself nothing of use.
const nameless = "Moonlight"

// Add implements pairing.Trust.
func (m moonDevices) Add(_ context.Context, d pairing.Device) error {
	pair := func(name string) (auth.Device, error) {
		return m.persons.PairDevice(auth.PersonID(d.Person.ID), name, pairing.KeyID(d.Certificate), d.Certificate.Raw)
	}
	made, err := pair(cmp.Or(d.Name, nameless))
	if errors.Is(err, auth.ErrBadName) {
		made, err = pair(nameless)
	}
	if err != nil {
		return err
	}
	m.h.log.Info("moonlight device paired", "device", made.ID, "name", made.Name, "person", d.Person.ID, "client", d.Address)
	return nil
}

// Find implements nvhttp.Devices.
func (m moonDevices) Find(_ context.Context, c *x509.Certificate) (nvhttp.Device, error) {
	d, err := m.persons.DeviceByKey(pairing.KeyID(c), c.Raw)
	if errors.Is(err, auth.ErrUnauthenticated) {
		return nvhttp.Device{}, nvhttp.ErrUnknown
	}
	if err != nil {
		return nvhttp.Device{}, err
	}
	return nvhttp.Device{ID: d.ID, Name: d.Name, Person: media.PersonRef{ID: string(d.Person.ID), Name: d.Person.Name}}, nil
}

// Forget implements nvhttp.Devices.
func (m moonDevices) Forget(_ context.Context, id string) error {
	if err := m.persons.ForgetDevice("", id); !errors.Is(err, auth.ErrNotFound) {
		return err
	}
	return nil
}

// boxIcon is the size of icons that box art is made with, pixels.
const boxIcon = 256

// List implements nvhttp.Programs. Everybody may start every program.
func (m moonPrograms) List(ctx context.Context, _ media.PersonRef) ([]nvhttp.Program, error) {
	apps := m.h.programs.List(ctx)
	out := make([]nvhttp.Program, 0, len(apps))
	for _, a := range apps {
		p := nvhttp.Program{ID: a.ID, Title: a.Title}
		if icon, err := m.h.programs.Icon(ctx, a.ID, boxIcon); err == nil {
			p.Picture = icon.ETag
		}
		out = append(out, p)
	}
	return out, ctx.Err()
}

// Icon implements nvhttp.Programs. What is no PNG has no box art of its own.
func (m moonPrograms) Icon(ctx context.Context, _ media.PersonRef, program string) ([]byte, error) {
	icon, err := m.h.programs.Icon(ctx, program, boxIcon)
	if err != nil || icon.Type != "image/png" {
		return nil, ctx.Err()
	}
	return icon.Data, nil
}

// Find implements nvhttp.Sessions.
func (m moonSessions) Find(person media.PersonRef) (nvhttp.Running, bool) {
	s := m.h.newest(person)
	if s == nil {
		return nvhttp.Running{}, false
	}
	return running(s), true
}

func running(s *session.Session) nvhttp.Running {
	app := s.App()
	return nvhttp.Running{Session: string(s.ID()), Program: app.ID, Title: app.Title}
}

// Sizes of displays; a client that wants another picture gets it scaled.
const (
	leastWidth, mostWidth   = 640, 3840
	leastHeight, mostHeight = 360, 2160
)

// Start implements nvhttp.Sessions.
func (m moonSessions) Start(ctx context.Context, o nvhttp.Order) (nvhttp.Running, error) {
	app, ok := m.h.programs.Find(ctx, o.Program)
	if !ok {
		return nvhttp.Running{}, problem.ErrNoApp
	}
	req := session.Request{
		App: media.AppRef{ID: app.ID, Title: app.Title}, Owner: o.Device.Person,
		Width:  min(max(o.Width, leastWidth), mostWidth) &^ 1,
		Height: min(max(o.Height, leastHeight), mostHeight) &^ 1,
		FPS:    min(max(o.FPS, 10), m.h.cfg.Video.MaxFPS), Layout: m.h.cfg.Display.Layout, Codecs: m.codecs[:1],
	}
	// What most clients then negotiate starts now, and is there when they connect.
	req.Video, req.Audio = moonlight.Forecast(o.Width, o.Height, o.FPS)
	s, err := m.h.start(app, req)
	if err != nil {
		return nvhttp.Running{}, err
	}
	return running(s), nil
}

// End implements nvhttp.Sessions.
func (m moonSessions) End(id string, cause *media.Cause) {
	if s, err := m.h.registry.Get(session.ID(id)); err == nil {
		s.End(cause)
	}
}

// attach gives a Moonlight client its place in a session of its person,
// which it loses with the trust in the device.
func (m moonDevices) attach(t launch.Terms, spec media.PeerSpec) (signaling.Attachment, error) {
	s, err := m.h.registry.Get(session.ID(t.Session))
	if err != nil || s.Owner().ID != t.Person.ID {
		return nil, session.ErrUnknown
	}
	p, err := s.Attach(spec, session.Full)
	if err != nil {
		return nil, err
	}
	device := auth.Device{ID: t.Device}
	m.h.guests.enter(p, auth.Identity{
		Person: auth.Person{ID: auth.PersonID(t.Person.ID), Name: t.Person.Name}, Credential: device.Credential(), Bearer: true,
	})
	return p, nil
}

// Waiting implements api.Pairings.
func (m moonPairings) Waiting() api.Moonlight {
	list := m.pending.List()
	out := api.Moonlight{Enabled: true, Port: m.port, Waiting: make([]api.Waiting, 0, len(list))}
	for _, r := range list {
		out.Waiting = append(out.Waiting, api.Waiting{ID: r.ID, Name: r.Name, Address: r.Address.String(), Since: r.Since, Until: r.Until, Entered: r.Entered})
	}
	return out
}

// Enter implements api.Pairings.
func (m moonPairings) Enter(ctx context.Context, id, pin string, person media.PersonRef) error {
	err := m.pending.Enter(ctx, id, pin, person)
	var wait *pairing.RateError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wait):
		return &auth.RateError{RetryAfter: wait.RetryAfter}
	}
	for _, row := range []struct{ is, told error }{
		{pairing.ErrPIN, problem.ErrPIN},
		{pairing.ErrWrongPIN, problem.ErrWrongPIN},
		{pairing.ErrNotFound, problem.ErrNotWaiting},
		{pairing.ErrExpired, problem.ErrNotWaiting},
		{pairing.ErrClosed, problem.ErrNotWaiting},
		{pairing.ErrGone, problem.ErrDeviceGone},
		{pairing.ErrReplaced, problem.ErrDeviceGone},
		{pairing.ErrEntered, problem.ErrPairing},
		{pairing.ErrBusy, problem.ErrPairing},
	} {
		if errors.Is(err, row.is) {
			return row.told
		}
	}
	return err
}

// moonCodecs are those that Moonlight clients decode and that can be encoded here.
func (h *host) moonCodecs() (able []media.Codec) {
	for _, codec := range []media.Codec{media.H264, media.H265, media.AV1} {
		if _, err := h.encoders.Choose([]media.Codec{codec}); err == nil {
			able = append(able, codec)
		}
	}
	return able
}

// openMoonlight opens the door for Moonlight clients; nil when it stays closed.
func (h *host) openMoonlight(persons *auth.Store) (*moonlight.Server, error) {
	c := h.cfg.Moonlight
	if !c.Enabled {
		return nil, nil
	}
	identity, err := nvhttp.LoadIdentity(h.cfg.State.Dir)
	if err != nil {
		return nil, err
	}
	codecs := h.moonCodecs()
	if len(codecs) == 0 || codecs[0] != media.H264 {
		h.log.Error("no encoder for H.264: Moonlight clients cannot play")
		return nil, nil
	}
	devices := moonDevices{h, persons}
	door := &moonlight.Server{
		Address: c.Listen, Port: c.Port, Discovery: c.Discovery, Log: h.log, Identity: identity, Codecs: codecs,
		Host:    nvhttp.Host{Name: moonName(c), MAC: hardwareAddress(c.Listen), Codecs: func() []media.Codec { return codecs }},
		Devices: devices, Programs: moonPrograms{h}, Sessions: moonSessions{h, codecs}, Attach: devices.attach,
	}
	if err := door.Listen(); err != nil {
		return nil, fmt.Errorf("%w (moonlight.port chooses other ports, moonlight.enabled = false none)", err)
	}
	h.log.Info("moonlight clients are welcome", "host", door.Host.Name, "port", door.HTTPAddr().Port())
	return door, nil
}

// hardwareAddress is that of the interface with an address, by which a client could
// wake this machine; "" if there is none.
func hardwareAddress(listen string) string {
	all, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 || len(i.HardwareAddr) != 6 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil || len(addrs) == 0 {
			continue
		}
		has := slices.ContainsFunc(addrs, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.String() == listen
		})
		if listen == "" || has {
			return i.HardwareAddr.String()
		}
	}
	return ""
}

// moonName is what this host is called in clients.
func moonName(c config.Moonlight) string {
	if c.Name != "" {
		return c.Name
	}
	name, err := os.Hostname()
	if err != nil {
		return "Fenrir"
	}
	return name
}
