package main

import (
	"context"
	"strings"
	"time"

	"fenrir/gpu"
	"fenrir/media"
	"fenrir/server/api"
)

// gpuEvery is how often the GPUs are asked how busy they are.
const gpuEvery = 20 * time.Second

// refreshGPUs asks the driver, in a child, for two seconds at most.
func (h *host) refreshGPUs(ctx context.Context) {
	report, err := gpu.Inventory(ctx, self, []string{"gpu-probe"})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		h.log.Debug("GPU inventory", "state", report.State, "err", err)
	}
	before := h.gpus.Swap(&report)
	h.slots.Learn(report)
	if before != nil && (before.State == gpu.OK) != (report.State == gpu.OK) {
		ev := media.Event{Kind: media.EventHealth, Why: "ok", Detail: "the GPUs answer"}
		if report.State != gpu.OK {
			ev.Why, ev.Detail = "failing", "GPU: "+report.Note()
		}
		h.hub.Publish(ev)
	}
	if before == nil || before.State != report.State || before.Note() != report.Note() {
		h.log.Info("GPUs", "state", report.State, "count", len(report.GPUs), "driver", report.Driver, "note", report.Note())
	}
}

// watchGPUs keeps the inventory fresh where there is a driver.
func (h *host) watchGPUs(ctx context.Context) error {
	tick := time.NewTicker(gpuEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r := h.gpus.Load(); r != nil && r.State != gpu.NoDriver && r.State != gpu.NotBuiltIn {
			h.refreshGPUs(ctx)
		}
	}
}

// explain adds what the inventory knows to the reasons of NVENC encoders that
// do not work: "no CUDA device" alone helps nobody.
func (h *host) explain() {
	report := h.gpus.Load()
	if report == nil {
		return
	}
	note := report.Note()
	for i := range h.encoders.Found {
		e := &h.encoders.Found[i]
		if e.Family == "nvenc" && !e.Works && note != "" && !strings.Contains(e.Reason, note) {
			e.Reason = strings.TrimSuffix(e.Reason, ".") + ". " + note
		}
	}
}

// info implements API.Info from what is known; it asks nobody.
func (h *host) info(context.Context) api.ServerInfo {
	out := api.ServerInfo{Encoders: h.encoders.Found, ICEServers: len(h.cfg.Network.ICEServers)}
	if c, err := h.encoders.Choose(h.encoders.Order); err != nil {
		out.Choice.Reason = err.Error()
	} else {
		out.Choice = api.Choice{Encoder: c.Encoder.Name, Codec: c.Encoder.Codec, Hardware: c.Encoder.Hardware, Reason: c.Reason}
	}
	report := h.gpus.Load()
	if report == nil {
		return out
	}
	out.GPUNote = report.Note()
	for _, g := range report.GPUs {
		row := api.GPU{
			Index: g.Index, Name: g.Name, Driver: report.Driver, Note: g.NVENC.Reason, Encodes: string(g.NVENC.Present),
			MemoryMiB: mebi(g.MemoryTotal), MemoryUsedMiB: mebi(g.MemoryUsed),
			EncoderPercent: g.Encoder, GPUPercent: g.Busy,
		}
		if g.Problem != "" {
			row.Note = g.Problem
		}
		if g.Sessions != nil {
			row.EncoderSessions = &g.Sessions.Count
		}
		out.GPUs = append(out.GPUs, row)
	}
	return out
}

// mebi keeps unknown apart from none.
func mebi(bytes *uint64) *int {
	if bytes == nil {
		return nil
	}
	n := int(*bytes >> 20)
	return &n
}

// ready implements API.Ready: can a session be started now? It tells what is
// known and asks nobody.
func (h *host) ready(context.Context) []api.Check {
	c, err := h.encoders.Choose(h.encoders.Order)
	encoder := api.Check{Name: "encoder", OK: err == nil, Detail: c.Encoder.Name}
	if err != nil {
		encoder.Detail = err.Error()
	} else if a := h.canary.Last(); !a.OK && !a.At.IsZero() {
		encoder.OK, encoder.Detail = false, a.Detail
	}
	places := api.Check{Name: "places", OK: len(h.registry.All()) < h.cfg.Sessions.MaxTotal}
	if !places.OK {
		places.Detail = "all places for sessions are taken"
	}
	return []api.Check{encoder, places}
}
