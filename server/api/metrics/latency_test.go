package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/signaling"
)

// sink is where units end.
type sink struct{ units int }

func (s *sink) Unit(media.Unit)     { s.units++ }
func (s *sink) Report(media.Report) {}

func TestEveryLegIsAHistogram(t *testing.T) {
	l := NewLatency()
	m := New(func() []media.SessionState { return nil }, l)
	to := &sink{}
	base := media.Stamp(1e12)
	ms := func(n float64) media.Stamp { return base.Add(time.Duration(n * 1e6)) }
	u := media.Unit{Kind: media.Video, Stages: media.Stages{Damage: ms(0), Captured: ms(0.5), Converted: ms(1.5), Encoded: ms(5), Emitted: ms(5.1), Received: ms(5.2)}}
	l.Watch(to).Unit(u)
	l.Watch(to).Unit(media.Unit{Kind: media.Audio, Stages: u.Stages})
	u.Stages.Damage = 0 // a frame sent again has not waited
	l.Watch(to).Unit(u)
	l.Sent(&u.Stages, ms(5.5))
	l.Injected(&media.Injection{Received: ms(0), Injected: ms(0.2)})
	l.Painted(&signaling.Legs{Network: []float64{1, 2}, Buffer: []float64{3}, Decode: []float64{1}, Paint: []float64{8}, Picture: []float64{20}, Input: []float64{.4}, Program: []float64{2}, Photon: []float64{22}})
	if to.units != 3 {
		t.Errorf("%d units came through, want 3", to.units)
	}

	w := httptest.NewRecorder()
	m.Handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	for _, want := range []string{
		`fenrir_frame_stage_seconds_count{stage="wait"} 1`, `fenrir_frame_stage_seconds_sum{stage="wait"} 0.0005`,
		`fenrir_frame_stage_seconds_count{stage="convert"} 2`, `fenrir_frame_stage_seconds_sum{stage="encode"} 0.007`,
		`fenrir_frame_stage_seconds_count{stage="wire"} 2`, `fenrir_frame_stage_seconds_count{stage="send"} 1`,
		`fenrir_frame_stage_seconds_sum{stage="network"} 0.003`, `fenrir_frame_stage_seconds_count{stage="buffer"} 1`,
		`fenrir_frame_stage_seconds_count{stage="decode"} 1`, `fenrir_frame_stage_seconds_bucket{stage="paint",le="0.006"} 0`,
		`fenrir_frame_stage_seconds_bucket{stage="paint",le="0.008"} 1`,
		`fenrir_input_stage_seconds_count{stage="network"} 1`, `fenrir_input_stage_seconds_sum{stage="inject"} 0.0002`,
		`fenrir_input_stage_seconds_sum{stage="program"} 0.002`,
		`fenrir_picture_to_photon_seconds_sum 0.02`, `fenrir_input_to_photon_seconds_sum 0.022`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "_seconds_") && strings.Contains(line, "fenrir_") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

func TestNotingALegAllocatesNothing(t *testing.T) {
	l := NewLatency()
	to := l.Watch(&sink{})
	u := media.Unit{Kind: media.Video, Stages: media.Stages{Damage: 1, Captured: 2, Converted: 3, Encoded: 4, Received: 5}}
	if n := testing.AllocsPerRun(100, func() { to.Unit(u); l.Sent(&u.Stages, 6) }); n > 0 {
		t.Errorf("a frame allocates %v times", n)
	}
}
