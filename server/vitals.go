package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"fenrir/gpu"
	"fenrir/media"
	"fenrir/server/events"
	"fenrir/server/session"
)

// vitalMetrics shows how the server is: what happened, what was lost, and whether a
// session could be started.
type vitalMetrics struct{ h *host }

var (
	descBuild     = prometheus.NewDesc("fenrir_build_info", "1, with the version that runs.", []string{"version"}, nil)
	descEncodes   = prometheus.NewDesc("fenrir_canary_ok", "1 if the last look found that a frame can be encoded.", nil, nil)
	descTrials    = prometheus.NewDesc("fenrir_canary_trials_total", "Frames encoded on trial because no session proved that it works.", nil, nil)
	descFailures  = prometheus.NewDesc("fenrir_canary_failures_total", "Trials of these that failed.", nil, nil)
	descTrialTook = prometheus.NewDesc("fenrir_canary_trial_seconds", "What the last trial took; 0 if a session was the proof.", nil, nil)
	descOrphans   = prometheus.NewDesc("fenrir_orphans", "Processes and folders without an owner that could not be removed, at the last look.", nil, nil)
	descAllEvents = prometheus.NewDesc("fenrir_events_total", "Events by kind, as /api/events tells them.", []string{"kind"}, nil)
)

// eventCounters are events whose reasons are worth a metric of their own.
var eventCounters = map[media.EventKind]*prometheus.Desc{
	media.EventSessionEnded:    prometheus.NewDesc("fenrir_sessions_ended_total", "Ended sessions by the code of the cause.", []string{"cause"}, nil),
	media.EventPeerGone:        prometheus.NewDesc("fenrir_peers_gone_total", "Connections that ended, by the code of the cause.", []string{"cause"}, nil),
	media.EventWorkerRestarted: prometheus.NewDesc("fenrir_worker_restarts_total", "Media workers that were replaced, by reason: died, silent, garbage, gave-up, unpainted.", []string{"reason"}, nil),
	media.EventPeerBlack:       prometheus.NewDesc("fenrir_peers_black_total", "Steps taken because a peer was sent frames and painted none: key-frame, worker-restart.", []string{"step"}, nil),
	media.EventOrphan:          prometheus.NewDesc("fenrir_orphans_found_total", "Things without an owner that were found, by sort.", []string{"kind"}, nil),
}

// lossCounters are what sessions count.
var lossCounters = []struct {
	desc  *prometheus.Desc
	value func(session.Totals) uint64
}{
	{prometheus.NewDesc("fenrir_video_frames_lost_total", "Frames that peers lost because they were slow.", nil, nil), func(t session.Totals) uint64 { return t.VideoLost }},
	{prometheus.NewDesc("fenrir_audio_packets_lost_total", "Audio packets that peers lost because they were slow.", nil, nil), func(t session.Totals) uint64 { return t.AudioLost }},
	{prometheus.NewDesc("fenrir_encoder_frames_dropped_total", "Frames that media workers dropped because a stage was busy.", nil, nil), func(t session.Totals) uint64 { return t.EncoderDrops }},
	{prometheus.NewDesc("fenrir_inputs_denied_total", "Inputs that a grant did not allow.", nil, nil), func(t session.Totals) uint64 { return t.InputsDenied }},
	{prometheus.NewDesc("fenrir_inputs_dropped_total", "Inputs that the virtual devices were too slow for.", nil, nil), func(t session.Totals) uint64 { return t.InputsDropped }},
}

// Describe is prometheus.Collector's.
func (*vitalMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBuild, descEncodes, descTrials, descFailures, descTrialTook, descOrphans, descAllEvents} {
		ch <- d
	}
	for _, d := range eventCounters {
		ch <- d
	}
	for _, l := range lossCounters {
		ch <- l.desc
	}
}

// Collect is prometheus.Collector's.
func (m *vitalMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descBuild, 1, version())
	answer := m.h.canary.Last()
	gauge(descEncodes, bit(answer.OK))
	gauge(descTrialTook, answer.Took.Seconds())
	trials, failures := m.h.canary.Trials()
	count(descTrials, trials)
	count(descFailures, failures)
	gauge(descOrphans, float64(m.h.orphans.Load()))
	kinds := map[media.EventKind]uint64{}
	for c, n := range m.h.hub.Counts() {
		kinds[c.Kind] += n
		if d := eventCounters[c.Kind]; d != nil {
			count(d, n, c.Why)
		}
	}
	for _, k := range events.Kinds {
		count(descAllEvents, kinds[k], string(k))
	}
	totals := m.h.registry.Totals()
	for _, l := range lossCounters {
		count(l.desc, l.value(totals))
	}
}

func bit(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// gpuMetrics shows the newest inventory. What the driver does not tell is absent,
// never 0.
type gpuMetrics struct{ h *host }

var (
	gpuLabels   = []string{"gpu", "name"}
	descGPU     = prometheus.NewDesc("fenrir_gpu_state", "1 for the state of the GPU inventory: ok, no-driver, driver-error, timed-out, probe-failed, not-built-in.", []string{"state"}, nil)
	descGPUAge  = prometheus.NewDesc("fenrir_gpu_report_seconds", "Unix time of the newest GPU inventory.", nil, nil)
	descGPUMem  = prometheus.NewDesc("fenrir_gpu_memory_bytes", "Memory of a GPU.", gpuLabels, nil)
	descGPUUsed = prometheus.NewDesc("fenrir_gpu_memory_used_bytes", "Used memory of a GPU.", gpuLabels, nil)
	descGPUBusy = prometheus.NewDesc("fenrir_gpu_busy_ratio", "Share of the time that a GPU was busy, 0 to 1.", gpuLabels, nil)
	descGPUEnc  = prometheus.NewDesc("fenrir_gpu_encoder_ratio", "Share of the time that a GPU's video encoder was busy, 0 to 1.", gpuLabels, nil)
	descGPUSess = prometheus.NewDesc("fenrir_gpu_encoder_sessions", "Encoder sessions of all processes on a GPU.", gpuLabels, nil)
	descSlots   = prometheus.NewDesc("fenrir_encoder_slots", "Encoder slots: held, quarantined, and limit (absent: no limit but the hardware's).", []string{"pool", "state"}, nil)
)

// Describe is prometheus.Collector's.
func (*gpuMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descGPU, descGPUAge, descGPUMem, descGPUUsed, descGPUBusy, descGPUEnc, descGPUSess, descSlots} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (m *gpuMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for i, p := range m.h.slots.Pools() {
		pool := strconv.Itoa(i)
		if len(p.GPUs) > 0 {
			pool = p.GPUs[0]
		}
		gauge(descSlots, float64(p.Held), pool, "held")
		gauge(descSlots, float64(len(p.Quarantined)), pool, "quarantined")
		if p.Limit > 0 {
			gauge(descSlots, float64(p.Limit), pool, "limit")
		}
	}
	report := m.h.gpus.Load()
	if report == nil {
		return
	}
	for _, s := range []gpu.State{gpu.OK, gpu.NoDriver, gpu.DriverError, gpu.TimedOut, gpu.ProbeFailed, gpu.NotBuiltIn} {
		gauge(descGPU, bit(s == report.State), string(s))
	}
	gauge(descGPUAge, float64(report.Began.UnixMilli())/1000)
	for _, g := range report.GPUs {
		labels := []string{strconv.Itoa(g.Index), g.Name}
		if g.MemoryTotal != nil {
			gauge(descGPUMem, float64(*g.MemoryTotal), labels...)
		}
		if g.MemoryUsed != nil {
			gauge(descGPUUsed, float64(*g.MemoryUsed), labels...)
		}
		if g.Busy != nil {
			gauge(descGPUBusy, float64(*g.Busy)/100, labels...)
		}
		if g.Encoder != nil {
			gauge(descGPUEnc, float64(*g.Encoder)/100, labels...)
		}
		if g.Sessions != nil {
			gauge(descGPUSess, float64(g.Sessions.Count), labels...)
		}
	}
}
