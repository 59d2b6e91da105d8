package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"fenrir/media"
	"fenrir/media/desktop"
	"fenrir/media/worker"
	"fenrir/server/canary"
	"fenrir/server/systemd"
)

// barrenDoubt is how long a worker that died without a frame makes the canary try
// for itself, whatever other sessions encode.
const barrenDoubt = 2 * time.Minute

// readyCanary wires the canary. A trial costs what one entry's probe costs: a child
// that lives for a tenth of a second (docs/metrics.md has the figures).
func (h *host) readyCanary() {
	h.canary.Try = func(ctx context.Context) error {
		c, err := h.encoders.Choose(h.encoders.Order)
		if err != nil {
			return err
		}
		return worker.Trial(ctx, self, []string{"media-probe"}, c.Encoder.Name)
	}
	h.canary.Proven = func() (at time.Time) {
		if time.Since(time.Unix(0, h.barren.Load())) < barrenDoubt {
			return time.Time{} // sessions that run prove nothing about ones that start
		}
		for _, s := range h.registry.All() {
			if f := s.LastFrame(); f.After(at) {
				at = f
			}
		}
		return at
	}
	h.canary.Changed = func(a canary.Answer) {
		if a.OK {
			h.log.Info("frames can be encoded again", "by", a.By)
			h.hub.Publish(media.Event{Kind: media.EventHealth, Why: "ok", Detail: "a frame was encoded"})
			return
		}
		h.log.Error("no frame can be encoded", "err", a.Detail)
		h.hub.Publish(media.Event{Kind: media.EventHealth, Why: "failing", Detail: "encoder: " + a.Detail})
	}
}

// keepOwnStacks saves what all goroutines are doing, for whoever looks into a
// restart that had to be.
func (h *host) keepOwnStacks(why string) {
	path, err := h.box.Stacks(why)
	if err != nil {
		h.log.Error("stacks could not be kept", "err", err)
		return
	}
	h.log.Error("stacks are kept", "why", why, "file", path)
}

// watchdog asks this very server, over the network as a player would, whether it
// answers.
func (h *host) watchdog(manager systemd.Manager, addr net.Addr) *systemd.Watch {
	return &systemd.Watch{
		Manager: manager,
		Check: func(ctx context.Context) error {
			return answers(ctx, addr.String())
		},
		Failing: func(err error) {
			h.hub.Publish(media.Event{Kind: media.EventHealth, Why: "failing", Detail: "the server does not answer itself: " + err.Error()})
			h.keepOwnStacks("the server does not answer itself: " + err.Error())
		},
		Recovered: func() {
			h.log.Info("the server answers itself again")
			h.hub.Publish(media.Event{Kind: media.EventHealth, Why: "ok", Detail: "the server answers itself"})
		},
	}
}

// answers asks the fenrir that listens on addr for its health, on a connection of
// its own.
func answers(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// It is the process that is asked for, on an address of this machine; whose
		// name its certificate has does not matter here.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var health struct{ OK bool }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&health); err != nil {
		return fmt.Errorf("read health: %w", err)
	}
	if resp.StatusCode != http.StatusOK || !health.OK {
		return fmt.Errorf("health: status %d", resp.StatusCode)
	}
	return nil
}

// orphansEvery is how often things without an owner are looked for.
const orphansEvery = time.Minute

// watchOrphans ends and removes what belongs to no session: that should find
// nothing, so it is counted and told.
func (h *host) watchOrphans(ctx context.Context) error {
	tick := time.NewTicker(orphansEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		h.reapOrphans(ctx)
	}
}

func (h *host) reapOrphans(ctx context.Context) {
	owned := func(id string) bool { return h.registry.Has(id) }
	found, err := desktop.ReapOrphans(ctx, h.cfg.State.RuntimeDir, owned, h.log)
	for _, o := range found {
		h.hub.Publish(media.Event{Kind: media.EventOrphan, Session: o.Session, Why: "desktop", Detail: fmt.Sprintf("%d processes ended", o.Processes)})
	}
	left := worker.Unreaped()
	known := h.unreaped
	h.unreaped = left
	for _, pid := range left {
		if !slices.Contains(known, pid) {
			h.hub.Publish(media.Event{Kind: media.EventOrphan, Why: "worker", Detail: fmt.Sprintf("process %d survives SIGKILL", pid)})
		}
	}
	n := len(left)
	if err != nil {
		n++
		h.log.Error("orphans are left", "err", err)
	}
	h.orphans.Store(int64(n))
}
