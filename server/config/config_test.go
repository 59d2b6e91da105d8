package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fenrir.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExampleIsTheDefault(t *testing.T) {
	t.Parallel()
	// Decoded over nothing: what the example leaves out would stay zero.
	var got Config
	if err := decode(Example(), &got); err != nil {
		t.Fatal(err)
	}
	got.Apps = []App{} // the example has none that is active
	if want := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("the example says\n%+v\nthe defaults are\n%+v", got, want)
	}
}

func TestExampleNamesEveryKey(t *testing.T) {
	t.Parallel()
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for f := range fields(typ) {
			elem := f.typ
			if elem.Kind() == reflect.Slice {
				elem = elem.Elem()
			}
			if elem.Kind() == reflect.Struct {
				walk(prefix+f.key+".", elem)
			}
			if elem.Kind() == reflect.Struct && !strings.Contains(prefix, ".") && f.typ.Kind() == reflect.Struct {
				if !strings.Contains(Example(), "["+f.key+"]") {
					t.Errorf("the example has no section %s", f.key)
				}
				continue
			}
			if !strings.Contains(Example(), f.key+" =") && !strings.Contains(Example(), "[["+f.key+"]]") {
				// The tables of a list stand in comments; those of ICE servers
				// show the ways to write one, not every field.
				if !strings.HasPrefix(prefix, "network.ice_servers.") {
					t.Errorf("the example does not name %s%s", prefix, f.key)
				}
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}

func TestExampleProgramLoads(t *testing.T) {
	t.Parallel()
	_, block, ok := strings.Cut(Example(), "# [[apps]]\n")
	if !ok {
		t.Fatal("the example shows no program")
	}
	text := "[[apps]]\n" + strings.ReplaceAll(block, "\n# ", "\n")
	text = strings.TrimPrefix(text, "# ")
	text = strings.ReplaceAll(text, "# id", "id")
	c, err := Load(write(t, text), []string{"HOME=/home/x"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Apps) != 1 || c.Apps[0].ID != "neverball" || c.Apps[0].Env["LANG"] != "C.UTF-8" || c.Apps[0].Width != 1280 {
		t.Errorf("got %+v", c.Apps)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestUnknownKeysAreErrorsWithLineAndSuggestion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"key", "[http]\nlisten = \":1\"\nlissten = \":2\"\n", `line 3: there is no setting "http.lissten"; did you mean "listen"?`},
		{"table", "[htpp]\nlisten = \":1\"\n", `line 1: there is no setting "htpp"; did you mean "http"?`},
		{"top", "speed = 1\n", `line 1: there is no setting "speed"`},
		{"dotted", "http.lisen = \":1\"\n", `line 1: there is no setting "http.lisen"; did you mean "listen"?`},
		{"app", "[[apps]]\nid = \"a\"\n[[apps]]\nid = \"b\"\ntitel = \"x\"\n", `line 5: there is no setting "apps.titel"; did you mean "title"?`},
		{"inline", "[network]\nice_servers = [ { urls = [\"stun:a:1\"], user = \"x\" } ]\n", `line 2: there is no setting "network.ice_servers.user"`},
		{"type", "[http]\nlisten = 7\n", "line 2 (last key \"http.listen\")"},
		{"duration", "[sessions]\nidle_timeout = \"5 minutes\"\n", `"5 minutes" is no duration`},
		{"syntax", "[http\n", "line 2:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(write(t, c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to contain %q", err, c.want)
			}
		})
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	t.Parallel()
	c, err := Load(write(t, "[http]\nlisten = \":1\"\n[video]\nmax_kbps = 20000\n"), []string{
		"HOME=/home/x",
		"FENRIR_HTTP_LISTEN=127.0.0.1:0",
		"FENRIR_VIDEO_CODECS=vp8, h264",
		"FENRIR_SESSIONS_IDLE_TIMEOUT=90s",
		"FENRIR_AUDIO_ENABLED=false",
		"FENRIR_SESSIONS_MAX_TOTAL=3",
		`FENRIR_NETWORK_ICE_SERVERS=[{urls=["turn:t:1"], username="u", credential="geheim"}]`,
		`FENRIR_APPS=[{id="x", title="X", command=["xeyes"]}]`,
		"FENRIR_UNRELATED=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Listen != "127.0.0.1:0" || c.Video.MaxKbps != 20000 || !reflect.DeepEqual(c.Video.Codecs, []string{"vp8", "h264"}) ||
		c.Sessions.IdleTimeout.Std() != 90*time.Second || c.Audio.Enabled || c.Sessions.MaxTotal != 3 {
		t.Errorf("got %+v", c)
	}
	if len(c.Network.ICEServers) != 1 || c.Network.ICEServers[0].Credential.Reveal() != "geheim" {
		t.Errorf("ICE servers: got %+v", c.Network.ICEServers)
	}
	if len(c.Apps) != 1 || c.Apps[0].Command[0] != "xeyes" {
		t.Errorf("apps: got %+v", c.Apps)
	}
}

func TestEnvironmentMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kv, want string }{
		{"FENRIR_HTTP_LISEN=:1", `FENRIR_HTTP_LISEN"; did you mean "FENRIR_HTTP_LISTEN"`},
		{"FENRIR_SESSIONS_MAX_TOTAL=many", "FENRIR_SESSIONS_MAX_TOTAL: write a whole number"},
		{"FENRIR_AUDIO_ENABLED=perhaps", "FENRIR_AUDIO_ENABLED: write true or false"},
		{`FENRIR_NETWORK_ICE_SERVERS=[{url="x"}]`, `did you mean "urls"?`},
	} {
		_, err := Load("", []string{"HOME=/home/x", c.kv})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to contain %q", c.kv, err, c.want)
		}
	}
}

func TestEveryFieldCanBeSetFromTheEnvironment(t *testing.T) {
	t.Parallel()
	// setValue panics for a kind that it does not know.
	root := reflect.TypeFor[Config]()
	for sec := range fields(root) {
		if sec.typ.Kind() != reflect.Struct {
			continue
		}
		for f := range fields(sec.typ) {
			v := reflect.New(f.typ).Elem()
			_ = setValue(v, "1") // whether 1 is a good value is not the point
		}
	}
}

func TestFoldersFollowTheEnvironment(t *testing.T) {
	t.Parallel()
	c, err := Load("", []string{"HOME=/home/x", "XDG_STATE_HOME=/s", "XDG_RUNTIME_DIR=/r"})
	if err != nil {
		t.Fatal(err)
	}
	if c.State.Dir != "/s/fenrir" || c.State.RuntimeDir != "/r/fenrir" || c.Sessions.HomesDir != "/s/fenrir/homes" {
		t.Errorf("got %+v, homes %s", c.State, c.Sessions.HomesDir)
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key    string
		change func(*Config)
	}{
		{"http.listen", func(c *Config) { c.HTTP.Listen = "8443" }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = ":99999" }},
		{"http.cert_file", func(c *Config) { c.HTTP.CertFile = "/x" }},
		{"http.public_origins", func(c *Config) { c.HTTP.PublicOrigins = []string{"http://a"} }},
		{"http.public_origins", func(c *Config) { c.HTTP.PublicOrigins = []string{"https://a/b"} }},
		{"http.trusted_proxies", func(c *Config) { c.HTTP.TrustedProxies = []string{"proxy"} }},
		{"state.dir", func(c *Config) { c.State.Dir = "here" }},
		{"sessions.idle_timeout", func(c *Config) { c.Sessions.IdleTimeout = 0 }},
		{"sessions.max_age", func(c *Config) { c.Sessions.MaxAge = -1 }},
		{"sessions.max_total", func(c *Config) { c.Sessions.MaxTotal = 0 }},
		{"sessions.max_per_person", func(c *Config) { c.Sessions.MaxPerPerson = 0 }},
		{"sessions.max_peers", func(c *Config) { c.Sessions.MaxPeers = 65 }},
		{"sessions.width", func(c *Config) { c.Sessions.Width = 641 }},
		{"sessions.height", func(c *Config) { c.Sessions.Height = 4000 }},
		{"sessions.fps", func(c *Config) { c.Sessions.FPS = 121 }},
		{"video.encoder", func(c *Config) { c.Video.Encoder = "GPU!" }},
		{"video.codecs", func(c *Config) { c.Video.Codecs = nil }},
		{"video.codecs", func(c *Config) { c.Video.Codecs = []string{"h264", "h264"} }},
		{"video.codecs", func(c *Config) { c.Video.Codecs = []string{"mpeg2"} }},
		{"video.min_kbps", func(c *Config) { c.Video.MinKbps = 1 }},
		{"video.start_kbps", func(c *Config) { c.Video.StartKbps = 60000 }},
		{"video.max_fps", func(c *Config) { c.Video.MaxFPS = 241 }},
		{"audio.kbps", func(c *Config) { c.Audio.Kbps = 511 }},
		{"audio.frame_ms", func(c *Config) { c.Audio.FrameMs = 7 }},
		{"network.udp_listen", func(c *Config) { c.Network.UDPListen = "" }},
		{"network.tcp_listen", func(c *Config) { c.Network.TCPListen = ":8443" }},
		{"network.nat_1to1_ips", func(c *Config) { c.Network.NAT1To1IPs = []string{"example.org"} }},
		{"network.interfaces", func(c *Config) { c.Network.Interfaces = []string{"["} }},
		{"network.ice_servers[0].urls", func(c *Config) { c.Network.ICEServers = []ICEServer{{}} }},
		{"network.ice_servers[0].urls", func(c *Config) { c.Network.ICEServers = []ICEServer{{URLs: []string{"https://x"}}} }},
		{"network.ice_servers[0]", func(c *Config) { c.Network.ICEServers = []ICEServer{{URLs: []string{"turn:x:1"}}} }},
		{"network.ice_servers[0]", func(c *Config) {
			c.Network.ICEServers = []ICEServer{{URLs: []string{"turn:x:1"}, SharedSecret: "a", Username: "b"}}
		}},
		{"network.ice_servers[0].lifetime", func(c *Config) {
			c.Network.ICEServers = []ICEServer{{URLs: []string{"turn:x:1"}, SharedSecret: "a", Lifetime: 1}}
		}},
		{"display.kind", func(c *Config) { c.Display.Kind = "wayland" }},
		{"display.external", func(c *Config) { c.Display.Kind = DisplayExternal }},
		{"display.external", func(c *Config) { c.Display.External = ":0" }},
		{"display.layout", func(c *Config) { c.Display.Layout = "us;rm" }},
		{"auth.cookie_lifetime", func(c *Config) { c.Auth.CookieLifetime = 1 }},
		{"auth.argon2_memory_mib", func(c *Config) { c.Auth.Argon2MemoryMiB = 1 }},
		{"auth.login_burst", func(c *Config) { c.Auth.LoginBurst = 0 }},
		{"moonlight.port", func(c *Config) { c.Moonlight.Port = 80 }},
		{"moonlight.port", func(c *Config) { c.Moonlight.Port = 65530 }},
		{"moonlight.listen", func(c *Config) { c.Moonlight.Listen = "localhost" }},
		{"moonlight.name", func(c *Config) { c.Moonlight.Name = strings.Repeat("n", 64) }},
		{"moonlight_web.prefix", func(c *Config) { c.MoonlightWeb.Prefix = "/api/x" }},
		{"moonlight_web.prefix", func(c *Config) { c.MoonlightWeb.Prefix = "x" }},
		{"moonlight_web.page_dir", func(c *Config) { c.MoonlightWeb.PageDir = "dist" }},
		{"metrics.access", func(c *Config) { c.Metrics.Access = "all" }},
		{"log.level", func(c *Config) { c.Log.Level = "loud" }},
		{"log.format", func(c *Config) { c.Log.Format = "xml" }},
		{"catalog.dirs", func(c *Config) { c.Catalog.Dirs = []string{"share"} }},
		{"catalog.exclude", func(c *Config) { c.Catalog.Exclude = []string{"a["} }},
		{"apps[0].id", func(c *Config) { c.Apps = []App{{ID: "../x", Title: "t", Command: []string{"x"}}} }},
		{"apps[0].title", func(c *Config) { c.Apps = []App{{ID: "x", Command: []string{"x"}}} }},
		{"apps[0].command", func(c *Config) { c.Apps = []App{{ID: "x", Title: "t"}} }},
		{"apps[0].env", func(c *Config) {
			c.Apps = []App{{ID: "x", Title: "t", Command: []string{"x"}, Env: map[string]string{"A=B": "c"}}}
		}},
		{"apps[0].dir", func(c *Config) { c.Apps = []App{{ID: "x", Title: "t", Command: []string{"x"}, Dir: "here"}} }},
		{"apps[0].height", func(c *Config) { c.Apps = []App{{ID: "x", Title: "t", Command: []string{"x"}, Height: 100}} }},
		{"apps[1].id", func(c *Config) { c.Apps = []App{{ID: "x", Hidden: true}, {ID: "x", Hidden: true}} }},
	} {
		conf := Default()
		c.change(&conf)
		err := conf.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), c.key) {
			t.Errorf("got %v, want an error about %s", err, c.key)
		}
	}
}

func TestEveryProblemIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Log.Level, c.Metrics.Access = "loud", "all"
	err := c.Validate()
	if err == nil || !strings.Contains(err.Error(), "log.level") || !strings.Contains(err.Error(), "metrics.access") {
		t.Errorf("got %v, want both problems", err)
	}
}

func TestSecretsShowThemselvesToNobody(t *testing.T) {
	t.Parallel()
	const text = "hush-hush"
	s := ICEServer{URLs: []string{"turn:x"}, Username: "u", Credential: text, SharedSecret: text}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "server", s, "secret", s.Credential)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "server", s, "secret", s.Credential)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s.Credential, s.Credential) + log.String() + string(b)
	if strings.Contains(out, text) {
		t.Errorf("the secret shows: %s", out)
	}
	if s.Credential.Reveal() != text {
		t.Errorf("Reveal = %q, want %q", s.Credential.Reveal(), text)
	}
}

func TestSecretsComeFromFiles(t *testing.T) {
	t.Parallel()
	file := write(t, "geheim\n")
	c, err := Load(write(t, fmt.Sprintf("[network]\nice_servers = [ { urls = [\"turn:x:1\"], shared_secret_file = %q } ]\n", file)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Network.ICEServers[0].SharedSecret.Reveal(); got != "geheim" {
		t.Errorf("got %q, want %q", got, "geheim")
	}
	_, err = Load(write(t, "[network]\nice_servers = [ { urls = [\"turn:x:1\"], shared_secret_file = \"/nowhere\" } ]\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "shared_secret_file") {
		t.Errorf("a missing file: got %v", err)
	}
}

func TestTURNCredentials(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_000_000, 0)
	s := ICEServer{SharedSecret: "secret", Lifetime: Duration(time.Hour)}
	user, cred := s.Credentials("anna", at)
	// printf '1003600:anna' | openssl dgst -sha1 -hmac secret -binary | base64
	if user != "1003600:anna" || cred != turnWant {
		t.Errorf("got %q, %q; want %q, %q", user, cred, "1003600:anna", turnWant)
	}
	user, cred = ICEServer{Username: "u", Credential: "c"}.Credentials("anna", at)
	if user != "u" || cred != "c" {
		t.Errorf("fixed ones: got %q, %q", user, cred)
	}
}

// turnWant was computed by openssl, see above.
const turnWant = "ov5h6pb5VCiO00l6YmW4f5joKzI="
