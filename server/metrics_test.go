package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"fenrir/gpu"
	"fenrir/media"
	"fenrir/server/api/metrics"
	"fenrir/server/session"
	"fenrir/signaling/browser"
)

// metricNames are the names of everything that /metrics can tell.
func metricNames(t *testing.T) (ours, all []string) {
	t.Helper()
	h := &host{slots: &gpu.Slots{}, registry: &session.Registry{}, latency: metrics.NewLatency()}
	list := append(collectors(&browser.Server{}, h), metrics.Own(func() []media.SessionState { return nil })...)
	name := regexp.MustCompile(`fqName: "([a-zA-Z_:][a-zA-Z0-9_:]*)"`)
	for _, c := range list {
		descs := make(chan *prometheus.Desc)
		go func() { c.Describe(descs); close(descs) }()
		for d := range descs {
			m := name.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("no name in %s", d)
			}
			all = append(all, m[1])
			if strings.HasPrefix(m[1], "fenrir_") {
				ours = append(ours, m[1])
			}
		}
	}
	slices.Sort(ours)
	return slices.Compact(ours), all
}

// TestMetricsAreDocumented compares docs/metrics.md with what there is, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("`(fenrir_[a-z0-9_]+)`").FindAllStringSubmatch(string(b), -1)
	var listed []string
	for _, m := range documented {
		listed = append(listed, m[1])
	}
	ours, _ := metricNames(t)
	if len(ours) < 40 {
		t.Fatalf("found %d metrics only", len(ours))
	}
	for _, n := range ours {
		if !slices.Contains(listed, n) {
			t.Errorf("docs/metrics.md does not list %s", n)
		}
	}
	for _, n := range listed {
		if !slices.Contains(ours, n) {
			t.Errorf("docs/metrics.md lists %s, which does not exist", n)
		}
	}
}

// TestTheDashboardAsksForWhatThereIs checks that docs/grafana.json can be imported
// and that every metric it asks for exists; and that it shows every one of ours.
func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	b, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title, UID    string
		SchemaVersion int
		Inputs        []struct{ Name string } `json:"__inputs"`
		Panels        []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	if board.Title == "" || board.UID == "" || board.SchemaVersion < 36 || len(board.Inputs) != 1 {
		t.Errorf("the dashboard cannot be imported: %q %q %d %v", board.Title, board.UID, board.SchemaVersion, board.Inputs)
	}
	ours, all := metricNames(t)
	ids, shown := map[int]bool{}, map[string]bool{}
	metric := regexp.MustCompile(`\b((?:fenrir|go|process)_[a-z0-9_]+)`)
	for _, p := range board.Panels {
		if ids[p.ID] || p.GridPos.W <= 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q: id %d, at %+v", p.Title, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, q := range p.Targets {
			if strings.Count(q.Expr, "(") != strings.Count(q.Expr, ")") || strings.Count(q.Expr, "{") != strings.Count(q.Expr, "}") {
				t.Errorf("panel %q: brackets of %s", p.Title, q.Expr)
			}
			found := metric.FindAllString(q.Expr, -1)
			if len(found) == 0 {
				t.Errorf("panel %q: %s asks for no metric", p.Title, q.Expr)
			}
			for _, n := range found {
				for _, suffix := range []string{"_bucket", "_count", "_sum"} {
					n = strings.TrimSuffix(n, suffix)
				}
				shown[n] = true
				if !slices.Contains(all, n) {
					t.Errorf("panel %q asks for %s, which does not exist", p.Title, n)
				}
			}
		}
	}
	for _, n := range ours {
		if !shown[n] {
			t.Errorf("the dashboard does not show %s", n)
		}
	}
}

// TestMetricsAreTold scrapes a host on which something happened.
func TestMetricsAreTold(t *testing.T) {
	h := &host{slots: &gpu.Slots{}, registry: &session.Registry{}}
	used := uint64(3 << 30)
	h.gpus.Store(&gpu.Report{State: gpu.OK, GPUs: []gpu.GPU{{Index: 0, Name: "A", MemoryUsed: &used}, {Index: 1, Name: "B"}}})
	h.hub.Publish(media.Event{Kind: media.EventWorkerRestarted, Why: "silent"})
	h.hub.Publish(media.Event{Kind: media.EventSessionEnded, Why: media.CauseIdle})
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(h.vitals(), &gpuMetrics{h})
	m := metrics.New(func() []media.SessionState { return nil }, h.vitals(), &gpuMetrics{h})
	rec := httptest.NewRecorder()
	m.Handler.ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	for _, want := range []string{
		`fenrir_worker_restarts_total{reason="silent"} 1`, `fenrir_sessions_ended_total{cause="idle"} 1`,
		`fenrir_events_total{kind="worker-restarted"} 1`, `fenrir_events_total{kind="orphan"} 0`, `fenrir_canary_ok 0`,
		`fenrir_gpu_state{state="ok"} 1`, `fenrir_gpu_state{state="timed-out"} 0`, `fenrir_gpu_memory_used_bytes{gpu="0",name="A"} 3.221225472e+09`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, `fenrir_gpu_memory_used_bytes{gpu="1"`) || strings.Contains(text, "fenrir_gpu_busy_ratio{") {
		t.Error("what the driver does not tell is told as a number")
	}
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}
