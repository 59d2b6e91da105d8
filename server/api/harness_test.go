package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/server/auth"
	"fenrir/server/catalog"
	"fenrir/server/cert"
	"fenrir/server/config"
	"fenrir/server/events"
	"fenrir/server/https"
	"fenrir/server/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSessions is a small honest registry: sessions that are nothing but their
// state.
type fakeSessions struct {
	mu      sync.Mutex
	byID    map[string]*fakeSession
	next    int
	stuck   bool  // an end is never done
	refuse  error // of Create and Patch
	created []CreateRequest
	panics  bool
}

type fakeSession struct {
	state   media.SessionState
	changed chan struct{} // closed and replaced at every change
	done    chan struct{}
}

func (f *fakeSessions) Create(_ context.Context, req CreateRequest) (media.SessionState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panics {
		panic("secret-in-a-panic")
	}
	if f.refuse != nil {
		return media.SessionState{}, f.refuse
	}
	f.created = append(f.created, req)
	f.next++
	s := &fakeSession{changed: make(chan struct{}), done: make(chan struct{}), state: media.SessionState{
		ID: fmt.Sprintf("s_%d", f.next), App: media.AppRef{ID: req.App.ID, Title: req.App.Title}, Owner: req.Owner, Phase: media.Starting,
		Step: media.StepDisplay, Width: req.Width, Height: req.Height, FPS: req.FPS, MaxKbps: req.MaxKbps, Layout: req.Layout, Audio: "starting", Created: time.Now(),
	}}
	if f.byID == nil {
		f.byID = map[string]*fakeSession{}
	}
	f.byID[s.state.ID] = s
	return s.state, nil
}

func (f *fakeSessions) List() []media.SessionState {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []media.SessionState
	for i := range f.next {
		if s := f.byID[fmt.Sprintf("s_%d", i+1)]; s != nil && s.state.Phase != media.Ended {
			list = append(list, s.state)
		}
	}
	return list
}

func (f *fakeSessions) Get(id string) (media.SessionState, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.byID[id]; s != nil {
		return s.state, true
	}
	return media.SessionState{}, false
}

// change applies f to a session's state and wakes its watchers.
func (f *fakeSessions) change(id string, apply func(*media.SessionState)) (media.SessionState, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.byID[id]
	if s == nil {
		return media.SessionState{}, false
	}
	apply(&s.state)
	close(s.changed)
	s.changed = make(chan struct{})
	return s.state, true
}

func (f *fakeSessions) Patch(_ context.Context, id string, c PatchRequest) (media.SessionState, error) {
	if f.refuse != nil {
		return media.SessionState{}, f.refuse
	}
	state, ok := f.change(id, func(s *media.SessionState) {
		set := func(to *int, v *int) {
			if v != nil {
				*to = *v
			}
		}
		set(&s.Width, c.Width)
		set(&s.Height, c.Height)
		set(&s.FPS, c.FPS)
		set(&s.MaxKbps, c.MaxKbps)
		if c.Layout != nil {
			s.Layout = *c.Layout
		}
	})
	if !ok {
		return state, &media.Cause{Code: media.CauseSessionGone}
	}
	return state, nil
}

func (f *fakeSessions) End(id string, cause *media.Cause) (<-chan struct{}, bool) {
	phase := media.Ended
	if f.stuck {
		phase = media.Ending
	}
	var s *fakeSession
	was := media.Phase("")
	_, ok := f.change(id, func(state *media.SessionState) {
		s, was = f.byID[id], state.Phase
		if was != media.Ended {
			state.Phase, state.Cause = phase, cause
		}
	})
	if !ok || was == media.Ended {
		return nil, false
	}
	if !f.stuck {
		close(s.done)
	}
	return s.done, true
}

func (f *fakeSessions) Watch(_ context.Context, id string) (func(context.Context) (media.SessionState, error), bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.byID[id]
	if s == nil {
		return nil, false
	}
	first := make(chan struct{})
	close(first)
	changed := first
	over := false
	return func(ctx context.Context) (media.SessionState, error) {
		if over {
			return media.SessionState{}, io.EOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return media.SessionState{}, ctx.Err()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		changed, over = s.changed, s.state.Phase == media.Ended
		return s.state, nil
	}, true
}

func (f *fakeSessions) Log(id string) ([]journal.Line, int) {
	return []journal.Line{{At: time.Now(), Level: "warn", Text: "the log of " + id}}, 3
}

func (f *fakeSessions) Screenshot(_ context.Context, id string) ([]byte, error) {
	if _, ok := f.Get(id); !ok {
		return nil, &media.Cause{Code: media.CauseSessionGone}
	}
	return []byte("\x89PNG\r\n\x1a\n"), nil
}

// door is a running API with its surroundings.
type door struct {
	t        *testing.T
	api      *API
	sessions *fakeSessions
	store    *auth.Store
	base     string // "https://127.0.0.1:port"
	pool     *x509.CertPool
	log      *safeBuffer
	signals  chan signalCall
	token    string // for setup
	events   events.Hub
}

type signalCall struct {
	session string
	person  media.PersonRef
	ctx     context.Context
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const password = "correct horse battery"

// open starts a door on a free port of loopback; adjust may change it before.
func open(t *testing.T, adjust ...func(*API)) *door {
	t.Helper()
	dir := t.TempDir()
	d := &door{t: t, sessions: &fakeSessions{}, log: &safeBuffer{}, signals: make(chan signalCall, 8), pool: x509.NewCertPool()}
	log := slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	opened := time.Now() // stands still, so that a slow machine gives no attempts back
	d.store, err = auth.Open(auth.Options{Path: filepath.Join(dir, "users.db"), CookieLifetime: time.Hour, MaxLogins: 8,
		Argon2: auth.Params{MemoryMiB: 1, Passes: 1, Lanes: 1}, Hashing: 2, PerMinute: 60, Burst: 5, Log: log, Now: func() time.Time { return opened }})
	if err != nil {
		t.Fatal(err)
	}
	if d.token, err = d.store.IssueSetupToken(); err != nil {
		t.Fatal(err)
	}
	apps := catalog.New(catalog.Options{Exe: "/bin/fenrir", Config: config.Catalog{Playground: true},
		Apps: []config.App{{ID: "game", Title: "Game", Command: []string{"/bin/true"}, Width: 800, Height: 600, FPS: 30}}})
	d.api = &API{
		Auth: d.store, Sessions: d.sessions, Apps: apps, Log: log, Version: "test", CookieLifetime: time.Hour, MetricsAccess: config.MetricsAdmin, Events: &d.events, Profiles: true,
		Limits: Limits{Width: 1280, Height: 720, FPS: 60, MaxFPS: 120, MinKbps: 300, MaxKbps: 50000, MaxSessions: 8, MaxPerPerson: 3, MaxPeers: 8, Codecs: []string{"h264", "vp8"}},
		Web: fstest.MapFS{
			"index.html":             {Data: []byte("<!doctype html><title>Fenrir</title>")},
			"icon.svg":               {Data: []byte("<svg/>")},
			"assets/app-ABCDEF12.js": {Data: bytes.Repeat([]byte("console.log(1);"), 200)},
		},
		Info: func(context.Context) ServerInfo {
			return ServerInfo{Encoders: []media.Encoder{{Name: "x264", Family: "software", Codec: media.H264, Element: "x264enc", Works: true}},
				Choice: Choice{Encoder: "x264", Codec: media.H264, Reason: "the only one"}, GPUNote: "no GPU"}
		},
		Signal: func(w http.ResponseWriter, r *http.Request, id string, p media.PersonRef) {
			d.signals <- signalCall{id, p, r.Context()}
			<-r.Context().Done()
			http.Error(w, "no websocket", http.StatusUpgradeRequired)
		},
		WHEP: func(w http.ResponseWriter, r *http.Request, id, peer string, p media.PersonRef) {
			switch r.Method {
			case http.MethodPost:
				body, err := io.ReadAll(r.Body)
				if err != nil {
					d.api.Fail(w, r, err)
					return
				}
				if string(body) == "refuse" {
					d.api.Fail(w, r, media.NewCause(media.CauseNegotiation, "no offer"))
					return
				}
				w.Header().Set("Content-Type", "application/sdp")
				w.Header().Set("Location", "/api/sessions/"+id+"/whep/"+p.Name)
				w.WriteHeader(http.StatusCreated)
			default:
				w.Header().Set("X-Peer", peer)
				w.WriteHeader(http.StatusNoContent)
			}
		},
	}
	for _, f := range adjust {
		f(d.api)
	}
	handler, err := d.api.Handler()
	if err != nil {
		t.Fatal(err)
	}
	source, err := cert.SelfSigned(dir, []string{"127.0.0.1"}, log)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	if err != nil || !d.pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.base = "https://" + l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- (&https.Server{Handler: handler, Certificate: source.GetCertificate, Log: log}).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// client is one browser or script.
type client struct {
	d      *door
	http   *http.Client
	origin string // sent with everything; "": none
	bearer string
	person auth.Person
}

// client makes one that nobody is logged in with; its answers are checked
// against the description of the API.
func (d *door) client() *client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.pool}, ForceAttemptHTTP2: true}
	d.t.Cleanup(tr.CloseIdleConnections)
	return &client{d: d, origin: d.base, http: &http.Client{Transport: &described{t: d.t, next: tr}, Jar: jar, Timeout: 20 * time.Second}}
}

// as makes a person and a client that is logged in as them.
func (d *door) as(name string, role auth.Role) *client {
	d.t.Helper()
	p, err := d.store.AddPerson(context.Background(), name, password, role)
	if err != nil {
		d.t.Fatal(err)
	}
	c := d.client()
	c.person = p
	c.want(http.StatusOK, "POST", "/api/login", map[string]string{"name": name, "password": password})
	return c
}

// script makes a client with a bearer token and no Origin.
func (c *client) script() *client {
	c.d.t.Helper()
	_, token, err := c.d.store.NewToken(c.person.ID, "test")
	if err != nil {
		c.d.t.Fatal(err)
	}
	s := c.d.client()
	s.origin, s.bearer, s.person = "", token, c.person
	return s
}

func (c *client) request(method, path string, body any) *http.Request {
	c.d.t.Helper()
	var r io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r, kind = b, "application/json"
	case string:
		r, kind = strings.NewReader(b), "application/json"
	default:
		j, err := json.Marshal(b)
		if err != nil {
			c.d.t.Fatal(err)
		}
		r, kind = bytes.NewReader(j), "application/json"
	}
	req, err := http.NewRequestWithContext(context.Background(), method, c.d.base+path, r)
	if err != nil {
		c.d.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if c.origin != "" {
		req.Header.Set("Origin", c.origin)
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	return req
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body []byte
}

func (a answer) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal(a.body, &p) // what is no problem has no code
	return p.Code
}

func (c *client) do(req *http.Request) answer {
	c.d.t.Helper()
	resp, err := c.http.Do(req)
	if err != nil {
		c.d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.d.t.Fatal(err)
	}
	return answer{resp, b}
}

func (c *client) call(method, path string, body any) answer {
	c.d.t.Helper()
	return c.do(c.request(method, path, body))
}

// want calls and demands a status.
func (c *client) want(status int, method, path string, body any) answer {
	c.d.t.Helper()
	a := c.call(method, path, body)
	if a.StatusCode != status {
		c.d.t.Fatalf("%s %s: got %d %s, want %d", method, path, a.StatusCode, a.body, status)
	}
	return a
}

// refused calls and demands a problem.
func (c *client) refused(status int, code, method, path string, body any) answer {
	c.d.t.Helper()
	a := c.call(method, path, body)
	if a.StatusCode != status || a.code() != code {
		c.d.t.Errorf("%s %s: got %d %s, want %d with code %s", method, path, a.StatusCode, a.body, status, code)
	}
	return a
}

// into reads an answer's JSON.
func into[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return v
}

// session starts one.
func (c *client) session() media.SessionState {
	c.d.t.Helper()
	return into[media.SessionState](c.d.t, c.want(http.StatusCreated, "POST", "/api/sessions", map[string]any{"app": "playground"}))
}
