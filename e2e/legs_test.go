//go:build e2e

package e2e

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// way is one way that the page measured (Latency in web/src/core/latency.ts).
type way struct {
	At    float64
	RTP   uint32
	Total float64
	Legs  map[string]float64
	Still bool
}

// latencyOf is what fenrir.latency() returns.
type latencyOf struct {
	Input *struct {
		Count int
		Total struct{ P50, P95 float64 }
		Legs  map[string]struct{ P50, P95 float64 }
	}
	Still      bool
	Frame      *struct{ Count int }
	ClockError float64
	Unanswered int
	Ways       struct{ Frames, Inputs []way }
}

// TestLegs: what the page says of the way from a press to the picture is what a
// stopwatch in the page sees, its legs add up, and the server's histograms have it.
func TestLegs(t *testing.T) {
	const presses = 12
	s := start(t, benched(apps(t.TempDir())+steadyBitrate))
	p := tab(t, 1280, 720)
	do(t, "stopwatch", p.AddInitScript(playwright.Script{Content: playwright.String(photon)}))
	enter(t, s, p)
	sess := idle720.open(s)
	_, err := p.Goto(s.url + "/#play/" + sess.ID)
	do(t, "open the session", err)
	until(t, 20*time.Second, "a picture", func() (ok bool) { eval(t, p, &ok, "() => photon.attach()"); return ok })
	do(t, "pointer", p.Mouse().Move(640, 540))
	press := func() (one pressed) {
		eval(t, p, nil, "() => photon.arm()")
		do(t, "press", p.Mouse().Down())
		eval(t, p, &one, "() => photon.result()")
		do(t, "release", p.Mouse().Up())
		return one
	}
	look := func() (l latencyOf) { eval(t, p, &l, "() => fenrir.latency(60)"); return l }
	press() // the page has keyboard and pointer when the first one comes through
	until(t, 10*time.Second, "the first press is known", func() bool { return len(look().Ways.Inputs) > 0 })
	before := len(look().Ways.Inputs)

	const coarse = 1 // ms, the browser's stamps: they are rounded, against spying
	var seen []pressed
	var doubt []float64 // what the page knew of its clock when it was pressed: it learns
	for range presses {
		doubt = append(doubt, look().ClockError)
		seen = append(seen, press())
		// The picture has to stand still again, and its stages to be told.
		known := before + len(seen)
		until(t, 5*time.Second, "the press is known", func() bool { l := look(); return len(l.Ways.Inputs)+l.Unanswered >= known })
	}
	l := look()
	if l.Input == nil || len(l.Ways.Inputs) < before+presses || l.Frame == nil {
		t.Fatalf("of %d presses the page knows %d, unanswered %d", presses+before, len(l.Ways.Inputs), l.Unanswered)
	}
	exact := 0
	legs := map[string][]float64{}
	for i, one := range seen {
		w := l.Ways.Inputs[before+i]
		sum := 0.0
		for leg, ms := range w.Legs {
			sum += ms
			legs[leg] = append(legs[leg], ms)
		}
		if len(w.Legs) != 12 || math.Abs(sum-w.Total) > 0.01 {
			t.Errorf("press %d: %d legs add up to %.3f ms, the whole is %.3f ms", i, len(w.Legs), sum, w.Total)
		}
		// The stopwatch begins with the DOM's event and ends in the callback that names
		// the frame, which comes after it was handed to the compositor. The element may
		// show it to an earlier one.
		if presented, watch := w.Total-w.Legs["paint"], one.Named-one.Input; one.Exact && presented > watch+coarse {
			t.Errorf("press %d: handed to the compositor after %.1f ms, in the page after %.1f", i, presented, watch)
		}
		if one.Exact && one.RTP == w.RTP {
			exact++
		}
	}
	// One leg may be below nothing, when a process was interrupted between what it did
	// and the stamp of it. Half of them may not.
	for leg, ms := range legs {
		if half := quantile(ms, 0.5); half < -slices.Max(doubt)-coarse {
			t.Errorf("%s took %.2f ms, the median of %d, with a clock of ±%.2f ms", leg, half, len(ms), slices.Max(doubt))
		}
	}
	// Where the browser names another frame than the picture's, nobody knows better.
	named := 0
	for _, one := range seen {
		if one.Exact {
			named++
		}
	}
	if exact*10 < named*9 {
		t.Errorf("of %d presses the page found the frame of %d", named, exact)
	}
	t.Logf("press to picture: p50 %.1f ms, p95 %.1f ms; clock ±%.2f ms, still %v, %d unanswered, legs p50 %v", l.Input.Total.P50, l.Input.Total.P95, l.ClockError, l.Still, l.Unanswered, l.Input.Legs)

	tool(t, p, "stats-toggle")
	until(t, 5*time.Second, "the legs are shown", func() bool {
		text := must(id(p, "latency").InnerText())(t)
		return strings.Contains(text, "Press to picture") && strings.Contains(text, "Encode") && strings.Contains(must(id(p, "latency-total").InnerText())(t), "ms")
	})
	if n := must(p.Locator("[data-testid=latency] tbody tr").Count())(t); n != 12 {
		t.Errorf("the statistics have %d legs, want 12", n)
	}

	// All of it reaches Prometheus with the page's next report.
	until(t, 5*time.Second, "the page's report", func() bool { return s.metric("fenrir_input_to_photon_seconds_count") >= presses })
	for _, stage := range []string{"wait", "convert", "encode", "wire", "send", "network", "buffer", "decode", "paint"} {
		if n := s.labelled(`fenrir_frame_stage_seconds_count{stage="` + stage + `"}`); n < presses {
			t.Errorf("the histogram of %s has %v frames", stage, n)
		}
	}
	for _, stage := range []string{"network", "inject", "program"} {
		if n := s.labelled(`fenrir_input_stage_seconds_count{stage="` + stage + `"}`); n < presses {
			t.Errorf("the histogram of input %s has %v", stage, n)
		}
	}
	if mean := s.metric("fenrir_input_to_photon_seconds_sum") / s.metric("fenrir_input_to_photon_seconds_count"); mean <= 0.002 || mean > 0.5 {
		t.Errorf("press to picture takes %.4f s on average", mean)
	}
}
