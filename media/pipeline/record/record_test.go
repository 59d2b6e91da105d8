package record

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server starts a PulseAudio with a null sink and waits until it takes connections.
func server(t *testing.T) (media.Sound, *os.Process) {
	t.Helper()
	path, err := exec.LookPath("pulseaudio")
	if err != nil {
		t.Skip("pulseaudio is not installed")
	}
	dir, err := os.MkdirTemp("", "pa") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "native")
	cmd := exec.Command(path, "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--log-level=error",
		"-L", "module-null-sink sink_name=out rate=48000 channels=2", "-L", "module-null-source source_name=microphone", "-L", "module-native-protocol-unix socket="+socket+" auth-anonymous=1")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "PULSE_RUNTIME_PATH=" + dir, "PULSE_STATE_PATH=" + dir,
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(dir, "bus")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may be dead already
		_ = cmd.Wait()         // killed
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // it tells nobody that it is ready
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close() // it was only a knock
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("PulseAudio does not start")
		}
	}
	return media.Sound{Server: "unix:" + socket, Source: "out.monitor"}, cmd.Process
}

// until takes fragments until one is as wanted.
func until(t *testing.T, r *Recorder, what string, fits func(time.Duration) bool) {
	t.Helper()
	bound := time.NewTimer(10 * time.Second)
	defer bound.Stop()
	for {
		select {
		case f := <-r.Fragments():
			if !f.Silent() {
				t.Fatal("sound where nothing plays")
			}
			if len(f.PCM)%4 != 0 {
				t.Fatalf("fragment of %d bytes", len(f.PCM))
			}
			if fits(r.Duration(f.PCM)) {
				return
			}
		case <-r.Gone():
			t.Fatal("the server is gone")
		case <-bound.C:
			t.Fatal("no fragment that is ", what)
		}
	}
}

func TestFragmentsAreAsLongAsWanted(t *testing.T) {
	sound, _ := server(t)
	r, err := Open(sound, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Rouse(); err != nil {
		t.Fatal(err)
	}
	short := func(d time.Duration) bool { return d > 0 && d <= 10*time.Millisecond }
	until(t, r, "short", short)
	r.Every(5 * time.Millisecond) // nobody waits for it
	r.Every(50 * time.Millisecond)
	until(t, r, "long", func(d time.Duration) bool { return d > 40*time.Millisecond })
	r.Every(10 * time.Millisecond)
	until(t, r, "short again", short)
	if n := r.Lost(); n != 0 {
		t.Errorf("%d fragments lost", n)
	}
}

func TestWhoTakesNothingLosesFragments(t *testing.T) {
	sound, _ := server(t)
	r, err := Open(sound, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Rouse(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); r.Lost() == 0; time.Sleep(5 * time.Millisecond) { // nobody tells
		if time.Now().After(deadline) {
			t.Fatal("none lost")
		}
	}
	if n := len(r.Fragments()); n != waiting {
		t.Errorf("%d fragments wait, want %d", n, waiting)
	}
}

func TestServerDies(t *testing.T) {
	sound, process := server(t)
	r, err := Open(sound, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Gone():
	case <-time.After(5 * time.Second):
		t.Error("nobody says that the server is gone")
	}
	if err := r.Rouse(); err == nil {
		t.Error("a dead server was roused")
	}
	r.Every(time.Second)
	r.Close()
}

// TestServerHangs: one that was well and is not ends in time, as does one that never was.
func TestServerHangs(t *testing.T) {
	sound, process := server(t)
	r, err := Open(sound, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := r.Rouse(); err == nil {
		t.Error("a server that hangs was roused")
	}
	r.Every(50 * time.Millisecond)
	r.Close()
	if took := time.Since(began); took > 2*Bound {
		t.Errorf("asking and closing took %v", took)
	}
	began = time.Now()
	if r, err := Open(sound, 10*time.Millisecond); err == nil {
		r.Close()
		t.Error("a server that hangs answers")
	}
	if took := time.Since(began); took > 2*Bound {
		t.Errorf("finding that out took %v", took)
	}
}

func TestNothingToRecord(t *testing.T) {
	sound, _ := server(t)
	for what, s := range map[string]media.Sound{
		"no server":          {Server: "unix:" + filepath.Join(t.TempDir(), "none"), Source: "out.monitor"},
		"a server far away":  {Server: "tcp:127.0.0.1:4713", Source: "out.monitor"},
		"no such source":     {Server: sound.Server, Source: "none"},
		"no such card":       {Server: sound.Server, Source: "out.monitor", Channels: 3},
		"neither one nor it": {},
	} {
		if r, err := Open(s, 10*time.Millisecond); err == nil {
			r.Close()
			t.Errorf("%s: recorded", what)
		}
	}
}

func TestRouseLeavesOthersAlone(t *testing.T) {
	sound, _ := server(t)
	sound.Source = "microphone"
	r, err := Open(sound, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Rouse(); !errors.Is(err, ErrNotNull) {
		t.Errorf("a microphone was roused, or not for what it is: %v", err)
	}
	r.sound.Source = "none"
	if err := r.Rouse(); err == nil || errors.Is(err, ErrNotNull) {
		t.Errorf("a source that is not there: %v", err)
	}
}
