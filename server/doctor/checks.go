package doctor

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fenrir/server/catalog"
	"fenrir/server/cert"
	"fenrir/server/config"
)

// Machine is what the checks need of the rooms that only main may enter.
type Machine struct {
	Exe      string                                       // this binary
	Answers  func(ctx context.Context, addr string) error // a fenrir that listens there
	Encoders func(ctx context.Context) Result
	GPU      func(ctx context.Context) Result
}

// Checks are all of them for a configuration.
func Checks(cfg config.Config, m Machine) []Check {
	ours := func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return m.Answers(ctx, cfg.HTTP.Listen) == nil
	}
	checks := []Check{
		{Name: "HTTPS port", Look: TCPPort(cfg.HTTP.Listen, ours)},
		{Name: "media, UDP", Look: UDP(cfg.Network.UDPListen, ours)},
	}
	if cfg.Network.TCPListen != "" {
		checks = append(checks, Check{Name: "media, TCP", Look: TCPPort(cfg.Network.TCPListen, ours)})
	}
	checks = append(checks, moonlightPorts(cfg.Moonlight, ours)...)
	file, self := cfg.HTTP.CertFile, cfg.HTTP.CertFile == ""
	if self {
		file = filepath.Join(cfg.State.Dir, "tls", "cert.pem")
	}
	checks = append(checks,
		Check{Name: "addresses", Look: func(context.Context) Result { return reach(cfg.Network) }},
		Check{Name: "certificate", Look: Certificate(file, self, publicNames(cfg), time.Now)},
		Check{Name: "encoders", Look: m.Encoders},
		Check{Name: "GPU", Look: m.GPU},
	)
	if cfg.Display.Kind == config.DisplayXvfb {
		checks = append(checks, Check{Name: "X server", Look: Xvfb})
	}
	if cfg.Audio.Enabled {
		checks = append(checks, Check{Name: "sound server", Look: Sound})
	}
	home, _ := os.UserHomeDir() // without one there are the system's fonts
	return append(checks,
		Check{Name: "programs", Look: func(ctx context.Context) Result { return programs(ctx, cfg, m.Exe) }},
		Check{Name: "fonts", Look: Fonts([]string{"/usr/share/fonts", "/usr/local/share/fonts", filepath.Join(home, ".local/share/fonts")})},
		Check{Name: "state folder", Look: Folder(cfg.State.Dir)},
		Check{Name: "runtime folder", Look: Folder(cfg.State.RuntimeDir)},
		Check{Name: "shared memory", Look: SharedMemory(cfg.Sessions.MaxTotal)},
		Check{Name: "limits", Look: Limits(cfg.Sessions.MaxTotal)},
		Check{Name: "control groups", Look: ControlGroups},
		Check{Name: "namespaces", Look: Namespaces},
		Check{Name: "clock", Look: Clock},
	)
}

// publicNames are the names and addresses under which players come, as far as the
// configuration tells.
func publicNames(cfg config.Config) (names []string) {
	for _, o := range cfg.HTTP.PublicOrigins {
		if u, err := url.Parse(o); err == nil {
			names = append(names, u.Hostname())
		}
	}
	return names
}

// reach tells which addresses players will be offered.
func reach(n config.Network) Result {
	offered := slices.Clone(n.NAT1To1IPs)
	private := true
	for _, a := range cert.Hosts() {
		ip := net.ParseIP(a)
		if ip == nil || ip.IsLoopback() && !n.IncludeLoopback {
			continue
		}
		private = private && (ip.IsPrivate() || ip.IsLoopback())
		offered = append(offered, a)
	}
	switch {
	case len(offered) == 0:
		return Warnf("Connect the machine, or set network.nat_1to1_ips.", "This machine has no address but loopback: only players on it can be served.")
	case private && len(n.NAT1To1IPs) == 0 && len(n.ICEServers) == 0:
		return Warnf("For players from outside set network.nat_1to1_ips to the public address and forward the ports; in the same network nothing is needed.",
			"Players are offered %s, all of them private.", strings.Join(offered, ", "))
	}
	return Good("Players are offered %s.", strings.Join(offered, ", "))
}

// programs tells what will be offered.
func programs(ctx context.Context, cfg config.Config, exe string) Result {
	c := catalog.New(catalog.Options{
		Exe: exe, Config: cfg.Catalog, Apps: cfg.Apps, Locale: os.Getenv("LANG"), Environ: os.Environ(), Log: slog.New(slog.DiscardHandler),
	})
	apps := c.List(ctx)
	bare, games := []string{}, 0
	for _, a := range apps {
		if a.Game {
			games++
		}
		if !c.HasIcon(ctx, a.ID) {
			bare = append(bare, a.ID)
		}
	}
	switch {
	case len(apps) == 0:
		return Warnf("Install games (apt-get install pingus), or name programs as [[apps]] in the configuration.", "No program is offered.")
	case len(bare) > 0:
		return Good("%d programs are offered, %d of them games. Without an icon: %s.", len(apps), games, strings.Join(bare, ", "))
	}
	return Good("%d programs are offered, %d of them games; all have icons.", len(apps), games)
}

// moonlightPorts are the checks of Moonlight's ports, by their distance from the first.
func moonlightPorts(c config.Moonlight, ours func(context.Context) bool) (checks []Check) {
	if !c.Enabled || c.Port == 0 {
		return nil
	}
	at := func(distance int) string { return net.JoinHostPort(c.Listen, strconv.Itoa(c.Port+distance)) }
	for _, p := range []struct {
		name     string
		distance int
		udp      bool
	}{
		{"HTTP", 0, false}, {"HTTPS", -5, false}, {"RTSP", 21, false}, {"video", 9, true}, {"control", 10, true}, {"sound", 11, true},
	} {
		look := TCPPort(at(p.distance), ours)
		if p.udp {
			look = UDP(at(p.distance), ours)
		}
		checks = append(checks, Check{Name: "moonlight " + p.name, Look: look})
	}
	return checks
}
