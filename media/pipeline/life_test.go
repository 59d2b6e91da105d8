//go:build cgo

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/media/pipeline/encoders"
	"fenrir/media/worker"
	"fenrir/media/x11"
)

// holdings is what a process holds of the machine.
type holdings struct{ kB, files, threads int }

func holds(t testing.TB, pid int) (h holdings) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &h.kB) // other lines do not match
		_, _ = fmt.Sscanf(line, "Threads: %d", &h.threads)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	h.files = len(files)
	return h
}

func TestNothingLeaksByFrames(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		s := newStage(t, e, 640, 360, func(spec *media.Spec) { spec.Video.FPS = 240 })
		m := newMovie(t, s.brush, 640, 360)
		m.show(1)
		play := func(frames int) {
			n := s.n()
			for i := 0; s.n() < n+frames; i++ {
				s.brush.fill(uint32(i)*0x10305, i%600, i%300, 40, 40)
				s.brush.sync()
			}
		}
		play(300)
		pid := workerPID(t)
		before := holds(t, pid)
		play(1500)
		after := holds(t, pid)
		t.Logf("%s: 1500 frames: from %+v to %+v", e.Name, before, after)
		// A frame is 345 kB: one in ten that stays would be 50 MB.
		if after.kB > before.kB+8<<10 && !underRace || after.files > before.files || after.threads > before.threads+2 {
			t.Errorf("before 1500 frames %+v, after them %+v", before, after)
		}
	})
}

func TestNothingLeaksByChangesOfSize(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		s := newStage(t, e, 1280, 720, nil)
		c := dial(t, s.display)
		change := func(rounds int) {
			for range rounds {
				for _, size := range [][2]int{{1920, 1080}, {1280, 720}} {
					if err := x11.SetSize(context.Background(), c, size[0], size[1]); err != nil {
						t.Fatal(err)
					}
					s.until(t, 5*time.Second, "unit of the new size", func() bool { return int(s.video[len(s.video)-1].Width) == size[0] })
				}
			}
		}
		change(3)
		pid := workerPID(t)
		before := holds(t, pid)
		change(10)
		after := holds(t, pid)
		t.Logf("%s: 20 changes of size: from %+v to %+v", e.Name, before, after)
		if after.kB > before.kB+20<<10 && !underRace || after.files > before.files || after.threads > before.threads+4 {
			t.Errorf("before 20 changes of size %+v, after them %+v", before, after)
		}
	})
}

// TestWorkerThatIsStoppedIsReplacedByItsParent uses the real one.
func TestStoppedWorkerIsFoundSilent(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 640, 360, nil)
	pid := workerPID(t)
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.over:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody noticed")
	}
	took := time.Since(began)
	t.Log("found and killed after", took)
	if !errors.Is(s.err, worker.ErrSilent) || took > 2*time.Second {
		t.Errorf("%v after %v", s.err, took)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestStoppedXServerSilencesTheWorker: capture hangs, and the parent learns of it.
func TestStoppedXServerSilencesTheWorker(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 640, 360, nil)
	s.settled()
	p, _ := servers.Load(s.display.Name)
	server := p.(*os.Process)
	s.brush.fill(0x808080, 0, 0, 100, 100)
	s.brush.sync()
	n := s.n()
	s.until(t, 5*time.Second, "a frame", func() bool { return len(s.video) > n })
	began := time.Now()
	// A change that is reported and cannot be read any more.
	for i := range 3000 {
		s.brush.fill(uint32(i), 0, 0, 200, 200)
	}
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Signal(syscall.SIGCONT) }() // to be killed
	select {
	case <-s.over:
		t.Logf("after %v: %v", time.Since(began), s.err)
	case <-time.After(10 * time.Second):
		t.Fatal("nobody noticed")
	}
}

func TestStartIsQuick(t *testing.T) {
	d := xvfb(t, 1280, 720)
	var cold, warm []time.Duration
	for range 7 {
		ready := make(chan struct{})
		var told time.Time
		r := &arrivals{news: make(chan struct{}, 1), over: make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		p := &worker.Process{Exe: "/proc/self/exe", Args: []string{"media-worker"}, Spec: func(context.Context) (media.Spec, error) {
			<-ready
			told = time.Now()
			return videoSpec(d, "x264", media.H264), nil
		}}
		began := time.Now()
		go func() {
			defer close(r.over)
			r.err = p.Run(ctx, nil, r)
		}()
		if len(cold) < 3 {
			close(ready)
		} else {
			time.Sleep(500 * time.Millisecond) // a display that takes its time to come up
			close(ready)
		}
		r.until(t, 10*time.Second, "first picture", func() bool { return len(r.video) > 0 })
		if len(cold) < 3 {
			cold = append(cold, time.Since(began))
		} else {
			warm = append(warm, time.Since(told))
		}
		cancel()
		<-r.over
	}
	t.Logf("first unit %v after exec, %v after a worker that waited was told what to do", cold, warm)
	if best := slices.Min(warm); best > 200*time.Millisecond {
		t.Errorf("a worker that waited takes %v to its first picture", best)
	}
}

func TestProbeFindsTheSoftwareEncoders(t *testing.T) {
	found := worker.Probe(context.Background(), "/proc/self/exe", []string{"media-probe"}, slog.New(slog.DiscardHandler))
	if len(found) != len(encoders.Table()) {
		t.Fatalf("%d of %d entries", len(found), len(encoders.Table()))
	}
	for i, e := range encoders.Table() {
		f := found[i]
		t.Logf("%+v", f)
		if f.Name != e.Name || f.Codec != e.Codec || f.Family != e.Family || f.Hardware != e.Hardware || f.Element == "" {
			t.Errorf("%+v for %s", f, e.Name)
		}
		if !e.Hardware && !f.Works {
			t.Errorf("%s does not work: %s", e.Name, f.Reason)
		}
		if f.Works == (f.Reason != "") {
			t.Errorf("%s: works %v, reason %q", e.Name, f.Works, f.Reason)
		}
	}
}
