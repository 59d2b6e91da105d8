package mlweb

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-chi/chi/v5"

	"fenrir/media"
	"fenrir/server/auth"
)

// fakeHouse has two programs, one with a picture.
type fakeHouse struct {
	running   uint32
	cancelled []media.PersonRef
	streams   []string
}

func (f *fakeHouse) Programs(context.Context, media.PersonRef) ([]Program, error) {
	return []Program{{Number("zoo"), "Zoo"}, {Number("chess"), "Chess"}}, nil
}

func (f *fakeHouse) Picture(_ context.Context, _ media.PersonRef, n uint32) ([]byte, error) {
	if n == Number("zoo") {
		return []byte("\x89PNG"), nil
	}
	return nil, nil
}

func (f *fakeHouse) Running(media.PersonRef) (uint32, bool) { return f.running, f.running != 0 }
func (f *fakeHouse) Cancel(p media.PersonRef)               { f.cancelled = append(f.cancelled, p) }

func (f *fakeHouse) Stream(w http.ResponseWriter, r *http.Request, base, resource string, p media.PersonRef) {
	f.streams = append(f.streams, r.Method+" "+base+" "+resource+" "+p.Name)
	w.WriteHeader(http.StatusCreated)
}

// page is a page of one person.
type page struct {
	t      *testing.T
	h      http.Handler
	cookie *http.Cookie
}

func open(t *testing.T) (*page, *fakeHouse) {
	t.Helper()
	dir := t.TempDir()
	store, err := auth.Open(auth.Options{Path: filepath.Join(dir, "users.db"), CookieLifetime: time.Hour, MaxLogins: 8,
		Argon2: auth.Params{MemoryMiB: 8, Passes: 1, Lanes: 1}, Hashing: 2, PerMinute: 60, Burst: 5, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.AddPerson(t.Context(), "anna", "correct horse", auth.Player); err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(dir, "page")
	if err := os.MkdirAll(files, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "stream.html"), []byte("<title>stream</title>"), 0o600); err != nil {
		t.Fatal(err)
	}
	house := &fakeHouse{}
	h := &Handler{Prefix: "/ml", Name: "wolf", HTTP: 47989, HTTPS: 47984, Codecs: []media.Codec{media.H264, media.AV1}, Page: files, Auth: store, House: house, CookieLifetime: time.Hour, Log: slog.New(slog.DiscardHandler)}
	r := chi.NewRouter()
	r.Mount("/ml", h.Routes())
	return &page{t: t, h: r}, house
}

func (p *page) call(method, path, body string) *http.Response {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), method, "/ml"+path, strings.NewReader(body))
	if p.cookie != nil {
		r.AddCookie(p.cookie)
	}
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, r)
	return w.Result()
}

func (p *page) want(status int, method, path, body string) []byte {
	p.t.Helper()
	resp := p.call(method, path, body)
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		p.t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, status, b)
	}
	return b
}

func (p *page) login() {
	p.t.Helper()
	resp := p.call("POST", "/api/login", `{"name":"anna","password":"correct horse"}`)
	if resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 {
		p.t.Fatalf("login: status %d", resp.StatusCode)
	}
	p.cookie = resp.Cookies()[0]
}

func object(t *testing.T, b []byte) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

func keys(v any) []string {
	m, _ := v.(map[string]any)
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestStrangersAreSentToTheLogin(t *testing.T) {
	p, house := open(t)
	for _, one := range []string{"GET /api/authenticate", "GET /api/hosts", "GET /api/apps?host_id=1", "GET /api/user", "GET /api/role", "POST /api/host/cancel", "POST /api/host/stream/webrtc", "DELETE /api/host/stream/webrtc/7"} {
		method, path, _ := strings.Cut(one, " ")
		p.want(http.StatusUnauthorized, method, path, "")
	}
	p.want(http.StatusUnauthorized, "POST", "/api/login", `{"name":"anna","password":"wrong"}`)
	p.want(http.StatusBadRequest, "POST", "/api/login", `{`)
	for range 4 {
		p.want(http.StatusUnauthorized, "POST", "/api/login", `{"name":"anna","password":"wrong"}`)
	}
	p.want(http.StatusTooManyRequests, "POST", "/api/login", `{"name":"anna","password":"correct horse"}`)
	if len(house.streams)+len(house.cancelled) > 0 {
		t.Errorf("they reached %v, %v", house.streams, house.cancelled)
	}
}

// TestWhatThePageAsks replays its requests, with the fields that it reads.
func TestWhatThePageAsks(t *testing.T) {
	p, house := open(t)
	if b := p.want(http.StatusOK, "GET", "/config.js", ""); !strings.Contains(string(b), `window.__CONFIG_JS__ = {"path_prefix":"/ml"}`) {
		t.Errorf("config.js is %s", b)
	}
	p.login()
	if c := p.cookie; c.Name != "mlSession" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/ml" {
		t.Errorf("the cookie is %v", c)
	}
	p.want(http.StatusOK, "GET", "/api/authenticate", "")
	u := object(t, p.want(http.StatusOK, "GET", "/api/user", ""))
	if u["name"] != "anna" || u["role"] != "User" || !slices.Equal(keys(u), []string{"client_unique_id", "id", "is_default_user", "name", "role", "role_id"}) {
		t.Errorf("the user is %v", u)
	}
	role, _ := object(t, p.want(http.StatusOK, "GET", "/api/role", ""))["role"].(map[string]any)
	if !slices.Equal(keys(role), []string{"default_settings", "id", "name", "permissions", "ty"}) || len(keys(role["permissions"])) != 8 || role["permissions"].(map[string]any)["allow_codec_h265"] != false {
		t.Errorf("the role is %v", role)
	}

	house.running = Number("zoo")
	rows := bufio.NewScanner(bytes.NewReader(p.want(http.StatusOK, "GET", "/api/hosts", "")))
	var hosts []map[string]any
	for rows.Scan() {
		hosts = append(hosts, object(t, rows.Bytes()))
	}
	if len(hosts) != 2 || !slices.Equal(keys(hosts[0]), []string{"hosts"}) || !slices.Equal(keys(hosts[1]), []string{"host_id", "name", "owner", "paired", "server_state"}) || hosts[1]["server_state"] != "Busy" {
		t.Errorf("hosts are %v", hosts)
	}
	host, _ := object(t, p.want(http.StatusOK, "GET", "/api/host?host_id=1", ""))["host"].(map[string]any)
	if len(host) != 17 || host["current_game"] != float64(Number("zoo")) || host["https_port"] != 47984.0 || host["server_codec_mode_support"] != float64(0x10001) || host["max_luma_pixels_hevc"] != 0.0 {
		t.Errorf("the host is %v", host)
	}
	p.want(http.StatusNotFound, "GET", "/api/host?host_id=2", "")
	apps, _ := object(t, p.want(http.StatusOK, "GET", "/api/apps?host_id=1", ""))["apps"].([]any)
	if len(apps) != 2 || !slices.Equal(keys(apps[0]), []string{"app_id", "is_hdr_supported", "title"}) {
		t.Errorf("the programs are %v", apps)
	}

	image := "/api/app/image?host_id=1&app_id=" + json.Number(jsonOf(t, Number("zoo"))).String()
	resp := p.call("GET", image, "")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "image/png" || resp.Header.Get("ETag") == "" {
		t.Errorf("the picture: %d %v", resp.StatusCode, resp.Header)
	}
	p.want(http.StatusNotFound, "GET", "/api/app/image?host_id=1&app_id=7", "")

	if r := object(t, p.want(http.StatusOK, "POST", "/api/host/cancel", `{"host_id":1}`)); r["success"] != true || len(house.cancelled) != 1 {
		t.Errorf("cancel: %v, %v", r, house.cancelled)
	}
	p.want(http.StatusCreated, "POST", "/api/host/stream/webrtc", "v=0")
	p.want(http.StatusCreated, "PATCH", "/api/host/stream/webrtc/7", "a=candidate:x")
	if want := []string{"POST /ml/api/host/stream/webrtc  anna", "PATCH /ml/api/host/stream/webrtc 7 anna"}; !slices.Equal(house.streams, want) {
		t.Errorf("streams: %q", house.streams)
	}
	p.want(http.StatusForbidden, "POST", "/api/user", `{"name":"x"}`)
	p.want(http.StatusForbidden, "POST", "/api/host", `{"address":"x"}`)
	p.want(http.StatusOK, "POST", "/api/logout", "")
	p.want(http.StatusUnauthorized, "GET", "/api/authenticate", "")
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestThePageStaysInItsFolder(t *testing.T) {
	p, _ := open(t)
	resp := p.call("GET", "/stream.html?hostId=1&appId=2", "")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "<title>stream") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "wasm-unsafe-eval") {
		t.Errorf("the page: %d %s %v", resp.StatusCode, b, resp.Header)
	}
	for _, path := range []string{"/../users.db", "/%2e%2e/users.db", "/nothing.html"} {
		if resp := p.call("GET", path, ""); resp.StatusCode == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

// TestScriptsInThePageAreAllowed: those that stand in the document, by their hash, as
// the browser computes it.
func TestScriptsInThePageAreAllowed(t *testing.T) {
	files := fstest.MapFS{
		"index.html":      {Data: []byte("<!DOCTYPE html><title>x</title><script src=\"./a.js\"></script><script>let a = 1 < 2;\r\n</script><style>b{}</style>")},
		"deep/index.html": {Data: []byte("<p>alert(1)</p><script>\n</script>")},
		"a.js":            {Data: []byte("<script>alert(1)</script>")},
	}
	sum := sha256.Sum256([]byte("let a = 1 < 2;\n"))
	want := " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	for path, n := range map[string]int{"/": 1, "/index.html": 1, "": 1, "/deep/": 0, "/a.js": 0} {
		got, err := inlineScripts(files, path)
		if err != nil || len(got) != n || n > 0 && got[0] != want {
			t.Errorf("%q: %q, %v, want %d of %s", path, got, err, n, want)
		}
	}
	if _, err := inlineScripts(files, "/../index.html.html"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a document that is not there: %v", err)
	}
}
