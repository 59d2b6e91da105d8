package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"fenrir/gpu"
)

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
		gauge(descGPU, one(s == report.State), string(s))
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

// one is 1 for true.
func one(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
