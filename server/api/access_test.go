package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"fenrir/media"
	"fenrir/server/auth"
	"fenrir/server/config"
	"fenrir/server/events"
)

func TestFirstRun(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.client()
	a := c.refused(401, "unauthenticated", "GET", "/api/me", nil)
	if !strings.Contains(string(a.body), `"setup":true`) {
		t.Errorf("before set-up: got %s, want setup: true", a.body)
	}
	setup := func(token string) map[string]string {
		return map[string]string{"token": token, "name": "anna", "password": password}
	}
	c.refused(403, "bad-setup-token", "POST", "/api/setup", setup("guess"))
	c.refused(422, "bad-password", "POST", "/api/setup", map[string]string{"token": d.token, "name": "anna", "password": "short"})
	a = c.want(201, "POST", "/api/setup", setup(d.token))
	if got := into[meJSON](t, a); got.Person.Role != auth.Admin || got.Person.Name != "anna" {
		t.Errorf("got %+v, want the admin anna", got)
	}
	cookie := a.Header.Get("Set-Cookie")
	for _, want := range []string{"fenrir=", "Path=/", "HttpOnly", "Secure", "SameSite=Strict", "Max-Age=3600"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %s", cookie, want)
		}
	}
	c.want(200, "GET", "/api/me", nil)
	other := d.client()
	other.refused(409, "setup-done", "POST", "/api/setup", setup(d.token))
	a = other.refused(401, "unauthenticated", "GET", "/api/me", nil)
	if strings.Contains(string(a.body), "setup") {
		t.Errorf("after set-up: got %s, want no setup", a.body)
	}
	a = c.want(204, "POST", "/api/logout", nil)
	if !strings.Contains(a.Header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("logout's cookie: %q", a.Header.Get("Set-Cookie"))
	}
	c.refused(401, "unauthenticated", "GET", "/api/me", nil)
	c.want(200, "POST", "/api/login", map[string]string{"name": "ANNA", "password": password})
	c.want(200, "GET", "/api/me", nil)
}

func TestLoginIsLimited(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.as("anna", auth.Player)
	c := d.client()
	for range 5 {
		c.refused(401, "bad-credentials", "POST", "/api/login", map[string]string{"name": "anna", "password": "wrong"})
	}
	a := c.refused(429, "rate-limited", "POST", "/api/login", map[string]string{"name": "anna", "password": password})
	if n, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
		t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
	}
}

// TestWhoMayDoWhat calls every route as everybody.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	d := open(t)
	admin, owner, other := d.as("admin", auth.Admin), d.as("owner", auth.Player), d.as("other", auth.Player)
	nobody := d.client()
	victim := d.as("victim", auth.Player)
	for range events.Listeners { // one more is refused, where a stream would not end
		_, stop, err := d.events.Listen(0)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	const json = "application/json"
	// want: statuses for anonymous, another player, the owner, an admin.
	// {session} is the owner's, fresh for each call; {token} and {device} are too.
	rows := []struct {
		route, body string
		want        [4]int
	}{
		{"GET /healthz", "", [4]int{200, 200, 200, 200}},
		{"GET /readyz", "", [4]int{200, 200, 200, 200}},
		{"GET /metrics", "", [4]int{403, 403, 403, 200}},
		{"GET /api/openapi.json", "", [4]int{200, 200, 200, 200}},
		{"GET /api/docs", "", [4]int{200, 200, 200, 200}},
		{"POST /api/setup", `{"token":"x","name":"x","password":"long enough"}`, [4]int{409, 409, 409, 409}},
		{"POST /api/login", `{"name":"nobody","password":"x"}`, [4]int{401, 401, 401, 401}},
		{"GET /api/me", "", [4]int{401, 200, 200, 200}},
		{"PUT /api/me/password", `{"current":"wrong","new":"long enough"}`, [4]int{401, 401, 401, 401}},
		{"GET /api/tokens", "", [4]int{401, 200, 200, 200}},
		{"POST /api/tokens", `{"name":"t"}`, [4]int{401, 201, 201, 201}},
		{"DELETE /api/tokens/{token}", "", [4]int{401, 404, 204, 404}},
		{"GET /api/moonlight", "", [4]int{401, 200, 200, 200}},
		{"POST /api/moonlight/waiting/nobody", `{"pin":"1234"}`, [4]int{401, 404, 404, 404}},
		{"GET /api/devices", "", [4]int{401, 200, 200, 200}},
		{"PATCH /api/devices/{device}", `{"name":"television"}`, [4]int{401, 404, 200, 200}},
		{"DELETE /api/devices/{device}", "", [4]int{401, 404, 204, 204}},
		{"GET /api/apps", "", [4]int{401, 200, 200, 200}},
		{"GET /api/apps/playground/icon", "", [4]int{401, 200, 200, 200}},
		{"GET /api/server", "", [4]int{401, 200, 200, 200}},
		{"GET /api/sessions", "", [4]int{401, 200, 200, 200}},
		{"GET /api/sessions?all=1", "", [4]int{401, 403, 403, 200}},
		{"POST /api/sessions", `{"app":"playground"}`, [4]int{401, 201, 201, 201}},
		{"GET /api/sessions/{session}", "", [4]int{401, 404, 200, 200}},
		{"PATCH /api/sessions/{session}", `{"fps":30}`, [4]int{401, 404, 200, 200}},
		{"DELETE /api/sessions/{session}", "", [4]int{401, 404, 204, 204}},
		{"GET /api/sessions/{session}/screenshot", "", [4]int{401, 404, 200, 200}},
		{"GET /api/sessions/{session}/log", "", [4]int{401, 404, 200, 200}},
		{"GET /debug/pprof/goroutine", "", [4]int{401, 403, 403, 200}},
		{"GET /debug/pprof/profile?seconds=21", "", [4]int{401, 403, 403, 422}},
		{"GET /debug/pprof/nothing", "", [4]int{401, 403, 403, 404}},
		{"GET /api/events", "", [4]int{401, 403, 403, 503}}, // the hub is full
		{"GET /api/sessions/{session}/events", "", [4]int{401, 404, 200, 200}},
		{"GET /api/sessions/{session}/signal", "", [4]int{401, 404, 426, 426}},
		{"POST /api/sessions/{session}/whep", "v=0", [4]int{401, 404, 201, 201}},
		{"OPTIONS /api/sessions/{session}/whep", "", [4]int{401, 404, 204, 204}},
		{"PATCH /api/sessions/{session}/whep/p", "a=", [4]int{401, 404, 204, 204}},
		{"DELETE /api/sessions/{session}/whep/p", "", [4]int{401, 404, 204, 204}},
		{"OPTIONS /api/sessions/{session}/whep/p", "", [4]int{401, 404, 204, 204}},
		{"GET /api/users", "", [4]int{401, 403, 403, 200}},
		{"POST /api/users", `{"name":"{unique}","password":"long enough","role":"player"}`, [4]int{401, 403, 403, 201}},
		{"PATCH /api/users/{victim}", `{"role":"player"}`, [4]int{401, 403, 403, 200}},
		{"DELETE /api/users/{victim}", "", [4]int{401, 403, 403, 204}},
		{"GET /", "", [4]int{200, 200, 200, 200}},
		{"HEAD /", "", [4]int{200, 200, 200, 200}},
		{"POST /api/logout", "", [4]int{204, 204, 204, 204}}, // last: it ends the logins
	}
	tested := map[string]bool{}
	for i, row := range rows {
		method, path, _ := strings.Cut(row.route, " ")
		for j, c := range []*client{nobody, other, owner, admin} {
			state, err := d.sessions.Create(t.Context(), CreateRequest{Owner: media.PersonRef{ID: string(owner.person.ID), Name: "owner"}, FPS: 60})
			if err != nil {
				t.Fatal(err)
			}
			session := state.ID
			if path == "/api/sessions/{session}/events" {
				// A stream that has nothing more to say ends.
				d.sessions.change(session, func(s *media.SessionState) { s.Phase = media.Ended })
			}
			var token auth.Token
			if strings.Contains(path, "{token}") {
				if token, _, err = d.store.NewToken(owner.person.ID, "t"); err != nil {
					t.Fatal(err)
				}
			}
			var device auth.Device
			if strings.Contains(path, "{device}") {
				if device, err = d.store.PairDevice(owner.person.ID, "t", "key", nil); err != nil {
					t.Fatal(err)
				}
			}
			fill := strings.NewReplacer("{device}", device.ID, "{session}", session, "{token}", token.ID, "{victim}", string(victim.person.ID), "{unique}", fmt.Sprintf("u%d-%d", i, j))
			req := c.request(method, fill.Replace(path), nil)
			if row.body != "" {
				req = c.request(method, fill.Replace(path), fill.Replace(row.body))
				if strings.Contains(path, "whep") {
					req.Header.Set("Content-Type", "application/sdp")
				} else {
					req.Header.Set("Content-Type", json)
				}
			}
			if row.want[j] == http.StatusUpgradeRequired {
				// The door of this test returns when the request's context ends.
				go func() {
					<-d.signals
					d.api.revoked(auth.Revocation{Person: c.person.ID})
				}()
			}
			got := c.do(req)
			if got.StatusCode != row.want[j] {
				t.Errorf("%s as %s: got %d %s, want %d", row.route, []string{"nobody", "another player", "the owner", "an admin"}[j], got.StatusCode, got.body, row.want[j])
			}
			if got.StatusCode == 404 && strings.Contains(path, "{session}") && got.code() != media.CauseSessionGone {
				t.Errorf("%s: got code %s, want %s", row.route, got.code(), media.CauseSessionGone)
			}
			for _, s := range d.sessions.List() {
				d.sessions.End(s.ID, nil)
			}
		}
		plain, _, _ := strings.Cut(path, "?")
		plain = strings.NewReplacer("{session}", "{id}", "{device}", "{id}", "/waiting/nobody", "/waiting/{id}", "{token}", "{id}", "{victim}", "{id}", "/whep/p", "/whep/{peer}", "playground", "{id}", "/pprof/goroutine", "/pprof/{name}", "/pprof/profile", "/pprof/{name}", "/pprof/nothing", "/pprof/{name}").Replace(plain)
		if plain == "/" {
			plain = "/*"
		}
		tested[method+" "+plain] = true
	}
	// No route is left out.
	err := chi.Walk(d.api.routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if !tested[method+" "+route] {
			t.Errorf("%s %s is not in the table", method, route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUnknownAndForeignSessionsLookTheSame(t *testing.T) {
	t.Parallel()
	d := open(t)
	owner, other := d.as("owner", auth.Player), d.as("other", auth.Player)
	foreign := owner.session().ID
	for _, op := range []struct{ method, rest, body string }{
		{"GET", "", ""}, {"PATCH", "", `{"fps":30}`}, {"DELETE", "", ""}, {"GET", "/screenshot", ""}, {"GET", "/events", ""}, {"GET", "/signal", ""}, {"POST", "/whep", "v=0"},
	} {
		var body any
		if op.body != "" {
			body = op.body
		}
		a := other.refused(404, "session-not-found", op.method, "/api/sessions/"+foreign+op.rest, body)
		b := other.refused(404, "session-not-found", op.method, "/api/sessions/s_unknown"+op.rest, body)
		if string(a.body) != string(b.body) {
			t.Errorf("%s %s: %s for a foreign one, %s for an unknown one", op.method, op.rest, a.body, b.body)
		}
	}
	if s, _ := d.sessions.Get(foreign); s.Phase == media.Ended || s.FPS != 60 {
		t.Errorf("the session was changed: %+v", s)
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.PublicOrigins = []string{"https://play.example.org"} })
	c := d.as("anna", auth.Player)
	script := c.script()
	host := strings.TrimPrefix(d.base, "https://")
	for _, row := range []struct {
		name   string
		c      *client
		origin string
		ok     bool
	}{
		{"the page", c, d.base, true},
		{"the page in capitals", c, strings.ToUpper(d.base), true},
		{"another site", c, "https://evil.example", false},
		{"the same host without TLS", c, "http://" + host, false},
		{"another port", c, "https://127.0.0.1:1", false},
		{"a longer name", c, d.base + ".evil.example", false},
		{"a sandbox", c, "null", false},
		{"none with a cookie", c, "", false},
		{"a configured one", c, "https://play.example.org", true},
		{"a configured one with its port", c, "https://play.example.org:443", true},
		{"none with a token", script, "", true},
		{"another site with a token", script, "https://evil.example", false},
	} {
		req := row.c.request("POST", "/api/tokens", `{"name":"x"}`)
		req.Header.Del("Origin")
		if row.origin != "" {
			req.Header.Set("Origin", row.origin)
		}
		a := row.c.do(req)
		if ok := a.StatusCode == 201; ok != row.ok || !ok && a.code() != "bad-origin" {
			t.Errorf("%s: got %d %s, want it to pass: %t", row.name, a.StatusCode, a.body, row.ok)
		}
		// A websocket is judged like an unsafe method.
		req = row.c.request("GET", "/api/sessions/s_none/signal", nil)
		req.Header.Del("Origin")
		if row.origin != "" {
			req.Header.Set("Origin", row.origin)
		}
		req.Header.Set("Upgrade", "websocket")
		req.Header.Set("Connection", "Upgrade")
		done := make(chan struct{})
		go func() {
			defer close(done)
			if row.ok {
				<-d.signals
				d.api.revoked(auth.Revocation{Person: c.person.ID})
			}
		}()
		// Upgrades are a matter of HTTP/1.1.
		a = row.c.http1().do(req)
		if refused := a.StatusCode == 403; refused == row.ok {
			t.Errorf("%s, websocket: got %d %s, want it to pass: %t", row.name, a.StatusCode, a.body, row.ok)
		}
		<-done
	}
	// Safe methods are for everybody: there is nothing in them to forge.
	req := c.request("GET", "/api/me", nil)
	req.Header.Set("Origin", "https://evil.example")
	if a := c.do(req); a.StatusCode != 200 || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a safe method: got %d, %v", a.StatusCode, a.Header)
	}
	// Login without an Origin would let another site log one in as somebody else.
	req = c.request("POST", "/api/login", map[string]string{"name": "anna", "password": password})
	req.Header.Set("Origin", "https://evil.example")
	if a := c.do(req); a.code() != "bad-origin" {
		t.Errorf("login from another site: got %d %s", a.StatusCode, a.body)
	}
}

// http1 is the same client without HTTP/2.
func (c *client) http1() *client {
	tr := c.http.Transport.(*described).next.(*http.Transport).Clone()
	tr.ForceAttemptHTTP2 = false
	tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	c.d.t.Cleanup(tr.CloseIdleConnections)
	plain := *c
	h := *c.http
	h.Transport = &described{t: c.d.t, next: tr}
	plain.http = &h
	return &plain
}

func TestBearerTokens(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	issued := into[struct{ ID, Name, Token string }](t, c.want(201, "POST", "/api/tokens", `{"name":"script"}`))
	s := d.client()
	s.origin, s.bearer = "", issued.Token
	s.want(200, "GET", "/api/me", nil)
	s.want(201, "POST", "/api/sessions", `{"app":"playground"}`)
	list := into[struct{ Tokens []tokenJSON }](t, c.want(200, "GET", "/api/tokens", nil)).Tokens
	if len(list) != 1 || list[0].ID != issued.ID || list[0].LastUsed == nil {
		t.Errorf("got %+v, want one used token", list)
	}
	// A wrong token is not made good by a cookie.
	both := *c
	both.bearer = "fnr_wrong"
	both.refused(401, "unauthenticated", "GET", "/api/me", nil)
	c.want(204, "DELETE", "/api/tokens/"+issued.ID, nil)
	s.refused(401, "unauthenticated", "GET", "/api/me", nil)
	c.refused(404, "not-found", "DELETE", "/api/tokens/"+issued.ID, nil)
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	there := d.client()
	there.want(200, "POST", "/api/login", map[string]string{"name": "anna", "password": password})
	c.refused(401, "bad-credentials", "PUT", "/api/me/password", `{"current":"wrong","new":"battery staple"}`)
	c.want(204, "PUT", "/api/me/password", map[string]string{"current": password, "new": "battery staple"})
	c.want(200, "GET", "/api/me", nil)
	there.refused(401, "unauthenticated", "GET", "/api/me", nil)
}

func TestUsers(t *testing.T) {
	t.Parallel()
	d := open(t)
	admin := d.as("admin", auth.Admin)
	made := into[userJSON](t, admin.want(201, "POST", "/api/users", map[string]any{"name": "ben", "password": password, "role": "player"}))
	admin.refused(409, "name-taken", "POST", "/api/users", map[string]any{"name": "BEN", "password": password, "role": "player"})
	admin.refused(422, "bad-name", "POST", "/api/users", map[string]any{"name": "", "password": password, "role": "player"})
	admin.refused(422, "invalid-value", "POST", "/api/users", map[string]any{"name": "x", "password": password, "role": "king"})
	list := into[struct{ Users []userJSON }](t, admin.want(200, "GET", "/api/users", nil)).Users
	if len(list) != 2 || list[1].Name != "ben" {
		t.Errorf("got %+v", list)
	}
	ben := d.client()
	ben.want(200, "POST", "/api/login", map[string]string{"name": "ben", "password": password})
	session := ben.session()
	admin.want(200, "PATCH", "/api/users/"+string(made.ID), `{"password":"something else"}`)
	ben.refused(401, "unauthenticated", "GET", "/api/me", nil)
	if s, _ := d.sessions.Get(session.ID); s.Phase == media.Ended {
		t.Error("a new password ended the session")
	}
	admin.want(200, "PATCH", "/api/users/"+string(made.ID), `{"role":"admin"}`)
	admin.want(204, "DELETE", "/api/users/"+string(made.ID), nil)
	if s, _ := d.sessions.Get(session.ID); s.Phase != media.Ended || s.Cause.Code != media.CauseRevoked {
		t.Errorf("the session of a deleted person: %+v", s)
	}
	admin.refused(404, "not-found", "DELETE", "/api/users/"+string(made.ID), nil)
	admin.refused(404, "not-found", "PATCH", "/api/users/"+string(made.ID), `{"role":"player"}`)
	admin.refused(409, "last-admin", "DELETE", "/api/users/"+string(admin.person.ID), nil)
	admin.refused(409, "last-admin", "PATCH", "/api/users/"+string(admin.person.ID), `{"role":"player"}`)
}

func TestMetricsAccess(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		access, forwarded       string
		anonymous, playerStatus int
	}{
		{config.MetricsAdmin, "", 403, 403},
		{config.MetricsLoopback, "", 200, 200},
		{config.MetricsLoopback, "203.0.113.9", 403, 403}, // through a proxy that nobody declared
		{config.MetricsOpen, "", 200, 200},
		{config.MetricsOff, "", 404, 404},
	} {
		d := open(t, func(a *API) { a.MetricsAccess = row.access })
		player := d.as("anna", auth.Player)
		for _, c := range []struct {
			*client
			want int
		}{{d.client(), row.anonymous}, {player, row.playerStatus}} {
			req := c.request("GET", "/metrics", nil)
			if row.forwarded != "" {
				req.Header.Set("X-Forwarded-For", row.forwarded)
			}
			if a := c.do(req); a.StatusCode != c.want {
				t.Errorf("%s %s: got %d, want %d", row.access, row.forwarded, a.StatusCode, c.want)
			}
		}
	}
}
