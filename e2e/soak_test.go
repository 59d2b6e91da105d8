//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// Soak is what a soak found.
type Soak struct {
	When    string         `json:"when"`
	Machine Machine        `json:"machine"`
	Minutes float64        `json:"minutes"`
	Rounds  int            `json:"rounds"`
	Done    map[string]int `json:"done"` // what was done to the server, how often
	Slopes  []Slope        `json:"slopes"`
	Samples []Sample       `json:"samples"`
}

// Sample is what the server process takes at one moment.
type Sample struct {
	Minute     float64 `json:"minute"`
	Rest       bool    `json:"rest"` // only the session that stays is there
	FDs        int     `json:"fds"`
	Threads    int     `json:"threads"`
	Goroutines int     `json:"goroutines"`
	RSSKiB     int     `json:"rss_kib"`
}

// Slope is how a quantity grew over the last half of the soak, per minute, with
// the bounds of its 95 % confidence interval.
type Slope struct {
	Quantity string  `json:"quantity"`
	Rest     bool    `json:"rest"` // of the samples at rest, else of all others
	N        int     `json:"n"`
	Mean     float64 `json:"mean"`
	Slope    float64 `json:"per_minute"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Limit    float64 `json:"limit"`
}

// grows tells whether the growth is certain.
func (s Slope) grows() bool { return s.Low > s.Limit }

// quantities are what must not grow, and the growth per minute that is let pass: of a soak of
// half an hour less than one descriptor, thread or goroutine, and 3 MiB.
var quantities = []struct {
	name  string
	limit float64
	of    func(Sample) int
}{
	{"fds", .05, func(s Sample) int { return s.FDs }},
	{"threads", .05, func(s Sample) int { return s.Threads }},
	{"goroutines", .05, func(s Sample) int { return s.Goroutines }},
	{"RSS KiB", 200, func(s Sample) int { return s.RSSKiB }},
}

// regress fits a line and gives its slope with the half-width of its 95 %
// confidence interval, infinite for fewer than three points.
func regress(x, y []float64) (mean, slope, width float64) {
	n := float64(len(x))
	if len(x) < 3 {
		return 0, 0, math.Inf(1)
	}
	var mx, my, sxx, sxy, sse float64
	for i := range x {
		mx, my = mx+x[i]/n, my+y[i]/n
	}
	for i := range x {
		sxx += (x[i] - mx) * (x[i] - mx)
		sxy += (x[i] - mx) * (y[i] - my)
	}
	if sxx == 0 {
		return my, 0, math.Inf(1)
	}
	slope = sxy / sxx
	for i := range x {
		e := y[i] - my - slope*(x[i]-mx)
		sse += e * e
	}
	return my, slope, student(len(x)-2) * math.Sqrt(sse/(n-2)/sxx)
}

// student is the 97.5 % quantile of Student's t, within 1 % from three degrees of freedom on.
func student(freedom int) float64 {
	switch freedom {
	case 1:
		return 12.706
	case 2:
		return 4.303
	}
	d, z := float64(freedom), 1.959964
	return z + (z*z*z+z)/(4*d) + (5*math.Pow(z, 5)+16*z*z*z+3*z)/(96*d*d) + (3*math.Pow(z, 7)+19*math.Pow(z, 5)+17*z*z*z-15*z)/(384*d*d*d)
}

// slopes are those of the samples from the given minute on.
func slopes(samples []Sample, from float64) (out []Slope) {
	for _, rest := range []bool{true, false} {
		for _, q := range quantities {
			var x, y []float64
			for _, s := range samples {
				if s.Rest == rest && s.Minute >= from {
					x, y = append(x, s.Minute), append(y, float64(q.of(s)))
				}
			}
			mean, slope, width := regress(x, y)
			if math.IsInf(width, 1) {
				width = math.MaxFloat32 // JSON knows no infinity
			}
			out = append(out, Slope{q.name, rest, len(x), mean, slope, slope - width, slope + width, q.limit})
		}
	}
	return out
}

// markdown is the soak as a table.
func (k *Soak) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores: %.1f minutes, %d rounds: ", k.When, k.Machine.Cores, k.Minutes, k.Rounds)
	for i, what := range soakActions {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d %s", k.Done[what], what)
	}
	b.WriteString("\n\n")
	t := table{head: []string{"server, last half", "samples", "mean", "per minute", "95 % interval", "limit", ""}}
	for _, s := range k.Slopes {
		name, verdict := s.Quantity+" in churn", "steady"
		if s.Rest {
			name = s.Quantity + " at rest"
		}
		if s.grows() {
			verdict = "**grows**"
		}
		bounds := fmt.Sprintf("%+.3f…%+.3f", s.Low, s.High)
		if s.N < 3 {
			bounds, verdict = "unknown", "too few samples"
		}
		t.row(name, count(s.N), tenth(s.Mean), fmt.Sprintf("%+.3f", s.Slope), bounds, fmt.Sprint(s.Limit), verdict)
	}
	t.write(&b)
	return b.String()
}

// soakActions are what a soak does in each round.
var soakActions = []string{"sessions", "viewers", "tabs", "reloads", "workers killed", "sound servers killed", "websockets aborted", "peers half made"}

// soaker churns one server.
type soaker struct {
	t       *testing.T
	s       *server
	tabs    playwright.BrowserContext // logged in
	began   time.Time
	sampled time.Time
	out     *Soak
}

const sampleEvery = 3 * time.Second

// soak churns a server for so long, at least for one round.
func soak(t *testing.T, length time.Duration) *Soak {
	s := start(t, benched(apps(t.TempDir())))
	first := tab(t, 640, 360)
	enter(t, s, first)
	k := &soaker{t: t, s: s, tabs: first.Context(), began: time.Now(),
		out: &Soak{When: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Machine: machine(), Done: map[string]int{}}}
	do(t, "close tab", first.Close())
	// One session is there all the time, with one viewer.
	steady := scene{Width: 640, Height: 360, FPS: 30, Busy: true}.open(s)
	stays := receive(t, s, steady.ID)
	parts := len(descendants(s.cmd.Process.Pid))
	for k.out.Rounds == 0 || time.Since(k.began) < length {
		k.round()
		k.out.Rounds++
		until(t, 20*time.Second, "only the session that stays is left", func() bool {
			return len(descendants(s.cmd.Process.Pid)) == parts && len(s.session(steady.ID).Peers) == 1
		})
		do(t, "the viewer that stays", stays.failed())
		k.sample(true)
	}
	stays.close()
	k.out.Minutes = time.Since(k.began).Minutes()
	k.out.Slopes = slopes(k.out.Samples, k.out.Minutes/2)
	end(t, s, steady.ID)
	return k.out
}

// done counts something, and takes a sample when one is due.
func (k *soaker) done(what string) {
	k.out.Done[what]++
	if time.Since(k.sampled) >= sampleEvery {
		k.sample(false)
	}
}

func (k *soaker) sample(rest bool) {
	k.t.Helper()
	u := usageOf(k.s.cmd.Process.Pid)
	k.sampled = time.Now()
	k.out.Samples = append(k.out.Samples, Sample{time.Since(k.began).Minutes(), rest, u.fds, u.threads, int(k.s.metric("go_goroutines")), u.rssKiB})
}

// round does everything once to a session of its own.
func (k *soaker) round() {
	t, s := k.t, k.s
	before := descendants(s.cmd.Process.Pid)
	sess := scene{Width: 640, Height: 360, FPS: 30, Busy: true}.open(s)
	k.done("sessions")
	viewer := receive(t, s, sess.ID)
	k.done("viewers")

	p := page(t, k.tabs)
	do(t, "stopwatch", p.AddInitScript(playwright.Script{Content: playwright.String(photon)}))
	picture := func() {
		until(t, 20*time.Second, "a picture", func() (ok bool) { eval(t, p, &ok, "() => photon.attach()"); return ok })
	}
	_, err := p.Goto(s.url + "/#play/" + sess.ID)
	do(t, "open the session", err)
	picture()
	k.done("tabs")
	_, err = p.Reload()
	do(t, "reload", err)
	picture()
	k.done("reloads")
	do(t, "kill the tab", p.Close())

	// killed kills the session's process of a kind and waits for the next one.
	killed := func(kind string) {
		find := func(but int) (pid int) {
			for _, q := range descendants(s.cmd.Process.Pid) {
				old := slices.ContainsFunc(before, func(b process) bool { return b.pid == q.pid })
				if !old && part(q) == kind && q.pid != but && q.state != 'Z' {
					pid = q.pid
				}
			}
			return pid
		}
		pid := find(0)
		if pid == 0 {
			t.Fatalf("the session has no %s", kind)
		}
		do(t, "kill", syscall.Kill(pid, syscall.SIGKILL))
		until(t, 15*time.Second, "another "+kind, func() bool { return find(pid) != 0 })
	}
	killed("worker")
	k.done("workers killed")
	killed("sound")
	k.done("sound servers killed")
	viewer.take()
	until(t, 10*time.Second, "frames come on", func() bool { return len(viewer.take().frames) > 0 })

	for n := range 8 {
		if n%2 == 0 {
			half, err := dialReceiver(t, s, sess.ID)
			do(t, "half a peer", err)
			half.close()
			k.done("peers half made")
			continue
		}
		k.abort(sess.ID)
		k.done("websockets aborted")
	}
	for range 2 {
		receive(t, s, sess.ID).close()
		k.done("viewers")
	}
	viewer.close()
	s.must("DELETE", "/api/sessions/"+sess.ID, nil, 0, nil)
}

// abort opens a websocket and cuts it off without a word.
func (k *soaker) abort(sid string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, err := dialSignal(ctx, k.s, sid)
	do(k.t, "websocket", err)
	ws.CloseNow()
}

// TestSoakTastes runs one round of the soak, so that it keeps working.
func TestSoakTastes(t *testing.T) {
	k := soak(t, 0)
	for _, what := range soakActions {
		if k.Done[what] == 0 {
			t.Errorf("nothing was done: %s", what)
		}
	}
	if k.Rounds != 1 || len(k.Samples) < 2 || len(k.Slopes) != 2*len(quantities) || !strings.Contains(k.markdown(), "fds at rest") {
		t.Errorf("soak: %+v", k)
	}
}

// TestSlopes: a leak is found in noise, and none where there is none.
func TestSlopes(t *testing.T) {
	var samples []Sample
	for i := range 200 {
		noise := i * 7919 % 13
		samples = append(samples, Sample{Minute: float64(i) / 10, Rest: i%2 == 0, FDs: 40 + noise, Threads: 10 + i/20, Goroutines: 100 + noise, RSSKiB: 60000 + 200*i + 1000*noise})
	}
	for _, s := range slopes(samples, 10) {
		leak := s.Quantity == "threads" || s.Quantity == "RSS KiB"
		if s.grows() != leak || s.N != 50 {
			t.Errorf("leak %v: %+v", leak, s)
		}
	}
	if mean, slope, width := regress([]float64{0, 1, 2, 3}, []float64{1, 3, 5, 7}); mean != 4 || slope != 2 || width > 1e-9 {
		t.Errorf("of a line: %v %v ± %v", mean, slope, width)
	}
	for freedom, want := range map[int]float64{1: 12.706, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042} {
		if got := student(freedom); math.Abs(got/want-1) > .01 {
			t.Errorf("t of %d is %v, want %v", freedom, got, want)
		}
	}
}
