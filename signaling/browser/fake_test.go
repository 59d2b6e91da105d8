package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/ports"
	"fenrir/signaling/browser/rtpstream"
)

// chromiumOffer is what Chromium offers for two receivers and a channel.
var chromiumOffer = func() string {
	b, err := os.ReadFile("offer/testdata/chromium-offer.sdp")
	if err != nil {
		panic(err)
	}
	return strings.ReplaceAll(string(b), "\n", "\r\n")
}()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; none of them comes near it.
const patience = 20 * time.Second

// fakeSession is a small honest session: it makes units on a clock, gives them
// to whoever is attached, and records what comes in.
type fakeSession struct {
	t     *testing.T
	codec media.Codec

	mu     sync.Mutex
	atts   map[string]*fakeAttachment
	made   int
	refuse error
}

func newFakeSession(t *testing.T) *fakeSession {
	return &fakeSession{t: t, codec: media.H264, atts: make(map[string]*fakeAttachment)}
}

func (s *fakeSession) attach(_ context.Context, id string, spec media.PeerSpec) (signaling.Attachment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, fmt.Errorf("attach: %w", s.refuse)
	}
	if id != "s1" {
		return nil, media.NewCause(media.CauseSessionGone, "no such session")
	}
	s.made++
	if spec.ID == "" {
		spec.ID = fmt.Sprintf("made-by-server-%d", s.made)
	}
	if old := s.atts[spec.ID]; old != nil {
		old.end(media.NewCause(media.CauseSuperseded, "connected again elsewhere"))
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	a := &fakeAttachment{
		session: s, spec: spec, codec: s.codec, ctx: ctx, end: func(c *media.Cause) { cancel(c) },
		inputs: make(chan media.Input, 4096), keys: make(chan struct{}, 64), away: make(chan bool, 16),
		notes: make(chan media.Note, 64), detached: make(chan *media.Cause, 1), estimates: make(chan int, 1024), paints: make(chan media.Paint, 64),
		video: make(chan media.Unit, 64), audio: make(chan media.Unit, 64),
	}
	a.notes <- media.Note{Cursor: &media.CursorImage{Serial: 1, Width: 1, Height: 1, PNG: []byte("png")}}
	a.notes <- media.Note{State: &media.SessionState{ID: id, Phase: media.Running, Video: []media.VideoState{{Codec: s.codec, Encoder: "x264", Kbps: 5000}}}}
	s.atts[spec.ID] = a
	return a, nil
}

func (s *fakeSession) get(id string) *fakeAttachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.atts[id]
	if a == nil {
		s.t.Fatalf("nobody attached as %q", id)
	}
	return a
}

func (s *fakeSession) only() *fakeAttachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.atts) != 1 {
		s.t.Fatalf("%d attachments, want 1", len(s.atts))
	}
	for _, a := range s.atts {
		return a
	}
	return nil
}

type fakeAttachment struct {
	session   *fakeSession
	spec      media.PeerSpec
	codec     media.Codec
	ctx       context.Context
	end       func(*media.Cause)
	inputs    chan media.Input
	keys      chan struct{}
	away      chan bool
	notes     chan media.Note
	estimates chan int
	video     chan media.Unit
	audio     chan media.Unit
	detached  chan *media.Cause
	paints    chan media.Paint
	once      sync.Once
}

func (a *fakeAttachment) ID() string               { return a.spec.ID }
func (a *fakeAttachment) Codec() media.Codec       { return a.codec }
func (a *fakeAttachment) Audio() media.AudioFormat { return media.AudioSpec{FrameMs: 10}.Format() }
func (a *fakeAttachment) Context() context.Context { return a.ctx }
func (a *fakeAttachment) Grant() media.GrantBits {
	return media.GrantBits{Keyboard: !a.spec.ViewOnly, Pointer: !a.spec.ViewOnly}
}
func (a *fakeAttachment) NextVideo(ctx context.Context) (media.Unit, error) {
	return next(ctx, a.ctx, a.video)
}
func (a *fakeAttachment) NextAudio(ctx context.Context) (media.Unit, error) {
	return next(ctx, a.ctx, a.audio)
}
func (a *fakeAttachment) NextNote(ctx context.Context) (media.Note, error) {
	return next(ctx, a.ctx, a.notes)
}
func (a *fakeAttachment) Input(in media.Input) { a.inputs <- in }
func (a *fakeAttachment) RequestKeyFrame() {
	select {
	case a.keys <- struct{}{}:
	default:
	}
}
func (a *fakeAttachment) Painted(p media.Paint) {
	select {
	case a.paints <- p:
	default:
	}
}
func (a *fakeAttachment) Estimate(kbps int) {
	select {
	case a.estimates <- kbps:
	default:
	}
}
func (a *fakeAttachment) Away(away bool) {
	select {
	case a.away <- away:
	default:
	}
}
func (a *fakeAttachment) Target() int { return 4321 }
func (a *fakeAttachment) Detach(c *media.Cause) {
	a.once.Do(func() { a.detached <- c; a.end(c) })
}

func next[T any](ctx, att context.Context, c <-chan T) (v T, err error) {
	select {
	case v = <-c:
		return v, nil
	case <-ctx.Done():
		return v, context.Cause(ctx)
	case <-att.Done():
		return v, context.Cause(att)
	}
}

// h264Unit is a small valid-looking access unit: parameter sets and an IDR
// slice for key frames, a slice of the given size otherwise.
func h264Unit(frame uint32, key bool, size int) media.Unit {
	var b []byte
	nal := func(p ...byte) { b = append(append(b, 0, 0, 0, 1), p...) }
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i%251) + 3 // never a start code
	}
	if key {
		nal(0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40)
		nal(0x68, 0xce, 0x3c, 0x80)
		nal(append([]byte{0x65}, body...)...)
	} else {
		nal(append([]byte{0x41}, body...)...)
	}
	now := media.Now()
	return media.Unit{
		Kind: media.Video, Codec: media.H264, Key: key, Frame: frame, Width: 1280, Height: 720, Data: b,
		Stages: media.Stages{Damage: now - 5e6, Captured: now - 4e6, Converted: now - 3e6, Encoded: now - 1e6, Emitted: now - 5e5, Received: now},
	}
}

func opusUnit(frame uint32) media.Unit {
	now := media.Now()
	return media.Unit{Kind: media.Audio, Codec: media.Opus, Key: true, Frame: frame, Stages: media.Stages{Captured: now, Encoded: now}, Data: []byte{0xF0 | 4, 1, 2, 3}} // CELT fullband, 10 ms
}

// play feeds video (and sound) into the attachment until ctx ends.
func (a *fakeAttachment) play(ctx context.Context, every time.Duration, size int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		key := n == 0
		select {
		case <-a.keys:
			key = true
		default:
		}
		for _, put := range []func(){
			func() {
				select {
				case a.video <- h264Unit(n, key, size):
				default:
				}
			},
			func() {
				select {
				case a.audio <- opusUnit(n):
				default:
				}
			},
		} {
			put()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// bench is a running server with its HTTP front.
type bench struct {
	t       *testing.T
	server  *Server
	session *fakeSession
	http    *httptest.Server
}

func newBench(t *testing.T, change ...func(*Server)) *bench {
	t.Helper()
	session := newFakeSession(t)
	s := &Server{
		Attach:  session.attach,
		Network: Network{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0", Loopback: true},
	}
	for _, f := range change {
		f(s)
	}
	b := &bench{t: t, session: session}
	stop := b.run(s)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

// run starts s and its HTTP front, which ends with the test. stop ends s.
func (b *bench) run(s *Server) (stop func() error) {
	b.t.Helper()
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	s.Log = slog.New(slog.NewTextHandler(testWriter{b.t}, &slog.HandlerOptions{Level: level}))
	must(b.t, s.Listen())
	person := media.PersonRef{ID: "p1", Name: "Ada"}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/sessions/{id}/signal", func(w http.ResponseWriter, r *http.Request) {
		s.ServeSignal(w, r, r.PathValue("id"), person)
	})
	mux.HandleFunc("/api/sessions/{id}/whep", func(w http.ResponseWriter, r *http.Request) {
		s.ServeWHEP(w, r, r.PathValue("id"), "", person)
	})
	mux.HandleFunc("/api/sessions/{id}/whep/{peer}", func(w http.ResponseWriter, r *http.Request) {
		s.ServeWHEP(w, r, r.PathValue("id"), r.PathValue("peer"), person)
	})
	b.server, b.http = s, httptest.NewServer(mux)
	b.t.Cleanup(b.http.Close)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	return func() error { cancel(); return <-ran }
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	fmt.Print("      ", string(b))
	return len(b), nil
}

// client is a browser made of pion and a websocket.
type client struct {
	t        *testing.T
	b        *bench
	ws       *websocket.Conn
	pc       *webrtc.PeerConnection
	welcome  signaling.Welcome
	messages chan signaling.Message // all but candidates
	closed   chan error             // of the websocket
	video    chan *rtp.Packet
	audio    chan *rtp.Packet
	state    chan webrtc.PeerConnectionState
	input    *webrtc.DataChannel
	motion   *webrtc.DataChannel
	events   *webrtc.DataChannel
	onInput  chan []byte
	onMotion chan []byte
	onEvent  chan []byte
	onStages chan []byte
	senders  chan *webrtc.RTPReceiver
	lastID   uint32
	done     chan struct{}
	answer   string

	mu       sync.Mutex // guards what follows
	early    []webrtc.ICECandidateInit
	answered bool
}

func (b *bench) dial(path string) *websocket.Conn {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(b.http.URL, "http")+path, &websocket.DialOptions{Subprotocols: []string{signaling.Subprotocol}})
	if err != nil {
		b.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	b.t.Cleanup(func() { ws.CloseNow() })
	return ws
}

type clientOption func(*clientConfig)

type clientConfig struct {
	peer   string
	tcp    bool
	engine func(*webrtc.SettingEngine)
	bare   bool          // no data channels
	silent bool          // reports nothing about the media
	stages bool          // the channel of that name too
	gate   chan struct{} // events are taken once it is closed; nil: at once
}

func (b *bench) connect(opts ...clientOption) *client {
	b.t.Helper()
	cfg := clientConfig{peer: "tab-00000001"}
	for _, o := range opts {
		o(&cfg)
	}
	c := &client{
		t: b.t, b: b, ws: b.dial("/api/sessions/s1/signal"),
		done: make(chan struct{}),
	}
	c.init()
	c.send(signaling.Hello{Version: 1, Client: "test/1", Peer: cfg.peer, Codecs: []media.Codec{media.H264, media.VP8}})
	c.makePC(cfg)
	go c.readSignal()
	b.t.Cleanup(c.close)
	w, ok := c.wait().(signaling.Welcome)
	if !ok {
		b.t.Fatalf("first message is no welcome")
	}
	c.welcome = w
	return c
}

func (c *client) init() {
	c.messages, c.closed = make(chan signaling.Message, 256), make(chan error, 1)
	c.video, c.audio = make(chan *rtp.Packet, 65536), make(chan *rtp.Packet, 65536)
	c.state, c.senders = make(chan webrtc.PeerConnectionState, 64), make(chan *webrtc.RTPReceiver, 4)
	c.onInput, c.onMotion, c.onEvent = make(chan []byte, 64), make(chan []byte, 64), make(chan []byte, 256)
	c.onStages = make(chan []byte, 256)
}

func (c *client) makePC(cfg clientConfig) {
	var e webrtc.SettingEngine
	e.LoggerFactory = ports.Logger{To: slog.New(slog.DiscardHandler)}
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if cfg.tcp {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	}
	e.SetIPFilter(isLoopback)
	if cfg.engine != nil {
		cfg.engine(&e)
	}
	m := &webrtc.MediaEngine{}
	must(c.t, m.RegisterDefaultCodecs())
	for _, uri := range []string{sdp.TransportCCURI, rtpstream.URIAbsCaptureTime, rtpstream.URIPlayoutDelay} {
		must(c.t, m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo))
		must(c.t, m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeAudio))
	}
	registry := &interceptor.Registry{}
	if !cfg.silent {
		registry = clientInterceptors(c.t, m)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithSettingEngine(e), webrtc.WithInterceptorRegistry(registry)).NewPeerConnection(webrtc.Configuration{})
	must(c.t, err)
	c.pc = pc
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		_, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		must(c.t, err)
	}
	if !cfg.bare {
		no, zero := false, uint16(0)
		c.input = c.channel("input", nil, c.onInput)
		c.motion = c.channel("motion", &webrtc.DataChannelInit{Ordered: &no, MaxRetransmits: &zero}, c.onMotion)
		c.events = c.channel("events", nil, c.onEvent)
		if cfg.stages {
			c.channel("stages", &webrtc.DataChannelInit{Ordered: &no, MaxRetransmits: &zero}, c.onStages)
		}
		if cfg.gate != nil {
			c.events.OnMessage(func(m webrtc.DataChannelMessage) {
				select {
				case <-cfg.gate:
				case <-c.done:
				}
				select {
				case c.onEvent <- m.Data:
				case <-c.done:
				}
			})
		}
	}
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) { c.state <- s })
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		to := c.video
		if t.Kind() == webrtc.RTPCodecTypeAudio {
			to = c.audio
		} else {
			c.senders <- r
		}
		for {
			p, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			select {
			case to <- p:
			default:
			}
		}
	})
	pc.OnICECandidate(func(i *webrtc.ICECandidate) {
		m := signaling.Candidate{}
		if i != nil {
			j := i.ToJSON()
			m = signaling.Candidate{Candidate: j.Candidate, SDPMid: j.SDPMid, SDPMLineIndex: j.SDPMLineIndex}
		}
		c.trySend(m)
	})
}

func (c *client) channel(label string, init *webrtc.DataChannelInit, to chan []byte) *webrtc.DataChannel {
	dc, err := c.pc.CreateDataChannel(label, init)
	must(c.t, err)
	dc.OnMessage(func(m webrtc.DataChannelMessage) {
		select {
		case to <- m.Data:
		case <-c.done:
		}
	})
	return dc
}

func (c *client) readSignal() {
	for {
		_, b, err := c.ws.Read(context.Background())
		if err != nil {
			c.closed <- err
			return
		}
		m, err := signaling.ParseServer(b)
		if err != nil {
			c.closed <- fmt.Errorf("server sent %s: %w", b, err)
			return
		}
		if cand, ok := m.(signaling.Candidate); ok {
			if cand.Candidate != "" {
				c.add(webrtc.ICECandidateInit{Candidate: cand.Candidate, SDPMid: cand.SDPMid, SDPMLineIndex: cand.SDPMLineIndex})
			}
			continue
		}
		select {
		case c.messages <- m:
		case <-c.done:
			return
		}
	}
}

// add takes a candidate now, or once there is an answer.
func (c *client) add(i webrtc.ICECandidateInit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.answered {
		c.early = append(c.early, i)
		return
	}
	err := c.pc.AddICECandidate(i)
	select {
	case <-c.done: // the test may be over, and an agent that is being closed takes none
		return
	default:
	}
	if err != nil && !errors.Is(err, webrtc.ErrConnectionClosed) {
		c.t.Errorf("candidate %q: %v", i.Candidate, err)
	}
}

func (c *client) trySend(m signaling.Message) {
	if c.ws == nil {
		return
	}
	b, err := signaling.Encode(m)
	must(c.t, err)
	_ = c.ws.Write(context.Background(), websocket.MessageText, b) // the websocket may be closed by a test
}

func (c *client) send(m signaling.Message) {
	c.t.Helper()
	b, err := signaling.Encode(m)
	must(c.t, err)
	must(c.t, c.ws.Write(context.Background(), websocket.MessageText, b))
}

// wait returns the next message that is no state.
func (c *client) wait() signaling.Message {
	c.t.Helper()
	for {
		select {
		case m := <-c.messages:
			if _, ok := m.(signaling.State); !ok {
				return m
			}
		case err := <-c.closed:
			c.closed <- err
			if len(c.messages) == 0 {
				c.t.Fatalf("websocket closed: %v", err)
			}
		case <-time.After(patience):
			c.t.Fatal("no message")
		}
	}
}

// offer makes an offer and applies the answer.
func (c *client) offer(opts *webrtc.OfferOptions) {
	c.t.Helper()
	o, err := c.pc.CreateOffer(opts)
	must(c.t, err)
	c.lastID++
	c.mu.Lock()
	c.answered = false // candidates from here on belong to the next answer
	c.mu.Unlock()
	// The offer goes first, so that candidates do not overtake it.
	c.send(signaling.Offer{ID: c.lastID, SDP: o.SDP})
	must(c.t, c.pc.SetLocalDescription(o))
	a, ok := c.wait().(signaling.Answer)
	if !ok || a.ID != c.lastID {
		c.t.Fatalf("got %#v, want answer %d", a, c.lastID)
	}
	must(c.t, c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: a.SDP}))
	c.answer = a.SDP
	c.mu.Lock()
	early := c.early
	c.early, c.answered = nil, true
	c.mu.Unlock()
	for _, i := range early {
		c.add(i)
	}
}

func (c *client) until(want webrtc.PeerConnectionState) {
	c.t.Helper()
	for {
		select {
		case s := <-c.state:
			if s == want {
				return
			}
		case <-time.After(patience):
			c.t.Fatalf("connection never became %s", want)
		}
	}
}

func (c *client) close() {
	select {
	case <-c.done:
		return
	default:
	}
	close(c.done)
	c.pc.GracefulClose()
	if c.ws != nil {
		c.ws.CloseNow()
	}
}

func get[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func decode[T any](t *testing.T, b []byte) (v T) {
	t.Helper()
	must(t, json.Unmarshal(b, &v))
	return v
}

// inFull leaves a test that waits for real deadlines out of "make check".
func inFull(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("waits for the protocol's own deadlines, which take seconds")
	}
}
