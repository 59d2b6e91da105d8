package tone

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryKeyHasItsOwnPitch(t *testing.T) {
	seen := map[float64]int{}
	for code := 8; code <= 255; code++ {
		p := Pitch(code)
		if other, ok := seen[p]; ok {
			t.Errorf("keycodes %d and %d share %v Hz", code, other, p)
		}
		seen[p] = code
		if p < 60 || p > 8000 {
			t.Errorf("Pitch(%d) = %v Hz, want 60…8000", code, p)
		}
	}
}

func TestMixerEndsTonesAndNeverClips(t *testing.T) {
	m := &mixer{}
	b := make([]byte, 2*length+2)
	if n := m.read(b); n != 0 {
		t.Fatalf("silent mixer made %d bytes", n)
	}
	for i := range 20 {
		m.add(Pitch(20 + i))
	}
	if got, want := len(m.playing), voices; got != want {
		t.Fatalf("got %d voices, want %d", got, want)
	}
	if n := m.read(b); n != len(b) {
		t.Fatalf("got %d bytes, want %d", n, len(b))
	}
	if last := int16(binary.LittleEndian.Uint16(b[len(b)-2:])); last != 0 {
		t.Errorf("last sample is %d, want 0", last)
	}
	if n := m.read(b); n != 0 {
		t.Errorf("tones did not end: %d more bytes", n)
	}
}

// soundServer is a PulseAudio with a null sink.
type soundServer struct {
	cmd    *exec.Cmd
	socket string
}

func startSound(t *testing.T, socket string) *soundServer {
	t.Helper()
	path, err := exec.LookPath("pulseaudio")
	if err != nil {
		t.Skip("pulseaudio is not installed")
	}
	home := t.TempDir()
	cmd := exec.Command(path, "-n", "--daemonize=no", "--exit-idle-time=-1", "--disable-shm=yes", "--use-pid-file=no", "--realtime=no", "--high-priority=no",
		"-L", "module-native-protocol-unix auth-anonymous=1 socket="+socket,
		"-L", "module-null-sink sink_name=out")
	cmd.Env = []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + home, "PATH=" + os.Getenv("PATH")}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &soundServer{cmd, socket}
	t.Cleanup(s.kill)
	deadline := time.Now().Add(10 * time.Second)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for ; ; <-poll.C {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("pulseaudio does not answer: %v", err)
		}
	}
}

func (s *soundServer) kill() {
	_ = s.cmd.Process.Kill() // may be dead already
	_ = s.cmd.Wait()         // reports the kill
}

// recorder reads what the sink's monitor hears.
func (s *soundServer) record(t *testing.T) io.Reader {
	t.Helper()
	cmd := exec.Command("parec", "--device=out.monitor", "--format=s16le", "--rate=48000", "--channels=1", "--latency-msec=10", "--raw")
	cmd.Env = []string{"PULSE_SERVER=unix:" + s.socket, "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("parec: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out
}

// heard reads windows of 20 ms until one fits, and returns how long that took.
func heard(t *testing.T, r io.Reader, what string, fits func(window []byte) bool) time.Duration {
	t.Helper()
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		window := make([]byte, 2*960)
		for {
			if _, err := io.ReadFull(r, window); err != nil {
				done <- err
				return
			}
			if fits(window) {
				done <- nil
				return
			}
		}
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("listening for %s: %v", what, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s was not heard within 10 s", what)
	}
	return time.Since(began)
}

// tone fits windows in which a pitch stands out.
func tone(pitch float64) func([]byte) bool {
	return func(window []byte) bool {
		var re, im, power float64
		for i := 0; i < len(window); i += 2 {
			v := float64(int16(binary.LittleEndian.Uint16(window[i:]))) / 32768
			a := 2 * math.Pi * pitch * float64(i/2) / rate
			re, im, power = re+v*math.Cos(a), im+v*math.Sin(a), power+v*v
		}
		n := float64(len(window) / 2)
		return power/n > 1e-4 && 2*(re*re+im*im)/n > .7*power
	}
}

// silence fits windows of zeros.
func silence(window []byte) bool { return len(bytes.Trim(window, "\x00")) == 0 }

func TestToneIsHeardAndSurvivesTheServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	t.Setenv("PULSE_SERVER", "unix:"+socket)
	states := make(chan error, 64)
	p := New(func(err error) { states <- err })
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { p.Run(ctx); close(over) }()
	defer func() { cancel(); <-over }()

	wait := func(want bool) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			select {
			case err := <-states:
				if (err == nil) == want {
					return
				}
			case <-deadline:
				t.Fatalf("player did not become connected=%t within 10 s", want)
			}
		}
	}
	wait(false) // there is no server yet
	s := startSound(t, socket)
	wait(true)
	in := s.record(t)
	heard(t, in, "silence", silence)
	for _, code := range []int{38, 57, 24} {
		p.Play(Pitch(code))
		t.Logf("keycode %d heard after %v", code, heard(t, in, "tone", tone(Pitch(code))))
		heard(t, in, "silence", silence)
	}

	s.kill()
	wait(false)
	p.Play(Pitch(38)) // nobody hears it, and nothing blocks
	s = startSound(t, socket)
	wait(true)
	in = s.record(t)
	heard(t, in, "silence", silence)
	p.Play(Pitch(38))
	heard(t, in, "tone", tone(Pitch(38)))

	// A hung server holds nobody up.
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 1000 {
		p.Play(Pitch(8 + i%200))
	}
	if d := time.Since(began); d > 50*time.Millisecond {
		t.Errorf("1000 tones to a hung server took %v", d)
	}
	cancel()
	select {
	case <-over:
	case <-time.After(3 * time.Second):
		t.Error("Run did not return within 3 s while the server hung")
	}
}

func TestServerNames(t *testing.T) {
	for server, want := range map[string]string{
		"unix:/run/p/native":    "unix /run/p/native",
		"/run/p/native":         "unix /run/p/native",
		"{abc}unix:/run/native": "unix /run/native",
		"tcp:host:4714":         "tcp host:4714",
		"tcp4:10.0.0.1":         "tcp4 10.0.0.1:4713",
		"host":                  "tcp host:4713",
	} {
		network, address := endpoint(server)
		if got := fmt.Sprint(network, " ", address); got != want {
			t.Errorf("endpoint(%q) = %q, want %q", server, got, want)
		}
	}
}
