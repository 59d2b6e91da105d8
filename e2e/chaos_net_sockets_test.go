//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clientHello is what a TLS client says first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	go tls.Client(ours, &tls.Config{InsecureSkipVerify: true}).Handshake() // fails when the pipe is closed
	defer ours.Close()
	buf := make([]byte, 4096)
	n, err := theirs.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// stun is a binding request for a player that does not exist, framed for TCP.
func stun(user string) []byte {
	u16 := func(n int) []byte { return []byte{byte(n >> 8), byte(n)} }
	attr := slices.Concat(u16(0x0006), u16(len(user)), []byte(user), make([]byte, (4-len(user)%4)%4))
	m := slices.Concat(u16(0x0001), u16(len(attr)), []byte{0x21, 0x12, 0xA4, 0x42}, []byte("abcdefghijkl"), attr)
	return append(u16(len(m)), m...)
}

// breakOff is one way to break a connection off. It returns the connection if that
// is the server's to close.
type breakOff struct {
	name string
	udp  bool
	ice  bool // of the ICE-TCP port; else HTTPS
	do   func(c net.Conn) (half bool, err error)
}

func rst(c net.Conn) error { return errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close()) }
func fin(c net.Conn) error { return c.(*net.TCPConn).CloseWrite() }
func sending(b []byte, then func(net.Conn) error, isHalf bool) func(net.Conn) (bool, error) {
	return func(c net.Conn) (bool, error) {
		if _, err := c.Write(b); err != nil {
			return false, errors.Join(err, c.Close())
		}
		return isHalf, then(c)
	}
}

func breakOffs(t *testing.T) []breakOff {
	hello := clientHello(t)
	shake := func(c net.Conn) (*tls.Conn, error) {
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		return tc, tc.Handshake()
	}
	return []breakOff{
		{name: "reset at once", do: sending(nil, rst, false)},
		{name: "half-closed at once", do: sending(nil, fin, true)},
		{name: "half a ClientHello, reset", do: sending(hello[:len(hello)/2], rst, false)},
		{name: "half a ClientHello, half-closed", do: sending(hello[:len(hello)/2], fin, true)},
		{name: "ClientHello, reset", do: sending(hello, rst, false)},
		{name: "ClientHello, half-closed", do: sending(hello, fin, true)},
		{name: "rubbish, half-closed", do: sending(bytes.Repeat([]byte{0xFF, 0}, 300), fin, true)},
		{name: "plain HTTP, half-closed", do: sending([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), fin, true)},
		{name: "handshake, reset", do: func(c net.Conn) (bool, error) {
			if _, err := shake(c); err != nil {
				return false, errors.Join(err, c.Close())
			}
			return false, rst(c)
		}},
		{name: "half a request, half-closed", do: func(c net.Conn) (bool, error) {
			tc, err := shake(c)
			if err == nil {
				_, err = io.WriteString(tc, "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
			}
			if err != nil {
				return false, errors.Join(err, c.Close())
			}
			return true, fin(c)
		}},
		{name: "ICE-TCP: reset at once", ice: true, do: sending(nil, rst, false)},
		{name: "ICE-TCP: half a length, half-closed", ice: true, do: sending([]byte{0}, fin, true)},
		{name: "ICE-TCP: half a message, half-closed", ice: true, do: sending(stun("nobody:x")[:20], fin, true)},
		{name: "ICE-TCP: rubbish, half-closed", ice: true, do: sending(append([]byte{0, 100}, bytes.Repeat([]byte{7}, 100)...), fin, true)},
		{name: "ICE-TCP: a stranger, reset", ice: true, do: sending(stun("nobody:x"), rst, false)},
		{name: "ICE-TCP: strangers, half-closed", ice: true, do: func(c net.Conn) (bool, error) {
			return sending(stun(fmt.Sprintf("%x:x", rand.Uint64())), fin, true)(c)
		}},
		{name: "UDP: rubbish", udp: true, do: sending(bytes.Repeat([]byte{9}, 500), net.Conn.Close, false)},
		{name: "UDP: a stranger", udp: true, do: sending(stun("nobody:x")[2:], net.Conn.Close, false)},
		{name: "UDP: half a message", udp: true, do: sending(stun("nobody:x")[2:15], net.Conn.Close, false)},
	}
}

// TestRow02BrokenConnections breaks off connections to every port in every way.
// What the client half-closed and keeps open is the server's to close.
func TestRow02BrokenConnections(t *testing.T) {
	s := start(t, options{})
	s.setup()
	s.must("GET", "/healthz", nil, http.StatusOK, nil)
	ways := breakOffs(t)
	https, ice, udp := strings.TrimPrefix(s.url, "https://"), s.mediaAddr("tcp"), s.mediaAddr("udp")
	round := func(n int) {
		jobs := make(chan breakOff)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var kept []net.Conn
		for range 16 {
			wg.Go(func() {
				for way := range jobs {
					network, addr := "tcp", https
					if way.ice {
						addr = ice
					}
					if way.udp {
						network, addr = "udp", udp
					}
					c, err := net.DialTimeout(network, addr, 5*time.Second)
					if err != nil {
						t.Errorf("%s: %v", way.name, err)
						continue
					}
					keep, err := way.do(c)
					// The server may have been quicker to close.
					if err != nil && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
						t.Errorf("%s: %v", way.name, err)
					}
					if keep {
						mu.Lock()
						kept = append(kept, c)
						mu.Unlock()
					}
				}
			})
		}
		for i := range n {
			jobs <- ways[i%len(ways)]
		}
		close(jobs)
		wg.Wait()
		// They stay open on our side for as long as the test looks.
		t.Cleanup(func() {
			for _, c := range kept {
				c.Close()
			}
		})
	}
	round(2 * len(ways)) // what is made once is made now
	s.atBaseline(toll{fds: 1 << 20, udp: 1 << 20, goroutines: 1 << 20}, 20*time.Second)
	var base toll
	until(t, 20*time.Second, "the server at rest", func() bool {
		last := base
		base = s.toll()
		return base == last
	})
	n := often(10_000, 600)
	began := time.Now()
	var worst time.Duration
	done := make(chan struct{})
	go func() { defer close(done); round(n) }()
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		case <-time.After(50 * time.Millisecond):
			asked := time.Now()
			s.must("GET", "/healthz", nil, http.StatusOK, nil)
			worst = max(worst, time.Since(asked))
		}
	}
	t.Logf("%d connections broken off in %v; meanwhile /healthz took at most %v", n, time.Since(began).Round(time.Millisecond), worst.Round(time.Millisecond))
	s.atBaseline(base, 30*time.Second)
}

// TestRow58Slowloris: what comes byte by byte, and never whole, is cut off.
func TestRow58Slowloris(t *testing.T) {
	t.Parallel() // it waits
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("still")
	https := strings.TrimPrefix(s.url, "https://")
	raw := func(addr string) func() (net.Conn, error) {
		return func() (net.Conn, error) { return net.DialTimeout("tcp", addr, 5*time.Second) }
	}
	secure := func() (net.Conn, error) {
		return tls.Dial("tcp", https, &tls.Config{InsecureSkipVerify: true})
	}
	cookie := ""
	req, err := http.NewRequest("GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.http.Jar.Cookies(req.URL) {
		cookie = c.String()
	}
	upgrade := "GET /api/sessions/" + sess.ID + "/signal HTTP/1.1\r\nHost: " + https + "\r\nOrigin: " + s.url + "\r\nCookie: " + cookie +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: fenrir.v1\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	// A client's frame: text, its first fragment, of 100 bytes with the mask 0.
	fragment := string([]byte{0x01, 0x80 | 100, 0, 0, 0, 0})
	var all sync.WaitGroup
	for _, c := range []struct {
		name  string
		dial  func() (net.Conn, error)
		first string // at once
		drip  string // a byte at a time, over and over
		bound time.Duration
	}{
		{"ClientHello", raw(https), "", string(clientHello(t)[:200]), 11 * time.Second},
		{"ICE-TCP message", raw(s.mediaAddr("tcp")), "\x01\x00", "\x00", 6 * time.Second},
		{"headers", secure, "GET / HTTP/1.1\r\nHost: x\r\n", "X-More: and more\r\n", 11 * time.Second},
		{"body", secure, "POST /api/login HTTP/1.1\r\nHost: " + https + "\r\nOrigin: " + s.url + "\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n{", " ", 16 * time.Second},
		{"upgrade that is never finished", secure, upgrade, "X-More: and more\r\n", 11 * time.Second},
		{"websocket without a hello", secure, upgrade + "\r\n", "", 7 * time.Second},
		{"fragments of a message", secure, upgrade + "\r\n" + fragment, " ", 7 * time.Second},
	} {
		if !full && c.bound > 10*time.Second {
			continue
		}
		all.Go(func() {
			conn, err := c.dial()
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			defer conn.Close()
			began := time.Now()
			if _, err := io.WriteString(conn, c.first); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			cut := make(chan struct{})
			go func() {
				defer close(cut)
				// Answers may come before the end; only the end counts.
				_, _ = io.Copy(io.Discard, conn)
			}()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-cut:
					t.Logf("%s: cut off after %v", c.name, time.Since(began).Round(10*time.Millisecond))
					return
				case <-tick.C:
				}
				if time.Since(began) > c.bound {
					t.Errorf("%s: still connected after %v", c.name, c.bound)
					return
				}
				if c.drip != "" {
					_, _ = io.WriteString(conn, c.drip[i%len(c.drip):][:1]) // fails when it is cut: the reader tells
				}
			}
		})
	}
	all.Wait()
}

// TestRow58NoFilesLeft takes every file descriptor away that the server could open.
// Its listeners are there again when there are some.
func TestRow58NoFilesLeft(t *testing.T) {
	s := start(t, options{config: still})
	s.setup()
	sess := s.running("still")
	one := &gamer{s: s, session: sess.ID, id: "before-all"}
	if err := one.connect(); err != nil {
		t.Fatal(err)
	}
	defer one.release()
	pid := s.cmd.Process.Pid
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = uint64(s.toll().fds + 20)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	var taken []net.Conn
	for _, addr := range []string{s.mediaAddr("tcp"), strings.TrimPrefix(s.url, "https://")} {
		for range 60 {
			if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
				taken = append(taken, c)
			}
		}
	}
	until(t, 5*time.Second, "no files are left", func() bool { return strings.Contains(s.log.tail(1<<20), "too many open files") })
	frames := one.frames.Load()
	until(t, 5*time.Second, "who plays goes on", func() bool { return one.frames.Load() > frames })
	for _, c := range taken {
		c.Close()
	}
	began := time.Now()
	for _, over := range []string{"", s.mediaAddr("tcp")} {
		g := &gamer{s: s, session: sess.ID, id: fmt.Sprintf("after-all-%d", len(over)), tcp: over}
		defer g.release()
		if err := g.connect(); err != nil {
			t.Errorf("a player after it (ICE-TCP %q): %v", over, err)
		}
	}
	t.Logf("two players came in %v after there were files again", time.Since(began).Round(time.Millisecond))
}

// TestRow03BusyMachine starts sessions while every core is burnt.
func TestRow03BusyMachine(t *testing.T) {
	s := start(t, options{config: still})
	s.setup()
	burn(t)
	var shakes, starts []time.Duration
	failed := 0
	n := often(30, 3)
	for range n {
		began := time.Now()
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		shakes = append(shakes, time.Since(began))
		began = time.Now()
		sess := s.create("still")
		if !became(20*time.Second, func() bool { return s.session(sess.ID).Phase == "running" }) {
			failed++
		}
		starts = append(starts, time.Since(began))
		s.must("DELETE", "/api/sessions/"+sess.ID, nil, 0, nil)
	}
	slices.Sort(shakes)
	slices.Sort(starts)
	t.Logf("TLS handshake p50 %v p95 %v; start p50 %v, slowest %v; %d of %d starts failed",
		percentile(shakes, 50), percentile(shakes, 95), percentile(starts, 50), starts[n-1], failed, n)
	if failed*100 > n {
		t.Errorf("%d of %d starts failed, want at most 1 %%", failed, n)
	}
	if p := percentile(shakes, 95); p > 500*time.Millisecond {
		t.Errorf("TLS handshake p95 %v, want at most 500 ms", p)
	}
}

// burn keeps two processes for each core busy until the test ends.
func burn(t *testing.T) {
	t.Helper()
	for range 2 * runtime.NumCPU() {
		c := exec.Command("sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			c.Process.Kill()
			c.Wait() // was killed
		})
	}
}
