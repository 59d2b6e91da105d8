package session

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
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
