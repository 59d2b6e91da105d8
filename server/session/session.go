// Package session owns lifetimes and rights: what a session is made of, who is
// attached to it, what they may do, and how it ends. It knows no protocol and
// no C, and imports media only.
//
// Nothing that a client can call waits for native code: End and every method of
// Peer but the Next… ones return at once.
package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"fenrir/media"
)

// ID names a session. It is random, never reused, and travels.
type ID string

// NewID makes an ID: "s_" and 26 characters, 130 random bits.
func NewID() ID { return ID("s_" + strings.ToLower(rand.Text())) }

// Request says what to start. All fields are required but Codecs,
// MaxKbps, Layout, Video and Audio.
type Request struct {
	App     media.AppRef
	Owner   media.PersonRef
	Width   int // pixels
	Height  int
	FPS     int
	MaxKbps int           // 0: what the picture can use, at most the house's maximum
	Codecs  []media.Codec // what the first peer is expected to decode; empty: the house's order
	Layout  string
	// Video and Audio are what the first peer is expected to want, as in its
	// media.PeerSpec. What starts is then what it needs, and nothing else.
	Video media.VideoWish
	Audio *media.AudioSpec
}

// Parts are what a session is made of; main provides them.
type Parts struct {
	Desktop Desktop
	Devices Devices
	// Source makes a media source for an encoder. spec blocks until the display is up.
	Source func(e media.Encoder, spec func(context.Context) (media.Spec, error)) Source
	// Lease takes an encoder slot, never blocks, and returns what to call with the
	// source's last error once it is over. Its error is a *media.Cause.
	Lease func(media.Encoder) (release func(last error), err error)
	// Tell is told of what an operator may want to hear. It never blocks. May be nil.
	Tell func(media.Event)
	// Log is the session's; nil: the one that New is given.
	Log *slog.Logger
	// Screenshot reads the display as PNG within 2 s.
	Screenshot func(context.Context, media.Display) ([]byte, error)
}

// Config bounds a session. All durations must be positive.
type Config struct {
	IdleTimeout time.Duration // ends a session that nobody is attached to
	MaxAge      time.Duration
	Linger      time.Duration // how long encoders go on when nobody is attached
	Budget      time.Duration // bound of the teardown
	MaxPeers    int
	MinKbps     int // bounds of the video bitrate
	StartKbps   int
	MaxKbps     int
	Audio       *media.AudioSpec // nil: no audio
}

// Session is a running program with its display, sound and encoders.
type Session struct {
	id       ID
	req      Request
	cfg      Config
	parts    Parts
	encoders Encoders
	log      *slog.Logger
	created  time.Time

	ctx    context.Context // the session's lifetime; its cause says why it ended
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when everything is back, or the budget is over

	inputs *inputs

	displayUp chan struct{} // closed when display is filled

	mu       sync.Mutex // guards what follows; nothing foreign is called while it is held
	tasks    map[string]int
	idle     *sync.Cond // signalled when a task ends; its L is &mu
	failures []error    // what went wrong while ending
	phase    media.Phase
	step     media.Step
	progress float64
	program  media.ProgramState
	running  bool // the program runs
	display  media.Display
	sound    media.Sound
	soundOK  string
	width    int
	height   int
	fps      int
	maxKbps  int
	wished   bool // somebody asked for maxKbps
	layout   string
	rungs    []*rung
	sounds   []*sound // never empty; the first is the house's
	fitTo    [2]int   // the size that a player wished the display last
	fitting  bool     // somebody is about it
	peers    map[string]*Peer
	alone    time.Time // since when nobody is attached
	prompted time.Time // when encoders were last told of a press
	restarts int
	cursor   *media.CursorImage
	move     *media.CursorMove
	watchers map[*mailbox]struct{}
	totals   Totals // of peers that are gone, and of what is nobody's
}

// New makes a session and starts it. parent bounds its life; id comes from NewID.
func New(parent context.Context, id ID, req Request, cfg Config, parts Parts, encoders Encoders, log *slog.Logger) (*Session, error) {
	first := media.PeerSpec{Video: req.Video, Audio: req.Audio}
	if err := settle(&first); err != nil {
		return nil, err
	}
	codecs := req.Codecs
	if len(codecs) == 0 {
		codecs = encoders.Order
	}
	choice, err := encoders.Choose(codecs)
	if err != nil {
		return nil, err
	}
	if parts.Log != nil {
		log = parts.Log
	}
	ctx, cancel := context.WithCancelCause(parent)
	s := &Session{
		id: id, req: req, cfg: cfg, parts: parts, encoders: encoders,
		log: log.With("session", string(id)), created: time.Now(),
		ctx: ctx, cancel: cancel, done: make(chan struct{}),
		inputs:    newInputs(),
		displayUp: make(chan struct{}),
		tasks:     make(map[string]int), phase: media.Starting, step: media.StepDisplay,
		soundOK: "off", width: req.Width, height: req.Height, fps: req.FPS,
		maxKbps: req.MaxKbps, wished: req.MaxKbps > 0, layout: req.Layout,
		peers: make(map[string]*Peer), alone: time.Now(), watchers: make(map[*mailbox]struct{}),
	}
	if s.maxKbps <= 0 || s.maxKbps > cfg.MaxKbps {
		s.maxKbps = cfg.MaxKbps
	}
	if cfg.Audio != nil {
		s.soundOK = "starting"
	}
	s.idle = sync.NewCond(&s.mu)
	s.sounds = []*sound{houseSound(cfg.Audio)}

	a, err := s.soundFor(first.Audio)
	if err != nil {
		cancel(err)
		return nil, err
	}
	s.Go("desktop", s.runDesktop)
	s.Go("devices", s.runDevices)
	s.Go("clock", s.runClock)
	s.mu.Lock()
	s.startRung(choice, first.Video, a, s.cfg.StartKbps) // before the first peer comes: its libraries load while the display starts
	s.mu.Unlock()
	go s.teardown() // ends with the session: this is what closes done
	s.log.Info("session started", "app", req.App.ID, "owner", req.Owner.ID, "width", req.Width, "height", req.Height, "fps", req.FPS)
	s.tell(media.Event{Kind: media.EventSessionStarted})
	return s, nil
}

// ID is the session's id.
func (s *Session) ID() ID { return s.id }

// App is the program that runs in it.
func (s *Session) App() media.AppRef { return s.req.App }

// Owner is who started it.
func (s *Session) Owner() media.PersonRef { return s.req.Owner }

// Go runs f in a goroutine that the session's teardown waits for. f returns soon
// after ctx ends. An error while the session lives ends it: with the
// *media.Cause in its chain, else as desktop-failed. A panic does the same.
func (s *Session) Go(name string, f func(ctx context.Context) error) {
	s.mu.Lock()
	s.tasks[name]++
	s.mu.Unlock()
	s.spawn(name, f)
}

// spawn is Go for a task that is counted already.
func (s *Session) spawn(name string, f func(ctx context.Context) error) {
	go func() {
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			return f(s.ctx)
		}()
		if err != nil && s.ctx.Err() == nil {
			s.log.Error("session task failed", "task", name, "err", err)
			cause := &media.Cause{Code: media.CauseDesktop, Detail: name + " failed"}
			var c *media.Cause
			if errors.As(err, &c) {
				cause = c
			}
			s.End(cause)
		} else if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.Cause(s.ctx)) {
			s.mu.Lock()
			s.failures = append(s.failures, fmt.Errorf("%s: %w", name, err))
			s.mu.Unlock()
		}
		s.mu.Lock()
		if s.tasks[name]--; s.tasks[name] <= 0 {
			delete(s.tasks, name)
		}
		s.idle.Broadcast()
		s.mu.Unlock()
	}()
}

// End ends the session. It never blocks; the first cause wins.
func (s *Session) End(cause *media.Cause) {
	s.mu.Lock()
	first := s.phase == media.Starting || s.phase == media.Running
	if first {
		s.phase = media.Ending
	}
	s.mu.Unlock()
	if !first {
		return
	}
	s.cancel(cause)
	s.log.Info("session ending", "cause", cause.Code, "detail", cause.Detail)
	s.changed()
}

// Done is closed when everything of the session is back, or the budget is over.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives, then its *media.Cause.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// Teardown says, after Done, what went wrong while ending: nil is what it should be.
func (s *Session) Teardown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failures...)
}

// teardown waits for the end and for everything to come back, within the budget.
func (s *Session) teardown() {
	<-s.ctx.Done()
	s.End(asCause(context.Cause(s.ctx))) // the parent's end is an end too
	began := time.Now()
	late := time.AfterFunc(s.cfg.Budget, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for name := range s.tasks {
			s.failures = append(s.failures, fmt.Errorf("%s did not return within %v", name, s.cfg.Budget))
		}
		clear(s.tasks)
		s.idle.Broadcast()
	})
	s.mu.Lock()
	for _, a := range s.sounds {
		a.packets.Close(s.Err()) // it calls nobody
	}
	for len(s.tasks) > 0 {
		s.idle.Wait()
	}
	left := errors.Join(s.failures...)
	peers := make([]*Peer, 0, len(s.peers))
	for _, p := range s.peers {
		peers = append(peers, p)
	}
	s.phase = media.Ended
	s.mu.Unlock()
	late.Stop()
	for _, p := range peers {
		p.Detach(asCause(s.Err()))
	}
	took := time.Since(began)
	if left != nil {
		s.log.Error("session ended with leftovers", "cause", asCause(s.Err()).Code, "took", took, "left", left)
	} else {
		s.log.Info("session ended", "cause", asCause(s.Err()).Code, "took", took, "age", time.Since(s.created).Round(time.Millisecond))
	}
	cause, ev := asCause(s.Err()), media.Event{Kind: media.EventSessionEnded}
	ev.Why, ev.Detail, ev.Output = cause.Code, cause.Detail, cause.Output
	s.tell(ev)
	s.changed()
	close(s.done)
}

func asCause(err error) *media.Cause {
	var c *media.Cause
	if errors.As(err, &c) {
		return c
	}
	return &media.Cause{Code: media.CauseShutdown}
}
