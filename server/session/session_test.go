package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeDesktop is up at once and lives until its context ends, or as run says.
type fakeDesktop struct {
	run func(ctx context.Context, on func(media.DesktopEvent)) error
}

func (d fakeDesktop) Run(ctx context.Context, on func(media.DesktopEvent)) error {
	if d.run != nil {
		return d.run(ctx, on)
	}
	up(on)
	<-ctx.Done()
	return nil
}

func up(on func(media.DesktopEvent)) {
	on(media.DesktopEvent{Kind: media.DesktopStep, Step: media.StepDisplay})
	on(media.DesktopEvent{Kind: media.DesktopDisplay, Display: media.Display{Name: ":9", Width: 1280, Height: 720}, Sound: media.Sound{Server: "unix:/somewhere"}})
	on(media.DesktopEvent{Kind: media.DesktopStep, Step: media.StepProgram})
	on(media.DesktopEvent{Kind: media.DesktopProgram, PID: 4711})
}

// fakeSource emits a key frame for each key-frame order and one at its start,
// and remembers the orders.
type fakeSource struct {
	enc  media.Encoder
	spec func(context.Context) (media.Spec, error)
	host *fakeHost
	run  func(ctx context.Context, n int, orders <-chan media.Order, sink media.Sink) error
}

func (f *fakeSource) Run(ctx context.Context, orders <-chan media.Order, sink media.Sink) error {
	n := f.host.life()
	if f.run != nil {
		return f.run(ctx, n, orders, sink)
	}
	spec, err := f.spec(ctx)
	if err != nil {
		return nil
	}
	f.host.started(spec)
	sink.Report(media.Report{Kind: media.ReportReady, Element: "fakeenc"})
	frame := uint32(0)
	emit := func(key bool) {
		if spec.Audio != nil {
			sink.Unit(media.Unit{Kind: media.Audio, Codec: media.Opus, Key: true, Frame: frame, Data: []byte{byte(spec.Audio.FrameMs)}})
		}
		if spec.Video == nil {
			frame++
			return
		}
		sink.Unit(media.Unit{Kind: media.Video, Codec: f.enc.Codec, Key: key, Frame: frame, Data: []byte{byte(frame)}})
		frame++
	}
	emit(true)
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-orders:
			f.host.ordered(o)
			if o.Kind == media.OrderKeyFrame {
				emit(true)
			}
		case <-f.host.tick:
			emit(false)
		}
	}
}

// fakeHost makes parts and records what happens to them.
type fakeHost struct {
	desktop fakeDesktop
	source  func(ctx context.Context, n int, orders <-chan media.Order, sink media.Sink) error
	tick    chan struct{}

	mu       sync.Mutex
	lives    int
	specs    []media.Spec
	orders   []media.Order
	inputs   []media.Input
	released []error
	sizes    [][2]int // that the display was told to have
	noSize   error    // what it says to that
}

func (h *fakeHost) life() int { h.mu.Lock(); defer h.mu.Unlock(); h.lives++; return h.lives }
func (h *fakeHost) started(s media.Spec) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.specs = append(h.specs, s)
}
func (h *fakeHost) ordered(o media.Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orders = append(h.orders, o)
}

func (h *fakeHost) count(kind media.OrderKind) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.orders {
		if o.Kind == kind {
			n++
		}
	}
	return n
}

func (h *fakeHost) Run(ctx context.Context, _ media.Display, in <-chan media.Input, note func(media.Note)) error {
	note(media.Note{Cursor: &media.CursorImage{Serial: 1, Width: 8, Height: 8}})
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-in:
			h.mu.Lock()
			h.inputs = append(h.inputs, ev)
			h.mu.Unlock()
			if ev.Number != 0 {
				note(media.Note{Injected: &media.Injection{Peer: ev.Peer, Number: ev.Number, Received: ev.Received, Injected: ev.Received + 1}})
			}
		}
	}
}
func (h *fakeHost) Resize(_ context.Context, _ media.Display, width, height int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sizes = append(h.sizes, [2]int{width, height})
	return h.noSize
}
func (h *fakeHost) SetLayout(context.Context, media.Display, string) error { return nil }

func (h *fakeHost) taken() []media.Input {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]media.Input(nil), h.inputs...)
}

func (h *fakeHost) parts() Parts {
	return Parts{
		Desktop: h.desktop,
		Devices: h,
		Source: func(e media.Encoder, spec func(context.Context) (media.Spec, error)) Source {
			return &fakeSource{enc: e, spec: spec, host: h, run: h.source}
		},
		Lease: func(media.Encoder) (func(error), error) {
			return func(err error) {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.released = append(h.released, err)
			}, nil
		},
		Screenshot: func(context.Context, media.Display) ([]byte, error) { return []byte("png"), nil },
	}
}

var testEncoders = Encoders{
	Found: []media.Encoder{
		{Name: "nvenc-h264", Family: "nvenc", Codec: media.H264, Hardware: true, Reason: "no NVIDIA driver"},
		{Name: "x264", Family: "software", Codec: media.H264, Works: true},
		{Name: "vp8", Family: "software", Codec: media.VP8, Works: true},
	},
	Want: "auto", Order: []media.Codec{media.H264, media.VP8},
}

func testConfig() Config {
	return Config{
		IdleTimeout: 5 * time.Minute, MaxAge: 12 * time.Hour, Linger: 10 * time.Second, Budget: 5 * time.Second,
		MaxPeers: 8, MinKbps: 500, StartKbps: 8000, MaxKbps: 20000,
		Audio: &media.AudioSpec{Kbps: 96, FrameMs: 10},
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func start(t *testing.T, h *fakeHost, cfg Config) *Session {
	t.Helper()
	s, err := New(t.Context(), NewID(), Request{
		App: media.AppRef{ID: "playground"}, Owner: media.PersonRef{ID: "u1"},
		Width: 1280, Height: 720, FPS: 60, Layout: "us",
	}, cfg, h.parts(), testEncoders, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func attach(t *testing.T, s *Session, id string, codecs ...media.Codec) *Peer {
	t.Helper()
	if len(codecs) == 0 {
		codecs = []media.Codec{media.H264, media.VP8}
	}
	p, err := s.Attach(media.PeerSpec{ID: id, Person: media.PersonRef{ID: "u1"}, Codecs: codecs}, Full)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func over(t *testing.T, s *Session) {
	t.Helper()
	s.End(&media.Cause{Code: media.CauseUser})
	<-s.Done()
	if err := s.Teardown(); err != nil {
		t.Errorf("teardown: %v", err)
	}
}

func TestStartRunsThroughItsSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		st := s.State()
		if st.Phase != media.Running || st.Program.PID != 4711 || st.Progress != 1 {
			t.Errorf("state = %+v, want running with pid 4711", st)
		}
		if len(st.Video) != 1 || st.Video[0].Encoder != "x264" || !strings.Contains(st.Video[0].Reason, "no NVIDIA driver") {
			t.Errorf("video = %+v, want x264 with the reason why not nvenc", st.Video)
		}
		if len(h.specs) != 1 || h.specs[0].Sound.Server != "unix:/somewhere" {
			t.Errorf("the worker was told %+v, want the address of a sound server that is not up yet", h.specs)
		}
		over(t, s)
		if got := s.State(); got.Phase != media.Ended || got.Cause.Code != media.CauseUser {
			t.Errorf("after the end: %+v", got)
		}
		if len(h.released) != 1 || h.released[0] != nil {
			t.Errorf("encoder slot releases = %v, want one without error", h.released)
		}
	})
}

func TestNewReaderStartsWithKeyFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{tick: make(chan struct{})}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		h.tick <- struct{}{}
		u, err := p.NextVideo(t.Context())
		if err != nil || !u.Key {
			t.Fatalf("first unit: key %v, err %v, want a key frame", u.Key, err)
		}
		over(t, s)
		for err == nil { // what was queued
			_, err = p.NextVideo(t.Context())
		}
		if !errors.Is(err, &media.Cause{Code: media.CauseUser}) {
			t.Errorf("after the end: %v, want the session's cause", err)
		}
	})
}

func TestKeyFrameRequestsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		synctest.Wait()
		for range 1000 {
			p.RequestKeyFrame()
		}
		time.Sleep(2 * time.Second) // virtual
		synctest.Wait()
		if got := h.count(media.OrderKeyFrame); got != 2 {
			t.Errorf("key frames ordered = %d, want 2: the join and one for all requests", got)
		}
		over(t, s)
	})
}

func TestNothingWaitsLongerThanATenthOfASecond(t *testing.T) {
	for _, kind := range []media.Kind{media.Video, media.Audio} {
		asked := 0
		f := NewFanout(kind, func() { asked++ })
		r := f.NewReader()
		asked = 0
		at := media.Stamp(1e12)
		for i := range 100 {
			f.Write(media.Unit{Kind: kind, Key: i == 0, Frame: uint32(i), Stages: media.Stages{Received: at}})
			if n := len(r.queue); n > 0 && at.Sub(r.queue[0].Stages.Received) > maxWaiting {
				t.Fatalf("%v waits for %v", kind, at.Sub(r.queue[0].Stages.Received))
			}
			at = at.Add(10 * time.Millisecond)
		}
		if kind == media.Video && (asked != 1 || len(r.queue) != 0) {
			t.Errorf("a reader that fell behind: %d key frames asked for, %d units wait", asked, len(r.queue))
		}
		if kind == media.Audio && (len(r.queue) != 11 || r.queue[10].Frame != 99) {
			t.Errorf("%d packets of sound wait", len(r.queue))
		}
		if r.Dropped() < 80 {
			t.Errorf("%v: %d dropped", kind, r.Dropped())
		}
	}
}

func TestSlowReaderDoesNotDisturbOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{tick: make(chan struct{})}
		s := start(t, h, testConfig())
		synctest.Wait()
		slow, fast := attach(t, s, "slow-tab-1"), attach(t, s, "fast-tab-1")
		got := 0
		for i := range 200 {
			if i > 0 {
				h.tick <- struct{}{}
			}
			synctest.Wait()
			if _, err := fast.NextVideo(t.Context()); err != nil {
				t.Fatal(err)
			}
			got++
		}
		if fast.video.Dropped() != 0 || got != 200 {
			t.Errorf("fast reader got %d and lost %d, want 200 and 0", got, fast.video.Dropped())
		}
		u, err := slow.NextVideo(t.Context())
		if err != nil || !u.Key || slow.video.Dropped() == 0 {
			t.Errorf("slow reader: key %v, lost %d, err %v; want a key frame after losses", u.Key, slow.video.Dropped(), err)
		}
		over(t, s)
	})
}

func TestWorkerDeathLeavesTheProgramAndThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		die := make(chan struct{})
		h.source = func(ctx context.Context, n int, orders <-chan media.Order, sink media.Sink) error {
			sink.Unit(media.Unit{Kind: media.Video, Key: true, Frame: 0, Data: []byte{byte(n)}})
			select {
			case <-ctx.Done():
				return nil
			case <-die:
				return errors.New("killed")
			}
		}
		s := start(t, h, testConfig())
		p := attach(t, s, "tab-one-1")
		synctest.Wait()
		for i := range 5 {
			die <- struct{}{}
			synctest.Wait()
			time.Sleep(time.Second) // virtual
			u, err := p.NextVideo(t.Context())
			if err != nil || !u.Key {
				t.Fatalf("after death %d: key %v, err %v", i+1, u.Key, err)
			}
		}
		if st := s.State(); st.Phase != media.Running || st.Program.PID != 4711 || st.Restarts != 5 {
			t.Errorf("state = %+v, want running, same program, 5 restarts", st)
		}
		over(t, s)
	})
}

func TestBarrenWorkersEndTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		h.source = func(context.Context, int, <-chan media.Order, media.Sink) error { return errors.New("segfault") }
		s := start(t, h, testConfig())
		<-s.Done()
		if !errors.Is(s.Err(), &media.Cause{Code: media.CauseMedia}) || !strings.Contains(s.Err().Error(), "segfault") {
			t.Errorf("cause = %v, want media-failed with the last error", s.Err())
		}
		if h.lives != breakerLives {
			t.Errorf("worker lives = %d, want %d", h.lives, breakerLives)
		}
	})
}

func TestHungTaskIsNamedAndDoesNotHoldTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		stuck := make(chan struct{})
		h.desktop.run = func(ctx context.Context, on func(media.DesktopEvent)) error {
			up(on)
			<-stuck // ignores its context
			return nil
		}
		s := start(t, h, testConfig())
		synctest.Wait()
		began := time.Now()
		s.End(&media.Cause{Code: media.CauseUser})
		<-s.Done()
		if took := time.Since(began); took > testConfig().Budget {
			t.Errorf("done after %v, want at most %v", took, testConfig().Budget)
		}
		if err := s.Teardown(); err == nil || !strings.Contains(err.Error(), "desktop") {
			t.Errorf("teardown = %v, want the desktop named", err)
		}
		close(stuck)
		synctest.Wait()
	})
}

func TestFirstCauseWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeHost{}, testConfig())
		s.End(&media.Cause{Code: media.CauseIdle})
		s.End(&media.Cause{Code: media.CauseUser})
		<-s.Done()
		if !errors.Is(s.Err(), &media.Cause{Code: media.CauseIdle}) {
			t.Errorf("cause = %v, want idle", s.Err())
		}
	})
}

func TestIdleSessionEndsAndAnAttachedOneDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		time.Sleep(time.Hour) // virtual
		if s.Err() != nil {
			t.Fatalf("ended with a peer attached: %v", s.Err())
		}
		p.Detach(&media.Cause{Code: media.CauseLeft})
		began := time.Now()
		<-s.Done()
		if !errors.Is(s.Err(), &media.Cause{Code: media.CauseIdle}) {
			t.Errorf("cause = %v, want idle", s.Err())
		}
		if took := time.Since(began); took < 5*time.Minute || took > 5*time.Minute+2*time.Second {
			t.Errorf("ended %v after the last peer left, want 5m", took)
		}
	})
}

func TestEncoderRestsWhenNobodyWatchesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		synctest.Wait()
		p.Detach(&media.Cause{Code: media.CauseLeft})
		time.Sleep(12 * time.Second) // virtual
		synctest.Wait()
		if v := s.State().Video; len(v) != 0 {
			t.Fatalf("encoders after the linger = %+v, want none", v)
		}
		p = attach(t, s, "tab-one-1")
		if u, err := p.NextVideo(t.Context()); err != nil || !u.Key {
			t.Errorf("after the rest: key %v, err %v", u.Key, err)
		}
		if n := len(h.specs); n != 2 || h.specs[1].Audio == nil {
			t.Errorf("second worker life: %d specs, audio %v; want audio with it", n, h.specs[n-1].Audio)
		}
		over(t, s)
	})
}

func TestPeersShareOneEncoderAndGetAnotherOnlyWhenTheyMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		a := attach(t, s, "tab-aaaa")
		b := attach(t, s, "tab-bbbb", media.VP8, media.H264)
		if a.rung != b.rung {
			t.Error("two peers that decode one codec have two encoders")
		}
		c := attach(t, s, "tab-cccc", media.VP8)
		if c.rung == a.rung || c.Codec() != media.VP8 {
			t.Errorf("a VP8-only peer got %s", c.Codec())
		}
		if u, err := c.NextVideo(t.Context()); err != nil || u.Codec != media.VP8 {
			t.Errorf("unit %v %v", u.Codec, err)
		}
		if c.rung.sound != nil {
			t.Error("the second encoder records the sound as well")
		}
		if _, err := s.Attach(media.PeerSpec{ID: "tab-dddd", Codecs: []media.Codec{media.AV1}}, Full); !errors.Is(err, &media.Cause{Code: media.CauseNoEncoder}) {
			t.Errorf("AV1-only peer: %v, want no-encoder", err)
		}
		synctest.Wait()
		over(t, s)
	})
}

func TestInputIsCheckedAgainstTheGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		viewer, err := s.Attach(media.PeerSpec{ID: "viewer-1", Person: media.PersonRef{ID: "u1"}, Codecs: []media.Codec{media.H264}, ViewOnly: true}, Full)
		if err != nil {
			t.Fatal(err)
		}
		for kind := media.KeyDown; kind <= media.PadBattery; kind++ {
			viewer.Input(media.Input{Kind: kind, Key: 0x41, Button: 1})
		}
		synctest.Wait()
		if got := h.taken(); len(got) != 0 {
			t.Errorf("a viewer's inputs reached the devices: %+v", got)
		}
		if viewer.denied.Load() == 0 {
			t.Error("denied inputs are not counted")
		}
		over(t, s)
	})
}

// injections are the notes of that sort that wait for p.
func injections(t *testing.T, p *Peer) (numbers []uint32) {
	t.Helper()
	synctest.Wait()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // virtual
		n, err := p.NextNote(ctx)
		cancel()
		if err != nil {
			return numbers
		}
		if n.Injected != nil {
			numbers = append(numbers, n.Injected.Number)
			if n.Injected.Peer != p.ID() || n.Injected.Injected != n.Injected.Received+1 {
				t.Errorf("%s is told %+v", p.ID(), n.Injected)
			}
		}
	}
}

func TestInjectionsAreToldToWhoseTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeHost{}, testConfig())
		synctest.Wait()
		a, b := attach(t, s, "player-1"), attach(t, s, "player-2")
		a.Input(media.Input{Kind: media.KeyDown, Key: 0x41, Number: 1, Received: 10})
		b.Input(media.Input{Kind: media.ButtonDown, Button: 1, Number: 7, Received: 11})
		a.Input(media.Input{Kind: media.KeyDown, Key: 0x41, Number: 2, Received: 12}) // is down already: nothing happens
		a.Input(media.Input{Kind: media.ScrollV, DY: 120, Received: 13})              // nobody asks
		a.Input(media.Input{Kind: media.KeyUp, Key: 0x41, Number: 3, Received: 14})
		if got := injections(t, a); !slices.Equal(got, []uint32{1, 3}) {
			t.Errorf("the first player is told of %v, want 1 and 3", got)
		}
		if got := injections(t, b); !slices.Equal(got, []uint32{7}) {
			t.Errorf("the second player is told of %v, want 7", got)
		}
		// Who does not read is told of the newest few in the end.
		for i := range uint32(3 * maxInjections) {
			a.Input(media.Input{Kind: media.ScrollV, DY: 120, Number: 100 + i, Received: 15})
		}
		if got := injections(t, a); len(got) != maxInjections || got[len(got)-1] != 99+3*maxInjections {
			t.Errorf("a slow player is told of %d, the last %v", len(got), got)
		}
		over(t, s)
	})
}

func TestWhatAPeerHoldsIsReleasedWhenItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		a, b := attach(t, s, "tab-aaaa"), attach(t, s, "tab-bbbb")
		a.Input(media.Input{Kind: media.KeyDown, Key: 'A'})
		a.Input(media.Input{Kind: media.KeyDown, Key: 'A'}) // auto-repeat
		a.Input(media.Input{Kind: media.KeyDown, Key: 'W'})
		a.Input(media.Input{Kind: media.ButtonDown, Button: 1})
		b.Input(media.Input{Kind: media.KeyDown, Key: 'W'})
		b.Input(media.Input{Kind: media.KeyUp, Key: 'Q'}) // never held
		a.Detach(&media.Cause{Code: media.CauseLost})
		a.Input(media.Input{Kind: media.KeyDown, Key: 'Z'}) // gone
		synctest.Wait()
		ups := map[uint16]int{}
		buttons := 0
		for _, in := range h.taken() {
			switch in.Kind {
			case media.KeyUp:
				ups[in.Key]++
			case media.ButtonUp:
				buttons++
			case media.KeyDown:
				if in.Key == 'Z' {
					t.Error("a peer that is gone still types")
				}
			}
		}
		if ups['A'] != 1 || ups['W'] != 0 || ups['Q'] != 0 || buttons != 1 {
			t.Errorf("releases = %v, buttons %d; want A once, W kept for the other peer, one button", ups, buttons)
		}
		b.Detach(&media.Cause{Code: media.CauseLost})
		synctest.Wait()
		in := h.taken()
		if last := in[len(in)-1]; last.Kind != media.KeyUp || last.Key != 'W' {
			t.Errorf("last input = %+v, want W released", last)
		}
		over(t, s)
	})
}

func TestSamePeerIdSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeHost{}, testConfig())
		first := attach(t, s, "tab-one-1")
		second := attach(t, s, "tab-one-1")
		if !errors.Is(context.Cause(first.Context()), &media.Cause{Code: media.CauseSuperseded}) {
			t.Errorf("first peer's cause = %v", context.Cause(first.Context()))
		}
		first.Detach(&media.Cause{Code: media.CauseLeft})
		if second.Context().Err() != nil || len(s.State().Peers) != 1 {
			t.Error("the late goodbye of the first took the second along")
		}
		if _, err := s.Attach(media.PeerSpec{ID: "tab-one-1", Person: media.PersonRef{ID: "u2"}, Codecs: []media.Codec{media.H264}}, Full); err == nil {
			t.Error("another person superseded a peer by guessing its id")
		}
		over(t, s)
	})
}

func TestBitrateFollowsTheSlowestPlayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "player-1")
		v, err := s.Attach(media.PeerSpec{ID: "viewer-1", Codecs: []media.Codec{media.H264}, ViewOnly: true}, Full)
		if err != nil {
			t.Fatal(err)
		}
		v.Estimate(600)
		p.Estimate(4000)
		synctest.Wait()
		kbps := func() int { return s.State().Video[0].Kbps }
		if kbps() != 4000 || p.Target() != 4000 || v.Target() != 4000 {
			t.Errorf("kbps = %d, told %d and %d, want the player's 4000", kbps(), p.Target(), v.Target())
		}
		p.Estimate(100)
		if kbps() != 500 {
			t.Errorf("kbps = %d, want the minimum 500", kbps())
		}
		p.Estimate(90000)
		p.Estimate(90001)
		time.Sleep(3 * time.Second) // virtual
		if kbps() != 9216 {
			t.Errorf("kbps = %d, want the 9216 that 720p60 can use", kbps())
		}
		wish := 90000
		if err := s.Change(t.Context(), Change{MaxKbps: &wish}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // virtual
		p.Estimate(90000)
		if kbps() != 20000 {
			t.Errorf("kbps = %d, want the maximum 20000 for who asks for more", kbps())
		}
		over(t, s)
	})
}

func TestForcedHardwareThatFailsIsAnError(t *testing.T) {
	e := testEncoders
	e.Want = "nvenc"
	_, err := e.Choose([]media.Codec{media.H264, media.VP8})
	var cause *media.Cause
	if !errors.As(err, &cause) || cause.Code != media.CauseNoEncoder || !strings.Contains(cause.Detail, "no NVIDIA driver") {
		t.Errorf("err = %v, want no-encoder with the reason", err)
	}
	if _, err := New(t.Context(), NewID(), Request{}, testConfig(), (&fakeHost{}).parts(), e, quiet); !errors.Is(err, &media.Cause{Code: media.CauseNoEncoder}) {
		t.Errorf("New: %v", err)
	}
}

func TestHardwareWinsWhereItWorks(t *testing.T) {
	e := testEncoders
	e.Found = append([]media.Encoder{}, e.Found...)
	e.Found = append(e.Found, media.Encoder{Name: "nvenc-av1", Family: "nvenc", Codec: media.AV1, Hardware: true, Works: true})
	c, err := e.Choose([]media.Codec{media.H264, media.AV1})
	if err != nil || c.Encoder.Name != "nvenc-av1" {
		t.Errorf("choice = %+v, %v", c, err)
	}
}

func TestRegistryLimitsAndRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		g := &Registry{
			Config: testConfig, Encoders: func() Encoders { return testEncoders }, Log: quiet,
			MaxTotal: 3, PerPerson: 2,
		}
		create := func(owner string) (*Session, error) {
			return g.Create(t.Context(), Request{Owner: media.PersonRef{ID: owner}, Width: 640, Height: 360, FPS: 30}, func(ID) (Parts, error) { return h.parts(), nil })
		}
		a, err := create("u1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := create("u1"); err != nil {
			t.Fatal(err)
		}
		if _, err := create("u1"); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Errorf("third of one person: %v", err)
		}
		if _, err := create("u2"); err != nil {
			t.Fatal(err)
		}
		if _, err := create("u3"); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Errorf("fourth of all: %v", err)
		}
		a.End(&media.Cause{Code: media.CauseUser})
		if _, err := create("u1"); err != nil {
			t.Errorf("beside one that is ending: %v", err)
		}
		if _, err := create("u1"); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Errorf("third of one person, beside one that is ending: %v", err)
		}
		<-a.Done()
		synctest.Wait()
		if _, err := g.Get(a.ID()); !errors.Is(err, ErrUnknown) {
			t.Errorf("ended session is still there: %v", err)
		}
		if st, ok := g.Past(a.ID()); !ok || st.Cause.Code != media.CauseUser {
			t.Errorf("past = %+v %v", st, ok)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := create("u9"); !errors.Is(err, &media.Cause{Code: media.CauseShutdown}) {
			t.Errorf("create after close: %v", err)
		}
		synctest.Wait()
	})
}

func TestHungDisplayKeepsReleasesAndMergesMotion(t *testing.T) {
	q := newInputs()
	for i := range 10000 {
		q.put(media.Input{Kind: media.PointerMove, X: i})
	}
	for i := range 1000 {
		q.put(media.Input{Kind: media.PointerDelta, DX: 1, DY: -i % 2})
	}
	for range 3000 {
		q.put(media.Input{Kind: media.KeyDown, Key: 'A'})
	}
	q.put(media.Input{Kind: media.KeyUp, Key: 'A'})
	if q.queue[0].X != 9999 || q.queue[1].DX != 1000 {
		t.Errorf("motion was not merged: %+v %+v", q.queue[0], q.queue[1])
	}
	if last := q.queue[len(q.queue)-1]; last.Kind != media.KeyUp || len(q.queue) > maxInputs+1 {
		t.Errorf("queue of %d ends with %+v, want a bounded queue that ends with the release", len(q.queue), last)
	}
}
