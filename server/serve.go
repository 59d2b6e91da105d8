package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"fenrir/gpu"
	"fenrir/media"
	"fenrir/media/desktop"
	"fenrir/media/desktop/quota"
	"fenrir/media/priority"
	"fenrir/media/worker"
	"fenrir/server/api"
	"fenrir/server/api/metrics"
	"fenrir/server/blackbox"
	"fenrir/server/catalog"
	"fenrir/server/cert"
	"fenrir/server/config"
	"fenrir/server/https"
	"fenrir/server/session"
	"fenrir/server/systemd"
	"fenrir/signaling/browser"
	"fenrir/signaling/tcp"
	"fenrir/web"
)

// shutdownBudget bounds everything between the signal and the exit.
const shutdownBudget = 8 * time.Second

// maxHTTP bounds the HTTPS connections: each takes some 50 KB, and a file; half of the
// files are left to sessions.
func maxHTTP() int {
	files := syscall.Rlimit{Cur: 1024}
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) // then it is what it is everywhere
	return int(min(files.Cur/2, 4096))
}

// serve runs the server until ctx ends. It parses, wires and waits.
func serve(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	file := flags.String("config", "", "configuration `file` (\"fenrir config\" prints one with every setting)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("serve takes no arguments, got %q", flags.Args())
	}
	cfg, err := config.Load(*file, os.Environ())
	if err != nil {
		return err
	}
	log := newLog(cfg.Log)
	priority.Ask(priority.Server)
	for _, dir := range []string{cfg.State.Dir, cfg.State.RuntimeDir, cfg.Sessions.HomesDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	persons, err := openStore(cfg, log) // its lock also keeps a second server off these folders
	if err != nil {
		return err
	}
	defer closing(log, "database", persons.Close)
	box, crashed, err := blackbox.Open(filepath.Join(cfg.State.Dir, "stacks"))
	if err != nil {
		return err
	}
	defer closing(log, "stacks", box.Close)
	if crashed != "" {
		log.Error("an earlier server crashed; what it was doing is kept", "file", crashed)
	}
	manager := systemd.New(os.Getenv, os.Getpid())
	if err := systemd.Forget(); err != nil {
		return fmt.Errorf("tidy environment: %w", err)
	}
	if n, err := desktop.ReapLeftovers(ctx, cfg.State.RuntimeDir, log); err != nil {
		log.Error("leftovers of an earlier server remain", "err", err)
	} else if n > 0 {
		log.Warn("ended what an earlier server had left behind", "sessions", n)
	}

	life, endLife := context.WithCancelCause(context.WithoutCancel(ctx)) // sessions outlive the signal until they are closed
	defer endLife(context.Canceled)
	h := &host{cfg: cfg, log: log, life: life, slots: &gpu.Slots{}, roots: quota.Settle(), box: box, latency: metrics.NewLatency()}
	h.log.Debug("control groups for sessions", "v2", h.roots.Unified, "controllers", h.roots.Controllers, "v1_pids", h.roots.Pids)
	h.programs = catalog.New(catalog.Options{
		Exe: self, Config: cfg.Catalog, Apps: cfg.Apps, Locale: os.Getenv("LANG"), Environ: os.Environ(), Log: log,
	})
	go h.programs.List(ctx) // ends with its system calls; no player is to wait for the first look at the folders
	h.probe(ctx)
	h.registry = &session.Registry{
		Config: h.sessionConfig, Encoders: func() session.Encoders { return h.encoders }, Log: log,
		MaxTotal: cfg.Sessions.MaxTotal, PerPerson: cfg.Sessions.MaxPerPerson,
	}

	h.readyCanary()

	players := &browser.Server{
		Attach: h.attach, Log: log, Latency: h.latency, Network: network(cfg.Network),
		Bitrate: browser.Bitrate{Min: cfg.Video.MinKbps, Start: cfg.Video.StartKbps, Max: cfg.Video.MaxKbps},
	}
	persons.OnRevoked(h.guests.revoked)
	certificate, trusted, err := certificate(cfg, log)
	if err != nil {
		return err
	}
	proxies, err := prefixes(cfg.HTTP.TrustedProxies)
	if err != nil {
		return err
	}
	door := &api.API{
		Auth: persons, Sessions: store{h}, Apps: h.programs,
		Signal: players.ServeSignal, WHEP: players.ServeWHEP,
		Info: h.info, Ready: h.ready, Web: web.FS(),
		Limits: api.Limits{
			Width: cfg.Sessions.Width, Height: cfg.Sessions.Height, FPS: cfg.Sessions.FPS, MaxFPS: cfg.Video.MaxFPS,
			MinKbps: cfg.Video.MinKbps, MaxKbps: cfg.Video.MaxKbps, MaxSessions: cfg.Sessions.MaxTotal,
			MaxPerPerson: cfg.Sessions.MaxPerPerson, MaxPeers: cfg.Sessions.MaxPeers, Codecs: cfg.Video.Codecs,
		},
		Version: version(), PublicOrigins: cfg.HTTP.PublicOrigins, TrustedProxies: proxies, HSTS: trusted,
		CookieLifetime: cfg.Auth.CookieLifetime.Std(), MetricsAccess: cfg.Metrics.Access,
		Collectors: collectors(players, h), Events: &h.hub, Profiles: cfg.Debug.Pprof, Log: log,
	}
	moon, err := h.openMoonlight(persons)
	if err != nil {
		return err
	}
	door.Mounts = h.mountMoonlightWeb(persons, players, moon)
	if moon != nil {
		door.Pairings = moonPairings{moon.Pairings(), int(moon.HTTPAddr().Port())}
	}
	handler, err := door.Handler()
	if err != nil {
		return err
	}

	listener, err := tcp.Listen(cfg.HTTP.Listen, maxHTTP(), log)
	if err != nil {
		return fmt.Errorf("listen for HTTPS: %w", err)
	}
	if err := players.Listen(); err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := announce(out, log, listener.Addr(), players, persons); err != nil {
		return errors.Join(err, listener.Close())
	}

	// The parts end in this order: sessions say why to their peers, then the
	// players' door, then HTTPS.
	var parts sync.WaitGroup
	doorCtx, endDoors := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endDoors(context.Canceled)
	failed := make(chan error, 7)
	start := func(name string, f func(context.Context) error) {
		parts.Go(func() {
			if err := f(doorCtx); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	start("GPU watch", h.watchGPUs)
	start("players", players.Run)
	if moon != nil {
		start("moonlight", moon.Run)
	}
	start("canary", h.canary.Run)
	start("orphans", h.watchOrphans)
	watch := h.watchdog(manager, listener.Addr())
	start("watchdog", watch.Run)
	start("https", func(ctx context.Context) error {
		return (&https.Server{Handler: handler, Certificate: certificate, Log: log}).Serve(ctx, listener)
	})
	if err := manager.Ready("serving " + listener.Addr().String()); err != nil {
		log.Error("service manager", "err", err)
	}
	select {
	case <-ctx.Done():
		log.Info("going down")
	case err = <-failed: // a door that ends takes the server with it
		log.Error("a door ended by itself", "err", err)
		h.keepOwnStacks("a door ended by itself: " + err.Error())
	}
	if err := manager.Stopping(); err != nil {
		log.Error("service manager", "err", err)
	}
	bounded, cancel := context.WithTimeout(life, shutdownBudget)
	defer cancel()
	left := h.registry.Close(bounded)
	if left != nil {
		h.keepOwnStacks("sessions did not end in time: " + left.Error())
	}
	err = errors.Join(err, left)
	endDoors(&media.Cause{Code: media.CauseShutdown})
	parts.Wait() // each part bounds its own end
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// probe finds out which encoders and GPUs work here. It takes a few seconds at
// most, whatever the drivers do: all native code runs in children with a deadline.
func (h *host) probe(ctx context.Context) {
	began := time.Now()
	var gpus sync.WaitGroup
	gpus.Go(func() { h.refreshGPUs(ctx) })
	found := worker.Probe(ctx, self, []string{"media-probe"}, h.log)
	gpus.Wait()
	h.encoders = session.Encoders{Found: found, Want: h.cfg.Video.Encoder}
	h.explain()
	for _, c := range h.cfg.Video.Codecs {
		h.encoders.Order = append(h.encoders.Order, media.Codec(c))
	}
	for _, e := range found {
		h.log.Debug("encoder probed", "encoder", e.Name, "works", e.Works, "reason", e.Reason, "took_ms", e.TookMs)
	}
	if c, err := h.encoders.Choose(h.encoders.Order); err != nil {
		h.log.Error("no encoder: sessions will be refused", "err", err)
	} else {
		h.canary.Begin(nil, time.Since(began))
		h.log.Info("encoder chosen", "encoder", c.Encoder.Name, "element", c.Encoder.Element, "reason", c.Reason, "took", time.Since(began).Round(time.Millisecond))
	}
}

// announce prints where the server is, and on the first run the link that makes
// the admin.
func announce(out io.Writer, log *slog.Logger, addr net.Addr, players *browser.Server, persons interface {
	NeedsSetup() (bool, error)
	IssueSetupToken() (string, error)
}) error {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	url := "https://" + net.JoinHostPort(host, port) + "/"
	log.Info("serving", "url", url, "media_udp", players.UDPAddr(), "media_tcp", players.TCPAddr())
	first, err := persons.NeedsSetup()
	if err != nil {
		return err
	}
	if first {
		token, err := persons.IssueSetupToken()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "\nFenrir is ready. Open this link once to make the first account:\n\n  %s#setup=%s\n\n", url, token)
		return err
	}
	_, err = fmt.Fprintf(out, "\nFenrir is ready: %s\n\n", url)
	return err
}

func newLog(c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // config.Validate has refused others
	}
	opt := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opt))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt))
}

// network turns the configuration into what the players' door wants.
func network(c config.Network) browser.Network {
	n := browser.Network{UDP: c.UDPListen, TCP: c.TCPListen, NAT1To1: c.NAT1To1IPs, Loopback: c.IncludeLoopback || alone()}
	if len(c.Interfaces) > 0 {
		n.Interfaces = func(name string) bool {
			for _, pattern := range c.Interfaces {
				if ok, err := path.Match(pattern, name); ok && err == nil {
					return true
				}
			}
			return false
		}
	}
	n.ICEServers = func(peer string) []browser.ICEServer {
		out := make([]browser.ICEServer, 0, len(c.ICEServers))
		for _, s := range c.ICEServers {
			username, credential := s.Credentials(peer, time.Now())
			out = append(out, browser.ICEServer{URLs: s.URLs, Username: username, Credential: credential})
		}
		return out
	}
	return n
}

// alone tells whether this machine has no address but loopback ones: then its
// players are on it, too.
func alone() bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
			return false
		}
	}
	return true
}

// certificate is the configured one, or a self-signed one made at the first
// start. trusted tells that browsers may be told to insist on it.
func certificate(cfg config.Config, log *slog.Logger) (get func(*tls.ClientHelloInfo) (*tls.Certificate, error), trusted bool, err error) {
	if cfg.HTTP.CertFile != "" {
		src, err := cert.Files(cfg.HTTP.CertFile, cfg.HTTP.KeyFile, log)
		if err != nil {
			return nil, false, err
		}
		return src.GetCertificate, true, nil
	}
	src, err := cert.SelfSigned(filepath.Join(cfg.State.Dir, "tls"), cert.Hosts(), log)
	if err != nil {
		return nil, false, err
	}
	return src.GetCertificate, false, nil
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		if !strings.Contains(s, "/") {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("trusted proxy: %w", err)
			}
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("trusted proxy: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

func closing(log *slog.Logger, what string, f func() error) {
	if err := f(); err != nil {
		log.Error("close "+what, "err", err)
	}
}
