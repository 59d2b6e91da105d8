//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"fenrir/e2e/route"
)

// full tells whether the numbers are those of the criteria; make test has smaller ones.
var full = os.Getenv("CHAOS") == "full"

// often is how many times something is done.
func often(inFull, inShort int) int {
	if full {
		return inFull
	}
	return inShort
}

// still is a program that costs nothing: a screen on which nothing happens.
const still = `
[sessions]
max_peers = 64
[[apps]]
id = "still"
title = "Nothing happens"
command = ["sh", "-c", "while :; do sleep 60; done"]
`

var mediaPort = regexp.MustCompile(`media_(udp|tcp)=\S*?:(\d+)`)

// mediaAddr is where the server listens for media.
func (s *server) mediaAddr(network string) string {
	s.t.Helper()
	addr := ""
	until(s.t, 5*time.Second, "the log names the "+network+" port", func() bool {
		for _, m := range mediaPort.FindAllStringSubmatch(s.log.tail(1<<20), -1) {
			if m[1] == network {
				addr = "127.0.0.1:" + m[2]
			}
		}
		return addr != ""
	})
	return addr
}

// running starts a session of app and waits until it runs.
func (s *server) running(app string) session {
	s.t.Helper()
	sess := s.create(app)
	until(s.t, 20*time.Second, app+" runs", func() bool { return s.session(sess.ID).Phase == "running" })
	return s.session(sess.ID)
}

// link is a UDP socket whose network can go dark: nothing comes in, nothing goes
// out, and nobody is told.
type link struct {
	net.PacketConn
	dark atomic.Bool
}

func (l *link) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := l.PacketConn.ReadFrom(b)
		if err == nil && l.dark.Load() {
			continue
		}
		return n, addr, err
	}
}

func (l *link) WriteTo(b []byte, to net.Addr) (int, error) {
	if l.dark.Load() {
		return len(b), nil
	}
	return l.PacketConn.WriteTo(b, to)
}

// gamer is a lean player: a websocket and pion instead of a browser. Its fields
// are set before connect, which fills the others.
type gamer struct {
	s       *server
	session string
	id      string
	end     *route.End                            // of a network path, where it sits; nil is loopback
	tcp     string                                // address to come in at over TCP; "": UDP
	onPing  func(context.Context, []byte) bool    // false: no pong
	rewrite func(candidate string) (string, bool) // of the server's candidates; nil: as they are

	ws    *websocket.Conn
	raw   net.Conn // below ws
	pc    *webrtc.PeerConnection
	link  *link
	mux   ice.UDPMux
	input *webrtc.DataChannel
	over  chan struct{} // closed when the websocket is over
	gone  chan struct{} // closed by release
	deaf  atomic.Bool   // reads and answers nothing more on the websocket

	released atomic.Bool

	frames atomic.Int64
	bye    atomic.Value // string
	events atomic.Int64 // cursor pictures

	mu     sync.Mutex // guards what follows
	at     time.Time  // of the last frame
	gaps   []time.Duration
	serial int
}

// ear is the gamer's end of the websocket's connection.
type ear struct {
	net.Conn
	g *gamer
}

func (e *ear) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if e.g.deaf.Load() {
		<-e.g.gone
	}
	return n, err
}

type silent struct{}

func (silent) NewLogger(string) logging.LeveledLogger {
	return logging.NewDefaultLeveledLoggerForScope("", logging.LogLevelDisabled, os.Stderr)
}

func (g *gamer) dialer() func(context.Context, string, string) (net.Conn, error) {
	if g.end != nil {
		return g.end.DialContext
	}
	return (&net.Dialer{}).DialContext
}

// dial opens the websocket. Its errors are the server's refusals, too.
func (g *gamer) dial(ctx context.Context) error {
	client := &http.Client{Jar: g.s.http.Jar, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as in start
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := g.dialer()(ctx, network, addr)
			if err == nil {
				g.raw, g.gone = c, make(chan struct{})
				c = &ear{c, g}
			}
			return c, err
		},
	}}
	ws, _, err := websocket.Dial(ctx, g.s.url+"/api/sessions/"+g.session+"/signal", &websocket.DialOptions{
		HTTPClient: client, Subprotocols: []string{"fenrir.v1"}, HTTPHeader: http.Header{"Origin": {g.s.url}}, OnPingReceived: g.onPing,
	})
	if err != nil {
		return err
	}
	ws.SetReadLimit(1 << 20)
	g.ws = ws
	return nil
}

func (g *gamer) say(ctx context.Context, m map[string]any) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return g.ws.Write(ctx, websocket.MessageText, b)
}

// hear reads messages until one of type want comes, and hands all to see.
func (g *gamer) hear(ctx context.Context, want string, see func(kind string, raw []byte)) (raw []byte, err error) {
	for {
		_, b, err := g.ws.Read(ctx)
		if err != nil {
			return nil, err
		}
		var m struct{ Type, Code string }
		if err := json.Unmarshal(b, &m); err != nil {
			return nil, err
		}
		if m.Type == "bye" {
			g.bye.Store(m.Code)
		}
		if see != nil {
			see(m.Type, b)
		}
		if m.Type == want {
			return b, nil
		}
	}
}

// connect joins the session and returns once media may flow.
func (g *gamer) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := g.dial(ctx); err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	if err := g.prepare(); err != nil {
		return fmt.Errorf("peer connection: %w", err)
	}
	if err := g.say(ctx, map[string]any{"type": "hello", "version": 1, "client": "chaos/1", "peer": g.id, "codecs": []string{"h264", "vp8"}, "max_kbps": 4000}); err != nil {
		return err
	}
	if _, err := g.hear(ctx, "welcome", nil); err != nil {
		return fmt.Errorf("wait for welcome (bye %v): %w", g.bye.Load(), err)
	}
	up := make(chan struct{})
	var once sync.Once
	g.pc.OnConnectionStateChange(func(st webrtc.PeerConnectionState) {
		if st == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(up) })
		}
	})
	if err := g.offer(ctx, nil); err != nil {
		return err
	}
	g.over = make(chan struct{})
	go func() {
		defer close(g.over)
		// Until the websocket is over, which is all that is of interest.
		_, _ = g.hear(context.Background(), "none", g.take)
	}()
	select {
	case <-up:
		return nil
	case <-g.over:
		return fmt.Errorf("the websocket ended, bye %v", g.bye.Load())
	case <-ctx.Done():
		return fmt.Errorf("connection state %s", g.pc.ConnectionState())
	}
}

// offer negotiates; the first time, or a restart of ICE.
func (g *gamer) offer(ctx context.Context, options *webrtc.OfferOptions) error {
	o, err := g.pc.CreateOffer(options)
	if err != nil {
		return err
	}
	g.serial++
	if err := g.say(ctx, map[string]any{"type": "offer", "id": g.serial, "sdp": o.SDP}); err != nil {
		return err
	}
	if err := g.pc.SetLocalDescription(o); err != nil {
		return err
	}
	var early [][]byte
	raw, err := g.hear(ctx, "answer", func(kind string, raw []byte) {
		if kind == "candidate" {
			early = append(early, raw)
		}
	})
	if err != nil {
		return fmt.Errorf("wait for the answer: %w", err)
	}
	var a struct{ SDP string }
	if err := json.Unmarshal(raw, &a); err != nil {
		return err
	}
	if err := g.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: a.SDP}); err != nil {
		return err
	}
	for _, raw := range early {
		g.take("candidate", raw)
	}
	return nil
}

// take takes what the server says by itself: candidates, and the answer to a restart.
func (g *gamer) take(kind string, raw []byte) {
	if kind == "answer" {
		var a struct{ SDP string }
		if json.Unmarshal(raw, &a) == nil {
			// An answer that cannot be used shows in the picture that does not come.
			_ = g.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: a.SDP})
		}
		return
	}
	var c struct {
		Candidate string
		Mid       *string `json:"sdp_mid"`
	}
	if kind != "candidate" || json.Unmarshal(raw, &c) != nil || c.Candidate == "" {
		return
	}
	if g.rewrite != nil {
		var ok bool
		if c.Candidate, ok = g.rewrite(c.Candidate); !ok {
			return
		}
	}
	_ = g.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.Candidate, SDPMid: c.Mid}) // the others may do
}

func (g *gamer) prepare() error {
	var e webrtc.SettingEngine
	e.LoggerFactory = silent{}
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	if g.end == nil {
		e.SetIPFilter(net.IP.IsLoopback)
	}
	e.SetICETimeouts(time.Minute, 2*time.Minute, time.Second) // it is the server's patience that is tested
	if g.tcp != "" {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	} else {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
		listen, addr := net.ListenPacket, "127.0.0.1:0"
		if g.end != nil {
			listen, addr = g.end.ListenPacket, g.end.Addr.String()+":0"
		}
		udp, err := listen("udp", addr)
		if err != nil {
			return err
		}
		g.link = &link{PacketConn: udp}
		g.mux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: g.link, Logger: silent{}.NewLogger("")})
		e.SetICEUDPMux(g.mux)
	}
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		return err
	}
	r := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(m, r); err != nil {
		return err
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithSettingEngine(e), webrtc.WithInterceptorRegistry(r)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	g.pc = pc
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return err
		}
	}
	if g.input, err = pc.CreateDataChannel("input", nil); err != nil {
		return err
	}
	events, err := pc.CreateDataChannel("events", nil)
	if err != nil {
		return err
	}
	events.OnMessage(func(m webrtc.DataChannelMessage) {
		if strings.Contains(string(m.Data), `"cursor"`) {
			g.events.Add(1)
		}
	})
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			return
		}
		j := c.ToJSON()
		// A websocket that broke is noticed by who reads it.
		_ = g.say(context.Background(), map[string]any{"type": "candidate", "candidate": j.Candidate, "sdp_mid": j.SDPMid, "sdp_mline_index": j.SDPMLineIndex})
	})
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			if t.Kind() == webrtc.RTPCodecTypeVideo && p.Marker {
				g.frame(time.Now())
			}
		}
	})
	return nil
}

// maxGaps bounds what a gamer remembers: some minutes of 60 fps.
const maxGaps = 1 << 15

func (g *gamer) frame(now time.Time) {
	g.frames.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.at.IsZero() && len(g.gaps) < maxGaps {
		g.gaps = append(g.gaps, now.Sub(g.at))
	}
	g.at = now
}

// gapsOver measures for d and returns the frame intervals, sorted.
func (g *gamer) gapsOver(d time.Duration) []time.Duration {
	g.mu.Lock()
	g.gaps = g.gaps[:0]
	g.mu.Unlock()
	time.Sleep(d) // the measuring time
	g.mu.Lock()
	defer g.mu.Unlock()
	out := slices.Clone(g.gaps)
	slices.Sort(out)
	return out
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// vanish is the end of a killed tab: the websocket is reset, nothing else is said.
func (g *gamer) vanish() {
	if g.link != nil {
		g.link.dark.Store(true)
	}
	if tc, ok := g.raw.(*net.TCPConn); ok {
		_ = tc.SetLinger(0) // then Close resets
	}
	if g.raw != nil {
		_ = g.raw.Close()
	}
	g.release()
}

// leave is a polite end.
func (g *gamer) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = g.say(ctx, map[string]any{"type": "bye", "code": "left"})
	g.release()
}

// release gives back what the gamer itself holds. Idempotent.
func (g *gamer) release() {
	if !g.released.CompareAndSwap(false, true) {
		return
	}
	if g.gone != nil {
		close(g.gone)
	}
	if g.pc != nil {
		_ = g.pc.Close()
	}
	if g.mux != nil {
		_ = g.mux.Close()
	}
	if g.link != nil {
		_ = g.link.Close()
	}
	if g.ws != nil {
		_ = g.ws.CloseNow()
	}
}

// gamers connects n players with the ids prefix-00000 on, some at a time, and
// releases them with the test.
func gamers(t *testing.T, s *server, session, prefix string, n int) []*gamer {
	t.Helper()
	out := make([]*gamer, n)
	errs := make([]error, n)
	atOnce := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i := range out {
		out[i] = &gamer{s: s, session: session, id: fmt.Sprintf("%s-%05d", prefix, i)}
		wg.Go(func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			errs[i] = out[i].connect()
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, g := range out {
			g.release()
		}
	})
	for i, err := range errs {
		if err != nil {
			t.Fatalf("player %d of %d: %v", i, n, err)
		}
	}
	return out
}

// cpu is the processor time that a process has used, in clock ticks of 10 ms.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		t.Fatalf("/proc/%d/stat: %s", pid, b)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// worker is the pid of the one media worker.
func (s *server) worker() int {
	s.t.Helper()
	workers := children(s.cmd.Process.Pid, "media-worker")
	if len(workers) != 1 {
		s.t.Fatalf("%d media workers, want 1", len(workers))
	}
	return workers[0].pid
}

// toll is what a server holds, as the kernel counts.
type toll struct{ fds, closeWait, udp, goroutines int }

func (s *server) toll() toll {
	s.t.Helper()
	pid := s.cmd.Process.Pid
	ours := map[string]bool{}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	out := toll{fds: len(entries), goroutines: int(s.metric("go_goroutines"))}
	for _, e := range entries {
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:[") {
			ours[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // no IPv6 here
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || !ours[f[9]] {
				continue
			}
			if strings.HasPrefix(table, "udp") {
				out.udp++
			} else if f[3] == "08" {
				out.closeWait++
			}
		}
	}
	return out
}

// atBaseline waits until the server holds no more than base: connections that
// its own client keeps and the goroutines of a scrape are allowed for.
func (s *server) atBaseline(base toll, bound time.Duration) {
	s.t.Helper()
	var now toll
	began := time.Now()
	ok := became(bound, func() bool {
		now = s.toll()
		return now.fds <= base.fds+1 && now.closeWait == 0 && now.udp <= base.udp && now.goroutines <= base.goroutines+6
	})
	s.t.Logf("before: %+v; %v later: %+v", base, time.Since(began).Round(10*time.Millisecond), now)
	if !ok {
		s.t.Errorf("not within %v at the baseline", bound)
	}
}
