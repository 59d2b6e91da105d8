//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Report is what a run of the bench found; its JSON is for machines, its
// Markdown for docs/performance.md. Times are milliseconds, CPU is cores, memory MiB.
type Report struct {
	When     string   `json:"when"`
	Machine  Machine  `json:"machine"`
	Version  string   `json:"version"`
	Browser  string   `json:"browser,omitempty"`
	Latency  []Photon `json:"latency,omitempty"`  // through Chromium
	Server   []Direct `json:"server,omitempty"`   // without a browser
	Start    *Start   `json:"start,omitempty"`    // first frames and ends
	Sessions []Growth `json:"sessions,omitempty"` // small sessions at a time
	Viewers  []Growth `json:"viewers,omitempty"`  // of one session
	Took     float64  `json:"took_s"`
}

// Machine is where it was found.
type Machine struct {
	Cores  int    `json:"cores"`
	CPU    string `json:"cpu"`
	Kernel string `json:"kernel"`
	Load   string `json:"load_before"` // of the last minute
}

// Spread is a distribution.
type Spread struct {
	N   int     `json:"n"`
	Min float64 `json:"min"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// spread sorts values. Of few values p95 and p99 are the greatest.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	at := func(q float64) float64 { return v[min(len(v)-1, int(math.Ceil(q*float64(len(v))))-1)] }
	round := func(f float64) float64 { return math.Round(f*1000) / 1000 }
	return Spread{N: len(v), Min: round(v[0]), P50: round(at(.5)), P95: round(at(.95)), P99: round(at(.99)), Max: round(v[len(v)-1])}
}

// Rates are of a while of watching.
type Rates struct {
	Drawn    float64 `json:"drawn_fps"`
	Received float64 `json:"received_fps"`
	Shown    float64 `json:"shown_fps,omitempty"`
	Kbps     float64 `json:"kbps"`
	Interval Spread  `json:"interval_ms"` // between shown frames, without a browser between received ones
}

// Photon is one scene through Chromium.
type Photon struct {
	Scene             string             `json:"scene"`
	ClickToPhoton     Spread             `json:"click_to_photon"`
	ClickToNamed      Spread             `json:"click_to_named"` // to the callback that names the frame
	InputToProgram    Spread             `json:"input_to_program"`
	ProgramToCapture  Spread             `json:"program_to_capture"`
	CaptureToReceived Spread             `json:"capture_to_received"`
	ProgramToReceived Spread             `json:"program_to_received"`
	ReceivedToShown   Spread             `json:"received_to_shown"`
	ProgramToSent     Spread             `json:"program_to_sent"`
	SentToShown       Spread             `json:"sent_to_shown"`
	ClockDoubt        float64            `json:"clock_doubt_ms"` // of the legs that begin or end in the program
	Stages            map[string]float64 `json:"stages"`         // medians of each second's medians, by the server's word
	PressedStages     map[string]float64 `json:"pressed_stages"` // likewise, during the presses
	Rates             Rates              `json:"rates"`
	CPU               CPU                `json:"cpu"`
	Memory            Memory             `json:"memory"`
}

// Direct is one scene without a browser.
type Direct struct {
	Scene             string             `json:"scene"`
	InputToProgram    Spread             `json:"input_to_program"`
	ProgramToSent     Spread             `json:"program_to_sent"`
	ProgramToReceived Spread             `json:"program_to_received"`
	CaptureToReceived Spread             `json:"capture_to_received"` // of every frame
	Stages            map[string]float64 `json:"stages"`
	PressedStages     map[string]float64 `json:"pressed_stages"`
	Rates             Rates              `json:"rates"`
	FrameBytes        Spread             `json:"frame_bytes"`
	CPU               CPU                `json:"cpu"`
	Memory            Memory             `json:"memory"`
}

// Start is how long a person waits.
type Start struct {
	Play   Spread `json:"play"`   // click on Play → first painted frame
	Resume Spread `json:"resume"` // click on Resume → first painted frame
	Answer Spread `json:"answer"` // DELETE → its answer
	Gone   Spread `json:"gone"`   // DELETE → nothing of the session runs
}

// Growth is one step of more and more of something.
type Growth struct {
	N        int     `json:"n"`
	Received Spread  `json:"received_fps"` // of each receiver
	Kbps     Spread  `json:"kbps"`
	Interval float64 `json:"interval_p99_ms"` // the worst receiver's
	CPU      CPU     `json:"cpu"`
	Memory   Memory  `json:"memory"`
}

// CPU is the cores that each part of the tree took.
type CPU struct {
	Server     float64 `json:"server"`
	Worker     float64 `json:"worker"`
	X          float64 `json:"x"`
	Sound      float64 `json:"sound"`
	Supervisor float64 `json:"supervisor"`
	Program    float64 `json:"program"`
}

// Side is the server's side: all but the program (and the browser).
func (c CPU) Side() float64 { return c.Server + c.Worker + c.X + c.Sound + c.Supervisor }

// Memory is what the parts hold, MiB. Pages that several processes share count
// fully in RSS and in parts in PSS.
type Memory struct {
	Server  Held            `json:"server"`
	Session Held            `json:"session"` // all others together
	Parts   map[string]Held `json:"parts"`
}

// Held is the memory of processes.
type Held struct {
	RSS float64 `json:"rss"`
	PSS float64 `json:"pss"`
}

// markdown is the report as docs/performance.md has it.
func (r *Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores (%s), Linux %s; load before %s; %s; %s\n", r.When, r.Machine.Cores, r.Machine.CPU, r.Machine.Kernel, r.Machine.Load, r.Version, r.Browser)
	if len(r.Latency) > 0 {
		b.WriteString("\n#### Through Chromium\n\n")
		latencyTable(r.Latency).write(&b)
	}
	if len(r.Server) > 0 {
		b.WriteString("\n#### Without a browser\n\n")
		serverTable(r.Server).write(&b)
	}
	if s := r.Start; s != nil {
		b.WriteString("\n#### Waiting\n\n")
		t := table{head: []string{"ms", "median", "range", "runs", "target"}}
		t.row("Play → first painted frame", p50(s.Play), reach(s.Play), count(s.Play.N), "≤ 500")
		t.row("Resume → first painted frame", p50(s.Resume), reach(s.Resume), count(s.Resume.N), "≤ 300")
		t.row("DELETE → answer", p50(s.Answer), reach(s.Answer), count(s.Answer.N), "≤ 300")
		t.row("DELETE → nothing left", p50(s.Gone), reach(s.Gone), count(s.Gone.N), "≤ 5000")
		t.write(&b)
	}
	growth := func(title, what string, steps []Growth) {
		if len(steps) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n#### %s\n\n", title)
		t := table{head: []string{what, "fps received, median", "least", "kbit/s each", "interval p99 ms", "server cores", "worker", "X", "sound", "supervisor", "program", "server RSS / PSS MiB", "sessions RSS / PSS MiB"}}
		for _, g := range steps {
			t.row(count(g.N), tenth(g.Received.P50), tenth(g.Received.Min), fmt.Sprintf("%.0f", g.Kbps.P50), tenth(g.Interval),
				cores(g.CPU.Server), cores(g.CPU.Worker), cores(g.CPU.X), cores(g.CPU.Sound), cores(g.CPU.Supervisor), cores(g.CPU.Program), held(g.Memory.Server), held(g.Memory.Session))
		}
		t.write(&b)
	}
	growth("Small sessions, 640×360 at 30, one receiver each", "sessions", r.Sessions)
	growth("Viewers of one session, 720p60 at 2 Mbit/s", "viewers", r.Viewers)
	return b.String()
}

// latencyTable has a column for each scene.
func latencyTable(of []Photon) *table {
	t := columns(of, func(p Photon) string { return p.Scene })
	each := func(name, target string, f func(Photon) string) { t.across(name, target, apply(of, f)...) }
	each("click → photon p50", "720p60 ≤ 22, 1080p60 ≤ 32", func(p Photon) string { return p50(p.ClickToPhoton) })
	each("click → photon p95", "720p60 ≤ 36", func(p Photon) string { return tenth(p.ClickToPhoton.P95) })
	each("click → photon range (n)", "", func(p Photon) string { return reach(p.ClickToPhoton) + fmt.Sprintf(" (%d)", p.ClickToPhoton.N) })
	each("click → frame named p50 / p95", "", func(p Photon) string { return both(p.ClickToNamed) })
	each("input → program p50", "", func(p Photon) string { return p50(p.InputToProgram) })
	each("program → capture p50", "", func(p Photon) string { return p50(p.ProgramToCapture) })
	each("capture → received p50", "", func(p Photon) string { return p50(p.CaptureToReceived) })
	each("program → received p50 / p95", "", func(p Photon) string { return both(p.ProgramToReceived) })
	each("program → sent p50 / p95", "720p60 ≤ 4.5, 1080p60 ≤ 9", func(p Photon) string { return both(p.ProgramToSent) })
	each("sent → shown p50 / p95", "≤ 12", func(p Photon) string { return both(p.SentToShown) })
	each("received → shown p50 / p95", "", func(p Photon) string { return both(p.ReceivedToShown) })
	stageRows(each, func(p Photon) (a, b map[string]float64) { return p.Stages, p.PressedStages })
	each("fps drawn / received / shown", "", func(p Photon) string {
		return tenth(p.Rates.Drawn) + " / " + tenth(p.Rates.Received) + " / " + tenth(p.Rates.Shown)
	})
	each("interval shown p50 / p99", "", func(p Photon) string { return tenth(p.Rates.Interval.P50) + " / " + tenth(p.Rates.Interval.P99) })
	each("kbit/s", "", func(p Photon) string { return fmt.Sprintf("%.0f", p.Rates.Kbps) })
	usageRows(each, func(p Photon) (CPU, Memory) { return p.CPU, p.Memory })
	return t
}

// serverTable likewise.
func serverTable(of []Direct) *table {
	t := columns(of, func(d Direct) string { return d.Scene })
	each := func(name, target string, f func(Direct) string) { t.across(name, target, apply(of, f)...) }
	each("input → program p50", "", func(d Direct) string { return p50(d.InputToProgram) })
	each("program → sent p50 / p95", "720p60 ≤ 4.5, 1080p60 ≤ 9", func(d Direct) string { return both(d.ProgramToSent) })
	each("program → received p50 / p95", "", func(d Direct) string { return both(d.ProgramToReceived) })
	each("capture → received p50 / p99, every frame", "", func(d Direct) string {
		return tenth(d.CaptureToReceived.P50) + " / " + tenth(d.CaptureToReceived.P99)
	})
	stageRows(each, func(d Direct) (a, b map[string]float64) { return d.Stages, d.PressedStages })
	each("fps drawn / received", "", func(d Direct) string { return tenth(d.Rates.Drawn) + " / " + tenth(d.Rates.Received) })
	each("interval received p50 / p99", "", func(d Direct) string { return tenth(d.Rates.Interval.P50) + " / " + tenth(d.Rates.Interval.P99) })
	each("kbit/s; kB a frame p50 / p99", "", func(d Direct) string {
		return fmt.Sprintf("%.0f; %.1f / %.1f", d.Rates.Kbps, d.FrameBytes.P50/1000, d.FrameBytes.P99/1000)
	})
	usageRows(each, func(d Direct) (CPU, Memory) { return d.CPU, d.Memory })
	return t
}

func stageRows[T any](each func(name, target string, f func(T) string), of func(T) (watching, pressing map[string]float64)) {
	parts := func(s map[string]float64) string {
		return fmt.Sprintf("%.1f + %.1f + %.1f + %.1f + %.1f = %.1f", s["wait"], s["capture"]+s["convert"], s["encode"], s["wire"], s["send"], s["sum"])
	}
	each("wait + convert + encode + hand over + send", "", func(v T) string { s, _ := of(v); return parts(s) })
	each("… during the presses", "", func(v T) string { _, s := of(v); return parts(s) })
}

func usageRows[T any](each func(name, target string, f func(T) string), of func(T) (CPU, Memory)) {
	each("**server side, cores**", "720p60: busy ≤ 0.32, idle ≤ 0.08; 1080p60 busy ≤ 0.6", func(v T) string { c, _ := of(v); return cores(c.Side()) })
	each("server + worker + X + sound + supervisor", "", func(v T) string {
		c, _ := of(v)
		return fmt.Sprintf("%.3f + %.3f + %.3f + %.3f + %.3f", c.Server, c.Worker, c.X, c.Sound, c.Supervisor)
	})
	each("program, cores", "", func(v T) string { c, _ := of(v); return cores(c.Program) })
	each("RSS / PSS MiB: session", "", func(v T) string { _, m := of(v); return held(m.Session) })
	for _, part := range []string{"worker", "x", "sound", "supervisor", "program"} {
		each("… "+part, "", func(v T) string { _, m := of(v); return held(m.Parts[part]) })
	}
	each("… server", "", func(v T) string { _, m := of(v); return held(m.Server) })
}

func apply[T any](of []T, f func(T) string) (out []string) {
	for _, v := range of {
		out = append(out, f(v))
	}
	return out
}

func p50(s Spread) string    { return tenth(s.P50) }
func reach(s Spread) string  { return fmt.Sprintf("%.1f…%.1f", s.Min, s.Max) }
func tenth(v float64) string { return fmt.Sprintf("%.1f", v) }
func cores(v float64) string { return fmt.Sprintf("%.3f", v) }
func count(n int) string     { return fmt.Sprint(n) }
func held(h Held) string     { return fmt.Sprintf("%.0f / %.0f", h.RSS, h.PSS) }

// both is median and p95, a dash where nothing was measured.
func both(s Spread) string {
	if s.N == 0 {
		return "–"
	}
	return tenth(s.P50) + " / " + tenth(s.P95)
}

// table is Markdown that can be read as it is.
type table struct {
	head []string
	rows [][]string
}

func columns[T any](of []T, name func(T) string) *table {
	return &table{head: append(append([]string{""}, apply(of, name)...), "target")}
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// across is a row whose target comes last.
func (t *table) across(name, target string, cells ...string) {
	t.row(append(append([]string{name}, cells...), target)...)
}

func (t *table) write(b *strings.Builder) {
	width := make([]int, len(t.head))
	for _, r := range append([][]string{t.head}, t.rows...) {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	line := func(cells []string) {
		for i, c := range cells {
			b.WriteString("| " + c + strings.Repeat(" ", width[i]-len([]rune(c))+1))
		}
		b.WriteString("|\n")
	}
	line(t.head)
	rule := make([]string, len(t.head))
	for i := range rule {
		rule[i] = strings.Repeat("-", width[i])
	}
	line(rule)
	for _, r := range t.rows {
		line(r)
	}
}
