package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"fenrir/media"
	"fenrir/signaling"
)

// Latency is the ways of all frames and inputs, leg by leg, as histograms. Noting
// one allocates nothing and waits for nobody. Make it with NewLatency.
type Latency struct {
	collectors []prometheus.Collector

	// Of a frame, on the server: once for each frame, send for each peer.
	wait, convert, encode, wire, send prometheus.Observer
	// Of a frame, as pages report it.
	network, buffer, decode, paint, picture prometheus.Observer
	// Of an input.
	input, inject, program, photon prometheus.Observer
}

// latencyBuckets are seconds: fine where frames are, coarse where they hurt.
var latencyBuckets = []float64{
	.0001, .00025, .0005, .001, .0015, .002, .003, .004, .006, .008, .012, .016, .024, .033, .05, .075, .1, .15, .25, .5, 1,
}

// NewLatency makes the histograms.
func NewLatency() *Latency {
	vec := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencyBuckets}, []string{"stage"})
	}
	whole := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencyBuckets})
	}
	frame := vec("fenrir_frame_stage_seconds", "Stages of video frames. On the server: wait (change on the display to capture), convert, encode, wire (to the server process), send (to the network, for each peer). As pages report them: network (last packet sent to received), buffer, decode, paint (to the screen).")
	input := vec("fenrir_input_stage_seconds", "Stages of key, button, wheel and text inputs: inject (received to the display's input) on the server; as pages report them: network (sent to received), program (injected to the first change on the display).")
	picture := whole("fenrir_picture_to_photon_seconds", "From a change on the display to the screen of a player, as pages report it.")
	photon := whole("fenrir_input_to_photon_seconds", "From a press in the page to the first change on the display after it on the player's screen, as pages report it.")
	return &Latency{
		collectors: []prometheus.Collector{frame, input, picture, photon},
		wait:       frame.WithLabelValues("wait"), convert: frame.WithLabelValues("convert"), encode: frame.WithLabelValues("encode"),
		wire: frame.WithLabelValues("wire"), send: frame.WithLabelValues("send"),
		network: frame.WithLabelValues("network"), buffer: frame.WithLabelValues("buffer"), decode: frame.WithLabelValues("decode"),
		paint: frame.WithLabelValues("paint"), picture: picture,
		input: input.WithLabelValues("network"), inject: input.WithLabelValues("inject"), program: input.WithLabelValues("program"), photon: photon,
	}
}

// Encoded notes a frame that came out of an encoder.
func (l *Latency) Encoded(s *media.Stages) {
	observe(l.wait, s.Damage, s.Captured)
	observe(l.convert, s.Captured, s.Converted)
	observe(l.encode, s.Converted, s.Encoded)
	observe(l.wire, s.Encoded, s.Received)
}

// observe notes a stage that applies.
func observe(o prometheus.Observer, from, to media.Stamp) {
	if from != 0 && to >= from {
		o.Observe(to.Sub(from).Seconds())
	}
}

// Sent notes a frame that was sent to one peer.
func (l *Latency) Sent(s *media.Stages, at media.Stamp) { observe(l.send, s.Received, at) }

// Injected notes an input that reached the display.
func (l *Latency) Injected(in *media.Injection) { observe(l.inject, in.Received, in.Injected) }

// Painted notes what a page measured.
func (l *Latency) Painted(says *signaling.Legs) {
	for _, leg := range [...]struct {
		o  prometheus.Observer
		ms []float64
	}{
		{l.network, says.Network}, {l.buffer, says.Buffer}, {l.decode, says.Decode}, {l.paint, says.Paint}, {l.picture, says.Picture},
		{l.input, says.Input}, {l.program, says.Program}, {l.photon, says.Photon},
	} {
		for _, ms := range leg.ms {
			leg.o.Observe(ms / 1000)
		}
	}
}

// Describe is prometheus.Collector's.
func (l *Latency) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range l.collectors {
		c.Describe(ch)
	}
}

// Collect is prometheus.Collector's.
func (l *Latency) Collect(ch chan<- prometheus.Metric) {
	for _, c := range l.collectors {
		c.Collect(ch)
	}
}

// Watch returns a sink that notes the stages of the video that goes through it.
func (l *Latency) Watch(to media.Sink) media.Sink { return watched{to, l} }

type watched struct {
	media.Sink
	latency *Latency
}

// Unit implements media.Sink.
func (w watched) Unit(u media.Unit) {
	w.Sink.Unit(u) // first: the frame does not wait for its bookkeeping
	if u.Kind == media.Video {
		w.latency.Encoded(&u.Stages)
	}
}
