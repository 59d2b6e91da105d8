//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"

	"fenrir/e2e/route"
)

// probe presses keys in the page itself, so that no driver is in the way, and
// tells from the playground's strip when a painted frame shows them. It needs eyes.
const probe = `
(() => {
  const peers = [];
  const Native = RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Native { constructor(...a) { super(...a); peers.push(this); } };
  const trips = [];
  let pressing = null, down = false, before = -1, sent = 0;
  // Presses and releases alternate, so that no event can be taken for the one after it.
  const look = () => {
    const e = eyes.seen().events, last = e[e.length - 1];
    if (pressing && last && last.kind === (down ? 1 : 2) && last.value === 44 && last.events !== before) {
      trips.push(performance.now() - sent);
      before = last.events;
      pressing();
      pressing = null;
    }
  };
  const press = async () => {
    const target = document.querySelector('[data-testid=stage]');
    down = !down;
    sent = performance.now();
    const painted = new Promise(r => { pressing = r; setTimeout(r, 2000); });
    target.dispatchEvent(new KeyboardEvent(down ? 'keydown' : 'keyup', { code: 'KeyJ', key: 'j', bubbles: true, cancelable: true }));
    await painted;
    if (pressing) { pressing = null; trips.push(2000); }
  };
  let on = false;
  const loop = async () => {
    while (on) {
      await press();
      await new Promise(r => setTimeout(r, 250 + Math.random() * 100));
    }
  };
  const video = async () => {
    const pc = peers.findLast(p => p.connectionState === 'connected');
    const out = {};
    if (pc) for (const r of (await pc.getStats()).values()) if (r.type === 'inbound-rtp' && r.kind === 'video') Object.assign(out, r);
    return out;
  };
  globalThis.probe = {
    begin() { trips.length = 0; eyes.reset(); if (!on) { on = true; const v = document.querySelector('video'); const t = () => { look(); if (on) v.requestVideoFrameCallback(t); }; v.requestVideoFrameCallback(t); loop(); } },
    end() { on = false; },
    async read() { return { trips: [...trips], seen: eyes.seen(), video: await video() }; },
  };
})();
`

// cell is one kind of path and how long it is looked at.
type cell struct {
	name  string
	shape route.Shape // both ways, but for the rate, which is the server's way only
	steps []step      // changes of the rate
	takes time.Duration
}

type step struct {
	at   time.Duration
	rate int
}

// figures are what a cell showed.
type figures struct {
	Cell     string    `json:"cell"`
	Seconds  float64   `json:"seconds"`
	FPS      float64   `json:"fps_shown"`
	WorstGap float64   `json:"worst_gap_ms"`
	Over150  int       `json:"freezes_over_150_ms"`
	Over250  int       `json:"freezes_over_250_ms"`
	Over500  int       `json:"freezes_over_500_ms"`
	TripP50  float64   `json:"click_to_photon_p50_ms"`
	TripP95  float64   `json:"click_to_photon_p95_ms"`
	Trips    int       `json:"clicks"`
	Kbps     float64   `json:"kbps"`         // that entered the path, everything included
	QueueP95 float64   `json:"queue_p95_ms"` // the path's own, over 100 ms each
	Lost     int       `json:"packets_lost"` // by the path
	NACKs    int       `json:"nacks"`        // of the browser
	Keys     int       `json:"key_frames"`   // decoded
	Dropped  int       `json:"frames_dropped"`
	Turns    int       `json:"turns_a_minute"`               // changes of the bitrate's direction
	BelowIn  []float64 `json:"below_rate_after_s,omitempty"` // for each fall of the rate
	CalmIn   []float64 `json:"queue_below_100_ms_after_s,omitempty"`
	Samples  []sample  `json:"samples"`
	Load     string    `json:"load"` // of the machine at the end, as /proc/loadavg tells it
	Size     string    `json:"size"`
}

// sample is 100 ms of a path.
type sample struct {
	Kbps  float64 `json:"kbps"`
	Queue float64 `json:"queue_ms"`
}

// network is a server and a browser at two ends of a path.
type network struct {
	t     *testing.T
	route *route.Route
	page  playwright.Page
	srv   *server
}

// newNetwork starts the playground's busy scene over a path, or skips the test
// where there can be no such path.
func newNetwork(t *testing.T) *network {
	t.Helper()
	l, err := route.New(t.Context(), fmt.Sprintf("%d", os.Getpid()%100000))
	if errors.Is(err, route.ErrUnavailable) {
		t.Skip(err)
	}
	do(t, "make a network path", err)
	t.Cleanup(l.Close)
	browser(t) // starts the driver
	wrapper := filepath.Join(t.TempDir(), "chromium")
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", strings.Join(l.B.Wrap(chromiumPath()), " "))
	do(t, "write wrapper", os.WriteFile(wrapper, []byte(script), 0o700))
	b, err := launch(wrapper)
	do(t, "start Chromium at the other end", err)
	t.Cleanup(func() { b.Close() })
	n := &network{t: t, route: l}
	n.srv = start(t, options{end: &l.A, config: fmt.Sprintf(`
[[apps]]
id = "busy"
title = "Busy"
command = [%q, "playground", "-mode", "busy", "-quiet"]
width = 1280
height = 720
fps = 60
`, binary)})
	n.page = tabOf(t, b, 1280, 720)
	do(t, "probe", n.page.AddInitScript(playwright.Script{Content: playwright.String(probe)}))
	enter(t, n.srv, n.page)
	play(t, n.page, "busy")
	awaitPicture(t, n.page, 30, 20*time.Second)
	focus(t, n.page)
	return n
}

// settle waits until the picture has been at full rate for a while.
func (n *network) settle(d time.Duration) { time.Sleep(d) } // the settling time

// measure looks at the path for as long as the cell says, after it has settled.
func (n *network) measure(c cell, settle time.Duration) figures {
	t := n.t
	t.Helper()
	down, up := c.shape, c.shape
	up.Rate = 0
	n.route.ToB.Set(down)
	n.route.ToA.Set(up)
	n.settle(settle)
	var before, after struct {
		Trips []float64
		Seen  seen
		Video struct {
			NackCount, KeyFramesDecoded, FramesDropped, FrameWidth, FrameHeight float64
		}
	}
	eval(t, n.page, &before, "() => { probe.begin(); return probe.read() }")
	lost := n.route.ToB.Counts().Lost
	f := figures{Cell: c.name}
	bytes := n.route.ToB.Counts().Bytes
	first := bytes
	n.route.ToB.Queued()
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	type fall struct {
		at   time.Duration
		rate float64
	}
	var falls []fall
	rate := down.Rate
	steps := c.steps
	for {
		<-tick.C
		now := time.Since(began)
		b := n.route.ToB.Counts().Bytes
		f.Samples = append(f.Samples, sample{float64(b-bytes) * 8 / 1000 / 0.1, float64(n.route.ToB.Queued().Microseconds()) / 1000})
		bytes = b
		if now >= c.takes {
			break
		}
		if len(steps) > 0 && now >= steps[0].at {
			if steps[0].rate < rate || rate == 0 {
				falls = append(falls, fall{now, float64(steps[0].rate) / 1000})
			}
			rate = steps[0].rate
			down.Rate = rate
			n.route.ToB.Set(down)
			steps = steps[1:]
		}
	}
	f.Seconds = time.Since(began).Seconds()
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		f.Load, _, _ = strings.Cut(string(b), " ")
	}
	f.Lost = n.route.ToB.Counts().Lost - lost
	eval(t, n.page, &after, "() => probe.read()")
	gaps := after.Seen.Gaps
	for _, g := range gaps {
		f.WorstGap = max(f.WorstGap, g)
		if g > 150 {
			f.Over150++
		}
		if g > 250 {
			f.Over250++
		}
		if g > 500 {
			f.Over500++
		}
	}
	f.FPS = float64(after.Seen.Distinct) / f.Seconds
	f.TripP50, f.TripP95, f.Trips = quantile(after.Trips, 0.5), quantile(after.Trips, 0.95), len(after.Trips)
	f.Kbps = float64(bytes-first) * 8 / 1000 / f.Seconds
	f.NACKs = int(after.Video.NackCount - before.Video.NackCount)
	f.Keys = int(after.Video.KeyFramesDecoded - before.Video.KeyFramesDecoded)
	f.Dropped = int(after.Video.FramesDropped - before.Video.FramesDropped)
	f.Size = fmt.Sprintf("%.0f×%.0f", after.Video.FrameWidth, after.Video.FrameHeight)
	var queues, rates []float64
	for i, s := range f.Samples {
		queues = append(queues, s.Queue)
		if i >= 10 {
			sum := 0.0
			for _, s := range f.Samples[i-10 : i] {
				sum += s.Kbps / 10
			}
			rates = append(rates, sum)
		}
	}
	f.QueueP95 = quantile(queues, 0.95)
	f.Turns = int(float64(turns(rates, 0.15)) / f.Seconds * 60)
	for _, fall := range falls {
		f.BelowIn = append(f.BelowIn, after300(f.Samples, fall.at, func(s sample) bool { return s.Kbps <= fall.rate*1.05 }))
		f.CalmIn = append(f.CalmIn, after300(f.Samples, fall.at, func(s sample) bool { return s.Queue < 100 }))
	}
	return f
}

// after300 is how long after a moment something began to hold for 300 ms on
// average, seconds; −1 for never.
func after300(samples []sample, at time.Duration, ok func(sample) bool) float64 {
	from := int(at / (100 * time.Millisecond))
	for i := from; i+3 <= len(samples); i++ {
		var mean sample
		for _, s := range samples[i : i+3] {
			mean.Kbps += s.Kbps / 3
			mean.Queue = max(mean.Queue, s.Queue)
		}
		if ok(mean) {
			return float64(i-from) / 10
		}
	}
	return -1
}

// turns counts changes of direction of at least a share of the value.
func turns(v []float64, share float64) (n int) {
	if len(v) == 0 {
		return 0
	}
	up, down, last := v[0], v[0], 0
	for _, x := range v {
		up, down = min(up, x), max(down, x)
		switch {
		case last <= 0 && x > up*(1+share):
			if last < 0 {
				n++
			}
			last, down = 1, x
		case last >= 0 && x < down*(1-share):
			if last > 0 {
				n++
			}
			last, up = -1, x
		}
	}
	return n
}

func quantile(v []float64, p float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[min(int(p*float64(len(v))), len(v)-1)]
}

// TestNetwork is the grid's short form: one lossy path and one that gets slow.
func TestNetwork(t *testing.T) {
	n := newNetwork(t)
	t.Run("5 % loss", func(t *testing.T) {
		n.once(t, cell{name: "5 % loss, RTT 20 ms", shape: route.Shape{Delay: 10 * time.Millisecond, Loss: 0.05}, takes: 15 * time.Second}, func(base, f figures) (wrong []string) {
			if f.FPS < min(50, 0.85*base.FPS) {
				wrong = append(wrong, fmt.Sprintf("%.1f frames a second are shown, want 50 (%.1f on a clean path)", f.FPS, base.FPS))
			}
			if f.Over250 > base.Over250 {
				wrong = append(wrong, fmt.Sprintf("%d freezes over 250 ms", f.Over250))
			}
			// The p95 that counts is that of a minute, see make net: of some forty clicks
			// it is the second worst, which chance makes anything from 100 to 180 ms.
			if f.TripP50 > max(100, base.TripP50+40) || f.TripP95 > max(200, base.TripP95+100) {
				wrong = append(wrong, fmt.Sprintf("click to photon p50 is %.0f and p95 %.0f ms, want 100 and 200 (%.0f and %.0f on a clean path)", f.TripP50, f.TripP95, base.TripP50, base.TripP95))
			}
			return wrong
		})
	})
	t.Run("8 → 2 Mbit/s", func(t *testing.T) {
		n.once(t, cell{
			name: "8 → 2 Mbit/s, RTT 20 ms", shape: route.Shape{Delay: 10 * time.Millisecond, Rate: 8_000_000},
			steps: []step{{3 * time.Second, 2_000_000}}, takes: 13 * time.Second,
		}, func(base, f figures) (wrong []string) {
			if b := f.BelowIn[0]; b < 0 || b > 2 {
				wrong = append(wrong, fmt.Sprintf("the bitrate is below the path's %.1f s after it fell, want 2", b))
			}
			if c := f.CalmIn[0]; c < 0 || c > 3 {
				wrong = append(wrong, fmt.Sprintf("the queue is below 100 ms %.1f s after the rate fell, want 3", c))
			}
			// 500 ms is the aim, and 217 to 300 is what was measured (docs/performance.md):
			// this is the bound of what would be worse than today.
			if f.WorstGap > max(1000, base.WorstGap+900) {
				wrong = append(wrong, fmt.Sprintf("the worst freeze is %.0f ms, want at most 1000", f.WorstGap))
			}
			return wrong
		})
	})
}

// once measures a cell up to three times until nothing is wrong with it, each time
// after what this machine shows on a path that does nothing to the picture, which it
// is judged by. Chance decides which packets are lost, and a p95 of some forty clicks
// hangs on the second worst: what a change has broken is wrong each time.
func (n *network) once(t *testing.T, c cell, verdict func(base, f figures) []string) {
	t.Helper()
	var wrong []string
	for range 3 {
		base := n.measure(cell{name: "RTT 20 ms", shape: route.Shape{Delay: 10 * time.Millisecond}, takes: 8 * time.Second}, 3*time.Second)
		logFigures(t, base)
		if base.FPS < 45 {
			// Starved of CPU, browser and server lose and delay more than any path.
			t.Skipf("this machine shows %.1f of 60 frames a second on a clean path just now (load %s): nothing can be said of a bad one", base.FPS, base.Load)
		}
		f := n.measure(c, 3*time.Second)
		logFigures(t, f)
		if wrong = verdict(base, f); len(wrong) == 0 {
			return
		}
		t.Logf("not so this time: %s", strings.Join(wrong, "; "))
	}
	t.Errorf("three times in a row, the last time: %s", strings.Join(wrong, "; "))
}

func logFigures(t *testing.T, f figures) {
	t.Helper()
	samples := f.Samples
	f.Samples = nil
	b, err := json.Marshal(f)
	do(t, "encode", err)
	t.Logf("%s", b)
	var line strings.Builder
	for i := 0; i+5 <= len(samples); i += 5 {
		var s sample
		for _, x := range samples[i : i+5] {
			s.Kbps, s.Queue = s.Kbps+x.Kbps/5, max(s.Queue, x.Queue)
		}
		fmt.Fprintf(&line, " %.1f/%.0f", s.Kbps/1000, s.Queue)
	}
	t.Logf("Mbit/s and ms of queue, each half second:%s", line.String())
}

// grid is every path that docs/performance.md tells of.
func grid() (cells []cell) {
	cells = append(cells, cell{name: "20 ms, 5 % loss, a minute", shape: route.Shape{Delay: 10 * time.Millisecond, Loss: 0.05}, takes: 60 * time.Second})
	for _, rtt := range []int{20, 80, 150} {
		for _, loss := range []int{0, 2, 5, 10} {
			cells = append(cells, cell{
				name:  fmt.Sprintf("%d ms, %d %% loss", rtt, loss),
				shape: route.Shape{Delay: time.Duration(rtt) * time.Millisecond / 2, Loss: float64(loss) / 100},
				takes: 20 * time.Second,
			})
		}
	}
	ms := time.Millisecond
	return append(cells,
		cell{name: "20 ms, 5 % loss in runs of 4", shape: route.Shape{Delay: 10 * ms, Loss: 0.05, Run: 4}, takes: 20 * time.Second},
		cell{name: "20 ms, jitter 30 ms", shape: route.Shape{Delay: 10 * ms, Jitter: 30 * ms}, takes: 20 * time.Second},
		cell{name: "Wi-Fi: 80 ms still every 523 ms", shape: route.Shape{Delay: 10 * ms, Every: 523 * ms, Hold: 80 * ms}, takes: 20 * time.Second},
		cell{name: "40 → 3 Mbit/s", shape: route.Shape{Delay: 10 * ms, Rate: 40_000_000}, steps: []step{{5 * time.Second, 3_000_000}}, takes: 20 * time.Second},
		cell{name: "8 → 2 Mbit/s", shape: route.Shape{Delay: 10 * ms, Rate: 8_000_000}, steps: []step{{3 * time.Second, 2_000_000}}, takes: 13 * time.Second},
		cell{name: "8 → 2 → 0.8 → 8 Mbit/s", shape: route.Shape{Delay: 10 * ms, Rate: 8_000_000},
			steps: []step{{5 * time.Second, 2_000_000}, {20 * time.Second, 800_000}, {35 * time.Second, 8_000_000}}, takes: 55 * time.Second},
		cell{name: "10 Mbit/s, steady", shape: route.Shape{Delay: 10 * ms, Rate: 10_000_000}, takes: 60 * time.Second},
	)
}

// TestNetworkGrid measures the cells whose names contain FENRIR_NET ("all" for
// all), prints them as Markdown and writes them as JSON to FENRIR_NET_JSON.
func TestNetworkGrid(t *testing.T) {
	want := os.Getenv("FENRIR_NET")
	if want == "" {
		t.Skip("measured by make net")
	}
	n := newNetwork(t)
	var all []figures
	for _, c := range grid() {
		if want != "all" && !slices.ContainsFunc(strings.Split(want, ";"), func(w string) bool { return strings.Contains(c.name, w) }) {
			continue
		}
		n.route.Set(route.Shape{Delay: c.shape.Delay})
		n.settle(2 * time.Second)
		f := n.measure(c, 4*time.Second)
		logFigures(t, f)
		all = append(all, f)
	}
	fmt.Print(markdown(all))
	if path := os.Getenv("FENRIR_NET_JSON"); path != "" {
		b, err := json.MarshalIndent(all, "", " ")
		do(t, "encode", err)
		do(t, "write figures", os.WriteFile(path, b, 0o644))
	}
}

func markdown(all []figures) string {
	var s strings.Builder
	s.WriteString("| path | fps shown | freezes > 150 / 250 / 500 ms | worst gap, ms | click to photon p50 / p95, ms | Mbit/s | queue p95, ms | turns a minute | load of the machine |\n")
	s.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, f := range all {
		fmt.Fprintf(&s, "| %s | %.1f | %d / %d / %d | %.0f | %.0f / %.0f | %.1f | %.0f | %d | %s |\n", f.Cell, f.FPS, f.Over150, f.Over250, f.Over500,
			f.WorstGap, f.TripP50, f.TripP95, f.Kbps/1000, f.QueueP95, f.Turns, f.Load)
	}
	for _, f := range all {
		for i := range f.BelowIn {
			fmt.Fprintf(&s, "\n%s, fall %d: bitrate below the path's after %.1f s, queue below 100 ms after %.1f s.", f.Cell, i+1, f.BelowIn[i], f.CalmIn[i])
		}
	}
	return cmp.Or(s.String(), "nothing\n") + "\n"
}
