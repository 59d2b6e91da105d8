//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fenrir/e2e/route"
)

// binary is the fenrir under test: FENRIR_BIN, or one built for this run.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fenrir-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = os.Getenv("FENRIR_BIN")
	if binary == "" {
		binary = filepath.Join(dir, "fenrir")
		build := exec.Command("go", "build", "-o", binary, "../server")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build fenrir:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	stopBrowser()
	os.RemoveAll(dir)
	os.Exit(code)
}

const adminName, adminPassword = "freya", "a long enough password"

// server is one running fenrir.
type server struct {
	t     *testing.T
	cmd   *exec.Cmd
	url   string // https://127.0.0.1:port
	token string // setup token, "" on a state folder that has an admin
	dir   string
	log   *lockedBuffer
	exit  chan struct{} // closed when the process is gone
	http  *http.Client  // has the admin's cookie after login
}

// options change how a server is started.
type options struct {
	config string     // TOML put behind the default test configuration
	env    []string   // added to the environment
	dir    string     // state of an earlier server
	end    *route.End // of a network path, where it is to run; nil is loopback
	bin    string     // the program; "": the ordinary one
}

var readyLine = regexp.MustCompile(`https://[^/\s]+/(?:#setup=(\S+))?`)

// start runs fenrir on loopback and waits until it prints its URL.
func start(t *testing.T, o options) *server {
	t.Helper()
	s := &server{t: t, dir: o.dir, log: &lockedBuffer{}, exit: make(chan struct{})}
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	host := "127.0.0.1"
	if o.end != nil {
		host = o.end.Addr.String()
	}
	config := fmt.Sprintf(`
[http]
listen = "%[3]s:0"
[state]
dir = %[1]q
runtime_dir = %[2]q
[network]
udp_listen = "%[3]s:0"
tcp_listen = "%[3]s:0"
include_loopback = true
[moonlight]
listen = %[3]q
port = 0
discovery = false
[metrics]
access = "loopback"
[log]
level = "debug"
%[4]s`, filepath.Join(s.dir, "state"), filepath.Join(s.dir, "run"), host, o.config)
	path := filepath.Join(s.dir, "fenrir.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := []string{cmp.Or(o.bin, binary), "serve", "-config", path}
	dial := (&net.Dialer{}).DialContext
	if o.end != nil {
		command, dial = o.end.Wrap(command...), o.end.DialContext
	}
	s.cmd = exec.Command(command[0], command[1:]...)
	s.cmd.Env = append(os.Environ(), o.env...)
	s.cmd.Stderr = s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 16)
	go func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			select {
			case lines <- sc.Text():
			default:
			}
		}
		s.cmd.Wait() // its exit is all that matters
		close(s.exit)
	}()
	t.Cleanup(s.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("server log, without good requests:\n%s", s.log.story(16<<10))
		}
	})
	deadline := time.After(30 * time.Second)
	for s.url == "" {
		select {
		case line := <-lines:
			if m := readyLine.FindStringSubmatch(line); m != nil {
				s.url = strings.TrimSuffix(strings.SplitN(m[0], "#", 2)[0], "/")
				s.token = m[1]
			}
		case <-s.exit:
			t.Fatalf("fenrir ended before it was ready:\n%s", s.log.tail(8<<10))
		case <-deadline:
			t.Fatalf("fenrir printed no URL within 30 s:\n%s", s.log.tail(8<<10))
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.http = &http.Client{
		Jar: jar, Timeout: 15 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the server's own certificate, made a moment ago
			ForceAttemptHTTP2: true,
			DialContext:       dial,
		},
	}
	return s
}

// stop ends the server politely, then not. Idempotent.
func (s *server) stop() {
	select {
	case <-s.exit:
		return
	default:
	}
	s.cmd.Process.Signal(syscall.SIGTERM) // may have ended meanwhile
	select {
	case <-s.exit:
	case <-time.After(10 * time.Second):
		s.t.Error("fenrir did not end within 10 s of SIGTERM")
		s.cmd.Process.Kill()
		<-s.exit
	}
}

// setup makes the admin and keeps the cookie.
func (s *server) setup() {
	s.t.Helper()
	s.must("POST", "/api/setup", map[string]string{"token": s.token, "name": adminName, "password": adminPassword}, http.StatusCreated, nil)
}

// call sends a request with a JSON body and decodes a JSON answer into out.
func (s *server) call(method, path string, body, out any) (status int, raw []byte, err error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, r)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Origin", s.url)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && out != nil && resp.StatusCode < 300 {
		err = json.Unmarshal(raw, out)
	}
	return resp.StatusCode, raw, err
}

// must is call that fails the test unless the status is want; 0 wants success.
func (s *server) must(method, path string, body any, want int, out any) []byte {
	s.t.Helper()
	status, raw, err := s.call(method, path, body, out)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	if status != want && !(want == 0 && status < 300) {
		s.t.Fatalf("%s %s: status %d, want %d: %s", method, path, status, want, raw)
	}
	return raw
}

// session is what the tests read of the API's session.
type session struct {
	ID       string
	Phase    string
	Step     string
	Cause    *struct{ Code, Detail, Output string }
	Width    int
	Height   int
	Program  struct{ PID int }
	Audio    string
	Video    []struct{ Codec, Encoder, Element, Reason string }
	Peers    []struct{ ID string }
	Restarts int `json:"worker_restarts"`
}

func (s *server) session(id string) session {
	s.t.Helper()
	var out session
	s.must("GET", "/api/sessions/"+id, nil, http.StatusOK, &out)
	return out
}

// create starts a session of app at 1280×720, 60 fps.
func (s *server) create(app string) session {
	s.t.Helper()
	var out session
	s.must("POST", "/api/sessions", map[string]any{"app": app, "width": 1280, "height": 720, "fps": 60}, http.StatusCreated, &out)
	return out
}

func parseFloat(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// until polls ok every 20 ms until it is true, and fails after bound.
func until(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	if !became(bound, ok) {
		t.Fatalf("not within %v: %s", bound, what)
	}
}

// became polls ok every 20 ms and tells whether it became true before bound.
func became(bound time.Duration, ok func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(bound)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// lockedBuffer keeps the last MiB of what is written to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if n := len(b.buf); n > 1<<20 {
		b.buf = append(b.buf[:0], b.buf[n-1<<20:]...)
	}
	return len(p), nil
}

// story is the last n bytes without the lines of requests that went well.
func (b *lockedBuffer) story(n int) string {
	var out []byte
	for line := range strings.Lines(b.tail(1 << 20)) {
		if !strings.Contains(line, "msg=request ") || !strings.Contains(line, " status=20") {
			out = append(out, line...)
		}
	}
	return string(out[max(0, len(out)-n):])
}

func (b *lockedBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf[max(0, len(b.buf)-n):])
}
