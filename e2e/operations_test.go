//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// blindfold makes a page that is told so see nothing of what it is sent, as one
// whose decoder is stuck: no frame is told to be painted.
const blindfold = `
globalThis.blind = false;
const real = HTMLVideoElement.prototype.requestVideoFrameCallback;
HTMLVideoElement.prototype.requestVideoFrameCallback = function (f) {
  return real.call(this, (now, about) => { if (globalThis.blind) this.requestVideoFrameCallback(f); else f(now, about); });
};
`

// TestRow38Row49PaintedFrames: a player that is sent frames
// and paints none is told why, gets a key frame, then another media worker.
func TestRow38Row49PaintedFrames(t *testing.T) {
	s := start(t, options{})
	p := tab(t, 1280, 720)
	do(t, "blindfold", p.AddInitScript(playwright.Script{Content: playwright.String(blindfold)}))
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 30, 20*time.Second)
	until(t, 5*time.Second, "the picture is known to be seen", func() bool {
		return s.labelled(`fenrir_peers_by_picture{picture="ok"}`) == 1
	})
	program := s.session(sid).Program.PID

	eval(t, p, nil, "() => { globalThis.blind = true; }")
	began := time.Now()
	note := p.Locator("[data-testid=no-picture][data-code=no-picture]")
	do(t, "the page says why", note.WaitFor(playwright.LocatorWaitForOptions{Timeout: playwright.Float(9000)}))
	t.Logf("told after %v: %q", time.Since(began).Round(time.Millisecond), must(note.InnerText())(t))
	do(t, "a phone's width", p.SetViewportSize(390, 844))
	// The page arranges itself when it hears of the new width.
	fits := func() bool {
		box, err := note.BoundingBox()
		return err == nil && box != nil && box.X >= 0 && box.X+box.Width <= 390
	}
	if !became(2*time.Second, fits) {
		box, err := note.BoundingBox()
		t.Errorf("on 390 pixels the note is at %+v, %v", box, err)
	}
	do(t, "the old width", p.SetViewportSize(1280, 720))
	if role := must(note.GetAttribute("role"))(t); role != "status" {
		t.Errorf("role %q: a screen reader says nothing", role)
	}
	until(t, 9*time.Second, "the media worker is replaced", func() bool { return s.session(sid).Restarts == 1 })
	took := time.Since(began)
	t.Logf("media worker replaced after %v", took.Round(time.Millisecond))
	if took < 7*time.Second {
		t.Errorf("replaced after %v, want a key frame to get its chance first", took)
	}
	if n := s.labelled(`fenrir_worker_restarts_total{reason="unpainted"}`); n != 1 {
		t.Errorf("%v restarts counted, want 1", n)
	}
	eval(t, p, nil, "() => { globalThis.blind = false; }")
	do(t, "the note goes", note.WaitFor(playwright.LocatorWaitForOptions{State: playwright.WaitForSelectorStateHidden, Timeout: playwright.Float(10_000)}))
	reset(t, p)
	awaitPicture(t, p, 10, 10*time.Second)
	if now := s.session(sid); now.Program.PID != program || now.Phase != "running" {
		t.Errorf("afterwards: %+v, want the same program", now)
	}
}

// labelled reads one value of /metrics by its name with labels, 0 when it is absent.
func (s *server) labelled(name string) float64 {
	s.t.Helper()
	raw := s.must("GET", "/metrics", nil, http.StatusOK, nil)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return parseFloat(s.t, strings.TrimSpace(rest))
		}
	}
	return 0
}

// ready asks /readyz.
func (s *server) ready() (status int, text string) {
	s.t.Helper()
	status, raw, err := s.call("GET", "/readyz", nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, string(raw)
}

// TestRow06ReadinessSeesABlock: when encoding blocks, /readyz is red within a
// minute; it never waits itself; it is green again when the block is gone. What
// blocks is GStreamer's registry: a file that nobody writes.
func TestRow06ReadinessSeesABlock(t *testing.T) {
	t.Parallel() // it waits for a minute
	registry := filepath.Join(t.TempDir(), "registry.bin")
	s := start(t, options{env: []string{"GST_REGISTRY=" + registry}})
	s.setup()
	if status, text := s.ready(); status != http.StatusOK {
		t.Fatalf("at first: %d %s", status, text)
	}
	if err := os.Remove(registry); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(registry, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	slowest := time.Duration(0)
	turned := func(want int) bool {
		return became(65*time.Second, func() bool {
			asked := time.Now()
			status, _ := s.ready()
			slowest = max(slowest, time.Since(asked))
			return status == want
		})
	}
	if !turned(http.StatusServiceUnavailable) {
		t.Fatal("still ready 65 s after encoding began to block")
	}
	_, text := s.ready()
	t.Logf("red after %v; the slowest of its answers took %v: %s", time.Since(began).Round(time.Second), slowest.Round(time.Millisecond), text)
	if time.Since(began) > time.Minute || slowest > time.Second {
		t.Errorf("red after %v, slowest answer %v; want a minute and a second at most", time.Since(began), slowest)
	}
	if err := os.Remove(registry); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if !turned(http.StatusOK) {
		t.Fatal("not ready 65 s after the block was gone")
	}
	t.Logf("green after %v", time.Since(began).Round(time.Second))
	until(t, 5*time.Second, "no trial is left", func() bool { return len(children(s.cmd.Process.Pid, "media-probe")) == 0 })
}

// TestRow11OrphansAreReaped leaves a desktop's folder and a process of it behind, as
// an end would that did not succeed: within a minute or so both are gone, and counted.
func TestRow11OrphansAreReaped(t *testing.T) {
	t.Parallel() // it waits for a minute
	s := start(t, options{})
	s.setup()
	const orphan = "s_orphan"
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	begun := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19] // field 22 of proc(5)
	dir := filepath.Join(s.dir, "run", orphan)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	owner := fmt.Sprintf(`{"session":%q,"server":{"pid":%d,"start":%s},"boot":%q}`, orphan, s.cmd.Process.Pid, begun, strings.TrimSpace(string(boot)))
	if err := os.WriteFile(filepath.Join(dir, "owner.json"), []byte(owner), 0o600); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("sleep", "1000")
	left.Env = append(os.Environ(), "FENRIR_SESSION="+orphan)
	left.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- left.Wait() }()
	kept := s.create("playground")
	until(t, 20*time.Second, "running", func() bool { return s.session(kept.ID).Phase == "running" })
	began := time.Now()
	select {
	case <-gone:
	case <-time.After(75 * time.Second):
		left.Process.Kill() // ours, by its handle
		t.Fatal("the orphaned process still runs after 75 s")
	}
	until(t, 5*time.Second, "the folder is gone and the orphan counted", func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err) && s.labelled(`fenrir_orphans_found_total{kind="desktop"}`) == 1
	})
	t.Logf("gone after %v", time.Since(began).Round(time.Second))
	if now := s.session(kept.ID); now.Phase != "running" || now.Restarts != 0 || s.labelled("fenrir_orphans") != 0 {
		t.Errorf("a session that has an owner: %+v", now)
	}
}

// TestRow04HungWorkersStacksAreKept: what a media worker was doing that had to be killed
// is in the state folder, and what it said in the session's log.
func TestRow04HungWorkersStacksAreKept(t *testing.T) {
	s := start(t, options{})
	s.setup()
	sess := s.create("playground")
	until(t, 20*time.Second, "running", func() bool { return s.session(sess.ID).Phase == "running" })
	events := s.follow()
	workers := children(s.cmd.Process.Pid, "media-worker")
	if len(workers) != 1 {
		t.Fatalf("%d media workers", len(workers))
	}
	if err := syscall.Kill(workers[0].pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var kept string
	until(t, 10*time.Second, "stacks are kept", func() bool {
		files, _ := filepath.Glob(filepath.Join(s.dir, "state", "stacks", "*-worker.txt"))
		if len(files) == 1 {
			b, _ := os.ReadFile(files[0])
			kept = string(b)
		}
		return kept != ""
	})
	if !strings.Contains(kept, sess.ID) || !strings.Contains(kept, "threads of process") {
		t.Errorf("kept: %s", kept)
	}
	until(t, 10*time.Second, "the event", func() bool {
		select {
		case ev := <-events:
			return ev.Kind == "worker-restarted" && ev.Why == "silent" && ev.Session == sess.ID
		default:
			return false
		}
	})
	var log struct {
		Lines []struct{ Level, Text string }
	}
	s.must("GET", "/api/sessions/"+sess.ID+"/log", nil, http.StatusOK, &log)
	all, _ := json.Marshal(log.Lines)
	for _, want := range []string{"session started", "media worker ready", "media worker died, starting another", "silent"} {
		if !strings.Contains(string(all), want) {
			t.Errorf("the session's log lacks %q: %s", want, all)
		}
	}
}

// TestFailedSessionShowsItsLog: when a program has ended, the page offers what the
// server noted about its session.
func TestFailedSessionShowsItsLog(t *testing.T) {
	s := start(t, options{config: "[[apps]]\nid = \"short\"\ntitle = \"Short\"\ncommand = [\"sh\", \"-c\", \"echo no such level >&2; exit 3\"]\n"})
	p := tab(t, 390, 844)
	enter(t, s, p)
	tile := p.Locator("[data-testid=app-tile][data-app=short]")
	do(t, "play", tile.Locator("[data-testid=play-button]").Click())
	panel := id(p, "error-panel")
	do(t, "the page says that it is over", panel.WaitFor(playwright.LocatorWaitForOptions{Timeout: playwright.Float(20_000)}))
	if text := must(panel.InnerText())(t); !strings.Contains(text, "no such level") {
		t.Errorf("the program's last words are missing: %s", text)
	}
	do(t, "open the log", panel.GetByText("What the server noted").Click())
	log := id(p, "session-log")
	until(t, 5*time.Second, "the log is shown", func() bool {
		return strings.Contains(must(log.InnerText())(t), "session started") && strings.Contains(must(log.InnerText())(t), "app-exited")
	})
	if box, err := panel.BoundingBox(); err != nil || box == nil || box.X < 0 || box.X+box.Width > 390 {
		t.Errorf("on 390 pixels the panel is at %+v, %v", box, err)
	}
}

type event struct {
	Seq                        int
	Kind, Session, Why, Detail string
}

// follow listens to the server's events until the test ends.
func (s *server) follow() <-chan event {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", s.url+"/api/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := *s.http
	client.Timeout = 0
	resp, err := client.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("events: %v %v", resp, err)
	}
	out := make(chan event, 256)
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer resp.Body.Close()
		for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
			var ev event
			if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok && json.Unmarshal([]byte(data), &ev) == nil {
				out <- ev
			}
		}
	}()
	s.t.Cleanup(func() { cancel(); <-over })
	return out
}

// TestRow05AbortedServerLeavesItsStacks: what systemd's watchdog does to a server
// that hangs leaves what all its goroutines were doing.
func TestRow05AbortedServerLeavesItsStacks(t *testing.T) {
	s := start(t, options{})
	s.setup()
	if err := s.cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	<-s.exit
	start(t, options{dir: s.dir})
	files, _ := filepath.Glob(filepath.Join(s.dir, "state", "stacks", "*-crash.txt"))
	if len(files) != 1 {
		t.Fatalf("%d crashes are kept: %v", len(files), files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil || !strings.Contains(string(b), "SIGABRT") || !strings.Contains(string(b), "https.(*Server).Serve") {
		t.Errorf("%v: %.2000s", err, b)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v, want it for the owner only", info, err)
	}
}

// TestRow05ServiceManagerIsTold plays systemd: the server says that it is ready, pets the
// watchdog while it answers, stops doing so when it is stopped, and says goodbye.
func TestRow05ServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hear := func(within time.Duration) string {
		if err := l.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := l.Read(b)
		if err != nil {
			return ""
		}
		return string(b[:n])
	}
	s := start(t, options{env: []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=2000000"}})
	ready, pets := false, 0
	for range 3 {
		switch got := hear(10 * time.Second); {
		case strings.HasPrefix(got, "READY=1\nSTATUS=serving "):
			ready = true
		case got == "WATCHDOG=1":
			pets++
		default:
			t.Errorf("heard %q", got)
		}
	}
	if !ready || pets != 2 {
		t.Errorf("ready %t, %d signs of life in the first three messages", ready, pets)
	}
	s.setup()
	sess := s.create("playground") // a child that inherited the socket would show it
	until(t, 20*time.Second, "running", func() bool { return s.session(sess.ID).Phase == "running" })
	for _, p := range descendants(s.cmd.Process.Pid) {
		if b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "environ")); strings.Contains(string(b), "NOTIFY_SOCKET") {
			t.Errorf("%s knows the service manager's socket", p.args)
		}
	}
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for hear(200*time.Millisecond) != "" { // what was under way
	}
	if got := hear(1500 * time.Millisecond); got != "" {
		t.Errorf("heard %q of a server that is stopped", got)
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := hear(5 * time.Second); got != "WATCHDOG=1" {
		t.Errorf("heard %q of a server that goes on", got)
	}
	s.stop()
	last := ""
	for got := hear(time.Second); got != ""; got = hear(200 * time.Millisecond) {
		if got != "WATCHDOG=1" {
			last = got
		}
	}
	if last != "STOPPING=1" {
		t.Errorf("heard %q at the end", last)
	}
}

// TestDoctor runs it beside a server with the same configuration, and without one.
func TestDoctor(t *testing.T) {
	type report struct {
		Status string
		Checks []struct{ Check, Status, Found, Do string }
	}
	examine := func(args ...string) (r report, status int, took time.Duration) {
		began := time.Now()
		cmd := exec.Command(binary, append([]string{"doctor", "-json"}, args...)...)
		out, err := cmd.Output()
		took = time.Since(began)
		if jsonErr := json.Unmarshal(out, &r); jsonErr != nil {
			t.Fatalf("%v, %v: %s", jsonErr, err, out)
		}
		return r, cmd.ProcessState.ExitCode(), took
	}
	port := freePort(t)
	s := start(t, options{config: "", env: []string{"FENRIR_HTTP_LISTEN=127.0.0.1:" + port, "FENRIR_NETWORK_UDP_LISTEN=127.0.0.1:" + port}})
	t.Setenv("FENRIR_HTTP_LISTEN", "127.0.0.1:"+port)
	t.Setenv("FENRIR_NETWORK_UDP_LISTEN", "127.0.0.1:"+port)
	t.Setenv("FENRIR_NETWORK_TCP_LISTEN", "127.0.0.1:0")
	config := filepath.Join(s.dir, "fenrir.toml")
	r, status, took := examine("-config", config)
	found := map[string]string{}
	for _, c := range r.Checks {
		found[c.Check] = c.Status + ": " + c.Found
		t.Logf("%-15s %-4s %s", c.Check, c.Status, c.Found)
	}
	if took > 15*time.Second || r.Status == "fail" && status != 2 || r.Status == "warn" && status != 1 || r.Status == "ok" && status != 0 {
		t.Errorf("status %d for %s after %v", status, r.Status, took)
	}
	for check, want := range map[string]string{
		"configuration": "ok", "HTTPS port": "ok: TCP 127.0.0.1:" + port + " is in use while a Fenrir", "media, UDP": "ok: UDP 127.0.0.1:" + port + " is in use while a Fenrir",
		"encoders": "ok", "X server": "ok: Xvfb starts", "sound server": "ok: pulseaudio starts", "programs": "ok", "state folder": "ok", "certificate": "warn: It is self-signed",
	} {
		if !strings.HasPrefix(found[check], want) {
			t.Errorf("%s: %q, want %q", check, found[check], want)
		}
	}
	s.stop()
	r, _, _ = examine("-config", config)
	for _, c := range r.Checks {
		if c.Check == "media, UDP" && (c.Status != "ok" || !strings.Contains(c.Found, "datagrams arrive")) {
			t.Errorf("without the server: %+v", c)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken.toml")
	if err := os.WriteFile(broken, []byte("[http]\nlisten = 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, status, _ := examine("-config", broken); status != 2 || r.Checks[0].Check != "configuration" || r.Checks[0].Status != "fail" {
		t.Errorf("of a broken configuration: %d %+v", status, r.Checks[0])
	}
}

// freePort is a TCP port that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
