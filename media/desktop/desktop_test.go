package desktop

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/media/desktop/quota"
	"fenrir/media/desktop/traces"
	"fenrir/media/desktop/tree"
	"fenrir/media/slack"
)

// The test binary is every process of a desktop: the supervisor, a server that can
// be killed, and programs that misbehave.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "desktop":
			if err := slack.Loosen(); err != nil { // as the server is
				fmt.Println(err)
				syscall.Exit(3)
			}
			syscall.Exit(Main(os.NewFile(3, "parent"))) // os.Exit sleeps a second under the race detector
		case "server":
			serverMain()
		case "sleeper":
			sleeperMain(os.Args[2:])
		}
	}
	goleak.VerifyTestMain(m)
}

// sleeperMain lives until it is killed: SIGTERM does nothing to it. It makes the
// file that it is told, then waits. Its arguments are how a test finds it.
func sleeperMain(args []string) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	if err := os.WriteFile(args[0], []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		fmt.Println(err)
		syscall.Exit(1)
	}
	for {
		time.Sleep(time.Hour)
	}
}

// serverMain runs one desktop until it is killed: session, runtime folder, home,
// command.
func serverMain() {
	a := os.Args[2:]
	d := &Desktop{Exe: "/proc/self/exe", Args: []string{"desktop"}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Spec: media.DesktopSpec{Session: a[0], Width: 640, Height: 360, Runtime: a[1], Home: a[2], Program: media.Program{Command: a[3:]}}}
	err := d.Run(context.Background(), func(ev media.DesktopEvent) {
		if ev.Kind == media.DesktopDisplay {
			fmt.Println(ev.Display.Name, ev.Display.Framebuffer)
		}
	})
	fmt.Println(err)
	syscall.Exit(0)
}

// running is a desktop under test.
type running struct {
	t      *testing.T
	d      *Desktop
	cancel context.CancelFunc
	events chan media.DesktopEvent
	end    chan error
	over   bool

	display media.Display
	pid     int
}

// program is a desktop spec for a shell script, in folders of the test.
func program(t *testing.T, script string) media.DesktopSpec {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Xvfb and PulseAudio")
	}
	dir := t.TempDir()
	return media.DesktopSpec{
		Session: "test-" + rand.Text(), Width: 640, Height: 360,
		Runtime: filepath.Join(dir, "runtime"), Home: filepath.Join(dir, "home"),
		Program: media.Program{Command: []string{"/bin/sh", "-c", script}},
	}
}

// sleeper is a shell command that starts a process which makes file and does not
// end by itself.
func sleeper(t *testing.T, file string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe + " sleeper " + file
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("DATA RACE")) || bytes.Contains(p, []byte("panic")) {
		w.t.Errorf("supervisor: %s", p)
	}
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// launch starts a desktop; it is gone, with everything of it, when the test ends.
func launch(t *testing.T, spec media.DesktopSpec) *running {
	t.Helper()
	return launchIn(t, spec, quota.Roots{})
}

// launchIn is launch with control groups below roots.
func launchIn(t *testing.T, spec media.DesktopSpec, roots quota.Roots) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cancel: cancel, events: make(chan media.DesktopEvent, 100), end: make(chan error, 1),
		d: &Desktop{Exe: "/proc/self/exe", Args: []string{"desktop"}, Spec: spec, Roots: roots, Log: slog.New(slog.NewTextHandler(logWriter{t}, nil))}}
	go func() { r.end <- r.d.Run(ctx, func(ev media.DesktopEvent) { r.events <- ev }) }()
	t.Cleanup(func() {
		if !r.over {
			r.stop()
		}
	})
	return r
}

// until waits for an event.
func (r *running) until(kind media.DesktopEventKind) media.DesktopEvent {
	r.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case ev := <-r.events:
			switch ev.Kind {
			case media.DesktopDisplay:
				r.display = ev.Display
			case media.DesktopProgram:
				r.pid = ev.PID
			}
			if ev.Kind == kind {
				return ev
			}
			if ev.Kind == media.DesktopFinished {
				r.t.Fatalf("program finished while waiting for %s: %v\n%s", kind, ev.Cause, ev.Cause.Output)
			}
		case err := <-r.end:
			r.end <- err
			for len(r.events) > 0 { // news that came with the end
				if ev := <-r.events; ev.Kind == kind {
					return ev
				}
			}
			r.t.Fatalf("desktop ended while waiting for %s: %v", kind, err)
		case <-late:
			r.t.Fatalf("no %s event", kind)
		}
	}
}

// wait returns Run's error, and fails the test when Run takes longer than bound or
// when anything of the desktop is left then.
func (r *running) wait(bound time.Duration) error {
	r.t.Helper()
	r.over = true
	defer r.cancel()
	select {
	case err := <-r.end:
		for len(r.events) > 0 {
			if ev := <-r.events; ev.Kind == media.DesktopDisplay {
				r.display = ev.Display
			}
		}
		gone(r.t, r.d.Spec, r.display)
		return err
	case <-time.After(bound):
		buf := make([]byte, 1<<20)
		r.t.Fatalf("Run still blocks after %v\n%s", bound, buf[:runtime.Stack(buf, true)])
		return nil
	}
}

// stop ends the desktop and checks that it leaves nothing and takes no longer than
// Run promises: three seconds by the supervisor itself, and a second more when that
// has to be helped, as on a machine that is overloaded.
func (r *running) stop() time.Duration {
	r.t.Helper()
	began := time.Now()
	r.cancel()
	if err := r.wait(teardownBound + orphanGrace + 200*time.Millisecond); err != nil {
		r.t.Errorf("Run: %v", err)
	}
	return time.Since(began)
}

// gone fails the test when anything of a desktop is left.
func gone(t *testing.T, spec media.DesktopSpec, display media.Display) {
	t.Helper()
	if left := remains(spec, display); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func remains(spec media.DesktopSpec, display media.Display) (left []string) {
	paths := []string{spec.Runtime, spec.Runtime + ".new"}
	if display.Name != "" && spec.Kind != media.DisplayExternal {
		n := display.Name[1:]
		paths = append(paths, "/tmp/.X11-unix/X"+n, "/tmp/.X"+n+"-lock", filepath.Dir(display.Framebuffer))
	}
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	pids, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range pids {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		vars, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if bytes.Contains(cmdline, []byte(filepath.Dir(spec.Home))) || bytes.Contains(vars, []byte(tree.Marker+"="+spec.Session)) {
			if dir != "/proc/"+strconv.Itoa(os.Getpid()) {
				left = append(left, dir+": "+strings.ReplaceAll(string(cmdline), "\x00", " "))
			}
		}
	}
	return left
}

// eventually waits until f says yes.
func eventually(t *testing.T, bound time.Duration, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(bound); !f(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within %v", what, bound)
		}
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// appears waits for a file with a pid in it.
func appears(t *testing.T, path string) (pid int) {
	t.Helper()
	eventually(t, 10*time.Second, path, func() bool {
		b, _ := os.ReadFile(path)
		pid, _ = strconv.Atoi(string(b))
		return pid > 0
	})
	return pid
}

// service finds a process of the desktop by name.
func (r *running) service(name string) tree.ID {
	r.t.Helper()
	all, err := tree.Table()
	if err != nil {
		r.t.Fatal(err)
	}
	known := traces.ReadNotes(r.d.Spec.Runtime).Processes
	for _, p := range tree.Marked(all, r.d.Spec.Session, known) {
		if p.Name == name && slices.Contains(known, p.ID) {
			return p.ID
		}
	}
	r.t.Fatalf("no process %s", name)
	return tree.ID{}
}

// supervisor is the desktop's own process.
func (r *running) supervisor() tree.ID {
	r.t.Helper()
	known := traces.ReadNotes(r.d.Spec.Runtime).Processes
	if len(known) == 0 || !known[0].Alive() {
		r.t.Fatal("no supervisor")
	}
	return known[0]
}

func causeOf(t *testing.T, err error, code string) *media.Cause {
	t.Helper()
	var c *media.Cause
	if !errors.As(err, &c) || c.Code != code {
		t.Fatalf("got error %v, want cause %s", err, code)
	}
	return c
}

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = logWriter{t}
	return cmd
}
