package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"fenrir/gpu"
	"fenrir/media"
	"fenrir/media/desktop"
	"fenrir/media/desktop/quota"
	"fenrir/media/input"
	"fenrir/media/screen"
	"fenrir/media/worker"
	"fenrir/server/api/metrics"
	"fenrir/server/blackbox"
	"fenrir/server/canary"
	"fenrir/server/catalog"
	"fenrir/server/config"
	"fenrir/server/events"
	"fenrir/server/journal"
	"fenrir/server/session"
)

// host knows how sessions are made on this machine: which programs, processes
// and encoders stand behind one.
type host struct {
	cfg      config.Config
	log      *slog.Logger
	programs *catalog.Catalog
	registry *session.Registry
	slots    *gpu.Slots
	gpus     atomic.Pointer[gpu.Report] // the newest inventory
	encoders session.Encoders           // what the probe found; set before the first request
	guests   guests
	roots    quota.Roots   // where sessions get control groups
	books    journal.Books // what was logged about each session
	hub      events.Hub    // what happens, for admins and metrics
	box      *blackbox.Box // stacks and last words
	canary   canary.Canary // whether a frame can be encoded
	barren   atomic.Int64  // when a media worker last died without a frame, Unix nanoseconds
	orphans  atomic.Int64  // things without an owner, at the last look
	unreaped []int         // media workers that survived SIGKILL, at the last look; the looker's own
	latency  *metrics.Latency
	life     context.Context // of the server: sessions live below it
}

// linger is how long encoders run on when the last peer has left: a reload
// finds them warm.
const linger = 30 * time.Second

// teardownBudget bounds the end of a session (ARCHITECTURE, "Who owns and closes what").
const teardownBudget = 5 * time.Second

func (h *host) sessionConfig() session.Config {
	c := session.Config{
		IdleTimeout: h.cfg.Sessions.IdleTimeout.Std(),
		MaxAge:      h.cfg.Sessions.MaxAge.Std(),
		Linger:      linger,
		Budget:      teardownBudget,
		MaxPeers:    h.cfg.Sessions.MaxPeers,
		MinKbps:     h.cfg.Video.MinKbps,
		StartKbps:   h.cfg.Video.StartKbps,
		MaxKbps:     h.cfg.Video.MaxKbps,
	}
	if h.cfg.Audio.Enabled {
		c.Audio = &media.AudioSpec{Kbps: h.cfg.Audio.Kbps, FrameMs: h.cfg.Audio.FrameMs}
	}
	return c
}

// start makes a session of an app. The errors are *media.Cause.
func (h *host) start(app catalog.App, req session.Request) (*session.Session, error) {
	return h.registry.Create(h.life, req, func(id session.ID) (session.Parts, error) {
		journal := h.books.Open(string(id), h.log)
		log := journal.With("session", string(id))
		home := app.Home
		if home == "" {
			home = catalog.HomeFor(h.cfg.Sessions.HomesDir, req.Owner.ID, app.ID)
		}
		spec := media.DesktopSpec{
			Session: string(id),
			Kind:    media.DisplayKind(h.cfg.Display.Kind),
			Width:   req.Width,
			Height:  req.Height,
			Layout:  req.Layout,
			Runtime: filepath.Join(h.cfg.State.RuntimeDir, string(id)),
			Home:    home,
			Program: app.Program,
			Limits:  h.limits(),
		}
		if req.Audio != nil {
			spec.Channels = req.Audio.Channels
		}
		if spec.Kind == media.DisplayExternal {
			spec.External = media.Display{Name: h.cfg.Display.External, Authority: h.cfg.Display.ExternalAuthority}
		}
		return session.Parts{
			Desktop: &desktop.Desktop{Exe: self, Args: []string{"desktop"}, Spec: spec, Roots: h.roots, Log: log},
			Devices: &input.Devices{Log: log},
			Source: func(_ media.Encoder, spec func(context.Context) (media.Spec, error)) session.Source {
				return source{&worker.Process{
					Exe: self, Args: workerArgs(app.ID), Spec: spec, Log: log,
					Stacks: func(text string) { h.keepStacks(log, id, text) },
				}, log, h.latency}
			},
			Lease:      h.lease,
			Tell:       h.tell,
			Log:        journal,
			Screenshot: screen.Screenshot,
		}, nil
	})
}

// limits are what one session may take.
func (h *host) limits() media.Limits {
	l := media.Limits{
		Tasks: h.cfg.Limits.Tasks, MemoryMiB: h.cfg.Limits.MemoryMiB,
		Files: h.cfg.Limits.OpenFiles, CPUWeight: h.cfg.Limits.CPUWeight,
	}
	if l.MemoryMiB == 0 {
		l.MemoryMiB = quota.MachineMiB() * 3 / 4
	}
	return l
}

// tell passes on what happens to a session.
func (h *host) tell(ev media.Event) {
	if ev.Kind == media.EventSessionEnded {
		h.books.End(ev.Session)
	}
	if ev.Kind == media.EventWorkerRestarted && ev.Frames == 0 {
		h.barren.Store(ev.At.UnixNano())
	}
	h.hub.Publish(ev)
}

// keepStacks saves what a hung media worker was doing.
func (h *host) keepStacks(log *slog.Logger, id session.ID, text string) {
	path, err := h.box.Save("worker", "media worker of session "+string(id)+"\n\n"+text)
	if err != nil {
		log.Error("what the media worker was doing could not be kept", "err", err)
		return
	}
	log.Warn("what the media worker was doing is kept", "file", path)
}

// source is a media worker as a session sees it.
type source struct {
	*worker.Process
	log     *slog.Logger
	latency *metrics.Latency
}

// Run implements session.Source. A worker that had to be killed when it was told
// to end, and is reaped, left nothing behind: that is told, and is no error.
func (s source) Run(ctx context.Context, orders <-chan media.Order, sink media.Sink) error {
	err := s.Process.Run(ctx, orders, s.latency.Watch(sink))
	if ctx.Err() != nil && errors.Is(err, worker.ErrKilled) && !errors.Is(err, worker.ErrUnreaped) {
		s.log.Warn("media worker did not end when told to", "err", err)
		return nil
	}
	return err
}

// lease takes an encoder slot of an NVIDIA GPU; other encoders need none.
func (h *host) lease(e media.Encoder) (func(error), error) {
	if e.GPU == "" {
		return func(error) {}, nil
	}
	lease, err := h.slots.Acquire(e.GPU)
	if err != nil {
		return nil, &media.Cause{Code: media.CauseNoSlot, Detail: err.Error()}
	}
	return func(last error) {
		if errors.Is(last, worker.ErrUnreaped) {
			lease.Quarantine(last.Error())
			return
		}
		lease.Release()
	}, nil
}

// newest is the person's session that began last and is not ending, nil for none.
func (h *host) newest(person media.PersonRef) *session.Session {
	all := h.registry.All()
	for i := len(all) - 1; i >= 0; i-- {
		if s := all[i]; s.Owner().ID == person.ID && s.Err() == nil {
			return s
		}
	}
	return nil
}
