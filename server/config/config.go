// Package config is the server's configuration: one struct, one function of
// defaults, one TOML file in which unknown keys are errors, overrides from the
// environment, and one validation. Values are passed down; nothing else reads
// the environment for settings. It imports the standard library and the TOML
// parser only.
package config

import (
	"encoding"
	"fmt"
	"log/slog"
	"time"
)

// Config is everything that can be set. Each field has its unit in its name or
// its type; example.toml says in words what each one means.
type Config struct {
	HTTP         HTTP         `toml:"http"`
	State        State        `toml:"state"`
	Sessions     Sessions     `toml:"sessions"`
	Limits       Limits       `toml:"limits"`
	Video        Video        `toml:"video"`
	Audio        Audio        `toml:"audio"`
	Network      Network      `toml:"network"`
	Display      Display      `toml:"display"`
	Auth         Auth         `toml:"auth"`
	Moonlight    Moonlight    `toml:"moonlight"`
	MoonlightWeb MoonlightWeb `toml:"moonlight_web"`
	Metrics      Metrics      `toml:"metrics"`
	Debug        Debug        `toml:"debug"`
	Log          Log          `toml:"log"`
	Catalog      Catalog      `toml:"catalog"`
	Apps         []App        `toml:"apps"`
}

// HTTP is the HTTPS listener.
type HTTP struct {
	Listen         string   `toml:"listen"`          // host:port; an empty host means every interface
	CertFile       string   `toml:"cert_file"`       // PEM chain; empty: a self-signed certificate is made in State.Dir
	KeyFile        string   `toml:"key_file"`        // PEM key of CertFile
	PublicOrigins  []string `toml:"public_origins"`  // further origins of the page, "https://play.example.org"
	TrustedProxies []string `toml:"trusted_proxies"` // CIDR prefixes whose X-Forwarded-For is believed
}

// State is where things are kept.
type State struct {
	Dir        string `toml:"dir"`         // database, certificate, homes; Load fills it in when empty
	RuntimeDir string `toml:"runtime_dir"` // sockets and session folders; Load fills it in when empty
}

// Sessions are the limits and defaults of sessions.
type Sessions struct {
	IdleTimeout  Duration `toml:"idle_timeout"`   // without a peer; 10s…24h
	MaxAge       Duration `toml:"max_age"`        // 1m…720h
	MaxTotal     int      `toml:"max_total"`      // 1…1000
	MaxPerPerson int      `toml:"max_per_person"` // 1…MaxTotal
	MaxPeers     int      `toml:"max_peers"`      // of one session, 1…64
	Width        int      `toml:"width"`          // pixels, when the client names none
	Height       int      `toml:"height"`
	FPS          int      `toml:"fps"`
	HomesDir     string   `toml:"homes_dir"` // Load fills it in when empty
}

// Limits bound what one session takes of the machine: its display, sound server and
// program together.
type Limits struct {
	Tasks     int `toml:"tasks"`      // processes and threads; 0: no limit, else 64…1000000
	MemoryMiB int `toml:"memory_mib"` // 0: three quarters of the machine's, else 256…
	OpenFiles int `toml:"open_files"` // of one process; 0: no limit, else 256…1000000
	CPUWeight int `toml:"cpu_weight"` // 1…10000; 100 is what everything else has
}

// Video is the choice of encoders and their bounds.
type Video struct {
	Encoder   string   `toml:"encoder"` // "auto", a family, or the exact name of an encoder
	Codecs    []string `toml:"codecs"`  // allowed ones, most wanted first
	MinKbps   int      `toml:"min_kbps"`
	StartKbps int      `toml:"start_kbps"`
	MaxKbps   int      `toml:"max_kbps"`
	MaxFPS    int      `toml:"max_fps"` // 10…240
}

// Audio is the Opus stream.
type Audio struct {
	Enabled bool `toml:"enabled"`
	Kbps    int  `toml:"kbps"`     // 16…510
	FrameMs int  `toml:"frame_ms"` // 5, 10 or 20
}

// Network is how media reaches the players.
type Network struct {
	UDPListen       string      `toml:"udp_listen"` // host:port of the one UDP port
	TCPListen       string      `toml:"tcp_listen"` // host:port of ICE-TCP; empty: none
	NAT1To1IPs      []string    `toml:"nat_1to1_ips"`
	Interfaces      []string    `toml:"interfaces"` // names or patterns; empty: all
	IncludeLoopback bool        `toml:"include_loopback"`
	ICEServers      []ICEServer `toml:"ice_servers"`
}

// Values of Display.Kind.
const (
	DisplayXvfb     = "xvfb"
	DisplayExternal = "external"
)

// Display is what sessions draw on.
type Display struct {
	Kind              string `toml:"kind"`
	External          string `toml:"external"`           // ":0", for kind external
	ExternalAuthority string `toml:"external_authority"` // Xauthority file for it
	Layout            string `toml:"layout"`             // XKB layout when the client names none
}

// Auth is about logins.
type Auth struct {
	CookieLifetime  Duration `toml:"cookie_lifetime"`   // without use; 5m…8760h
	MaxLogins       int      `toml:"max_logins"`        // cookies of one person at a time, 1…100
	Argon2MemoryMiB int      `toml:"argon2_memory_mib"` // 8…4096
	Argon2Passes    int      `toml:"argon2_passes"`     // 1…100
	Argon2Lanes     int      `toml:"argon2_lanes"`      // 1…64
	Argon2Parallel  int      `toml:"argon2_parallel"`   // hashes computed at a time, 1…64
	LoginsPerMinute int      `toml:"logins_per_minute"` // per address and name, 1…600
	LoginBurst      int      `toml:"login_burst"`       // 1…100
}

// Moonlight is the door for Moonlight clients.
type Moonlight struct {
	Enabled   bool   `toml:"enabled"`
	Listen    string `toml:"listen"`    // host; empty means every interface
	Port      int    `toml:"port"`      // of HTTP, 1030…65514, the others follow from it; 0: any
	Name      string `toml:"name"`      // of the host in clients, at most 63 bytes; empty: the machine's
	Discovery bool   `toml:"discovery"` // announce the host in the local network, by mDNS
}

// MoonlightWeb is the interface that the page of moonlight-web, version 3, expects.
type MoonlightWeb struct {
	Enabled bool   `toml:"enabled"`
	Prefix  string `toml:"prefix"`   // path below which it is served, "/moonlight-web"
	PageDir string `toml:"page_dir"` // folder with that page's built files; empty: the interface only
}

// Values of Metrics.Access.
const (
	MetricsAdmin    = "admin"
	MetricsLoopback = "loopback"
	MetricsOpen     = "open"
	MetricsOff      = "off"
)

// Metrics is who may read /metrics.
type Metrics struct {
	Access string `toml:"access"`
}

// Debug is what helps those who look into the server.
type Debug struct {
	Pprof bool `toml:"pprof"` // /debug/pprof, for admins
}

// Log is what is written to standard error.
type Log struct {
	Level  string `toml:"level"`  // "debug", "info", "warn", "error"
	Format string `toml:"format"` // "text", "json"
}

// Catalog is which programs are offered.
type Catalog struct {
	Playground     bool     `toml:"playground"`
	DesktopEntries bool     `toml:"desktop_entries"`
	GamesOnly      bool     `toml:"games_only"`
	Dirs           []string `toml:"dirs"`    // data folders; empty: XDG_DATA_HOME and XDG_DATA_DIRS
	Include        []string `toml:"include"` // ids or patterns shown although GamesOnly would leave them out
	Exclude        []string `toml:"exclude"` // ids or patterns never shown
}

// App is a program of the configuration file.
type App struct {
	ID      string            `toml:"id"` // [a-z0-9][a-z0-9._-]{0,63}
	Title   string            `toml:"title"`
	Summary string            `toml:"summary"`
	Icon    string            `toml:"icon"`    // PNG or SVG file, or a name in the icon theme
	Command []string          `toml:"command"` // argv
	Env     map[string]string `toml:"env"`
	Dir     string            `toml:"dir"`    // working folder; empty: home
	Home    string            `toml:"home"`   // HOME; empty: one per person and program
	Width   int               `toml:"width"`  // wished size in pixels; 0: the session's default
	Height  int               `toml:"height"` //
	FPS     int               `toml:"fps"`    // 0: the session's default
	Hidden  bool              `toml:"hidden"` // hides the entry, and what it has the id of
}

// Default is the configuration of a server with an empty file. The folders of
// State and Sessions.HomesDir are empty here: Load fills them in.
func Default() Config {
	return Config{
		HTTP:     HTTP{Listen: ":8443", PublicOrigins: []string{}, TrustedProxies: []string{}},
		Sessions: Sessions{IdleTimeout: Duration(5 * time.Minute), MaxAge: Duration(12 * time.Hour), MaxTotal: 8, MaxPerPerson: 3, MaxPeers: 8, Width: 1280, Height: 720, FPS: 60},
		// Few games have more than 200 threads; Wine wants many files.
		Limits: Limits{Tasks: 4096, OpenFiles: 65536, CPUWeight: 100},
		// H.264 first: every browser decodes it in hardware. 8 Mbit/s is where
		// a game at 720p60 looks clean; congestion control moves it from there.
		Video:   Video{Encoder: "auto", Codecs: []string{"h264", "av1", "h265", "vp9", "vp8"}, MinKbps: 300, StartKbps: 8000, MaxKbps: 50000, MaxFPS: 120},
		Audio:   Audio{Enabled: true, Kbps: 128, FrameMs: 10},
		Network: Network{UDPListen: ":8443", TCPListen: ":8444", NAT1To1IPs: []string{}, Interfaces: []string{}, ICEServers: []ICEServer{}},
		Display: Display{Kind: DisplayXvfb, Layout: "us"},
		// RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes.
		Auth:         Auth{CookieLifetime: Duration(30 * 24 * time.Hour), MaxLogins: 16, Argon2MemoryMiB: 64, Argon2Passes: 3, Argon2Lanes: 4, Argon2Parallel: 2, LoginsPerMinute: 10, LoginBurst: 5},
		MoonlightWeb: MoonlightWeb{Prefix: "/moonlight-web"},
		Moonlight:    Moonlight{Enabled: true, Port: 47989, Discovery: true},
		Metrics:      Metrics{Access: MetricsAdmin},
		Debug:        Debug{Pprof: true},
		Log:          Log{Level: "info", Format: "text"},
		Catalog:      Catalog{Playground: true, DesktopEntries: true, GamesOnly: true, Dirs: []string{}, Include: []string{}, Exclude: []string{}},
		Apps:         []App{},
	}
}

// Duration is a time.Duration that is written as "5m", "1h30m" or "90s".
type Duration time.Duration

var (
	_ encoding.TextUnmarshaler = (*Duration)(nil)
	_ encoding.TextMarshaler   = Duration(0)
)

// Std is the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as Go does, "1h30m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration with its unit.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is no duration (write \"90s\", \"5m\" or \"1h30m\")", b)
	}
	*d = Duration(v)
	return nil
}

// Secret is a string that shows itself to nobody who does not ask by name:
// logs, JSON, TOML and fmt get "(secret)", or nothing where there is none.
type Secret string

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString keeps %#v from showing the secret.
func (s Secret) GoString() string { return `config.Secret("` + s.String() + `")` }

// LogValue keeps slog from showing the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps encoders from showing the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the secret as it stands.
func (s *Secret) UnmarshalText(b []byte) error { *s = Secret(b); return nil }
