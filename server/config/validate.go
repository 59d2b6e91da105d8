package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var (
	appID      = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	envKey     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	layoutRE   = regexp.MustCompile(`^[a-z]{2,12}(\([A-Za-z0-9_-]{1,32}\))?$`)
	prefixForm = regexp.MustCompile(`^(/[a-z0-9_-]{1,32}){1,4}$`)
	encoder    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
)

// codecNames are the values of Video.Codecs.
var codecNames = []string{"h264", "h265", "av1", "vp9", "vp8"}

// problems collects what is wrong, so that a person mends everything at once.
type problems struct{ errs []error }

func (p *problems) addf(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *problems) between(key string, v, low, high int) {
	if v < low || v > high {
		p.addf("%s = %d: it must be from %d to %d", key, v, low, high)
	}
}

func (p *problems) duration(key string, v Duration, low, high time.Duration) {
	if v.Std() < low || v.Std() > high {
		p.addf("%s = %q: it must be from %s to %s", key, v, low, high)
	}
}

func (p *problems) oneOf(key, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		p.addf("%s = %q: it must be one of %s", key, v, strings.Join(allowed, ", "))
	}
}

func (p *problems) address(key, v string) {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		p.addf("%s = %q: write host:port, or :port for every interface", key, v)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		p.addf("%s = %q: the port must be a number from 0 to 65535", key, v)
	}
	if strings.ContainsAny(host, " /") {
		p.addf("%s = %q: the host is no name or address", key, v)
	}
}

func (p *problems) absolute(key, v string) {
	if v != "" && !filepath.IsAbs(v) {
		p.addf("%s = %q: write an absolute path", key, v)
	}
}

// size checks a picture's size and rate; zeros are allowed where open is true.
func (p *problems) size(section string, w, h, fps, maxFPS int, open bool) {
	for _, d := range []struct {
		key          string
		v, low, high int
		even         bool
	}{{"width", w, 640, 3840, true}, {"height", h, 360, 2160, true}, {"fps", fps, 10, maxFPS, false}} {
		if open && d.v == 0 {
			continue
		}
		p.between(section+"."+d.key, d.v, d.low, d.high)
		if d.even && d.v%2 != 0 {
			p.addf("%s.%s = %d: it must be even", section, d.key, d.v)
		}
	}
}

// Validate says everything that is wrong with c, or nil.
func (c Config) Validate() error {
	p := &problems{}
	p.address("http.listen", c.HTTP.Listen)
	if (c.HTTP.CertFile == "") != (c.HTTP.KeyFile == "") {
		p.addf("http.cert_file and http.key_file belong together: set both or none")
	}
	for _, o := range c.HTTP.PublicOrigins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.TrimPrefix(o, "https://") != u.Host {
			p.addf("http.public_origins: %q is no origin (write \"https://play.example.org\", without a path)", o)
		}
	}
	for _, t := range c.HTTP.TrustedProxies {
		_, err1 := netip.ParsePrefix(t)
		_, err2 := netip.ParseAddr(t)
		if err1 != nil && err2 != nil {
			p.addf("http.trusted_proxies: %q is no address or prefix (write \"10.0.0.0/8\")", t)
		}
	}

	p.absolute("state.dir", c.State.Dir)
	p.absolute("state.runtime_dir", c.State.RuntimeDir)
	p.absolute("sessions.homes_dir", c.Sessions.HomesDir)

	p.duration("sessions.idle_timeout", c.Sessions.IdleTimeout, time.Second, 24*time.Hour)
	p.duration("sessions.max_age", c.Sessions.MaxAge, time.Second, 30*24*time.Hour)
	p.between("sessions.max_total", c.Sessions.MaxTotal, 1, 1000)
	p.between("sessions.max_per_person", c.Sessions.MaxPerPerson, 1, 1000)
	p.between("sessions.max_peers", c.Sessions.MaxPeers, 1, 64)
	p.between("video.max_fps", c.Video.MaxFPS, 10, 240)
	p.size("sessions", c.Sessions.Width, c.Sessions.Height, c.Sessions.FPS, c.Video.MaxFPS, false)

	if c.Limits.Tasks != 0 {
		p.between("limits.tasks", c.Limits.Tasks, 64, 1_000_000)
	}
	if c.Limits.MemoryMiB != 0 {
		p.between("limits.memory_mib", c.Limits.MemoryMiB, 256, 1<<30)
	}
	if c.Limits.OpenFiles != 0 {
		p.between("limits.open_files", c.Limits.OpenFiles, 256, 1_000_000)
	}
	p.between("limits.cpu_weight", c.Limits.CPUWeight, 1, 10_000)

	if !encoder.MatchString(c.Video.Encoder) {
		p.addf("video.encoder = %q: write auto, nvenc, vaapi, software, or the name of an encoder (fenrir doctor lists them)", c.Video.Encoder)
	}
	if len(c.Video.Codecs) == 0 {
		p.addf("video.codecs: name at least one of %s", strings.Join(codecNames, ", "))
	}
	for i, codec := range c.Video.Codecs {
		p.oneOf("video.codecs", codec, codecNames...)
		if slices.Contains(c.Video.Codecs[:i], codec) {
			p.addf("video.codecs: %q stands there twice", codec)
		}
	}
	p.between("video.min_kbps", c.Video.MinKbps, 100, 500_000)
	p.between("video.max_kbps", c.Video.MaxKbps, 100, 500_000)
	if c.Video.StartKbps < c.Video.MinKbps || c.Video.StartKbps > c.Video.MaxKbps {
		p.addf("video.start_kbps = %d: it must lie between min_kbps and max_kbps, %d…%d", c.Video.StartKbps, c.Video.MinKbps, c.Video.MaxKbps)
	}

	p.between("audio.kbps", c.Audio.Kbps, 16, 510)
	p.oneOf("audio.frame_ms", strconv.Itoa(c.Audio.FrameMs), "5", "10", "20")

	p.address("network.udp_listen", c.Network.UDPListen)
	if c.Network.TCPListen != "" {
		p.address("network.tcp_listen", c.Network.TCPListen)
		if c.Network.TCPListen == c.HTTP.Listen && !strings.HasSuffix(c.HTTP.Listen, ":0") {
			p.addf("network.tcp_listen = %q: that TCP port is http.listen's", c.Network.TCPListen)
		}
	}
	for _, ip := range c.Network.NAT1To1IPs {
		if _, err := netip.ParseAddr(ip); err != nil {
			p.addf("network.nat_1to1_ips: %q is no IP address", ip)
		}
	}
	patterns(p, "network.interfaces", c.Network.Interfaces)
	for i, s := range c.Network.ICEServers {
		s.validate(p, fmt.Sprintf("network.ice_servers[%d]", i))
	}

	p.oneOf("display.kind", c.Display.Kind, DisplayXvfb, DisplayExternal)
	if (c.Display.Kind == DisplayExternal) != (c.Display.External != "") {
		p.addf("display.external names the X display for display.kind = %q, and only for that", DisplayExternal)
	}
	p.absolute("display.external_authority", c.Display.ExternalAuthority)
	if !layoutRE.MatchString(c.Display.Layout) {
		p.addf("display.layout = %q: write an XKB layout, \"us\" or \"de(nodeadkeys)\"", c.Display.Layout)
	}

	p.duration("auth.cookie_lifetime", c.Auth.CookieLifetime, 5*time.Minute, 365*24*time.Hour)
	p.between("auth.max_logins", c.Auth.MaxLogins, 1, 100)
	p.between("auth.argon2_memory_mib", c.Auth.Argon2MemoryMiB, 8, 4096)
	p.between("auth.argon2_passes", c.Auth.Argon2Passes, 1, 100)
	p.between("auth.argon2_lanes", c.Auth.Argon2Lanes, 1, 64)
	p.between("auth.argon2_parallel", c.Auth.Argon2Parallel, 1, 64)
	p.between("auth.logins_per_minute", c.Auth.LoginsPerMinute, 1, 600)
	p.between("auth.login_burst", c.Auth.LoginBurst, 1, 100)

	c.Moonlight.check(p)
	if !prefixForm.MatchString(c.MoonlightWeb.Prefix) || strings.HasPrefix(c.MoonlightWeb.Prefix, "/api") {
		p.addf("moonlight_web.prefix = %q: write a path like \"/moonlight-web\", which does not begin with /api", c.MoonlightWeb.Prefix)
	}
	if d := c.MoonlightWeb.PageDir; d != "" && !filepath.IsAbs(d) {
		p.addf("moonlight_web.page_dir = %q: it must be an absolute path", d)
	}
	p.oneOf("metrics.access", c.Metrics.Access, MetricsAdmin, MetricsLoopback, MetricsOpen, MetricsOff)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "text", "json")

	for _, d := range c.Catalog.Dirs {
		p.absolute("catalog.dirs", d)
	}
	patterns(p, "catalog.include", c.Catalog.Include)
	patterns(p, "catalog.exclude", c.Catalog.Exclude)
	for i, a := range c.Apps {
		a.validate(p, fmt.Sprintf("apps[%d]", i), c.Video.MaxFPS)
		if slices.ContainsFunc(c.Apps[:i], func(b App) bool { return b.ID == a.ID }) {
			p.addf("apps[%d].id = %q: another entry has that id", i, a.ID)
		}
	}
	return errors.Join(p.errs...)
}

func patterns(p *problems, key string, list []string) {
	for _, s := range list {
		if _, err := path.Match(s, ""); err != nil || s == "" {
			p.addf("%s: %q is no name or pattern (\"*\" stands for anything)", key, s)
		}
	}
}

func (a App) validate(p *problems, key string, maxFPS int) {
	if !appID.MatchString(a.ID) {
		p.addf("%s.id = %q: it consists of a-z, 0-9, \".\", \"_\" and \"-\", begins with a letter or digit, and has at most 64 of them", key, a.ID)
	}
	if a.Hidden {
		return // hides what has the id; nothing else is needed
	}
	if a.Title == "" {
		p.addf("%s.title: give it one", key)
	}
	if len(a.Command) == 0 || a.Command[0] == "" {
		p.addf("%s.command: write the program and its arguments as a list, [\"/usr/games/neverball\"]", key)
	}
	for k, v := range a.Env {
		if !envKey.MatchString(k) || strings.ContainsRune(v, 0) {
			p.addf("%s.env: %q is no name of a variable", key, k)
		}
	}
	p.absolute(key+".dir", a.Dir)
	p.absolute(key+".home", a.Home)
	p.size(key, a.Width, a.Height, a.FPS, maxFPS, true)
}

// check looks at the ports that follow from the first one: from 5 below it to 21
// above.
func (m Moonlight) check(p *problems) {
	if m.Port != 0 {
		p.between("moonlight.port", m.Port, 1030, 65514)
	}
	if len(m.Name) > 63 || strings.ContainsFunc(m.Name, unicode.IsControl) {
		p.addf("moonlight.name = %q: it must have at most 63 bytes that can be shown", m.Name)
	}
	if m.Listen != "" {
		if _, err := netip.ParseAddr(m.Listen); err != nil {
			p.addf("moonlight.listen = %q: write an IP address of this machine, or nothing for every interface", m.Listen)
		}
	}
}
