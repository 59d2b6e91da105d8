package desktop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/desktop/traces"
	"fenrir/media/desktop/tree"
	"fenrir/media/x11"
)

func TestProgramEnds(t *testing.T) {
	for name, c := range map[string]struct{ script, detail, output string }{
		"well":       {"echo bye", "exited with status 0", "bye"},
		"badly":      {"echo one; echo two >&2; exit 3", "exited with status 3", "one\ntwo"},
		"by signal":  {"kill -SEGV $$", "ended by SIGSEGV", ""},
		"unreadable": {`printf 'a\033[31mb\377\000c\n'`, "status 0", "a[31mbc"},
	} {
		t.Run(name, func(t *testing.T) {
			r := launch(t, program(t, c.script))
			ev := r.until(media.DesktopFinished)
			if ev.Cause.Code != media.CauseAppExited || !strings.Contains(ev.Cause.Detail, c.detail) {
				t.Errorf("got %v, want app-exited with %q", ev.Cause, c.detail)
			}
			if ev.Cause.Output != c.output {
				t.Errorf("got output %q, want %q", ev.Cause.Output, c.output)
			}
			if err := r.wait(3 * time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOutputNeverBlocksTheProgram(t *testing.T) {
	// 100 MB into a pipe of 64 kB.
	r := launch(t, program(t, `yes "a line of output" | head -c 100000000; echo; echo "the last line"`))
	ev := r.until(media.DesktopFinished)
	if n := len(ev.Cause.Output); n > 4<<10 || n < 3<<10 {
		t.Errorf("got %d bytes of output, want the last 4 KiB", n)
	}
	if !strings.HasPrefix(ev.Cause.Output, "a line of output\n") || !strings.HasSuffix(ev.Cause.Output, "\nthe last line") {
		t.Errorf("got %q…", ev.Cause.Output[:50])
	}
}

func TestLauncherThatForksTheGame(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "game")
	// The launcher is gone when the game, which left its session, makes its file.
	r := launch(t, program(t, "(setsid "+sleeper(t, file)+" &) ; exit 0"))
	ev := r.until(media.DesktopProgram)
	game := appears(t, file)
	eventually(t, 5*time.Second, "end of the launcher", func() bool { return !exists(fmt.Sprintf("/proc/%d", ev.PID)) })
	p, err := tree.Read(game)
	if err != nil {
		t.Fatal(err)
	}
	if p.Parent != r.supervisor().PID {
		t.Errorf("the game's parent is %d, want the supervisor", p.Parent)
	}
	select {
	case ev := <-r.events:
		t.Fatalf("got event %+v while the game runs", ev)
	case <-time.After(4 * doubt): // within which the end of the program would have been told
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if ev := r.until(media.DesktopFinished); ev.Cause.Code != media.CauseAppExited {
		t.Errorf("got %v, want app-exited", ev.Cause)
	}
}

func TestProgramHasTimeToSave(t *testing.T) {
	spec := program(t, "")
	saved := filepath.Join(filepath.Dir(spec.Home), "saved")
	ready := filepath.Join(filepath.Dir(spec.Home), "ready")
	// It needs a working display and some time in order to save.
	spec.Program.Command[2] = `trap 'sleep 0.2; setxkbmap -query > ` + saved + `; exit 0' TERM; echo 1 > ` + ready + `; while :; do sleep 0.05; done`
	r := launch(t, spec)
	r.until(media.DesktopProgram)
	eventually(t, 10*time.Second, ready, func() bool { return exists(ready) })
	r.stop()
	if b, err := os.ReadFile(saved); err != nil || !strings.Contains(string(b), "layout") {
		t.Errorf("nothing saved: %q %v", b, err)
	}
}

func TestNothingEscapesTheStop(t *testing.T) {
	for name, script := range map[string]string{
		"ignores SIGTERM":     "exec SLEEPER",
		"child ignores it":    "SLEEPER & wait",
		"left the session":    "setsid SLEEPER & wait",
		"forked twice":        "(setsid SLEEPER &); sleep 1000",
		"without environment": "(env -i setsid SLEEPER &); sleep 1000",
		"launcher gone":       "(env -i setsid SLEEPER &)",
		"stopped":             "SLEEPER & while [ ! -s UP ]; do sleep 0.01; done; kill -STOP $!; exec sleep 1000",
		"keeps forking":       "SLEEPER & trap '' TERM; while :; do (trap '' TERM; env -i setsid sh -c 'sleep 1000; : RUNTIME' &); sleep 0.03; done",
		"forbidding folders":  "mkdir -p $TMPDIR/a/b $XDG_RUNTIME_DIR/c; touch $TMPDIR/a/b/c; chmod 000 $TMPDIR/a/b $TMPDIR/a; exec SLEEPER",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := program(t, "")
			file := filepath.Join(filepath.Dir(spec.Home), "up")
			spec.Program.Command[2] = strings.NewReplacer("SLEEPER", sleeper(t, file), "RUNTIME", spec.Runtime, "UP", file).Replace(script)
			r := launch(t, spec)
			r.until(media.DesktopProgram)
			appears(t, file)
			r.stop() // checks time and remains
		})
	}
}

func TestStopDuringStart(t *testing.T) {
	abandoned := func() (locks []string) {
		found, _ := filepath.Glob("/tmp/.X*-lock")
		for _, lock := range found {
			b, _ := os.ReadFile(lock)
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && dead(pid) {
				locks = append(locks, lock)
			}
		}
		return locks
	}
	before := abandoned()
	defer func() {
		for _, lock := range abandoned() {
			if !slices.Contains(before, lock) {
				t.Errorf("left behind: %s", lock)
			}
		}
	}()
	for range 12 {
		r := launch(t, program(t, "exec sleep 1000"))
		delay := time.Duration(rand.IntN(200)) * time.Millisecond
		time.AfterFunc(delay, r.cancel)
		if err := r.wait(delay + teardownBound); err != nil {
			t.Errorf("stopped after %v: %v", delay, err)
		}
	}
}

func TestDisplayDies(t *testing.T) {
	// The program is an X client that dies of it: that must not pass for its own end.
	r := launch(t, program(t, "while setxkbmap -query >/dev/null; do :; done"))
	r.until(media.DesktopProgram)
	if err := r.service(xvfb).Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c := causeOf(t, r.wait(3*time.Second), media.CauseDesktop)
	if !strings.Contains(c.Detail, "SIGKILL") {
		t.Errorf("got %v, want how it died", c)
	}
}

func TestSupervisorIsKilled(t *testing.T) {
	spec := program(t, "")
	dir := filepath.Dir(spec.Home)
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	// c is an orphan without our variable, in a session that b, which has it, leads.
	spec.Program.Command[2] = "env -i " + sleeper(t, a) + " & " +
		"setsid sh -c '(env -i " + sleeper(t, c) + " &); exec " + sleeper(t, b) + "' & wait"
	r := launch(t, spec)
	r.until(media.DesktopProgram)
	appears(t, a)
	appears(t, b)
	appears(t, c)
	if err := r.supervisor().Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cause := causeOf(t, r.wait(3*time.Second), media.CauseDesktop)
	if !strings.Contains(cause.Detail, "signal: killed") {
		t.Errorf("got %v, want how it died", cause)
	}
}

func TestSupervisorHangs(t *testing.T) {
	spec := program(t, "")
	file := filepath.Join(filepath.Dir(spec.Home), "up")
	spec.Program.Command[2] = "(setsid " + sleeper(t, file) + " &); sleep 1000"
	r := launch(t, spec)
	r.until(media.DesktopProgram)
	appears(t, file)
	if err := r.supervisor().Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.cancel()
	if err := r.wait(teardownBound + orphanGrace + time.Second); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < teardownBound {
		t.Errorf("took %v, less than it was given", took)
	}
}

func TestServicesHang(t *testing.T) {
	r := launch(t, program(t, "exec sleep 1000"))
	r.until(media.DesktopProgram)
	for _, name := range []string{xvfb, "pulseaudio"} {
		if err := r.service(name).Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
}

// xserver starts a display that is not ours to end.
func xserver(t *testing.T) (media.Display, int) {
	t.Helper()
	auth := filepath.Join(t.TempDir(), "auth")
	cookie := strings.Repeat("c0ffee11", 4)
	content, err := x11.AuthorityEntry(cookie)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(auth, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	number := ":" + strconv.Itoa(32000+rand.IntN(20000))
	cmd := command(t, "Xvfb", number, "-displayfd", "3", "-screen", "0", "800x600x24", "-auth", auth, "-nolisten", "tcp", "-noreset")
	cmd.Stderr = nil
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return media.Display{Name: ":" + strings.TrimSpace(line), Cookie: cookie}, cmd.Process.Pid
}

func TestExternalDisplay(t *testing.T) {
	external := func(t *testing.T, script string) (media.DesktopSpec, int) {
		spec := program(t, script)
		d, pid := xserver(t)
		spec.Kind, spec.External, spec.Width, spec.Height, spec.Layout = media.DisplayExternal, d, 0, 0, "de"
		return spec, pid
	}
	t.Run("with a program", func(t *testing.T) {
		spec, pid := external(t, "exec >&2; setxkbmap -query || exit 9; exec sleep 1000")
		r := launch(t, spec)
		r.until(media.DesktopProgram)
		if r.display.Width != 800 || r.display.Height != 600 || r.display.Name != spec.External.Name || r.display.Framebuffer != "" {
			t.Errorf("got display %+v", r.display)
		}
		r.stop()
		if p, err := tree.Read(pid); err != nil || p.Dead() {
			t.Fatal("the display was ended")
		}
		conn, err := x11.Dial(t.Context(), spec.External)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
	t.Run("program reaches it and ends", func(t *testing.T) {
		spec, _ := external(t, "setxkbmap -query")
		ev := launch(t, spec).until(media.DesktopFinished)
		if !strings.Contains(ev.Cause.Output, "us") { // "de" was not set on a foreign display
			t.Errorf("got %v %q", ev.Cause, ev.Cause.Output)
		}
	})
	t.Run("without a program", func(t *testing.T) {
		spec, _ := external(t, "")
		spec.Program = media.Program{}
		r := launch(t, spec)
		r.until(media.DesktopProgram)
		r.stop()
	})
	t.Run("authority from our environment", func(t *testing.T) {
		spec, _ := external(t, "setxkbmap -query")
		content, err := x11.AuthorityEntry(spec.External.Cookie)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "auth")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("XAUTHORITY", file)
		spec.External.Cookie = ""
		if ev := launch(t, spec).until(media.DesktopFinished); !strings.Contains(ev.Cause.Output, "layout") {
			t.Errorf("got %v %q", ev.Cause, ev.Cause.Output)
		}
	})
	t.Run("dies", func(t *testing.T) {
		spec, pid := external(t, "exec sleep 1000")
		r := launch(t, spec)
		r.until(media.DesktopProgram)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		causeOf(t, r.wait(3*time.Second), media.CauseDesktop)
	})
	t.Run("is not there", func(t *testing.T) {
		spec := program(t, "true")
		spec.Kind, spec.External = media.DisplayExternal, media.Display{Name: ":4711"}
		causeOf(t, launch(t, spec).wait(5*time.Second), media.CauseDesktop)
	})
}

// server starts another server with one desktop, and waits until its program,
// a double-forked one that ignores SIGTERM, is up.
func server(t *testing.T) (pid int, spec media.DesktopSpec, display media.Display) {
	t.Helper()
	spec = program(t, "")
	dir := filepath.Dir(spec.Home)
	spec.Runtime = filepath.Join(dir, "sessions", spec.Session)
	file := filepath.Join(dir, "up")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, exe, "server", spec.Session, spec.Runtime, spec.Home, "/bin/sh", "-c", "(setsid "+sleeper(t, file)+" &); sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := fmt.Fscan(out, &display.Name, &display.Framebuffer); err != nil {
		t.Fatal(err)
	}
	appears(t, file)
	return cmd.Process.Pid, spec, display
}

func TestServerIsKilled(t *testing.T) {
	pid, spec, display := server(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, teardownBound, "end of the orphaned desktop", func() bool { return len(withoutServer(remains(spec, display), pid)) == 0 })
}

// withoutServer leaves the killed server out, whose parent has not reaped it.
func withoutServer(left []string, pid int) []string {
	return slices.DeleteFunc(left, func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("/proc/%d:", pid)) })
}

func TestReapLeftovers(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	pid, spec, display := server(t)
	root := filepath.Dir(spec.Runtime)
	if n, err := ReapLeftovers(t.Context(), root, log); n != 0 || err != nil {
		t.Fatalf("with a server that lives: got %d, %v, want nothing", n, err)
	}
	if b, err := os.ReadFile(filepath.Join(filepath.Dir(spec.Home), "up")); err != nil || !exists("/proc/"+string(b)) || !exists(spec.Runtime) {
		t.Fatal("a living session was touched")
	}
	n := traces.ReadNotes(spec.Runtime)
	known := n.Processes
	if len(known) != 4 || len(n.Displays) != 1 {
		t.Fatalf("got notes %+v, want supervisor, Xvfb, pulseaudio, program, and a display", n)
	}
	for _, kill := range []struct {
		pid int
		sig syscall.Signal
	}{{pid, syscall.SIGSTOP}, {known[0].PID, syscall.SIGKILL}, {pid, syscall.SIGKILL}} {
		if err := syscall.Kill(kill.pid, kill.sig); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 5*time.Second, "end of the server", func() bool { return !known[0].Alive() && dead(pid) })
	if left := remains(spec, display); len(left) < 5 { // folder, framebuffer, socket, lock, sleeper
		t.Fatalf("nothing to reap: %v", left)
	}
	began := time.Now()
	if n, err := ReapLeftovers(t.Context(), root, log); n != 1 || err != nil {
		t.Fatalf("got %d, %v, want one", n, err)
	}
	t.Logf("reaped in %v", time.Since(began))
	if left := withoutServer(remains(spec, display), pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if !strings.Contains(text.String(), spec.Session) {
		t.Errorf("log does not name the session: %s", text.String())
	}
	if n, err := ReapLeftovers(t.Context(), root, log); n != 0 || err != nil {
		t.Errorf("again: got %d, %v, want nothing", n, err)
	}
	if n, err := ReapLeftovers(t.Context(), "/no/such/folder", log); n != 0 || err != nil {
		t.Errorf("without a folder: got %d, %v", n, err)
	}
}

func dead(pid int) bool {
	p, err := tree.Read(pid)
	return err != nil || p.Dead()
}

func TestTwentyCyclesLeaveNothing(t *testing.T) {
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	listing := func() []string { // other sessions of this machine have framebuffers there
		names, _ := filepath.Glob("/dev/shm/pulse*")
		return names
	}
	files := listing()
	took := map[string][]time.Duration{}
	fds := 0
	for i := range 20 {
		spec := program(t, "exec sleep 1000")
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var display media.Display
		d := &Desktop{Exe: "/proc/self/exe", Args: []string{"desktop"}, Spec: spec, Log: slog.New(slog.NewTextHandler(logWriter{t}, nil))}
		var stopped time.Time
		err := d.Run(ctx, func(ev media.DesktopEvent) {
			took[string(ev.Kind)+string(ev.Step)] = append(took[string(ev.Kind)+string(ev.Step)], time.Since(began))
			switch ev.Kind {
			case media.DesktopDisplay:
				display = ev.Display
			case media.DesktopProgram:
				stopped = time.Now()
				cancel()
			}
		})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		took["end"] = append(took["end"], time.Since(stopped))
		gone(t, spec, display)
		if i == 0 {
			fds = open() // the runtime has opened what it needs
		}
	}
	if n := open(); n != fds {
		t.Errorf("got %d descriptors, want %d", n, fds)
	}
	for _, name := range listing() {
		if !slices.Contains(files, name) {
			t.Errorf("left behind: %s", name)
		}
	}
	for what, times := range took {
		slices.Sort(times)
		t.Logf("%-13s median %v, most %v", what, times[len(times)/2].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
	}
}
