// Package vitals shows Prometheus how the server is: what happened, what was lost,
// and whether a session could be started. It imports the nouns that know it.
package vitals

import (
	"github.com/prometheus/client_golang/prometheus"

	"fenrir/media"
	"fenrir/server/canary"
	"fenrir/server/events"
	"fenrir/server/session"
)

// Metrics is the collector. All fields are required.
type Metrics struct {
	Version string
	Canary  *canary.Canary
	Hub     *events.Hub
	Totals  func() session.Totals // of all sessions so far
	Orphans func() int            // that are there
}

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
func (*Metrics) Describe(ch chan<- *prometheus.Desc) {
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
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descBuild, 1, m.Version)
	answer := m.Canary.Last()
	gauge(descEncodes, bit(answer.OK))
	gauge(descTrialTook, answer.Took.Seconds())
	trials, failures := m.Canary.Trials()
	count(descTrials, trials)
	count(descFailures, failures)
	gauge(descOrphans, float64(m.Orphans()))
	kinds := map[media.EventKind]uint64{}
	for c, n := range m.Hub.Counts() {
		kinds[c.Kind] += n
		if d := eventCounters[c.Kind]; d != nil {
			count(d, n, c.Why)
		}
	}
	for _, k := range events.Kinds {
		count(descAllEvents, kinds[k], string(k))
	}
	totals := m.Totals()
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
