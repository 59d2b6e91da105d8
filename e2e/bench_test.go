//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// plan is what a run of the bench measures, and how thoroughly.
type plan struct {
	latency  []scene // through Chromium
	server   []scene // without
	presses  int     // of each scene
	window   time.Duration
	starts   int   // sessions that are started and ended
	sessions []int // small sessions at a time
	viewers  []int // of one session
}

var (
	thorough = plan{[]scene{busy720, idle720, busy1080, idle1080}, []scene{busy720, busy1080}, 60, 6 * time.Second, 7, []int{1, 2, 4, 8}, []int{1, 4, 16, 64}}
	brief    = plan{[]scene{busy720, busy1080}, []scene{busy720}, 30, 4 * time.Second, 3, []int{1, 4}, []int{1, 16}}
	taste    = plan{[]scene{busy720}, []scene{busy720}, 4, time.Second, 1, []int{2}, []int{2}}
)

// parts are what can be asked for by name.
var parts = []string{"latency", "server", "start", "sessions", "viewers"}

// only keeps the parts that are named, separated by commas; all of them for "".
func (p plan) only(names string) (plan, error) {
	if names == "" {
		return p, nil
	}
	asked := strings.Split(names, ",")
	for _, n := range asked {
		if !slices.Contains(parts, n) {
			return plan{}, fmt.Errorf("no part %q: there are %s", n, strings.Join(parts, ", "))
		}
	}
	drop := func(name string) bool { return !slices.Contains(asked, name) }
	if drop("latency") {
		p.latency = nil
	}
	if drop("server") {
		p.server = nil
	}
	if drop("start") {
		p.starts = 0
	}
	if drop("sessions") {
		p.sessions = nil
	}
	if drop("viewers") {
		p.viewers = nil
	}
	return p, nil
}

// run measures what the plan says, one thing after the other; each has a server of its own.
func (p plan) run(t *testing.T) *Report {
	began := time.Now()
	r := &Report{When: began.UTC().Format("2006-01-02 15:04 UTC"), Machine: machine()}
	step := func(name string, f func(t *testing.T)) {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			f(t)
			t.Logf("after %v", time.Since(began).Round(time.Second))
		})
	}
	version, err := exec.Command(binary, "version").Output()
	do(t, "version", err)
	r.Version = strings.TrimSpace(string(version))
	if len(p.latency) > 0 || p.starts > 0 {
		r.Browser = "Chromium " + browser(t).Version()
	}
	for _, sc := range p.latency {
		step("latency "+sc.Name, func(t *testing.T) { r.Latency = append(r.Latency, clicks(t, sc, p.window, p.presses)) })
	}
	for _, sc := range p.server {
		step("server "+sc.Name, func(t *testing.T) { r.Server = append(r.Server, direct(t, sc, p.window, p.presses)) })
	}
	if p.starts > 0 {
		step("start", func(t *testing.T) { s := starts(t, p.starts); r.Start = &s })
	}
	for _, n := range p.sessions {
		step(fmt.Sprintf("sessions %d", n), func(t *testing.T) { r.Sessions = append(r.Sessions, manySessions(t, n, p.window)) })
	}
	if len(p.viewers) > 0 {
		step("viewers", func(t *testing.T) { r.Viewers = manyViewers(t, p.viewers, p.window) })
	}
	r.Took = time.Since(began).Seconds()
	return r
}

// machine describes this one.
func machine() Machine {
	m := Machine{Cores: runtime.NumCPU()}
	cpu, _ := os.ReadFile("/proc/cpuinfo") // stays "" where it is not
	for line := range strings.Lines(string(cpu)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			m.CPU = strings.TrimSpace(v)
			break
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	load, _ := os.ReadFile("/proc/loadavg")
	m.Load, _, _ = strings.Cut(string(load), " ")
	return m
}

// direct measures a scene without a browser: what is left is the server.
func direct(t *testing.T, sc scene, window time.Duration, presses int) (out Direct) {
	dir := t.TempDir()
	s := start(t, benched(apps(dir)+steadyBitrate))
	s.setup()
	sess := sc.open(s)
	r := receive(t, s, sess.ID)
	select {
	case <-r.ready:
	case <-time.After(10 * time.Second):
		t.Fatal("the input channel did not open")
	}
	time.Sleep(settling(window))
	log := filepath.Join(dir, sc.app()+".jsonl")
	out.Scene = sc.Name
	r.take()
	meter, began, since := watchTree(s), time.Now(), monotonic()
	time.Sleep(window) // the measuring time
	out.CPU, out.Memory = meter.stop()
	got := r.take()
	seconds := time.Since(began).Seconds()
	if len(got.timings) == 0 {
		t.Fatal("the server told no timing")
	}
	line := got.timings[0]
	out.Rates = rates(got.frames, seconds)
	out.Rates.Drawn = drawnRate(t, log, since)
	out.Stages = stages(got.timings)
	var capture, sizes []float64
	for _, f := range got.frames {
		capture = append(capture, f.at-line.captured(f.rtp))
		sizes = append(sizes, float64(f.bytes))
	}
	out.CaptureToReceived, out.FrameBytes = spread(capture), spread(sizes)

	before := len(flips(t, log))
	var pressed []float64
	for i := range presses {
		// Spread over the phases of the clocks that are involved.
		time.Sleep(100*time.Millisecond + rand.N(100*time.Millisecond))
		at, err := r.button(true)
		do(t, "press", err)
		pressed = append(pressed, at)
		time.Sleep(50 * time.Millisecond)
		_, err = r.button(false)
		do(t, "release", err)
		until(t, 10*time.Second, "the press has flipped", func() bool { return len(flips(t, log))-before == i+1 })
	}
	until(t, 10*time.Second, "the last flip's frame", func() bool { return r.since(float64(flips(t, log)[before+presses-1].At)/1e6 + 100) })
	got = r.take()
	do(t, "receive", r.failed())
	out.PressedStages = stages(got.timings)
	told := frameStages(got.stages)
	var input, arrived, sent []float64
	for i, flip := range flips(t, log)[before:] {
		drew := float64(flip.At) / 1e6
		input = append(input, drew-pressed[i])
		// The first frame that was captured afterwards has the flip in it.
		for _, f := range got.frames {
			if line.captured(f.rtp) < drew {
				continue
			}
			arrived = append(arrived, f.at-drew)
			if s, ok := told[f.rtp]; ok {
				sent = append(sent, s.sent-drew)
			}
			break
		}
	}
	out.InputToProgram, out.ProgramToReceived, out.ProgramToSent = spread(input), spread(arrived), spread(sent)
	r.close()
	end(t, s, sess.ID)
	return out
}

// rates are those of frames that came within so many seconds.
func rates(frames []arrival, seconds float64) Rates {
	var gaps []float64
	octets := 0
	for i, f := range frames {
		octets += f.bytes
		if i > 0 {
			gaps = append(gaps, f.at-frames[i-1].at)
		}
	}
	return Rates{Received: float64(len(frames)) / seconds, Kbps: float64(octets) * 8 / 1000 / seconds, Interval: spread(gaps)}
}

// starts measures the waiting: for the first picture, and for the end.
func starts(t *testing.T, runs int) Start {
	s := start(t, benched(""))
	p := tab(t, 1280, 720)
	enter(t, s, p)
	var fresh, resumed, answer, gone []float64
	for range runs {
		sid := play(t, p, "playground")
		fresh = append(fresh, firstFrame(t, p))
		tool(t, p, "leave")
		do(t, "library", id(p, "library").WaitFor())
		card := p.Locator(fmt.Sprintf("[data-testid=session-card][data-session=%q]", sid))
		do(t, "card", card.WaitFor())
		do(t, "resume", card.Locator("[data-testid=resume]").Click())
		resumed = append(resumed, firstFrame(t, p))
		began := time.Now()
		s.must("DELETE", "/api/sessions/"+sid, nil, 0, nil)
		answer = append(answer, float64(time.Since(began).Microseconds())/1000)
		until(t, 8*time.Second, "the session is gone", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
		gone = append(gone, float64(time.Since(began).Microseconds())/1000)
		_, err := p.Goto(s.url + "/#library")
		do(t, "library", err)
		do(t, "library", id(p, "library").WaitFor())
	}
	do(t, "leave", p.Context().Close())
	return Start{spread(fresh), spread(resumed), spread(answer), spread(gone)}
}

// manySessions measures so many small sessions at a time, each with one receiver.
func manySessions(t *testing.T, n int, window time.Duration) Growth {
	s := start(t, benched(apps(t.TempDir())+fmt.Sprintf("[sessions]\nmax_total = %d\nmax_per_person = %d\n[video]\nstart_kbps = 2000\nmax_kbps = 2000\n", n, n)))
	s.setup()
	var ids []string
	var receivers []*receiver
	for range n {
		sess := scene{Width: 640, Height: 360, FPS: 30, Busy: true}.open(s)
		ids = append(ids, sess.ID)
		receivers = append(receivers, receive(t, s, sess.ID))
	}
	time.Sleep(settling(window))
	g := watch(t, s, receivers, window)
	end(t, s, ids...)
	return g
}

// manyViewers measures one session with more and more receivers.
func manyViewers(t *testing.T, steps []int, window time.Duration) (out []Growth) {
	most := slices.Max(steps)
	s := start(t, benched(apps(t.TempDir())+fmt.Sprintf("[sessions]\nmax_peers = %d\n[video]\nstart_kbps = 2000\nmax_kbps = 2000\n", most)))
	s.setup()
	sess := busy720.open(s)
	var receivers []*receiver
	for _, n := range steps {
		receivers = append(receivers, receiveMany(t, s, sess.ID, n-len(receivers))...)
		time.Sleep(settling(window))
		out = append(out, watch(t, s, receivers, window))
	}
	for _, r := range receivers {
		r.close()
	}
	end(t, s, sess.ID)
	return out
}

// watch measures what receivers get and what it costs.
func watch(t *testing.T, s *server, receivers []*receiver, window time.Duration) Growth {
	t.Helper()
	for _, r := range receivers {
		r.take()
	}
	meter, began := watchTree(s), time.Now()
	time.Sleep(window) // the measuring time
	g := Growth{N: len(receivers)}
	g.CPU, g.Memory = meter.stop()
	var fps, kbps []float64
	seconds := time.Since(began).Seconds()
	for _, r := range receivers {
		do(t, "receive", r.failed())
		one := rates(r.take().frames, seconds)
		fps, kbps = append(fps, one.Received), append(kbps, one.Kbps)
		g.Interval = max(g.Interval, one.Interval.P99)
	}
	g.Received, g.Kbps = spread(fps), spread(kbps)
	return g
}

// TestBenchTastes runs the bench with a handful of samples, so that it keeps
// working. Its figures mean nothing.
func TestBenchTastes(t *testing.T) {
	r := taste.run(t)
	if t.Failed() {
		return
	}
	for _, p := range r.Latency {
		if p.ClickToPhoton.N != taste.presses || p.ClickToPhoton.Min <= 0 || p.ClickToNamed.P50 < p.ClickToPhoton.P50 || p.InputToProgram.Max > p.ClickToPhoton.Max || p.ProgramToCapture.Min < -p.ClockDoubt-1 || p.ClockDoubt > 50 {
			t.Errorf("legs: %+v", p)
		}
		if p.Rates.Received < 1 || p.Rates.Shown < 1 || p.CPU.Side() <= 0 || p.CPU.Program <= 0 {
			t.Errorf("rates %+v, CPU %+v", p.Rates, p.CPU)
		}
	}
	for _, d := range r.Server {
		if d.ProgramToReceived.N != taste.presses || d.ProgramToReceived.Min <= 0 || d.CaptureToReceived.Min <= 0 || d.CaptureToReceived.P50 > 1000 || d.Rates.Kbps < 10 {
			t.Errorf("direct: %+v", d)
		}
		for _, part := range []string{"worker", "x", "sound", "supervisor", "program"} {
			if d.Memory.Parts[part].PSS <= 0 {
				t.Errorf("no memory of part %s: %+v", part, d.Memory)
			}
		}
	}
	for _, g := range append(r.Sessions, r.Viewers...) {
		if g.N != 2 || g.Received.N != 2 || g.Received.Min < 1 {
			t.Errorf("growth: %+v", g)
		}
	}
	if r.Start == nil {
		t.Fatal("only some of its parts have run")
	}
	if r.Start.Play.Min <= 0 || r.Start.Gone.Min < r.Start.Answer.Min {
		t.Errorf("start: %+v", r.Start)
	}
	b, err := json.Marshal(r)
	do(t, "marshal", err)
	var back Report
	do(t, "unmarshal", json.Unmarshal(b, &back))
	if back.markdown() != r.markdown() || !strings.Contains(r.markdown(), "click → photon p50") {
		t.Errorf("JSON and Markdown differ:\n%s\n%s", b, r.markdown())
	}
}

// TestSpread: quantiles are values that were there.
func TestSpread(t *testing.T) {
	var v []float64
	for i := range 100 {
		v = append(v, float64(100-i))
	}
	if got, want := spread(v), (Spread{100, 1, 50, 95, 99, 100}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := spread([]float64{3}), (Spread{1, 3, 3, 3, 3, 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
