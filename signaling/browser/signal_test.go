package browser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/peer"
)

func closeCode(err error) int {
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		return int(ce.Code)
	}
	return -1
}

func write(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, ws.Write(ctx, websocket.MessageText, []byte(text)))
}

// readBye reads messages up to a bye; the error is that of the websocket.
func readBye(ws *websocket.Conn) (signaling.Bye, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return signaling.Bye{}, err
		}
		m, err := signaling.ParseServer(b)
		if err != nil {
			return signaling.Bye{}, err
		}
		if bye, ok := m.(signaling.Bye); ok {
			return bye, nil
		}
	}
}

const hello = `{"type":"hello","version":1,"peer":"tab-00000001","codecs":["h264"]}`

func TestProtocolErrorsEndTheConversation(t *testing.T) {
	b := newBench(t)
	for name, tt := range map[string]struct {
		say  []string
		want string
	}{
		"garbage":                 {[]string{"\x00\x01"}, media.CauseProtocol},
		"no hello":                {[]string{`{"type":"offer","id":1,"sdp":"v=0"}`}, media.CauseProtocol},
		"old version":             {[]string{`{"type":"hello","version":0,"codecs":["h264"]}`}, media.CauseVersion},
		"unknown type":            {[]string{hello, `{"type":"shutdown"}`}, media.CauseProtocol},
		"two hellos":              {[]string{hello, hello}, media.CauseProtocol},
		"an offer of nothing":     {[]string{hello, `{"type":"offer","id":1,"sdp":"v=0"}`}, media.CauseNegotiation},
		"offer numbers go back":   {[]string{hello, `{"type":"offer","id":0,"sdp":"v=0"}`}, media.CauseProtocol},
		"65 candidates too early": {append([]string{hello}, strings.Split(strings.TrimSpace(strings.Repeat(`{"type":"candidate","candidate":"candidate:1"}`+"\n", peer.MaxEarly+1)), "\n")...), media.CauseProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			ws := b.dial("/api/sessions/s1/signal")
			for _, s := range tt.say {
				write(t, ws, s)
			}
			bye, err := readBye(ws)
			must(t, err)
			if bye.Code != tt.want {
				t.Errorf("bye %+v, want %s", bye, tt.want)
			}
			status, _ := signaling.CloseCode(tt.want)
			if _, err := readBye(ws); closeCode(err) != status {
				t.Errorf("closed with %v, want %d", err, status)
			}
		})
	}
}

func TestOverlongAndBinaryMessagesEndTheConversation(t *testing.T) {
	b := newBench(t)
	ws := b.dial("/api/sessions/s1/signal")
	must(t, ws.Write(context.Background(), websocket.MessageBinary, []byte(hello)))
	if bye, err := readBye(ws); err != nil || bye.Code != media.CauseProtocol {
		t.Errorf("binary: %+v, %v", bye, err)
	}
	ws = b.dial("/api/sessions/s1/signal")
	// The server may cut the connection while this is still on its way.
	_ = ws.Write(context.Background(), websocket.MessageText, []byte(strings.Repeat("x", 70_000)))
	if _, err := readBye(ws); err == nil {
		if _, err = readBye(ws); closeCode(err) != signaling.CloseProtocol && closeCode(err) != int(websocket.StatusMessageTooBig) {
			t.Errorf("overlong: %v", err)
		}
	}
}

func TestWithoutTheSubprotocolThereIsNoConversation(t *testing.T) {
	b := newBench(t)
	ws, _, err := websocket.Dial(context.Background(), "ws"+strings.TrimPrefix(b.http.URL, "http")+"/api/sessions/s1/signal", nil)
	must(t, err)
	defer ws.CloseNow()
	if bye, err := readBye(ws); err != nil || bye.Code != media.CauseVersion {
		t.Errorf("%+v, %v", bye, err)
	}
}

func TestOtherOriginsAreRefused(t *testing.T) {
	b := newBench(t)
	for origin, want := range map[string]int{"https://evil.example": http.StatusForbidden, b.http.URL: http.StatusSwitchingProtocols, "": http.StatusSwitchingProtocols} {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		ws, resp, err := websocket.Dial(context.Background(), "ws"+strings.TrimPrefix(b.http.URL, "http")+"/api/sessions/s1/signal",
			&websocket.DialOptions{HTTPHeader: h, Subprotocols: []string{signaling.Subprotocol}})
		if err == nil {
			ws.CloseNow()
		}
		if resp == nil || resp.StatusCode != want {
			t.Errorf("origin %q: %v, %v; want %d", origin, resp, err, want)
		}
	}
}

func TestASilentClientIsSentAway(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for seconds
	b := newBench(t)
	begin := time.Now()
	ws := b.dial("/api/sessions/s1/signal")
	_, err := readBye(ws)
	if took := time.Since(begin); took < helloTimeout || took > helloTimeout+2*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
}

func TestALostWebsocketKeepsTheMediaForAWhile(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for seconds
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	old := b.session.get("tab-00000001")
	start(t, old, 10*time.Millisecond, 500)
	get(t, c.video, "video")
	c.ws.CloseNow()
	get(t, c.closed, "close")
	for range 50 { // still playing
		get(t, c.video, "video without a websocket")
	}
	again := b.connect()
	if cause := get(t, old.detached, "detach"); cause.Code != media.CauseSuperseded {
		t.Errorf("detached with %v", cause)
	}
	again.offer(nil)
	again.until(webrtc.PeerConnectionStateConnected)
	// This one does not come back: its media ends after the grace.
	att := b.session.get("tab-00000001")
	att.video <- h264Unit(0, true, 100)
	get(t, again.video, "video")
	begin := time.Now()
	again.ws.CloseNow()
	if cause := get(t, att.detached, "detach"); cause.Code != media.CauseLost {
		t.Errorf("detached with %v", cause)
	}
	if took := time.Since(begin); took < peer.OrphanGrace-time.Second || took > peer.OrphanGrace+2*time.Second {
		t.Errorf("after %v", took)
	}
}

func TestALostWebsocketBeforeMediaEndsThePeerAtOnce(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	att := b.session.get("tab-00000001")
	c.ws.CloseNow()
	begin := time.Now()
	if cause := get(t, att.detached, "detach"); cause.Code != media.CauseLost {
		t.Errorf("detached with %v", cause)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("after %v", took)
	}
}

// A client that stops reading its websocket must not hold anything up.
func TestASlowReaderHoldsNothingUp(t *testing.T) {
	b := newBench(t)
	conn, err := net.Dial("tcp", b.http.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	must(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	fmt.Fprintf(conn, "GET /api/sessions/s1/signal HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: fenrir.v1\r\n\r\n", b.http.Listener.Addr())
	frame := func(text string) {
		b := []byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0} // masked with zeros
		_, err := conn.Write(append(b, text...))
		must(t, err)
	}
	frame(hello)
	att := b.waitAttached("tab-00000001")
	big := strings.Repeat("x", 30_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			select {
			case att.notes <- media.Note{State: &media.SessionState{ID: big, Restarts: i}}:
			case <-att.ctx.Done():
				return
			}
		}
	}()
	get(t, done, "end of the news") // the notes are taken although nobody reads them
	att.end(&media.Cause{Code: media.CauseUser})
	begin := time.Now()
	get(t, att.detached, "detach")
	for b.server.Peers() > 0 {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("the peer is still there")
		}
		runtime.Gosched()
	}
	t.Logf("gone after %v", time.Since(begin))
}

func (b *bench) waitAttached(id string) *fakeAttachment {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
		b.session.mu.Lock()
		a := b.session.atts[id]
		b.session.mu.Unlock()
		if a != nil {
			return a
		}
	}
	b.t.Fatalf("nobody attached as %q", id)
	return nil
}

func openFiles(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(d)
}

// Clients that vanish at any step leave nothing behind.
func TestHalfMadePeersLeaveNothing(t *testing.T) {
	b := newBench(t)
	c := b.connect() // one whole life first, so that what is made once is there
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	c.close()
	b.empty()
	files, routines := openFiles(t), runtime.NumGoroutine()
	for i := range 8 {
		for step := range 5 {
			ws := b.dial("/api/sessions/s1/signal")
			if step == 0 {
				ws.CloseNow()
				continue
			}
			write(t, ws, hello)
			if step == 1 {
				ws.CloseNow()
				continue
			}
			b.waitAttached("tab-00000001")
			if step >= 3 {
				write(t, ws, fmt.Sprintf(`{"type":"offer","id":1,"sdp":%q}`, chromiumOffer))
			}
			if step == 4 {
				write(t, ws, `{"type":"candidate","candidate":"candidate:1 1 udp 2130706431 127.0.0.1 9 typ host","sdp_mid":"0"}`)
				if i%2 == 0 {
					write(t, ws, `{"type":"bye","code":"left"}`)
					readBye(ws)
				}
			}
			ws.CloseNow()
		}
	}
	b.empty()
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		f, r := openFiles(t), runtime.NumGoroutine()
		if f <= files+2 && r <= routines+4 {
			t.Logf("files %d → %d, goroutines %d → %d", files, f, routines, r)
			return
		}
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("files %d → %d, goroutines %d → %d\n%s", files, f, routines, r, buf[:runtime.Stack(buf, true)])
		}
	}
}

// empty waits until the server has no peers.
func (b *bench) empty() {
	b.t.Helper()
	for deadline := time.Now().Add(patience); b.server.Peers() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			b.t.Fatalf("%d peers left", b.server.Peers())
		}
	}
}

func TestTooManyPeersAreRefused(t *testing.T) {
	b := newBench(t, func(s *Server) { s.MaxPeers = 1 })
	b.connect()
	ws := b.dial("/api/sessions/s1/signal")
	write(t, ws, `{"type":"hello","version":1,"peer":"tab-00000002","codecs":["h264"]}`)
	if bye, err := readBye(ws); err != nil || bye.Code != media.CauseTooMany {
		t.Errorf("%+v, %v", bye, err)
	}
	if cause := get(t, b.session.get("tab-00000002").detached, "detach"); cause.Code != media.CauseTooMany {
		t.Errorf("detached with %v", cause)
	}
}

func TestAServerThatStopsSaysSoAndClosesInTime(t *testing.T) {
	session := newFakeSession(t)
	b := &bench{t: t, session: session}
	stop := b.run(&Server{Attach: session.attach, Network: Network{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0", Loopback: true}})
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if bye := c.bye(); bye.Code != media.CauseShutdown || !bye.Retry {
		t.Errorf("bye %+v", bye)
	}
	if code := closeCode(get(t, c.closed, "close")); code != signaling.CloseShutdown {
		t.Errorf("close code %d", code)
	}
	must(t, get(t, stopped, "end of Run"))
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("took %v", took)
	}
	// And it does not come back.
	ws := b.dial("/api/sessions/s1/signal")
	write(t, ws, `{"type":"hello","version":1,"codecs":["h264"]}`)
	if bye, err := readBye(ws); err != nil || bye.Code != media.CauseShutdown {
		t.Errorf("after the end: %+v, %v", bye, err)
	}
}
