package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"fenrir/server/vitals"
	"fenrir/signaling/browser"
)

// collectors are the metrics that the API does not know by itself.
func collectors(players *browser.Server, h *host) []prometheus.Collector {
	return []prometheus.Collector{&playerMetrics{players}, &encoderMetrics{h}, h.vitals(), &gpuMetrics{h}, h.latency}
}

// vitals are the server's own metrics.
func (h *host) vitals() *vitals.Metrics {
	return &vitals.Metrics{
		Version: version(), Canary: &h.canary, Hub: &h.hub, Totals: h.registry.Totals,
		Orphans: func() int { return int(h.orphans.Load()) },
	}
}

// playerMetrics shows what the browser door counts, at the moment of asking.
type playerMetrics struct{ players *browser.Server }

var (
	peerLabels   = []string{"session", "peer", "transport", "codec"}
	descEstimate = prometheus.NewDesc("fenrir_peer_estimate_kbps", "Bitrate that the path to a peer carries.", peerLabels, nil)
	descRTT      = prometheus.NewDesc("fenrir_peer_rtt_seconds", "Round-trip time to a peer.", peerLabels, nil)
	descSent     = prometheus.NewDesc("fenrir_peer_frames_sent_total", "Video frames sent to a peer.", peerLabels, nil)
	descPainted  = prometheus.NewDesc("fenrir_peer_frames_painted_total", "Frames that a peer says it painted.", peerLabels, nil)
	descLoss     = prometheus.NewDesc("fenrir_peer_loss_ratio", "Share of packets that a peer lost lately, 0 to 1.", peerLabels, nil)
)

// totals are the counters of the door.
var totals = []struct {
	desc  *prometheus.Desc
	value func(browser.Totals) uint64
}{
	{prometheus.NewDesc("fenrir_rtp_packets_total", "RTP packets sent, without retransmissions.", nil, nil), func(t browser.Totals) uint64 { return t.Packets }},
	{prometheus.NewDesc("fenrir_rtp_bytes_total", "RTP payload bytes sent.", nil, nil), func(t browser.Totals) uint64 { return t.Bytes }},
	{prometheus.NewDesc("fenrir_video_frames_total", "Video frames sent to peers.", nil, nil), func(t browser.Totals) uint64 { return t.Frames }},
	{prometheus.NewDesc("fenrir_rtp_resent_total", "Packets sent again on request.", nil, nil), func(t browser.Totals) uint64 { return t.Resent }},
	{prometheus.NewDesc("fenrir_rtcp_nacks_total", "Packets that peers asked for again.", nil, nil), func(t browser.Totals) uint64 { return t.NACKs }},
	{prometheus.NewDesc("fenrir_rtcp_plis_total", "Picture-loss and full-intra requests.", nil, nil), func(t browser.Totals) uint64 { return t.PLIs }},
	{prometheus.NewDesc("fenrir_inputs_total", "Input events received.", nil, nil), func(t browser.Totals) uint64 { return t.Inputs }},
	{prometheus.NewDesc("fenrir_inputs_refused_total", "Input packets that could not be read.", nil, nil), func(t browser.Totals) uint64 { return t.BadInputs }},
	{prometheus.NewDesc("fenrir_units_unsent_total", "Frames and audio packets that found no path to their peer.", nil, nil), func(t browser.Totals) uint64 { return t.Unsent }},
	{prometheus.NewDesc("fenrir_motion_lost_total", "Pointer movements that no message brought.", nil, nil), func(t browser.Totals) uint64 { return t.MotionLost }},
	{prometheus.NewDesc("fenrir_news_dropped_total", "Cursor pictures and positions dropped because a peer was slow.", nil, nil), func(t browser.Totals) uint64 { return t.Drops }},
	{prometheus.NewDesc("fenrir_frames_painted_total", "Frames that clients say they painted.", nil, nil), func(t browser.Totals) uint64 { return t.Painted }},
}

// Describe is prometheus.Collector's.
func (*playerMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEstimate, descRTT, descLoss, descSent, descPainted} {
		ch <- d
	}
	for _, t := range totals {
		ch <- t.desc
	}
}

// Collect is prometheus.Collector's.
func (m *playerMetrics) Collect(ch chan<- prometheus.Metric) {
	stats := m.players.Stats()
	for _, p := range stats.Peers {
		labels := []string{p.Session, p.Peer, p.Transport, string(p.Codec)}
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
		}
		gauge(descEstimate, float64(p.Kbps))
		gauge(descRTT, p.RTT.Seconds())
		gauge(descLoss, p.Loss)
		ch <- prometheus.MustNewConstMetric(descSent, prometheus.CounterValue, float64(p.Totals.Frames), labels...)
		ch <- prometheus.MustNewConstMetric(descPainted, prometheus.CounterValue, float64(p.Totals.Painted), labels...)
	}
	for _, t := range totals {
		ch <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, float64(t.value(stats.Totals)))
	}
}

// encoderMetrics shows what the probe found: which encoder is used and why not
// another is the first question when something is slow.
type encoderMetrics struct{ h *host }

var (
	descWorks  = prometheus.NewDesc("fenrir_encoder_works", "1 if the encoder encoded a frame when it was probed.", []string{"encoder", "element", "codec"}, nil)
	descChosen = prometheus.NewDesc("fenrir_encoder_chosen", "1 for the encoder that a peer which decodes everything would get.", []string{"encoder", "element", "codec"}, nil)
)

// Describe is prometheus.Collector's.
func (*encoderMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- descWorks; ch <- descChosen }

// Collect is prometheus.Collector's.
func (m *encoderMetrics) Collect(ch chan<- prometheus.Metric) {
	choice, err := m.h.encoders.Choose(m.h.encoders.Order)
	for _, e := range m.h.encoders.Found {
		labels := []string{e.Name, e.Element, string(e.Codec)}
		bit := func(d *prometheus.Desc, on bool) {
			v := 0.0
			if on {
				v = 1
			}
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
		}
		bit(descWorks, e.Works)
		bit(descChosen, err == nil && e.Name == choice.Encoder.Name)
	}
}
