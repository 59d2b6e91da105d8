package moonlight

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/moonlight/control"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/nvhttp"
	"fenrir/signaling/moonlight/pairing"
	"fenrir/signaling/moonlight/rtsp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seat is an attachment that notes what a stream does with it.
type seat struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu        sync.Mutex // guards what follows
	keys      int
	inputs    []media.Input
	estimates []int
	gone      *media.Cause
}

var _ signaling.Attachment = (*seat)(nil)

func newSeat() *seat {
	s := &seat{}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

func (s *seat) ID() string                { return "seat" }
func (s *seat) Codec() media.Codec        { return media.H264 }
func (s *seat) Audio() media.AudioFormat  { return media.AudioSpec{FrameMs: 5}.Format() }
func (s *seat) Grant() media.GrantBits    { return media.GrantBits{} }
func (s *seat) Context() context.Context  { return s.ctx }
func (s *seat) Away(bool)                 {}
func (s *seat) Painted(media.Paint)       {}
func (s *seat) Target() int               { return 0 }
func (s *seat) note(f func())             { s.mu.Lock(); defer s.mu.Unlock(); f() }
func (s *seat) Input(in media.Input)      { s.note(func() { s.inputs = append(s.inputs, in) }) }
func (s *seat) RequestKeyFrame()          { s.note(func() { s.keys++ }) }
func (s *seat) Estimate(kbps int)         { s.note(func() { s.estimates = append(s.estimates, kbps) }) }
func (s *seat) Detach(cause *media.Cause) { s.note(func() { s.gone = cause }); s.cancel(cause) }

func (s *seat) NextVideo(ctx context.Context) (media.Unit, error) {
	<-ctx.Done()
	return media.Unit{}, context.Cause(ctx)
}
func (s *seat) NextAudio(ctx context.Context) (media.Unit, error) { return s.NextVideo(ctx) }
func (s *seat) NextNote(ctx context.Context) (media.Note, error) {
	<-ctx.Done()
	return media.Note{}, context.Cause(ctx)
}

// house has no devices, programs or sessions.
type house struct{}

func (house) Add(context.Context, pairing.Device) error { return nil }
func (house) Find(context.Context, *x509.Certificate) (nvhttp.Device, error) {
	return nvhttp.Device{}, nvhttp.ErrUnknown
}
func (house) Forget(context.Context, string) error                            { return nil }
func (house) List(context.Context, media.PersonRef) ([]nvhttp.Program, error) { return nil, nil }
func (house) Icon(context.Context, media.PersonRef, string) ([]byte, error)   { return nil, nil }

type noSessions struct{}

func (noSessions) Find(media.PersonRef) (nvhttp.Running, bool) { return nvhttp.Running{}, false }
func (noSessions) End(string, *media.Cause)                    {}
func (noSessions) Start(context.Context, nvhttp.Order) (nvhttp.Running, error) {
	return nvhttp.Running{}, errors.New("nothing is started here")
}

// open runs a server whose clients sit down in seats.
func open(t testing.TB, wait time.Duration) (*Server, chan *seat) {
	t.Helper()
	identity, err := nvhttp.LoadIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	seats := make(chan *seat, 8)
	s := &Server{
		Address: "127.0.0.1", Identity: identity, Devices: house{}, Programs: house{}, Sessions: noSessions{}, Codecs: []media.Codec{media.H264},
		Host: nvhttp.Host{Codecs: func() []media.Codec { return []media.Codec{media.H264} }}, Log: slog.New(slog.DiscardHandler),
		Attach: func(launch.Terms, media.PeerSpec) (signaling.Attachment, error) {
			one := newSeat()
			seats <- one
			return one, nil
		},
		pending: launch.Pending{For: wait},
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		began := time.Now()
		cancel(&media.Cause{Code: media.CauseShutdown})
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > drainTimeout {
			t.Errorf("the end took %v", took)
		}
	})
	return s, seats
}

var wanted = rtsp.Config{Codec: media.H264, Width: 1280, Height: 720, FPS: 60, BudgetKbps: 10_000, PacketSize: 1024, MinParity: 2, Seal: 7, Channels: 2, FrameMs: 5}

func launched(t testing.TB, s *Server, device string) *launch.Launch {
	t.Helper()
	l := launch.New(launch.Terms{Device: device, CoreVer: 1}, launch.Key{1})
	if err := s.add(l); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWhoDoesNotConnectLosesTheSeat(t *testing.T) {
	s, seats := open(t, 100*time.Millisecond)
	if err := s.announced(launched(t, s, "tv"), wanted); err != nil {
		t.Fatal(err)
	}
	one := <-seats
	<-one.ctx.Done()
	if one.gone == nil || one.gone.Code != media.CauseLost {
		t.Errorf("it lost it for %v", one.gone)
	}
	for deadline := time.Now().Add(5 * time.Second); s.Streams() > 0 || places(s) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams, %d ends are left", s.Streams(), places(s))
		}
	}
}

func places(s *Server) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ends)
}

func TestADeviceThatBeginsAnewEndsItsOldStream(t *testing.T) {
	s, seats := open(t, time.Minute)
	if err := s.announced(launched(t, s, "tv"), wanted); err != nil {
		t.Fatal(err)
	}
	if err := s.announced(launched(t, s, "phone"), wanted); err != nil {
		t.Fatal(err)
	}
	tv, phone := <-seats, <-seats
	launched(t, s, "tv")
	<-tv.ctx.Done()
	if phone.ctx.Err() != nil || tv.gone.Code != media.CauseSuperseded && tv.gone.Code != media.CauseLost {
		t.Errorf("the first is gone for %v, the other device's: %v", tv.gone, phone.gone)
	}
}

// streaming is a stream without a client.
func streaming(t testing.TB) (*Stream, *seat) {
	t.Helper()
	one := newSeat()
	s := &Server{Log: slog.New(slog.DiscardHandler), Attach: func(launch.Terms, media.PeerSpec) (signaling.Attachment, error) { return one, nil }}
	st, err := newStream(s, launch.New(launch.Terms{Device: "tv", CoreVer: 1}, launch.Key{1}), wanted, nil)
	if err != nil {
		t.Fatal(err)
	}
	return st, one
}

func TestPackets(t *testing.T) {
	st, one := streaming(t)
	must := func(b []byte) {
		t.Helper()
		if err := st.packet(b); err != nil {
			t.Errorf("%x: %v", b, err)
		}
	}
	must([]byte{2, 3, 2, 0, 0, 0})
	must([]byte{0, 2, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0})
	if one.keys != 1 || len(one.estimates) != 0 {
		t.Errorf("at the start: %d key frames, %v", one.keys, one.estimates)
	}
	must([]byte{6, 2, 14, 0, 0, 0, 0, 10, 3, 0, 0, 0, 0, 0x41, 0x80, 0, 0, 0})
	if len(one.inputs) != 1 || one.inputs[0].Kind != media.KeyDown || one.inputs[0].Key != 0x41 || one.inputs[0].Received == 0 {
		t.Errorf("inputs: %+v", one.inputs)
	}
	invalid := append([]byte{1, 3, 24, 0, 60}, make([]byte, 23)...)
	invalid[4+8] = 61
	must(invalid)
	if one.keys != 2 || len(one.estimates) != 1 || one.estimates[0] >= wanted.VideoKbps(20) {
		t.Errorf("after a loss: %d key frames, %v kbit/s, before %d", one.keys, one.estimates, wanted.VideoKbps(20))
	}
	for _, bad := range [][]byte{nil, {6, 2, 1, 0, 0}, {0x34, 0x12, 0, 0}, {1, 3, 0, 0}, {2, 0x55, 0, 0}} {
		if err := st.packet(bad); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
}

func FuzzPacket(f *testing.F) {
	f.Add([]byte{2, 3, 2, 0, 0, 0})
	f.Add([]byte{6, 2, 14, 0, 0, 0, 0, 10, 3, 0, 0, 0, 0, 0x41, 0x80, 0, 0, 0})
	f.Add(append([]byte{2, 0x55, 21, 0}, make([]byte, 21)...))
	st, one := streaming(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = st.packet(b)
		for _, kbps := range one.estimates {
			if kbps < 1 || kbps > wanted.BudgetKbps {
				t.Fatalf("%x leaves %d kbit/s", b, kbps)
			}
		}
		one.estimates, one.inputs = nil, nil
	})
}

func TestForgedControlMessagesAreNotAuthentic(t *testing.T) {
	s, seats := open(t, time.Minute)
	l := launched(t, s, "tv")
	if err := s.announced(l, wanted); err != nil {
		t.Fatal(err)
	}
	<-seats
	ours, err := control.NewSealer(launch.Key{1}, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ours.Seal(nil, []byte{2, 3, 2, 0, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	if s.authentic(l.ConnectData, m) || s.authentic(l.ConnectData+1, m) {
		t.Error("what the host seals is taken for the client's")
	}
	if !s.expected(l.ConnectData, netip.AddrPort{}) || s.expected(l.ConnectData+1, netip.AddrPort{}) {
		t.Error("who is expected is another")
	}
}
