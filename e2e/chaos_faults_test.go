//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"image/png"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// faulty is a fenrir with faults built in: FENRIR_FAULTS_BIN, or one built for
// this run.
var faulty = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("FENRIR_FAULTS_BIN"); bin != "" {
		return bin, nil
	}
	bin := filepath.Join(os.TempDir(), fmt.Sprintf("fenrir-faults-%d", os.Getpid()))
	out, err := exec.Command("go", "build", "-tags", "faults", "-o", bin, "../server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return bin, nil
})

// inFull skips a test that takes too long for make test.
func inFull(t *testing.T) {
	t.Helper()
	if !full {
		t.Skip("in make chaos only")
	}
}

// noise is what this machine adds to any answer just now: p99 of the simplest one,
// a millisecond or two where nothing else runs. Bounds are widened by it.
func (s *server) noise() time.Duration {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var took []time.Duration
	for range 150 {
		began := time.Now()
		s.must("GET", "/healthz", nil, http.StatusOK, nil)
		took = append(took, time.Since(began))
		<-tick.C
	}
	slices.Sort(took)
	p := percentile(took, 99)
	s.t.Logf("noise of this machine: %v", p)
	return p
}

// startFaulty starts a server whose apps have media workers with faults, "app=fault".
func startFaulty(t *testing.T, config string, faults ...string) *server {
	t.Helper()
	bin, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, options{bin: bin, config: config, env: []string{"FENRIR_FAULTS=" + strings.Join(faults, ",")}})
	s.setup()
	return s
}

// rogues are programs of all sorts; the playground moves in each that has a fault.
const rogues = `
[sessions]
max_total = 100
max_per_person = 100
max_peers = 64
[[apps]]
id = "still"
title = "Nothing happens"
command = ["sh", "-c", "while :; do sleep 60; done"]
[[apps]]
id = "stubborn"
title = "Ignores SIGTERM, leaves double-forked children behind, prints without end"
command = ["sh", "-c", "trap '' TERM HUP INT; (setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" &) ; yes & while :; do sleep 1; done"]
[[apps]]
id = "deaf"
title = "Its worker ignores everything"
command = ["sh", "-c", "while :; do sleep 60; done"]
[[apps]]
id = "blocked"
title = "Its worker hangs in a state change"
command = ["sh", "-c", "while :; do sleep 60; done"]
`

// TestRow01FaultsAreNotInTheOrdinaryBinary: what makes workers misbehave is built
// into no binary that anybody runs.
func TestRow01FaultsAreNotInTheOrdinaryBinary(t *testing.T) {
	bin, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{binary: false, bin: true} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, sign := range []string{"FENRIR_FAULTS", "FENRIR_FAULT_NATIVE", "fenrir/media/fault", "fenrir_hang"} {
			if got := bytes.Contains(b, []byte(sign)); got != want {
				t.Errorf("%s contains %q: %v, want %v", filepath.Base(path), sign, got, want)
			}
		}
	}
}

// counter reads the playground's frame counter off a screenshot.
func (s *server) counter(sid string) int {
	s.t.Helper()
	const cell = 16
	img, err := png.Decode(bytes.NewReader(s.must("GET", "/api/sessions/"+sid+"/screenshot", nil, http.StatusOK, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for c := 2; c < 34; c++ {
		r, g, b, _ := img.At(c*cell+cell/2, cell/2).RGBA()
		n *= 2
		if (r+g+b)/3 > 0x7fff {
			n++
		}
	}
	return n
}

// TestRow01Row04CancelsDoNotWait is the founding incident a thousand times over:
// one session's worker is stopped, one ignores everything, one is blocked inside a
// state change, one program ignores SIGTERM; meanwhile somebody plays.
func TestRow01Row04CancelsDoNotWait(t *testing.T) {
	s := startFaulty(t, rogues, "deaf=deaf", "blocked=block-start")
	s.must("GET", "/api/sessions", nil, http.StatusOK, nil)
	neighbour := s.running("playground")
	g := gamers(t, s, neighbour.ID, "neighbour", 1)[0]
	until(t, 10*time.Second, "a picture", func() bool { return g.frames.Load() > 60 })
	base, processes := s.toll(), len(descendants(s.cmd.Process.Pid))

	deaf, stubborn, stopped := s.running("deaf"), s.running("stubborn"), s.running("still")
	blocked := s.create("blocked")
	until(t, 20*time.Second, "the blocked session's program runs", func() bool { return s.session(blocked.ID).Program.PID != 0 })
	if st := s.session(blocked.ID); st.Phase != "starting" {
		t.Fatalf("the blocked session is %q, want it to be starting", st.Phase)
	}
	worker := func(sid string) int {
		workers := children(s.cmd.Process.Pid, "media-worker")
		slices.SortFunc(workers, func(a, b process) int { return a.pid - b.pid })
		return workers[len(workers)-1].pid // of the newest session
	}
	newest := s.running("still")
	if err := syscall.Kill(worker(newest.ID), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ids := []string{deaf.ID, stubborn.ID, stopped.ID, blocked.ID, newest.ID}

	noise := s.noise()
	frames, began := g.frames.Load(), time.Now()
	var mu sync.Mutex
	var cancels, reads, handshakes []time.Duration
	note := func(list *[]time.Duration, since time.Time) {
		mu.Lock()
		*list = append(*list, time.Since(since))
		mu.Unlock()
	}
	ended := make(chan struct{})
	var hands sync.WaitGroup
	hands.Go(func() { // a few a second: each one costs this machine as much as the server
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			at := time.Now()
			c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Errorf("handshake: %v", err)
				return
			}
			note(&handshakes, at)
			_ = c.Close() // it was only to be made
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	})
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range jobs {
				at := time.Now()
				if i%2 == 0 {
					status, _, err := s.call("DELETE", "/api/sessions/"+ids[i/2%len(ids)], nil, nil)
					if err != nil || status != http.StatusAccepted && status != http.StatusNoContent && status != http.StatusNotFound {
						t.Errorf("DELETE: status %d, %v", status, err)
					}
					note(&cancels, at)
					continue
				}
				path := []string{"/healthz", "/api/sessions", "/api/sessions/" + neighbour.ID, "/api/apps", "/api/server"}[i/2%5]
				status, _, err := s.call("GET", path, nil, nil)
				if err != nil || status != http.StatusOK {
					t.Errorf("GET %s: status %d, %v", path, status, err)
				}
				note(&reads, at)
			}
		})
	}
	first := time.Now()
	// Over the seconds that the ends take: as fast as can be, the client would take
	// most of the two processors itself.
	pace := time.NewTicker(3 * time.Millisecond)
	for i := range often(1000, 400) {
		<-pace.C
		jobs <- i
	}
	pace.Stop()
	close(jobs)
	wg.Wait()
	until(t, 6*time.Second-time.Since(first), "all processes of the ended sessions are gone", func() bool { return len(descendants(s.cmd.Process.Pid)) <= processes })
	gone := time.Since(first)
	close(ended)
	hands.Wait()
	for _, l := range []*[]time.Duration{&cancels, &reads, &handshakes} {
		slices.Sort(*l)
	}
	fps := float64(g.frames.Load()-frames) / time.Since(began).Seconds()
	t.Logf("%d cancels: p50 %v, most %v; %d reads: p50 %v, p99 %v; %d handshakes: p50 %v, p99 %v; all gone after %v; the neighbour got %.0f fps",
		len(cancels), percentile(cancels, 50), cancels[len(cancels)-1], len(reads), percentile(reads, 50), percentile(reads, 99),
		len(handshakes), percentile(handshakes, 50), percentile(handshakes, 99), gone.Round(time.Millisecond), fps)
	if most := cancels[len(cancels)-1]; most > 300*time.Millisecond+noise {
		t.Errorf("a cancel took %v, want at most 300 ms", most)
	}
	if p := percentile(reads, 99); p > 100*time.Millisecond+noise {
		t.Errorf("p99 of the reads is %v, want less than 100 ms", p)
	}
	if p := percentile(handshakes, 99); p > 500*time.Millisecond+noise {
		t.Errorf("p99 of the handshakes is %v, want less than 500 ms", p)
	}
	for _, id := range ids {
		if left := leftFiles(t, s, id); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	s.atBaseline(base, 6*time.Second)
}

// TestRow39BadWorkers lets the worker of a session do one wrong
// thing after half a second, again and again: the program goes on, the picture
// comes back each time, nobody else notices, and the end is one.
func TestRow39BadWorkers(t *testing.T) {
	for i, fault := range []string{"flood", "block-stream", "crash", "garbage", "stall"} {
		t.Run(fault, func(t *testing.T) {
			if i >= 2 {
				inFull(t)
			}
			s := startFaulty(t, rogues, "still=none", "playground="+fault+":30")
			sess := s.running("playground")
			pid := s.session(sess.ID).Program.PID
			g := gamers(t, s, sess.ID, "player", 1)[0]
			until(t, 10*time.Second, "a picture", func() bool { return g.frames.Load() > 0 })
			before := s.counter(sess.ID)
			var gaps []time.Duration
			until(t, 20*time.Second, "three workers were replaced", func() bool {
				return s.session(sess.ID).Restarts >= often(4, 2)
			})
			gaps = g.gapsOver(2 * time.Second)
			st := s.session(sess.ID)
			t.Logf("%d workers replaced; longest time without a picture in the last two seconds %v", st.Restarts, percentile(gaps, 100))
			if len(gaps) == 0 || percentile(gaps, 100) > 1500*time.Millisecond {
				t.Errorf("no picture for %v", percentile(gaps, 100))
			}
			if st.Program.PID != pid || st.Phase != "running" {
				t.Errorf("the session is %+v, want it to run with program %d", st, pid)
			}
			if now := s.counter(sess.ID); now <= before {
				t.Errorf("the program's counter went from %d to %d", before, now)
			}
			began := time.Now()
			s.must("DELETE", "/api/sessions/"+sess.ID, nil, 0, nil)
			if took := time.Since(began); took > 300*time.Millisecond {
				t.Errorf("the end took %v to answer", took)
			}
			until(t, 6*time.Second, "nothing is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
		})
	}
}

// TestRow60StartNamesTheStage: a session whose worker never makes a picture is
// given up within seconds, and says where it stood.
func TestRow60StartNamesTheStage(t *testing.T) {
	inFull(t)
	for fault, words := range map[string]string{"block-start": "starting x264", "mute": "not ready"} {
		t.Run(fault, func(t *testing.T) {
			s := startFaulty(t, rogues, "blocked="+fault)
			began := time.Now()
			sess := s.create("blocked")
			var st session
			until(t, 20*time.Second, "the start is given up", func() bool {
				st = s.session(sess.ID)
				return st.Cause != nil
			})
			t.Logf("after %v: %s: %s", time.Since(began).Round(time.Millisecond), st.Cause.Code, st.Cause.Detail)
			if st.Cause.Code != "media-failed" || !strings.Contains(st.Cause.Detail+st.Cause.Output, words) {
				t.Errorf("got %+v, want media-failed with %q", st.Cause, words)
			}
			until(t, 6*time.Second, "nothing is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
		})
	}
}

// TestRow14GPULibraryHangs puts a GPU library into the server's way that never
// comes back from being loaded: the server starts, and sessions play.
func TestRow14GPULibraryHangs(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "hang.c")
	if err := os.WriteFile(source, []byte("#include <unistd.h>\n__attribute__((constructor)) static void hang(void) { for (;;) pause(); }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", filepath.Join(dir, "libnvidia-ml.so.1"), source).CombinedOutput(); err != nil {
		t.Fatalf("build the library: %v\n%s", err, out)
	}
	began := time.Now()
	s := start(t, options{env: []string{"LD_LIBRARY_PATH=" + dir}})
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	s.setup()
	sess := s.running("playground")
	var info struct {
		GPUNote string `json:"gpu_note"`
	}
	s.must("GET", "/api/server", nil, http.StatusOK, &info)
	if !strings.Contains(info.GPUNote, "timed out") && !strings.Contains(info.GPUNote, "hang") {
		t.Errorf("the server says %q of its GPUs", info.GPUNote)
	}
	if st := s.session(sess.ID); len(st.Video) != 1 || st.Video[0].Encoder != "x264" {
		t.Errorf("video %+v, want x264", st.Video)
	}
	if probes := children(s.cmd.Process.Pid, "gpu-probe"); len(probes) > 1 {
		t.Errorf("%d probes hang", len(probes))
	}
}
