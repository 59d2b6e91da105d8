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
	"slices"
	"strings"
	"sync"
	"time"

	"fenrir/media"
)

// ID names a session. It is random, never reused, and travels.
type ID string

// NewID makes an ID: "s_" and 26 characters, 130 random bits.
func NewID() ID { return ID("s_" + strings.ToLower(rand.Text())) }

// Request says what to start. All fields are required but Codecs, MaxKbps and Layout.
type Request struct {
	App     media.AppRef
	Owner   media.PersonRef
	Width   int // pixels
	Height  int
	FPS     int
	MaxKbps int           // 0: the house's maximum
	Codecs  []media.Codec // what the first peer is expected to decode; empty: the house's order
	Layout  string
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

	audio  *Fanout
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
	layout   string
	rungs    []*rung
	peers    map[string]*Peer
	alone    time.Time // since when nobody is attached
	restarts int
	cursor   *media.CursorImage
	move     *media.CursorMove
	watchers map[*mailbox]struct{}
}

// New makes a session and starts it. parent bounds its life; id comes from NewID.
func New(parent context.Context, id ID, req Request, cfg Config, parts Parts, encoders Encoders, log *slog.Logger) (*Session, error) {
	codecs := req.Codecs
	if len(codecs) == 0 {
		codecs = encoders.Order
	}
	choice, err := encoders.Choose(codecs)
	if err != nil {
		return nil, err
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
		maxKbps: req.MaxKbps, layout: req.Layout,
		peers: make(map[string]*Peer), alone: time.Now(), watchers: make(map[*mailbox]struct{}),
	}
	if s.maxKbps <= 0 || s.maxKbps > cfg.MaxKbps {
		s.maxKbps = cfg.MaxKbps
	}
	if cfg.Audio != nil {
		s.soundOK = "starting"
	}
	s.idle = sync.NewCond(&s.mu)
	s.audio = NewFanout(media.Audio, nil)

	s.Go("desktop", s.runDesktop)
	s.Go("devices", s.runDevices)
	s.Go("clock", s.runClock)
	s.mu.Lock()
	s.startRung(choice) // before the first peer comes: its libraries load while the display starts
	s.mu.Unlock()
	go s.teardown() // ends with the session: this is what closes done
	s.log.Info("session started", "app", req.App.ID, "owner", req.Owner.ID, "width", req.Width, "height", req.Height, "fps", req.FPS)
	return s, nil
}

// ID is the session's id.
func (s *Session) ID() ID { return s.id }

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
	s.audio.Close(s.Err())

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

// runDesktop runs the desktop and takes its news.
func (s *Session) runDesktop(ctx context.Context) error {
	err := s.parts.Desktop.Run(ctx, s.desktopEvent)
	if err == nil && ctx.Err() == nil {
		s.End(&media.Cause{Code: media.CauseAppExited})
	}
	return err
}

// progressOf is how far a start is when a step begins.
var progressOf = map[media.Step]float64{
	media.StepDisplay: 0.05, media.StepSound: 0.25, media.StepProgram: 0.45, media.StepPicture: 0.8,
}

func (s *Session) desktopEvent(ev media.DesktopEvent) {
	switch ev.Kind {
	case media.DesktopStep:
		s.setStep(ev.Step)
	case media.DesktopDisplay:
		s.mu.Lock()
		s.display = ev.Display
		if ev.Display.Width > 0 {
			s.width, s.height = ev.Display.Width, ev.Display.Height
		}
		select {
		case <-s.displayUp:
		default:
			close(s.displayUp)
		}
		s.mu.Unlock()
	case media.DesktopSound:
		s.mu.Lock()
		s.sound = ev.Sound
		s.mu.Unlock()
	case media.DesktopSilent:
		s.soundChanged(false)
	case media.DesktopProgram:
		s.mu.Lock()
		s.program.PID = ev.PID
		s.running = true
		s.mu.Unlock()
		s.setStep(media.StepPicture)
		s.firstFrame()
	case media.DesktopFinished:
		cause := ev.Cause
		if cause == nil {
			cause = &media.Cause{Code: media.CauseAppExited}
		}
		s.End(cause)
	}
}

func (s *Session) setStep(step media.Step) {
	s.mu.Lock()
	if s.phase == media.Starting && progressOf[step] > s.progress {
		s.step, s.progress = step, progressOf[step]
	}
	s.mu.Unlock()
	s.changed()
}

// firstFrame makes the session running once the program runs and a frame of it
// was encoded.
func (s *Session) firstFrame() {
	s.mu.Lock()
	ok := s.phase == media.Starting && s.running && slices.ContainsFunc(s.rungs, func(r *rung) bool { return r.video.Written() > 0 })
	if ok {
		s.phase, s.step, s.progress = media.Running, "", 1
	}
	s.mu.Unlock()
	if ok {
		s.log.Info("session running", "took", time.Since(s.created).Round(time.Millisecond))
	}
	s.changed()
}

// waitDesktop blocks until the display is up; the sound server may follow later.
func (s *Session) waitDesktop(ctx context.Context) (media.Display, media.Sound, error) {
	select {
	case <-s.displayUp:
	case <-ctx.Done():
		return media.Display{}, media.Sound{}, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.display, s.sound, nil
}

// runDevices feeds the input devices and takes the cursor's news. Devices that
// fail are tried again: a hung display ends the session through the desktop.
func (s *Session) runDevices(ctx context.Context) error {
	display, _, err := s.waitDesktop(ctx)
	if err != nil {
		return nil // ended before there was a display
	}
	in := make(chan media.Input)
	feeding := make(chan struct{})
	feed, stop := context.WithCancel(ctx)
	go func() { // waited for below
		defer close(feeding)
		for {
			ev, err := s.inputs.next(feed)
			if err != nil {
				return
			}
			select {
			case in <- ev:
			case <-feed.Done():
				return
			}
		}
	}()
	defer func() { stop(); <-feeding }()
	for {
		err := s.parts.Devices.Run(ctx, display, in, s.deviceNote)
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn("input devices lost, trying again", "err", err)
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Session) deviceNote(n media.Note) {
	s.mu.Lock()
	if n.Cursor != nil {
		s.cursor = n.Cursor
	}
	if n.Move != nil {
		s.move = n.Move
	}
	boxes := s.boxes()
	s.mu.Unlock()
	for _, b := range boxes {
		b.put(n)
	}
}

// boxes are the mailboxes of all peers. Called with mu held.
func (s *Session) boxes() []*mailbox {
	out := make([]*mailbox, 0, len(s.peers)+len(s.watchers))
	for _, p := range s.peers {
		out = append(out, p.box)
	}
	return out
}

// changed tells everyone who watches what the session looks like now.
func (s *Session) changed() {
	state := s.State()
	s.mu.Lock()
	boxes := s.boxes()
	for w := range s.watchers {
		boxes = append(boxes, w)
	}
	s.mu.Unlock()
	for _, b := range boxes {
		b.put(media.Note{State: &state})
	}
}

func (s *Session) soundChanged(ok bool) {
	now := "lost"
	if ok {
		now = "ok"
	}
	s.mu.Lock()
	same := s.soundOK == now || (s.soundOK == "starting" && !ok)
	if !same {
		s.soundOK = now
	}
	s.mu.Unlock()
	if !same {
		s.log.Info("sound", "state", now)
		s.changed()
	}
}

func (s *Session) resized(width, height int) {
	s.mu.Lock()
	same := s.width == width && s.height == height
	s.width, s.height = width, height
	s.mu.Unlock()
	if !same {
		s.changed()
	}
}

func (s *Session) workerDied(r *rung, err error, lived time.Duration, frames uint64) {
	s.mu.Lock()
	s.restarts++
	s.mu.Unlock()
	s.log.Warn("media worker died, starting another", "encoder", r.choice.Encoder.Name, "err", err, "lived", lived.Round(time.Millisecond), "frames", frames)
	s.changed()
}

// startRung adds an encoder. Called with mu held.
func (s *Session) startRung(choice Choice) *rung {
	audio := s.cfg.Audio != nil
	for _, r := range s.rungs {
		audio = audio && (!r.audio || r.resting)
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	r := &rung{
		s: s, choice: choice, audio: audio, cancel: cancel,
		orders: make(chan media.Order, 32),
		kbps:   min(s.cfg.StartKbps, s.maxKbps), fps: s.fps,
		unwatched: time.Now(),
	}
	r.video = NewFanout(media.Video, r.askKey)
	s.rungs = append(s.rungs, r)
	name := "encoder " + choice.Encoder.Name
	s.tasks[name]++
	s.spawn(name, func(context.Context) error {
		defer cancel(nil)
		err := r.run(ctx)
		stopped := ctx.Err() != nil
		s.dropRung(r, err)
		if stopped {
			return err // what is left, if anything
		}
		// For good: with nobody left who could be served, the session is over.
		s.mu.Lock()
		last := len(s.rungs) == 0
		s.mu.Unlock()
		if last {
			return err
		}
		s.log.Error("encoder given up", "encoder", choice.Encoder.Name, "err", err)
		return nil
	})
	return r
}

// dropRung forgets r and sends its readers away with the reason.
func (s *Session) dropRung(r *rung, err error) {
	s.mu.Lock()
	s.rungs = slices.DeleteFunc(s.rungs, func(x *rung) bool { return x == r })
	var gone []*Peer
	for _, p := range s.peers {
		if p.rung == r {
			gone = append(gone, p)
		}
	}
	s.mu.Unlock()
	if err == nil {
		if err = s.Err(); err == nil {
			err = errUnwatched
		}
	}
	r.video.Close(err)
	for _, p := range gone {
		p.Detach(asCause(err))
	}
	s.changed()
}

// runClock ends the session when it is idle or old, and encoders that nobody
// watches.
func (s *Session) runClock(ctx context.Context) error {
	tick := time.NewTicker(min(time.Second, s.cfg.IdleTimeout/4+time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		s.mu.Lock()
		nobody := len(s.peers) == 0
		alone := now.Sub(s.alone)
		var stop []*rung
		for _, r := range s.rungs {
			if s.phase == media.Starting || r.resting || r.video.Readers() > 0 {
				continue // while starting, the picture is what the start waits for
			}
			if nobody && alone >= s.cfg.Linger || !nobody && !r.audio && now.Sub(r.unwatched) >= s.cfg.Linger {
				r.resting = true
				stop = append(stop, r)
			}
		}
		s.mu.Unlock()
		s.steer()
		for _, r := range stop {
			s.log.Info("encoder rests, nobody watches", "encoder", r.choice.Encoder.Name)
			r.cancel(errUnwatched)
		}
		switch {
		case nobody && alone >= s.cfg.IdleTimeout:
			s.End(media.NewCause(media.CauseIdle, "nobody was attached for %v", s.cfg.IdleTimeout))
		case now.Sub(s.created) >= s.cfg.MaxAge:
			s.End(media.NewCause(media.CauseMaxAge, "the session reached its maximum age of %v", s.cfg.MaxAge))
		}
	}
}

var errUnwatched = errors.New("nobody watches")

// State is a snapshot.
func (s *Session) State() media.SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := media.SessionState{
		ID: string(s.id), App: s.req.App, Owner: s.req.Owner,
		Phase: s.phase, Step: s.step, Progress: s.progress,
		Width: s.width, Height: s.height, FPS: s.fps, MaxKbps: s.maxKbps, Layout: s.layout,
		Video: []media.VideoState{}, Audio: s.soundOK, Program: s.program,
		Peers: []media.PeerState{}, Restarts: s.restarts, Created: s.created,
	}
	if s.phase == media.Ending || s.phase == media.Ended {
		st.Cause = asCause(context.Cause(s.ctx))
	} else {
		ends := s.created.Add(s.cfg.MaxAge)
		st.EndsAt = &ends
		if len(s.peers) == 0 {
			idle := s.alone.Add(s.cfg.IdleTimeout)
			st.IdleAt = &idle
		}
	}
	for _, r := range s.rungs {
		st.Video = append(st.Video, r.state())
	}
	for _, p := range s.peers {
		st.Peers = append(st.Peers, p.state())
	}
	slices.SortFunc(st.Peers, func(a, b media.PeerState) int { return a.Since.Compare(b.Since) })
	return st
}

// Watch returns a function that blocks for the next state of the session, from
// the present one on, newest only, until its ctx ends or the session is over
// (io.EOF semantics: the last state has phase ended, then the session's cause).
// stop must be called.
func (s *Session) Watch() (next func(context.Context) (media.SessionState, error), stop func()) {
	box := newMailbox()
	s.mu.Lock()
	s.watchers[box] = struct{}{}
	s.mu.Unlock()
	state := s.State()
	box.put(media.Note{State: &state})
	ended := false
	next = func(ctx context.Context) (media.SessionState, error) {
		if ended {
			return media.SessionState{}, s.Err()
		}
		n, err := box.next(ctx, ctx)
		if err != nil {
			return media.SessionState{}, err
		}
		ended = n.State.Phase == media.Ended
		return *n.State, nil
	}
	return next, func() {
		s.mu.Lock()
		delete(s.watchers, box)
		s.mu.Unlock()
	}
}

// Change is what may be changed of a living session; nil fields stay.
type Change struct {
	Width, Height *int // both or none
	FPS           *int
	MaxKbps       *int
	Layout        *string
}

// Change applies c. The size and the layout follow when the display has taken
// them, which this waits for until ctx ends or 3 s are over.
func (s *Session) Change(ctx context.Context, c Change) error {
	s.mu.Lock()
	if c.FPS != nil {
		s.fps = *c.FPS
		for _, r := range s.rungs {
			if r.video.Readers() > 0 {
				r.setFPS(s.fps)
			}
		}
	}
	if c.MaxKbps != nil {
		s.maxKbps = max(min(*c.MaxKbps, s.cfg.MaxKbps), s.cfg.MinKbps)
	}
	width, height, layout := s.width, s.height, s.layout
	s.mu.Unlock()
	s.steer()
	defer s.changed()

	resize := c.Width != nil && c.Height != nil && (*c.Width != width || *c.Height != height)
	relayout := c.Layout != nil && *c.Layout != layout
	if !resize && !relayout {
		return nil
	}
	result := make(chan error, 1)
	s.Go("change", func(life context.Context) error {
		ctx, cancel := context.WithTimeout(life, 3*time.Second)
		defer cancel()
		result <- s.changeDisplay(ctx, c, resize, relayout)
		return nil
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.ctx.Done():
		return s.Err()
	}
}

func (s *Session) changeDisplay(ctx context.Context, c Change, resize, relayout bool) error {
	display, _, err := s.waitDesktop(ctx)
	if err != nil {
		return err
	}
	if resize {
		if err := s.parts.Devices.Resize(ctx, display, *c.Width, *c.Height); err != nil {
			return fmt.Errorf("resize the display: %w", err)
		}
		s.mu.Lock()
		s.width, s.height = *c.Width, *c.Height
		s.mu.Unlock()
	}
	if relayout {
		if err := s.parts.Devices.SetLayout(ctx, display, *c.Layout); err != nil {
			return fmt.Errorf("set the keyboard layout: %w", err)
		}
		s.mu.Lock()
		s.layout = *c.Layout
		s.mu.Unlock()
	}
	return nil
}

// Screenshot is the display as PNG, within 2 s.
func (s *Session) Screenshot(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	display, _, err := s.waitDesktop(ctx)
	if err != nil {
		return nil, err
	}
	return s.parts.Screenshot(ctx, display)
}
