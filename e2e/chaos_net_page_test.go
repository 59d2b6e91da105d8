//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// detour makes a page reach the server's UDP port through another one, and its TCP
// port not at all or as it is. The server hears of no candidate of the page, so
// that it finds no way around.
const detour = `(() => {
	const port = '%d', tcp = %t;
	const add = RTCPeerConnection.prototype.addIceCandidate;
	RTCPeerConnection.prototype.addIceCandidate = function (c) {
		const init = { ...(c?.toJSON?.() ?? c) };
		if (!tcp && / tcp /i.test(init.candidate ?? '')) return Promise.resolve();
		init.candidate = (init.candidate ?? '').replace(/( udp \d+ \S+ )\d+/i, '$1' + port);
		return add.call(this, init);
	};
	const send = WebSocket.prototype.send;
	WebSocket.prototype.send = function (data) {
		if (typeof data !== 'string' || !data.startsWith('{"type":"candidate"')) send.call(this, data);
	};
})()`

func take(t *testing.T, p playwright.Page, port int, tcp bool) {
	t.Helper()
	do(t, "detour", p.AddInitScript(playwright.Script{Content: playwright.String(fmt.Sprintf(detour, port, tcp))}))
}

// relay carries UDP between a page and the server; while dark, nothing.
type relay struct {
	port int
	dark atomic.Bool
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	server, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{port: front.LocalAddr().(*net.UDPAddr).Port}
	var wg sync.WaitGroup
	ways := map[string]*net.UDPConn{} // to the server, by client; of the first goroutine until it ends
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := front.ReadFromUDP(buf)
			if err != nil {
				return
			}
			way := ways[from.String()]
			if way == nil {
				if way, err = net.DialUDP("udp", nil, server); err != nil {
					t.Error(err)
					return
				}
				ways[from.String()] = way
				wg.Go(func() {
					back := make([]byte, 2048)
					for {
						n, err := way.Read(back)
						if err != nil {
							return
						}
						if !r.dark.Load() {
							_, _ = front.WriteToUDP(back[:n], from) // as lossy as UDP is
						}
					}
				})
			}
			if !r.dark.Load() {
				_, _ = way.Write(buf[:n]) // likewise
			}
		}
	})
	t.Cleanup(func() {
		front.Close()
		for _, way := range ways {
			way.Close()
		}
		wg.Wait()
	})
	return r
}

// TestRow26UDPBlocked: with every UDP packet lost a page plays over TCP within 10 s.
func TestRow26UDPBlocked(t *testing.T) {
	s := start(t, options{})
	nothing, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) // nobody reads it
	if err != nil {
		t.Fatal(err)
	}
	defer nothing.Close()
	p := tab(t, 1280, 720)
	take(t, p, nothing.LocalAddr().(*net.UDPAddr).Port, true)
	enter(t, s, p)
	began := time.Now()
	sid := play(t, p, "playground")
	awaitPicture(t, p, 1, 10*time.Second)
	t.Logf("first picture over TCP %v after the click on Play", time.Since(began).Round(time.Millisecond))
	_, port, _ := net.SplitHostPort(s.mediaAddr("tcp"))
	if n := established(t, s, port); n == 0 {
		t.Error("there is a picture and no connection to the TCP port")
	}
	if st := s.session(sid); len(st.Peers) != 1 {
		t.Errorf("%d peers, want 1", len(st.Peers))
	}
}

// established counts the living connections to a TCP port.
func established(t *testing.T, s *server, port string) (n int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var number int
	fmt.Sscan(port, &number)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) && f[3] == "01" {
			n++
		}
	}
	return n
}

// supersede is how the log tells that a peer gave way to a newer one.
var supersede = regexp.MustCompile(`msg="peer gone".* transport=.* cause=superseded`)

// TestRow31TwoPagesWithOneID: the newer page lives, the older one stays down.
func TestRow31TwoPagesWithOneID(t *testing.T) {
	s := start(t, options{})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 10, 20*time.Second)
	var peer string
	eval(t, p, &peer, "() => sessionStorage.getItem('fenrir.peer')")
	second := page(t, p.Context())
	do(t, "eyes", second.AddInitScript(playwright.Script{Content: playwright.String(eyes)}))
	do(t, "the same id", second.AddInitScript(playwright.Script{Content: playwright.String("sessionStorage.setItem('fenrir.peer', '" + peer + "')")}))
	_, err := second.Goto(s.url + "/#play/" + sid)
	do(t, "open", err)
	awaitPicture(t, second, 10, 20*time.Second)
	panel := p.Locator("[data-testid=error-panel][data-code=superseded]")
	do(t, "the first page says so", panel.WaitFor(playwright.LocatorWaitForOptions{Timeout: playwright.Float(5000)}))
	watch := time.Duration(often(60, 3)) * time.Second
	time.Sleep(watch) // the time in which they could go on
	reset(t, second)
	awaitPicture(t, second, 10, 5*time.Second)
	if n := len(supersede.FindAllString(s.log.tail(1<<20), -1)); n != 1 {
		t.Errorf("superseded %d times within %v, want once", n, watch)
	}
	if st := s.session(sid); len(st.Peers) != 1 || st.Peers[0].ID != peer {
		t.Errorf("peers %+v, want the one", st.Peers)
	}
}

// TestRow32ReloadsInChromium: real tabs that are reloaded, closed and crashed.
func TestRow32ReloadsInChromium(t *testing.T) {
	if !full {
		t.Skip("waits for what is gone to be forgotten: make chaos")
	}
	s := start(t, options{})
	p := tab(t, 640, 360)
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 5, 20*time.Second)
	for range 8 {
		_, err := p.Reload()
		do(t, "reload", err)
		awaitPicture(t, p, 3, 10*time.Second)
	}
	for i := range 6 {
		q := page(t, p.Context())
		do(t, "eyes", q.AddInitScript(playwright.Script{Content: playwright.String(eyes)}))
		_, err := q.Goto(s.url + "/#play/" + sid)
		do(t, "open", err)
		awaitPicture(t, q, 3, 10*time.Second)
		if i%2 == 0 {
			do(t, "close", q.Close())
			continue
		}
		cdp := must(q.Context().NewCDPSession(q))(t)
		go cdp.Send("Page.crash", nil) // never answers
	}
	began := time.Now()
	until(t, 30*time.Second, "one peer is left", func() bool { return len(s.session(sid).Peers) == 1 })
	t.Logf("who is gone was forgotten within %v", time.Since(began).Round(time.Millisecond))
	do(t, "to the front", p.BringToFront())
	reset(t, p)
	awaitPicture(t, p, 5, 5*time.Second)
}

// TestRow44StallOfTwoSeconds: what the pointer did while the network stood still is
// not replayed after it, and no key is lost.
func TestRow44StallOfTwoSeconds(t *testing.T) {
	s := start(t, options{})
	r := newRelay(t, s.mediaAddr("udp"))
	p := tab(t, 1280, 720)
	take(t, p, r.port, false)
	enter(t, s, p)
	play(t, p, "playground")
	awaitPicture(t, p, 10, 20*time.Second)
	focus(t, p)
	do(t, "move", p.Mouse().Move(300, 300))
	reset(t, p)
	do(t, "key", p.Keyboard().Press("KeyA"))
	awaitEvent(t, p, 2, 38) // everything before has arrived
	before := s.metric("fenrir_inputs_total")
	r.dark.Store(true)
	began := time.Now()
	moves, keys := 0, 0
	for i := 0; time.Since(began) < 2*time.Second; i++ {
		do(t, "move", p.Mouse().Move(300+float64(i%200), 300+float64(i%100)))
		moves++
		if i%20 == 10 {
			do(t, "key", p.Keyboard().Press("KeyZ"))
			keys += 2
		}
	}
	r.dark.Store(false)
	back := time.Now()
	until(t, 5*time.Second, "the keys arrive", func() bool { return int(s.metric("fenrir_inputs_total")-before) >= keys })
	took := time.Since(back)
	total, since := s.metric("fenrir_inputs_total"), time.Now()
	until(t, 10*time.Second, "nothing more arrives for a second", func() bool {
		if now := s.metric("fenrir_inputs_total"); now != total {
			total, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
	arrived := int(total-before) - keys
	t.Logf("%d moves and %d key events in 2 s without network; %v later the keys were there; %d moves of before arrived",
		moves, keys, took.Round(time.Millisecond), arrived)
	if arrived < 0 {
		t.Errorf("%d key events were lost", -arrived)
	}
	// One waited in the channel, one was gathered behind it.
	if arrived > 2 {
		t.Errorf("%d moves arrived after the stall, want at most 2", arrived)
	}
}

// TestRow35ForeignIDs: whoever is not the owner gets the same 404 for every verb,
// also when the id of a peer or a player is known.
func TestRow35ForeignIDs(t *testing.T) {
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("still")
	g := gamers(t, s, sess.ID, "the-owner", 1)[0]
	s.must("POST", "/api/users", map[string]string{"name": "loki", "password": "mischief managed", "role": "player"}, http.StatusCreated, nil)
	s.must("POST", "/api/login", map[string]string{"name": "loki", "password": "mischief managed"}, http.StatusOK, nil)
	for _, path := range []string{"", "/screenshot", "/events", "/signal", "/whep", "/whep/" + g.id} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			status, raw, err := s.call(method, "/api/sessions/"+sess.ID+path, map[string]int{}, nil)
			if err != nil || status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
				t.Errorf("%s …%s: %d %s %v, want 404 or 405", method, path, status, raw, err)
			}
		}
	}
	thief := &gamer{s: s, session: sess.ID, id: g.id}
	defer thief.release()
	if err := thief.connect(); err == nil {
		t.Error("a stranger took over a peer by its id")
	}
	frames := g.frames.Load()
	until(t, 5*time.Second, "the owner plays on", func() bool { return g.frames.Load() > frames })
}
