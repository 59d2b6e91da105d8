//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/e2e/route"
)

// peers is how many peers the server knows in all sessions.
func (s *server) peers() (n int) {
	s.t.Helper()
	var list struct{ Sessions []session }
	s.must("GET", "/api/sessions", nil, 200, &list)
	for _, sess := range list.Sessions {
		n += len(sess.Peers)
	}
	return n
}

// TestRow09Row26ManyPeersGoDark connects players over one UDP port and then cuts the
// network of all: no FIN, no goodbye, no pong. All are let go within 30 s.
func TestRow09Row26ManyPeersGoDark(t *testing.T) {
	s := start(t, options{config: still})
	s.setup()
	first, second := s.running("still"), s.running("still") // a session takes 64 peers
	warm := gamers(t, s, first.ID, "warm", 2)               // what is made once is made now
	for _, g := range warm {
		g.leave()
	}
	until(t, 20*time.Second, "nobody is there", func() bool { return s.peers() == 0 })
	base := s.toll()
	n := often(50, 5)
	began := time.Now()
	all := append(gamers(t, s, first.ID, "dark", n), gamers(t, s, second.ID, "dark-too", n)...)
	took := time.Since(began)
	for _, g := range all {
		pair, err := g.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(pair.Remote.Address, ":", pair.Remote.Port); want != s.mediaAddr("udp") {
			t.Fatalf("a player is connected to %s, want the one UDP port", want)
		}
		until(t, 5*time.Second, "the first frame", func() bool { return g.frames.Load() > 0 })
	}
	t.Logf("%d players over one port within %v, the server holds %+v", len(all), took.Round(time.Millisecond), s.toll())
	if now := s.toll(); now.udp > base.udp {
		t.Errorf("UDP sockets grew from %d to %d", base.udp, now.udp)
	}
	if !full {
		return // the rest waits for half a minute: make chaos
	}
	// Half of them stop reading and answering on a websocket that stays open; that of
	// the others is reset.
	for i, g := range all {
		g.link.dark.Store(true)
		if i%2 == 0 {
			g.deaf.Store(true)
		} else if tc, ok := g.raw.(*net.TCPConn); ok {
			_ = tc.SetLinger(0)
			_ = tc.Close()
		}
	}
	cut := time.Now()
	until(t, 31*time.Second, "all dark players are let go", func() bool { return s.peers() == 0 })
	gone := time.Since(cut)
	t.Logf("all let go %v after the cut", gone.Round(time.Millisecond))
	if gone > 30*time.Second {
		t.Errorf("it took %v, want at most 30 s", gone)
	}
	s.atBaseline(base, 10*time.Second)
}

// TestRow09CutLinkCostsNoEncoder: 5 s after the only player's network is gone,
// the encoder works no more; when it is back, so is the picture.
func TestRow09CutLinkCostsNoEncoder(t *testing.T) {
	t.Parallel() // it waits
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("playground")
	g := gamers(t, s, sess.ID, "far-away", 1)[0]
	until(t, 10*time.Second, "a picture", func() bool { return g.frames.Load() > 60 })
	pid := s.worker()
	over := func(d time.Duration) time.Duration {
		before := cpu(t, pid)
		time.Sleep(d) // the measuring time
		return (cpu(t, pid) - before) * time.Second / d
	}
	playing := over(2 * time.Second)
	g.link.dark.Store(true)
	time.Sleep(5 * time.Second) // the criterion
	dark := over(2 * time.Second)
	t.Logf("the media worker uses %v a second while somebody plays, %v from 5 s after the cut", playing, dark)
	// What is left is sound, and looking at what the program draws.
	if dark > playing*6/10 {
		t.Errorf("the media worker still uses %v a second, before the cut %v", dark, playing)
	}
	if st := s.session(sess.ID); len(st.Peers) != 1 {
		t.Errorf("%d peers, want the one to be waited for", len(st.Peers))
	}
	g.link.dark.Store(false)
	back := time.Now()
	frames := g.frames.Load()
	until(t, 3*time.Second, "the picture is back", func() bool { return g.frames.Load() > frames+10 })
	t.Logf("the picture was back %v after the network", time.Since(back).Round(time.Millisecond))
	if s.worker() != pid {
		t.Error("the encoder was started again")
	}
}

// TestRow09CutCable pulls the cable under everything that a client can have open:
// players, event streams, idle connections. Nothing says goodbye, not even the
// kernels; all of it is given back within 30 s.
func TestRow09CutCable(t *testing.T) {
	if !full {
		t.Skip("waits for half a minute: make chaos")
	}
	t.Parallel() // it waits
	path, err := route.New(t.Context(), fmt.Sprintf("c%d", os.Getpid()%100000))
	if errors.Is(err, route.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(path.Close)
	s := start(t, options{config: still, end: &path.A})
	s.setup()
	sess := s.running("still")
	base := s.toll()
	play := func(id string) *gamer {
		g := &gamer{s: s, session: sess.ID, id: id, end: &path.B}
		if err := g.connect(); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		t.Cleanup(g.release)
		until(t, 10*time.Second, "a picture", func() bool { return g.frames.Load() > 0 })
		return g
	}
	for i := range 3 {
		play(fmt.Sprintf("on-a-cable-%d", i))
	}
	at, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	cookie := s.http.Jar.Cookies(at)[0]
	for i := range 10 {
		c, err := path.B.DialContext(t.Context(), "tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		what := "/healthz"
		if i%2 == 0 {
			what = "/api/sessions/" + sess.ID + "/events"
		}
		if _, err := fmt.Fprintf(tc, "GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", what, at.Host, cookie); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(tc).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%s: %q %v", what, line, err)
		}
	}
	with := s.toll()
	path.Set(route.Shape{Loss: 1})
	cut := time.Now()
	ok := became(31*time.Second, func() bool { return s.toll().fds <= base.fds && s.peers() == 0 })
	t.Logf("files before the clients %d, with them %d, %v after the cut %d", base.fds, with.fds, time.Since(cut).Round(100*time.Millisecond), s.toll().fds)
	if !ok {
		t.Errorf("31 s after the cut the server holds %+v and %d peers, before the clients %+v", s.toll(), s.peers(), base)
	}
	path.Set(route.Shape{})
	play("plugged-in-again")
}

// TestRow32HalfMadePeers breaks websockets off at every step of a beginning.
func TestRow32HalfMadePeers(t *testing.T) {
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("still")
	steps := []func(ctx context.Context, g *gamer) error{
		func(context.Context, *gamer) error { return nil }, // upgraded, nothing said
		func(ctx context.Context, g *gamer) error {
			return g.say(ctx, map[string]any{"type": "hello", "version": 1, "peer": g.id, "codecs": []string{"h264"}})
		},
		func(ctx context.Context, g *gamer) error {
			_, err := g.hear(ctx, "welcome", nil)
			return err
		},
		func(ctx context.Context, g *gamer) error {
			if err := g.prepare(); err != nil {
				return err
			}
			o, err := g.pc.CreateOffer(nil)
			if err != nil {
				return err
			}
			return g.say(ctx, map[string]any{"type": "offer", "id": 1, "sdp": o.SDP})
		},
		func(ctx context.Context, g *gamer) error {
			_, err := g.hear(ctx, "answer", nil)
			return err
		},
	}
	round := func(n int) {
		var wg sync.WaitGroup
		next := atomic.Int64{}
		for range 8 {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					g := &gamer{s: s, session: sess.ID, id: fmt.Sprintf("half-made-%05d", i)}
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					err := g.dial(ctx)
					for _, step := range steps[:1+i%len(steps)] {
						if err == nil {
							err = step(ctx, g)
						}
					}
					if err != nil {
						t.Errorf("half-made peer %d: %v", i, err)
					}
					if g.link != nil {
						g.link.dark.Store(true)
					}
					g.vanish()
					cancel()
				}
			})
		}
		wg.Wait()
	}
	round(20)
	until(t, 20*time.Second, "nobody is there", func() bool { return s.peers() == 0 })
	base := s.toll()
	n := often(400, 60)
	began := time.Now()
	round(n)
	t.Logf("%d half-made peers broken off in %v", n, time.Since(began).Round(time.Millisecond))
	until(t, 20*time.Second, "nobody is there", func() bool { return s.peers() == 0 })
	s.atBaseline(base, 10*time.Second)
}

// TestRow32ReloadsAndKilledTabs: who is counted is who is there.
func TestRow32ReloadsAndKilledTabs(t *testing.T) {
	t.Parallel() // it waits
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("still")
	stays := gamers(t, s, sess.ID, "who-stays", 1)[0]
	reloads, kills := often(100, 10), often(50, 6)
	began := time.Now()
	for i := range reloads { // one tab: its id comes again before the old connection is gone
		g := &gamer{s: s, session: sess.ID, id: "reloaded-tab"}
		if err := g.connect(); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
		g.vanish()
	}
	for i := range kills {
		g := &gamer{s: s, session: sess.ID, id: fmt.Sprintf("killed-tab-%03d", i)}
		if err := g.connect(); err != nil {
			t.Fatalf("tab %d: %v", i, err)
		}
		g.vanish()
	}
	counted := s.peers()
	done := time.Now()
	until(t, 30*time.Second, "only who is there is counted", func() bool { return s.peers() == 1 })
	t.Logf("%d reloads and %d killed tabs in %v; then %d peers were counted, and %v later 1", reloads, kills, done.Sub(began).Round(time.Millisecond), counted, time.Since(done).Round(time.Millisecond))
	frames := stays.frames.Load()
	until(t, 5*time.Second, "who is there plays on", func() bool { return stays.frames.Load() > frames })
}

// TestRow28TenTabs: ten connections share a program and an encoder.
func TestRow28TenTabs(t *testing.T) {
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("playground")
	all := gamers(t, s, sess.ID, "tab-of-ten", 10)
	for _, g := range all {
		until(t, 10*time.Second, "a picture for each", func() bool { return g.frames.Load() > 5 })
	}
	st := s.session(sess.ID)
	programs := children(s.cmd.Process.Pid, "playground")
	if len(st.Peers) != 10 || len(st.Video) != 1 || st.Program.PID != sess.Program.PID || len(children(s.cmd.Process.Pid, "media-worker")) != 1 {
		t.Errorf("%d peers, encoders %+v, program %d (was %d), %+v; want 10 peers on one program and encoder", len(st.Peers), st.Video, st.Program.PID, sess.Program.PID, programs)
	}
}

// TestRow23Row55SlowPeers: one player takes nothing, over a TCP connection with a
// full window, one takes a little every second. The other ones notice nothing.
func TestRow23Row55SlowPeers(t *testing.T) {
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("playground")
	fast := gamers(t, s, sess.ID, "fast-player", 2)
	for _, g := range fast {
		until(t, 10*time.Second, "a picture", func() bool { return g.frames.Load() > 120 })
	}
	// Measured in turn, because the rest of the machine is not at rest either.
	measure := time.Duration(often(2000, 800)) * time.Millisecond
	var before, during []time.Duration
	var pipes []*pipe
	for i, every := range []time.Duration{0, time.Second} {
		p := newPipe(t, s.mediaAddr("tcp"), every)
		pipes = append(pipes, p)
		g := &gamer{s: s, session: sess.ID, id: fmt.Sprintf("slow-player-%d", i), tcp: p.addr, rewrite: p.rewrite}
		if err := g.connect(); err != nil {
			t.Fatalf("slow player: %v", err)
		}
		t.Cleanup(g.release)
		until(t, 10*time.Second, "its picture", func() bool { return g.frames.Load() > 5 })
	}
	for range 6 {
		before = append(before, fast[0].gapsOver(measure)...)
		for _, p := range pipes {
			p.slow.Store(true)
		}
		during = append(during, fast[0].gapsOver(measure)...)
		for _, p := range pipes {
			p.slow.Store(false)
		}
	}
	slices.Sort(before)
	slices.Sort(during)
	p99 := [2]time.Duration{percentile(before, 99), percentile(during, 99)}
	t.Logf("frame interval of a fast player: p50 %v p99 %v of %d, beside slow ones p50 %v p99 %v of %d",
		percentile(before, 50), p99[0], len(before), percentile(during, 50), p99[1], len(during))
	// Where the rest of the machine makes frames late, it does so unevenly.
	if p99[1] > max(p99[0]+15*time.Millisecond, 2*p99[0]) || len(during) < len(before)*3/4 {
		t.Errorf("p99 went from %v to %v, frames from %d to %d", p99[0], p99[1], len(before), len(during))
	}
}

// pipe stands between a player and the server's TCP port. Once slow it takes from
// the server one packet every interval, or nothing at all where that is 0.
type pipe struct {
	addr  string
	to    string
	every time.Duration
	slow  atomic.Bool
}

func newPipe(t *testing.T, to string, every time.Duration) *pipe {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{addr: l.Addr().String(), to: to, every: every}
	done := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() { close(done); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.carry(c, done) })
		}
	})
	return p
}

func (p *pipe) carry(c net.Conn, done <-chan struct{}) {
	defer c.Close()
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer up.Close()
	up.(*net.TCPConn).SetReadBuffer(16 << 10) // a small window is full soon
	ended := make(chan struct{}, 2)
	go func() {
		defer func() { ended <- struct{}{} }()
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err == nil {
				_, err = up.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer func() { ended <- struct{}{} }()
		buf := make([]byte, 1400)
		for {
			if p.slow.Load() {
				select {
				case <-time.After(max(p.every, 10*time.Millisecond)):
				case <-done:
					return
				}
				if p.every == 0 {
					continue
				}
			}
			n, err := up.Read(buf)
			if err == nil {
				_, err = c.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-done:
	}
}

// rewrite makes a candidate of the server's TCP port one of the pipe's.
func (p *pipe) rewrite(candidate string) (string, bool) {
	if !strings.Contains(candidate, " tcp ") {
		return "", false
	}
	_, from, _ := net.SplitHostPort(p.to)
	_, to, _ := net.SplitHostPort(p.addr)
	return strings.Replace(candidate, " "+from+" typ", " "+to+" typ", 1), true
}

// TestRow66QuietAndCut: pings keep a quiet websocket alive, and a player whose
// network is cut for 20 s is back in the same session, with the same encoder.
func TestRow66QuietAndCut(t *testing.T) {
	if !full {
		t.Skip("waits for minutes: make chaos")
	}
	t.Parallel() // it waits
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("playground")
	var mu sync.Mutex
	pings := []time.Time{time.Now()}
	g := &gamer{s: s, session: sess.ID, id: "quiet-player", onPing: func(context.Context, []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		pings = append(pings, time.Now())
		return true
	}}
	if err := g.connect(); err != nil {
		t.Fatal(err)
	}
	defer g.release()
	worker := s.worker()
	select {
	case <-g.over:
		t.Fatalf("the websocket ended by itself, bye %v", g.bye.Load())
	case <-time.After(61 * time.Second):
	}
	mu.Lock()
	var gaps []time.Duration
	for i, p := range append(pings[1:], time.Now()) {
		gaps = append(gaps, p.Sub(pings[i]).Round(time.Millisecond))
	}
	mu.Unlock()
	t.Logf("quiet times in a minute without a word: %v", gaps)
	if worst := slices.Max(gaps); worst > 25*time.Second {
		t.Errorf("nothing was heard for %v, want a ping every 25 s", worst)
	}
	g.link.dark.Store(true)
	time.Sleep(20 * time.Second) // the criterion
	g.link.dark.Store(false)
	back := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.restart(ctx); err != nil {
		t.Fatalf("look for a new path: %v", err)
	}
	frames := g.frames.Load()
	until(t, 5*time.Second, "the picture is back", func() bool { return g.frames.Load() > frames+10 })
	t.Logf("the picture was back %v after a cut of 20 s", time.Since(back).Round(time.Millisecond))
	now := s.session(sess.ID)
	if now.Program.PID != sess.Program.PID || s.worker() != worker || now.Restarts != 0 || len(now.Peers) != 1 {
		t.Errorf("after the cut: %+v, worker %d (was %d); want the same program, encoder and one peer", now, s.worker(), worker)
	}
}

// restart looks for a new path over the living websocket.
func (g *gamer) restart(ctx context.Context) error {
	o, err := g.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return err
	}
	g.serial++
	if err := g.pc.SetLocalDescription(o); err != nil {
		return err
	}
	return g.say(ctx, map[string]any{"type": "offer", "id": g.serial, "sdp": o.SDP})
}
