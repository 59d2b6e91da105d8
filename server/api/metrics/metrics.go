// Package metrics is what Prometheus is shown: the process, the requests, the
// sessions as they are when it asks, the ways of frames and inputs, and what others add.
// It imports the vocabularies of media and signaling only.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fenrir/media"
)

// Metrics is one registry.
type Metrics struct {
	requests *prometheus.HistogramVec
	// Handler answers a scrape.
	Handler http.Handler
}

// requestTimes is what requests take.
func requestTimes() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fenrir_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer; connections for websockets.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"route", "method", "status"})
}

// Own are the collectors that every registry has, fresh ones.
func Own(sessions func() []media.SessionState) []prometheus.Collector {
	return []prometheus.Collector{requestTimes(), &sessionMetrics{sessions}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}
}

// New makes the registry. sessions lists the living ones and does not block.
func New(sessions func() []media.SessionState, more ...prometheus.Collector) *Metrics {
	reg := prometheus.NewRegistry()
	own := Own(sessions)
	m := &Metrics{requests: own[0].(*prometheus.HistogramVec)}
	reg.MustRegister(own...)
	reg.MustRegister(more...)
	m.Handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	return m
}

// Observe counts one request. Routes, methods and statuses are few by
// construction: what a client makes up is not among them.
func (m *Metrics) Observe(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Observe(took.Seconds())
}

// sessionMetrics describes the living sessions at the moment of asking.
type sessionMetrics struct{ sessions func() []media.SessionState }

var (
	descSessions = prometheus.NewDesc("fenrir_sessions", "Sessions by phase.", []string{"phase"}, nil)
	descPeers    = prometheus.NewDesc("fenrir_peers", "Attached connections by transport and codec.", []string{"transport", "codec"}, nil)
	descEncoders = prometheus.NewDesc("fenrir_encoders", "Running encoders by name.", []string{"encoder", "codec", "hardware"}, nil)
	descKbps     = prometheus.NewDesc("fenrir_encoder_target_kbps", "Sum of the bitrates that running encoders aim at, by name.", []string{"encoder", "codec"}, nil)
	descPictures = prometheus.NewDesc("fenrir_peers_by_picture", "Attached connections by whether they see what they are sent: ok, black, hidden, unknown.", []string{"picture"}, nil)
	descRestarts = prometheus.NewDesc("fenrir_session_worker_restarts", "Replaced media workers of a living session.", []string{"session"}, nil)
)

// Describe is prometheus.Collector's.
func (*sessionMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSessions, descPeers, descEncoders, descKbps, descPictures, descRestarts} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (m *sessionMetrics) Collect(ch chan<- prometheus.Metric) {
	phases := map[media.Phase]int{media.Starting: 0, media.Running: 0, media.Ending: 0}
	peers := map[[2]string]int{}
	pictures := map[media.Picture]int{media.PictureOK: 0, media.PictureBlack: 0, media.PictureHidden: 0, media.PictureUnknown: 0}
	encoders := map[[3]string]int{}
	kbps := map[[2]string]int{}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, s := range m.sessions() {
		phases[s.Phase]++
		for _, p := range s.Peers {
			peers[[2]string{p.Transport, string(p.Codec)}]++
			pictures[p.Picture]++
		}
		for _, v := range s.Video {
			encoders[[3]string{v.Encoder, string(v.Codec), strconv.FormatBool(v.Hardware)}]++
			kbps[[2]string{v.Encoder, string(v.Codec)}] += v.Kbps
		}
		gauge(descRestarts, s.Restarts, s.ID)
	}
	for p, n := range phases {
		gauge(descSessions, n, string(p))
	}
	for k, n := range peers {
		gauge(descPeers, n, k[0], k[1])
	}
	for p, n := range pictures {
		gauge(descPictures, n, string(p))
	}
	for k, n := range encoders {
		gauge(descEncoders, n, k[0], k[1], k[2])
	}
	for k, n := range kbps {
		gauge(descKbps, n, k[0], k[1])
	}
}
