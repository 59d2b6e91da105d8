package desktop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"
	"github.com/jfreymuth/pulse"
	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/desktop/environ"
	"fenrir/media/x11"
)

func TestEventsComeInOrder(t *testing.T) {
	r := launch(t, program(t, "exec sleep 1000"))
	var got []string
	for len(got) == 0 || got[len(got)-1] != "program" {
		select {
		case ev := <-r.events:
			got = append(got, strings.TrimSuffix(string(ev.Kind)+" "+string(ev.Step), " "))
			if ev.Kind == media.DesktopDisplay {
				r.display = ev.Display
			}
			if ev.Kind == media.DesktopProgram && ev.PID <= 0 {
				t.Error("program without a pid")
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no program after %v", got)
		}
	}
	want := "[step display display step sound sound step program program]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if took := r.stop(); took > time.Second {
		t.Errorf("a polite program took %v to stop", took)
	}
}

func TestDisplayHasAskedSize(t *testing.T) {
	for _, size := range [][2]int{{640, 360}, {1280, 720}, {1366, 768}, {3840, 2160}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			spec := program(t, "exec sleep 1000")
			spec.Width, spec.Height = size[0], size[1]
			r := launch(t, spec)
			r.until(media.DesktopProgram)
			if r.display.Width != size[0] || r.display.Height != size[1] {
				t.Errorf("got display %+v", r.display)
			}
			conn, err := x11.Dial(t.Context(), r.display)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			g, err := x11.Reply(t.Context(), conn, xproto.GetGeometry(conn.X, xproto.Drawable(conn.Root())))
			if err != nil {
				t.Fatal(err)
			}
			if int(g.Width) != size[0] || int(g.Height) != size[1] {
				t.Errorf("got %d×%d, want %v", g.Width, g.Height, size)
			}
			if info, err := os.Stat(r.display.Framebuffer); err != nil || info.Size() < maxWidth*maxHeight*4 {
				t.Errorf("framebuffer: %v %v", info, err)
			}
			noCookie := media.Display{Name: r.display.Name, Cookie: strings.Repeat("00", 16)}
			if c, err := x11.Dial(t.Context(), noCookie); err == nil {
				c.Close()
				t.Error("the display takes anybody")
			}
		})
	}
}

func TestWindowsAreManaged(t *testing.T) {
	r := launch(t, program(t, "exec sleep 1000"))
	r.until(media.DesktopProgram)
	conn, err := x11.Dial(t.Context(), r.display)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	xproto.ChangeWindowAttributes(conn.X, conn.Root(), xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange})
	const name = "_NET_SUPPORTING_WM_CHECK"
	atom, err := x11.Reply(t.Context(), conn, xproto.InternAtom(conn.X, false, uint16(len(name)), name))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for { // it may come a little later than the program
		p, err := x11.Reply(ctx, conn, xproto.GetProperty(conn.X, false, conn.Root(), atom.Atom, xproto.AtomWindow, 0, 1))
		if err != nil {
			t.Fatal(err)
		}
		if p.ValueLen == 1 {
			break
		}
		if _, err := conn.Next(ctx); err != nil {
			t.Fatalf("no window manager: %v", err)
		}
	}
}

func TestKeyboardLayout(t *testing.T) {
	// The key right of T: y on us and de(neo) boards has other symbols.
	const keyY = 29
	for layout, want := range map[string]xproto.Keysym{"": 'y', "us": 'y', "de": 'z', "de(nodeadkeys)": 'z', "fr": 'y', "us(dvorak)": 'f'} {
		t.Run(layout, func(t *testing.T) {
			spec := program(t, "exec sleep 1000")
			spec.Layout = layout
			r := launch(t, spec)
			r.until(media.DesktopProgram)
			conn, err := x11.Dial(t.Context(), r.display)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			m, err := x11.Reply(t.Context(), conn, xproto.GetKeyboardMapping(conn.X, keyY, 1))
			if err != nil {
				t.Fatal(err)
			}
			if m.Keysyms[0] != want {
				t.Errorf("got keysym %q, want %q", rune(m.Keysyms[0]), rune(want))
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		spec := program(t, "exec sleep 1000")
		spec.Layout = "nosuchlayout"
		r := launch(t, spec)
		c := causeOf(t, r.wait(10*time.Second), media.CauseDesktop)
		if !strings.Contains(c.Detail, "nosuchlayout") {
			t.Errorf("got %v, want the layout's name", c)
		}
	})
}

func TestProgramGetsItsOwnWorldOnly(t *testing.T) {
	t.Setenv("FENRIR_TOKEN", "hunter2")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	t.Setenv("DISPLAY", ":4711")
	t.Setenv("WAYLAND_DISPLAY", "wayland-7")
	t.Setenv("XAUTHORITY", "/hunter2")
	t.Setenv("LC_TIME", "C")
	t.Setenv("LANG", "C")
	t.Setenv("LC_ALL", "POSIX")
	leaky, err := unix.Dup(int(os.Stdin.Fd())) // as a server has them whose own parent was careless
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaky)
	spec := program(t, `pwd > where; read line || echo closed > stdin; ls -l /proc/self/fd > fds; cat /proc/self/timerslack_ns > slack; echo "$OWN" > own; env > environment.new; mv environment.new environment; exec sleep 1000`)
	spec.Program.Env = []string{"OWN=yes please", "FENRIR_SESSION=forged"}
	r := launch(t, spec)
	r.until(media.DesktopProgram)
	file := filepath.Join(spec.Home, "environment")
	eventually(t, 5*time.Second, "environment", func() bool { return exists(file) })
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	for name, want := range map[string]string{
		"DISPLAY": r.display.Name, "XAUTHORITY": r.display.Authority, "HOME": spec.Home, "PWD": spec.Home,
		"XDG_RUNTIME_DIR": filepath.Join(spec.Runtime, "run"), "PULSE_SERVER": soundServer(spec.Runtime),
		"LANG": "C.UTF-8", "LC_ALL": "", "LC_TIME": "C", "OWN": "yes please", "FENRIR_SESSION": spec.Session,
		"XDG_SESSION_TYPE": "x11", "WAYLAND_DISPLAY": "",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if !strings.HasSuffix(got["PATH"], environ.Games) || got["USER"] == "" || got["SHELL"] == "" {
		t.Errorf("incomplete environment: %v", got)
	}
	known := "DISPLAY XAUTHORITY HOME PWD OLDPWD SHLVL _ XDG_RUNTIME_DIR PULSE_SERVER OWN FENRIR_SESSION XDG_SESSION_TYPE XDG_CURRENT_DESKTOP USER LOGNAME TMPDIR DBUS_SESSION_BUS_ADDRESS"
	for name, value := range got {
		if strings.Contains(value, "hunter2") || !environ.Passes(name) && !strings.Contains(" "+known+" ", " "+name+" ") {
			t.Errorf("the program sees %s=%s", name, value)
		}
	}
	for file, want := range map[string]string{"where": spec.Home, "stdin": "closed", "own": "yes please", "slack": "50000"} {
		if b, _ := os.ReadFile(filepath.Join(spec.Home, file)); strings.TrimSpace(string(b)) != want {
			t.Errorf("%s: got %q, want %q", file, b, want)
		}
	}
	fds, err := os.ReadFile(filepath.Join(spec.Home, "fds"))
	if err != nil {
		t.Fatal(err)
	}
	// 0, 1, 2 and the one with which ls reads the folder.
	if n := strings.Count(string(fds), "->"); n != 4 || strings.Contains(string(fds), "socket:") {
		t.Errorf("the program has inherited descriptors:\n%s", fds)
	}
	if info, err := os.Stat(spec.Runtime); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("runtime folder: %v %v", info, err)
	}
}

func TestProgramThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		argv []string
		dir  string
		want string
	}{
		"not found":      {[]string{"no-such-command-at-all"}, "", "no-such-command-at-all: command not found"},
		"not there":      {[]string{"/no/such/file"}, "", "no such file"},
		"no program":     {[]string{write("text", "hello", 0o644)}, "", "permission denied"},
		"a folder":       {[]string{dir}, "", "is a directory"},
		"no interpreter": {[]string{write("script", "#!/no/such/shell\n", 0o755)}, "", "interpreter is missing"},
		"no folder":      {[]string{"true"}, "/no/such/folder", "working folder"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := program(t, "")
			spec.Program.Command, spec.Program.Dir = c.argv, c.dir
			r := launch(t, spec)
			ev := r.until(media.DesktopFinished)
			if ev.Cause.Code != media.CauseAppFailed || !strings.Contains(ev.Cause.Detail, c.want) {
				t.Errorf("got %v, want app-failed with %q", ev.Cause, c.want)
			}
			if err := r.wait(3 * time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestScriptWithoutInterpreterLineRuns(t *testing.T) {
	spec := program(t, "")
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(`echo "ran with $1"; exit 5`), 0o755); err != nil {
		t.Fatal(err)
	}
	spec.Program.Command = []string{path, "it"}
	r := launch(t, spec)
	ev := r.until(media.DesktopFinished)
	if ev.Cause.Output != "ran with it" || !strings.Contains(ev.Cause.Detail, "status 5") {
		t.Errorf("got %v, output %q", ev.Cause, ev.Cause.Output)
	}
}

func TestNoProgramLivesUntilStopped(t *testing.T) {
	spec := program(t, "")
	spec.Program = media.Program{}
	r := launch(t, spec)
	if ev := r.until(media.DesktopProgram); ev.PID != 0 {
		t.Errorf("got pid %d of no program", ev.PID)
	}
	r.stop()
}

func TestSoundServerPlaysAndComesBack(t *testing.T) {
	r := launch(t, program(t, "exec sleep 1000"))
	sound := r.until(media.DesktopSound).Sound
	monitored := func() {
		t.Helper()
		c, err := pulse.NewClient(pulse.ClientServerString(sound.Server))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		source, err := c.SourceByID(sound.Source)
		if err != nil {
			t.Fatal(err)
		}
		if source.SampleRate() != 48000 || len(source.Channels()) != 2 {
			t.Errorf("got %d Hz, %d channels", source.SampleRate(), len(source.Channels()))
		}
		def, err := c.DefaultSink()
		if err != nil || def.ID() != sink {
			t.Errorf("got default sink %v, %v", def, err)
		}
	}
	for range 20 { // at any moment of the server's loop
		monitored()
	}
	r.until(media.DesktopProgram)
	for range 2 {
		killed := time.Now()
		if err := r.service("pulseaudio").Signal(9); err != nil {
			t.Fatal(err)
		}
		r.until(media.DesktopSilent)
		if again := r.until(media.DesktopSound).Sound; again != sound {
			t.Errorf("got %+v, want %+v", again, sound)
		}
		t.Logf("sound is back after %v", time.Since(killed))
		monitored()
	}
}

func TestSpecsThatCannotWorkAreRefused(t *testing.T) {
	for name, change := range map[string]func(*media.DesktopSpec){
		"session":      func(s *media.DesktopSpec) { s.Session = "../x" },
		"no session":   func(s *media.DesktopSpec) { s.Session = "" },
		"runtime":      func(s *media.DesktopSpec) { s.Runtime = "run" },
		"long runtime": func(s *media.DesktopSpec) { s.Runtime = "/tmp/" + strings.Repeat("x", 100) },
		"home":         func(s *media.DesktopSpec) { s.Home = "" },
		"too wide":     func(s *media.DesktopSpec) { s.Width = 3841 },
		"no height":    func(s *media.DesktopSpec) { s.Height = 0 },
		"layout":       func(s *media.DesktopSpec) { s.Layout = "us -option x" },
		"kind":         func(s *media.DesktopSpec) { s.Kind = "wayland" },
		"external":     func(s *media.DesktopSpec) { s.Kind = media.DisplayExternal },
	} {
		t.Run(name, func(t *testing.T) {
			spec := media.DesktopSpec{Session: "s", Width: 640, Height: 360, Runtime: filepath.Join(t.TempDir(), "r"), Home: "/tmp"}
			change(&spec)
			d := &Desktop{Exe: "/no/such/file", Spec: spec}
			causeOf(t, d.Run(t.Context(), nil), media.CauseDesktop)
			if exists(spec.Runtime) {
				t.Error("the runtime folder was made")
			}
		})
	}
	t.Run("taken", func(t *testing.T) {
		dir := t.TempDir()
		spec := media.DesktopSpec{Session: "s", Width: 640, Height: 360, Runtime: dir, Home: "/tmp"}
		d := &Desktop{Exe: "/no/such/file", Spec: spec}
		if err := d.Run(t.Context(), nil); !errors.Is(err, media.NewCause(media.CauseDesktop, "")) {
			t.Errorf("got %v", err)
		}
		if !exists(dir) {
			t.Error("a folder that is not ours was removed")
		}
	})
}

func TestMissingParts(t *testing.T) {
	only := func(t *testing.T, names ...string) {
		dir := t.TempDir()
		for _, name := range names {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir)
	}
	t.Run("sound server", func(t *testing.T) {
		spec := program(t, "exec sleep 1000")
		only(t, "Xvfb", "sleep")
		r := launch(t, spec)
		r.until(media.DesktopSilent)
		r.until(media.DesktopProgram)
	})
	t.Run("X server", func(t *testing.T) {
		spec := program(t, "exec sleep 1000")
		only(t, "pulseaudio")
		c := causeOf(t, launch(t, spec).wait(3*time.Second), media.CauseDesktop)
		if !strings.Contains(c.Detail, "Xvfb: command not found") {
			t.Errorf("got %v", c)
		}
	})
	t.Run("supervisor", func(t *testing.T) {
		spec := program(t, "")
		d := &Desktop{Exe: "/no/such/file", Spec: spec, Log: slog.New(slog.DiscardHandler)}
		causeOf(t, d.Run(t.Context(), nil), media.CauseDesktop)
		gone(t, spec, media.Display{})
	})
	t.Run("supervisor is something else", func(t *testing.T) {
		spec := program(t, "")
		d := &Desktop{Exe: "/bin/sh", Args: []string{"-c", "echo no such command >&2; exit 7"}, Spec: spec, Log: slog.New(slog.DiscardHandler)}
		c := causeOf(t, d.Run(t.Context(), nil), media.CauseDesktop)
		if !strings.Contains(c.Detail, "exit status 7") || c.Output != "no such command" {
			t.Errorf("got %v, output %q", c, c.Output)
		}
		gone(t, spec, media.Display{})
	})
}

// What package pipeline relies on when it maps the framebuffer: resizing moves
// nothing, rows keep the length of the largest size, and the header keeps telling
// the largest size.
func TestFramebufferLayout(t *testing.T) {
	r := launch(t, program(t, "exec sleep 1000")) // 640×360
	r.until(media.DesktopProgram)
	conn, err := x11.Dial(t.Context(), r.display)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func(w, h int) {
		t.Helper()
		if err := x11.SetSize(t.Context(), conn, w, h); err != nil {
			t.Fatal(err)
		}
		gc, err := xproto.NewGcontextId(conn.X)
		if err != nil {
			t.Fatal(err)
		}
		colour := uint32(0x102030 + w)
		xproto.CreateGC(conn.X, gc, xproto.Drawable(conn.Root()), xproto.GcForeground|xproto.GcSubwindowMode,
			[]uint32{colour, xproto.SubwindowModeIncludeInferiors})
		corner := []xproto.Rectangle{{X: int16(w - 1), Y: int16(h - 1), Width: 1, Height: 1}}
		if err := x11.Check(t.Context(), conn, xproto.PolyFillRectangleChecked(conn.X, xproto.Drawable(conn.Root()), gc, corner)); err != nil {
			t.Fatal(err)
		}
		if _, err := x11.Reply(t.Context(), conn, xproto.GetInputFocus(conn.X)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(r.display.Framebuffer)
		if err != nil {
			t.Fatal(err)
		}
		field := func(i int) int { return int(binary.BigEndian.Uint32(b[4*i:])) } // X11/XWDFile.h
		header, colours, stride := field(0), field(19), field(12)
		if field(4) != maxWidth || field(5) != maxHeight || stride != 4*maxWidth || field(11) != 32 || field(7) != 0 {
			t.Errorf("got header % x", b[:100])
		}
		pixel := b[header+12*colours+(h-1)*stride+4*(w-1):]
		if got := binary.LittleEndian.Uint32(pixel) & 0xffffff; got != colour {
			t.Errorf("%d×%d: got pixel %06x, want %06x", w, h, got, colour)
		}
	}
	check(640, 360)
	check(1920, 1080)
	check(3840, 2160)
	check(800, 600)
}

// Xvfb that chooses its number by itself fails this now and then.
func TestDesktopsThatStartTogether(t *testing.T) {
	var all []*running
	for range 5 {
		all = append(all, launch(t, program(t, "exec sleep 1000")))
	}
	names := map[string]bool{}
	for _, r := range all {
		r.until(media.DesktopProgram)
		names[r.display.Name] = true
		conn, err := x11.Dial(t.Context(), r.display)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if len(names) != len(all) {
		t.Errorf("got displays %v of %d desktops", names, len(all))
	}
}
