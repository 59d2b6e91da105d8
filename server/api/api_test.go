package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/server/auth"
	"fenrir/server/config"
)

func TestCreatingASession(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	for _, row := range []struct {
		name, body string
		want       CreateRequest
	}{
		{"defaults of the server", `{"app":"playground"}`, CreateRequest{Width: 1280, Height: 720, FPS: 60}},
		{"wishes of the program", `{"app":"game"}`, CreateRequest{Width: 800, Height: 600, FPS: 30}},
		{"all said", `{"app":"game","width":3840,"height":2160,"fps":120,"max_kbps":9000,"codec":"vp8","layout":"de(nodeadkeys)"}`,
			CreateRequest{Width: 3840, Height: 2160, FPS: 120, MaxKbps: 9000, Codec: media.VP8, Layout: "de(nodeadkeys)"}},
		{"codec auto", `{"app":"playground","codec":"auto"}`, CreateRequest{Width: 1280, Height: 720, FPS: 60}},
	} {
		a := c.want(201, "POST", "/api/sessions", row.body)
		s := into[media.SessionState](t, a)
		if got, want := a.Header.Get("Location"), "/api/sessions/"+s.ID; got != want {
			t.Errorf("%s: Location %q, want %q", row.name, got, want)
		}
		got := d.sessions.created[len(d.sessions.created)-1]
		if got.Owner.ID != string(c.person.ID) || got.App.ID == "" {
			t.Errorf("%s: got %+v", row.name, got)
		}
		row.want.Owner, row.want.App = got.Owner, got.App
		if fmt.Sprint(got) != fmt.Sprint(row.want) {
			t.Errorf("%s: got %+v, want %+v", row.name, got, row.want)
		}
	}
	for _, body := range []string{
		`{"app":"playground","width":638,"height":360}`, `{"app":"playground","width":641,"height":361}`, `{"app":"playground","width":3842,"height":2160}`,
		`{"app":"playground","width":1280}`, `{"app":"playground","height":720}`, `{"app":"playground","width":1280,"height":2162}`,
		`{"app":"playground","fps":9}`, `{"app":"playground","fps":121}`, `{"app":"playground","fps":-1}`, `{"app":"playground","max_kbps":1}`, `{"app":"playground","max_kbps":50001}`,
		`{"app":"playground","codec":"av1"}`, `{"app":"playground","codec":"divx"}`, `{"app":"playground","layout":"us;reboot"}`, `{"app":"playground","layout":"$(x)"}`,
	} {
		c.refused(422, "invalid-value", "POST", "/api/sessions", body)
	}
	c.refused(404, "app-not-found", "POST", "/api/sessions", `{"app":"../etc"}`)
	c.refused(404, "app-not-found", "POST", "/api/sessions", `{}`)
	if n := len(d.sessions.created); n != 4 {
		t.Errorf("%d sessions were created, want 4", n)
	}
}

func TestRefusalsOfTheRegistryReachTheClient(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	id := c.session().ID
	for _, row := range []struct {
		err    error
		status int
		code   string
		detail string
	}{
		{media.NewCause(media.CauseNoEncoder, "nvenc: no driver"), 503, "no-encoder", "nvenc: no driver"},
		{fmt.Errorf("start: %w", media.NewCause(media.CauseNoSlot, "2 of 2")), 503, "no-encoder-slot", "2 of 2"},
		{&media.Cause{Code: media.CauseTooMany}, 409, "too-many-sessions", ""},
		{&media.Cause{Code: media.CauseShutdown}, 503, "server-shutdown", ""},
		{errors.New("disk on fire at /secret"), 500, "internal", ""},
		{context.DeadlineExceeded, 503, "timeout", ""},
		{&media.Cause{Code: "made-up"}, 500, "internal", ""},
	} {
		d.sessions.refuse = row.err
		for _, a := range []answer{
			c.refused(row.status, row.code, "POST", "/api/sessions", `{"app":"playground"}`),
			c.refused(row.status, row.code, "PATCH", "/api/sessions/"+id, `{"fps":30}`),
		} {
			if got := into[struct{ Detail string }](t, a).Detail; got != row.detail {
				t.Errorf("%v: detail %q, want %q", row.err, got, row.detail)
			}
		}
	}
	if !strings.Contains(d.log.String(), "disk on fire at /secret") {
		t.Error("the log does not say what went wrong")
	}
}

func TestListingChangingEnding(t *testing.T) {
	t.Parallel()
	d := open(t)
	admin, anna := d.as("admin", auth.Admin), d.as("anna", auth.Player)
	mine, theirs := admin.session(), anna.session()
	ids := func(a answer) (list []string) {
		for _, s := range into[struct{ Sessions []media.SessionState }](t, a).Sessions {
			list = append(list, s.ID)
		}
		return list
	}
	if got := ids(admin.want(200, "GET", "/api/sessions", nil)); len(got) != 1 || got[0] != mine.ID {
		t.Errorf("own sessions: %v", got)
	}
	if got := ids(admin.want(200, "GET", "/api/sessions?all=1", nil)); len(got) != 2 {
		t.Errorf("all sessions: %v", got)
	}
	path := "/api/sessions/" + theirs.ID
	s := into[media.SessionState](t, anna.want(200, "PATCH", path, `{"width":1920,"height":1080,"fps":30,"max_kbps":4000,"layout":"fr"}`))
	if s.Width != 1920 || s.Height != 1080 || s.FPS != 30 || s.MaxKbps != 4000 || s.Layout != "fr" {
		t.Errorf("got %+v", s)
	}
	for _, body := range []string{`{"width":1920}`, `{"width":1,"height":1}`, `{"fps":0}`, `{"max_kbps":0}`, `{"layout":""}`, `{"layout":"-"}`} {
		anna.refused(422, "invalid-value", "PATCH", path, body)
	}
	anna.refused(400, "bad-request", "PATCH", path, `{"owner":"eve"}`)
	anna.want(204, "DELETE", path, nil)
	s = into[media.SessionState](t, anna.want(200, "GET", path, nil))
	if s.Phase != media.Ended || s.Cause == nil || s.Cause.Code != media.CauseUser {
		t.Errorf("after its end: %+v", s)
	}
	anna.want(204, "DELETE", path, nil) // again
}

func TestDeleteDoesNotWaitForAStuckEnd(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	id := c.session().ID
	d.sessions.stuck = true
	start := time.Now()
	c.want(202, "DELETE", "/api/sessions/"+id, nil)
	if took := time.Since(start); took < endWait || took > endWait+time.Second {
		t.Errorf("it took %s, want about %s", took, endWait)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	for _, row := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"no JSON", `app=playground`, 400, "bad-request"},
		{"empty", ` `, 400, "bad-request"},
		{"cut off", `{"app":"play`, 400, "bad-request"},
		{"two objects", `{"app":"playground"}{"app":"playground"}`, 400, "bad-request"},
		{"unknown member", `{"app":"playground","root":true}`, 400, "bad-request"},
		{"wrong type", `{"app":7}`, 400, "bad-request"},
		{"huge number", `{"app":"playground","width":99999999999999999999}`, 400, "bad-request"},
		{"too large", `{"app":"` + strings.Repeat("x", jsonLimit) + `"}`, 413, "too-large"},
		{"too large behind the object", `{"app":"playground"}` + strings.Repeat(" ", jsonLimit), 413, "too-large"},
	} {
		a := c.call("POST", "/api/sessions", row.body)
		if a.StatusCode != row.status || a.code() != row.code {
			t.Errorf("%s: got %d %s, want %d %s", row.name, a.StatusCode, a.body, row.status, row.code)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"} {
		req := c.request("POST", "/api/sessions", `{"app":"playground"}`)
		req.Header.Set("Content-Type", kind)
		if a := c.do(req); a.StatusCode != 415 {
			t.Errorf("type %q: got %d %s, want 415", kind, a.StatusCode, a.body)
		}
	}
	req := c.request("POST", "/api/sessions", `{"app":"playground"}`)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if a := c.do(req); a.StatusCode != 201 {
		t.Errorf("with a charset: got %d %s", a.StatusCode, a.body)
	}
	id := into[media.SessionState](t, c.want(201, "POST", "/api/sessions", `{"app":"playground"}`)).ID
	if a := c.call("POST", "/api/sessions/"+id+"/whep", strings.Repeat("x", sdpLimit+1)); a.StatusCode != 413 {
		t.Errorf("a long offer: got %d %s, want 413", a.StatusCode, a.body)
	}
}

func TestASlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.readWithin = 100 * time.Millisecond })
	anna := d.as("anna", auth.Player)
	for name, c := range map[string]*client{"HTTP/2": anna, "HTTP/1.1": anna.http1()} {
		r, w := io.Pipe()
		go func() { _, _ = w.Write([]byte(`{"app":`)) }() // and nothing more
		start := time.Now()
		a := c.do(c.request("POST", "/api/sessions", io.Reader(r)))
		if a.StatusCode != 408 || a.code() != "request-timeout" {
			t.Errorf("%s: got %d %s, want 408", name, a.StatusCode, a.body)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
		_ = w.Close()
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	for _, path := range []string{"/api/nothing", "/api", "/api/", "/api/sessions/", "/assets/gone.js", "/missing.png"} {
		c.refused(404, "not-found", "GET", path, nil)
	}
	a := c.refused(405, "method-not-allowed", "PUT", "/api/sessions", `{}`)
	if got := a.Header.Get("Allow"); got != "GET, HEAD, POST" && got != "GET, POST" {
		t.Errorf("Allow: %q", got)
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	d.sessions.panics = true
	a := c.refused(500, "internal", "POST", "/api/sessions", `{"app":"playground"}`)
	if strings.Contains(string(a.body), "secret-in-a-panic") || !strings.Contains(d.log.String(), "secret-in-a-panic") {
		t.Errorf("the client got %s; the log must have the panic", a.body)
	}
	d.sessions.panics = false
	c.want(201, "POST", "/api/sessions", `{"app":"playground"}`)
}

func TestTheLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.client()
	c.want(201, "POST", "/api/setup", map[string]string{"token": d.token, "name": "anna", "password": password})
	c.refused(401, "bad-credentials", "POST", "/api/login", map[string]string{"name": "anna", "password": "hunter2hunter2"})
	a := c.want(200, "POST", "/api/login", map[string]string{"name": "anna", "password": password})
	cookie := strings.TrimPrefix(strings.Split(a.Header.Get("Set-Cookie"), ";")[0], "fenrir=")
	token := into[struct{ Token string }](t, c.want(201, "POST", "/api/tokens", `{"name":"x"}`)).Token
	s := d.client()
	s.origin, s.bearer = "", token
	s.want(200, "GET", "/api/me?query=indiscreet", nil)
	log := d.log.String()
	if !strings.Contains(log, "path=/api/login") || !strings.Contains(log, "person=anna") {
		t.Errorf("the log does not tell the requests: %s", log)
	}
	for _, secret := range []string{d.token, password, "hunter2", cookie, token, "indiscreet"} {
		if secret == "" || strings.Contains(log, secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
}

// events opens a stream and yields its blocks.
func (c *client) events(id string) (next func() (string, error), stop func()) {
	c.d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	resp, err := c.http.Do(c.request("GET", "/api/sessions/"+id+"/events", nil).WithContext(ctx))
	if err != nil {
		c.d.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		c.d.t.Fatalf("got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	r := bufio.NewReader(resp.Body)
	next = func() (string, error) {
		var block strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil || line == "\n" {
				return block.String(), err
			}
			block.WriteString(line)
		}
	}
	return next, func() { cancel(); _ = resp.Body.Close() }
}

func stateOf(t *testing.T, block string) (s media.SessionState) {
	t.Helper()
	data, ok := strings.CutPrefix(block, "event: state\ndata: ")
	if !ok {
		t.Fatalf("got event %q", block)
	}
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		t.Fatal(err)
	}
	schema, err := func() (interface{ Validate(any) error }, error) {
		loadSchemas(t)
		return schemaAt("#/components/schemas/Session")
	}()
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Error(err)
	}
	return s
}

func TestEventsTellEveryStateAndEnd(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.heartbeat = 50 * time.Millisecond })
	anna := d.as("anna", auth.Player)
	for name, c := range map[string]*client{"HTTP/2": anna, "HTTP/1.1": anna.http1()} {
		id := c.session().ID
		next, stop := c.events(id)
		must := func() string {
			t.Helper()
			block, err := next()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return block
		}
		if s := stateOf(t, must()); s.Phase != media.Starting {
			t.Errorf("%s: first %+v", name, s)
		}
		if b := must(); !strings.HasPrefix(b, ":") {
			t.Errorf("%s: without news: got %q, want a comment", name, b)
		}
		news := func() string { // passing over comments
			for {
				if b := must(); !strings.HasPrefix(b, ":") {
					return b
				}
			}
		}
		d.sessions.change(id, func(s *media.SessionState) { s.Phase, s.Progress = media.Running, 1 })
		if s := stateOf(t, news()); s.Phase != media.Running {
			t.Errorf("%s: then %+v", name, s)
		}
		d.sessions.End(id, media.NewCause(media.CauseAppExited, "status 0"))
		if s := stateOf(t, news()); s.Phase != media.Ended || s.Cause.Code != media.CauseAppExited {
			t.Errorf("%s: at last %+v", name, s)
		}
		if b, err := next(); err == nil {
			t.Errorf("%s: after the end: %q", name, b)
		}
		stop()
	}
}

func TestALongRequestEndsWithItsLogin(t *testing.T) {
	t.Parallel()
	d := open(t)
	anna := d.as("anna", auth.Player)
	id := anna.session().ID

	script := anna.script()
	tokens, err := d.store.Tokens(anna.person.ID)
	if err != nil {
		t.Fatal(err)
	}
	byToken, stopToken := script.events(id)
	defer stopToken()
	byCookie, stopCookie := anna.events(id)
	defer stopCookie()
	for _, next := range []func() (string, error){byToken, byCookie} {
		if _, err := next(); err != nil {
			t.Fatal(err)
		}
	}
	signalled := make(chan answer, 1)
	go func() { signalled <- script.call("GET", "/api/sessions/"+id+"/signal", nil) }()
	call := <-d.signals
	if call.session != id || call.person.Name != "anna" {
		t.Errorf("the door was called with %+v", call)
	}

	anna.want(204, "DELETE", "/api/tokens/"+tokens[0].ID, nil)
	select {
	case <-call.ctx.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the websocket's context did not end")
	}
	if cause := context.Cause(call.ctx); !errors.Is(cause, &media.Cause{Code: media.CauseRevoked}) {
		t.Errorf("its cause is %v, want revoked", cause)
	}
	<-signalled
	if b, err := byToken(); err == nil {
		t.Errorf("the token's stream goes on: %q", b)
	}
	// The cookie's stream does not.
	d.sessions.change(id, func(s *media.SessionState) { s.FPS = 33 })
	if b, err := byCookie(); err != nil || stateOf(t, b).FPS != 33 {
		t.Errorf("the cookie's stream: %q, %v", b, err)
	}
	anna.want(204, "POST", "/api/logout", nil)
	if b, err := byCookie(); err == nil {
		t.Errorf("the stream goes on after logout: %q", b)
	}
	d.api.live.mu.Lock()
	defer d.api.live.mu.Unlock()
	if n := len(d.api.live.open); n > 1 { // the cookie's handler may be on its way out
		t.Errorf("%d long requests are still known", n)
	}
}

func TestAWebsocketForAnUnknownSessionReachesTheDoor(t *testing.T) {
	t.Parallel()
	d := open(t)
	anna, ben := d.as("anna", auth.Player), d.as("ben", auth.Player)
	foreign := ben.session().ID
	for _, id := range []string{foreign, "s_unknown"} {
		req := anna.request("GET", "/api/sessions/"+id+"/signal", nil)
		req.Header.Set("Upgrade", "websocket")
		req.Header.Set("Connection", "Upgrade")
		got := make(chan answer, 1)
		go func() { got <- anna.http1().do(req) }()
		call := <-d.signals
		if call.session != "" {
			t.Errorf("the door got session %q, want none", call.session)
		}
		d.api.revoked(auth.Revocation{Person: anna.person.ID})
		<-got
	}
}

func TestWHEPIsHandedOn(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.PublicOrigins = []string{"https://player.example"} })
	c := d.as("anna", auth.Player)
	path := "/api/sessions/" + c.session().ID + "/whep"
	a := c.want(201, "POST", path, "v=0")
	if got, want := a.Header.Get("Location"), path+"/anna"; got != want {
		t.Errorf("Location %q, want %q", got, want)
	}
	c.refused(400, "negotiation-failed", "POST", path, "refuse")
	if a := c.want(204, "DELETE", path+"/p1", nil); a.Header.Get("X-Peer") != "p1" {
		t.Errorf("got peer %q, want p1", a.Header.Get("X-Peer"))
	}

	// A player on a configured page asks first, and may read what it needs.
	req := c.request("OPTIONS", path, nil)
	req.Header.Set("Origin", "https://player.example")
	req.Header.Set("Access-Control-Request-Method", "POST")
	nobody := d.client()
	a = nobody.do(req)
	if a.StatusCode != 204 || a.Header.Get("Access-Control-Allow-Origin") != "https://player.example" || a.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: got %d %v", a.StatusCode, a.Header)
	}
	script := c.script()
	req = script.request("POST", path, "v=0")
	req.Header.Set("Origin", "https://player.example")
	if a := script.do(req); a.StatusCode != 201 || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "Location") {
		t.Errorf("from a configured page: got %d %v", a.StatusCode, a.Header)
	}
	req = c.request("OPTIONS", path, nil)
	req.Header.Set("Origin", "https://evil.example")
	req.Header.Set("Access-Control-Request-Method", "POST")
	if a := c.do(req); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight from another page: %v", a.Header)
	}
}

func TestAppsAndIcons(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	apps := into[struct{ Apps []appJSON }](t, c.want(200, "GET", "/api/apps", nil)).Apps
	if len(apps) != 2 || apps[0].ID != "playground" || apps[0].Icon != "/api/apps/playground/icon" || apps[1].Icon != "" || apps[1].Width != 800 {
		t.Errorf("got %+v", apps)
	}
	a := c.want(200, "GET", apps[0].Icon+"?size=64", nil)
	if a.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(a.Header.Get("Content-Security-Policy"), "sandbox") || !strings.Contains(a.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("got %v", a.Header)
	}
	req := c.request("GET", apps[0].Icon, nil)
	req.Header.Set("If-None-Match", `"other", W/`+a.Header.Get("ETag"))
	if a := c.do(req); a.StatusCode != 304 || len(a.body) > 0 {
		t.Errorf("again: got %d", a.StatusCode)
	}
	c.refused(404, "icon-not-found", "GET", "/api/apps/game/icon", nil)
	c.refused(404, "icon-not-found", "GET", "/api/apps/nothing/icon", nil)
	c.refused(422, "invalid-value", "GET", apps[0].Icon+"?size=9999999", nil)
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	ok := true
	d := open(t, func(a *API) {
		a.Ready = func(context.Context) []Check { return []Check{{Name: "encoder", OK: ok, Detail: "x264"}} }
	})
	c := d.client()
	c.want(200, "GET", "/readyz", nil)
	ok = false
	a := c.want(503, "GET", "/readyz", nil)
	if !strings.Contains(string(a.body), `"ready":false`) {
		t.Errorf("got %s", a.body)
	}
	c.want(200, "GET", "/healthz", nil)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.MetricsAccess = config.MetricsOpen })
	c := d.as("anna", auth.Player)
	id := c.session().ID
	d.sessions.change(id, func(s *media.SessionState) {
		s.Phase = media.Running
		s.Restarts = 2
		s.Video = []media.VideoState{{Codec: media.H264, Encoder: "x264", Kbps: 4000}}
		s.Peers = []media.PeerState{{ID: "p", Transport: "webrtc", Codec: media.H264}}
	})
	c.call("GET", "/api/sessions/made-up-by-a-client", nil)
	req := c.request("GET", "/api/me", nil)
	req.Method = "BREW"
	c.do(req)
	text := string(c.want(200, "GET", "/metrics", nil).body)
	for _, want := range []string{
		`fenrir_sessions{phase="running"} 1`, `fenrir_sessions{phase="starting"} 0`, `fenrir_peers{codec="h264",transport="webrtc"} 1`,
		`fenrir_encoders{codec="h264",encoder="x264",hardware="false"} 1`, `fenrir_encoder_target_kbps{codec="h264",encoder="x264"} 4000`,
		`fenrir_session_worker_restarts{session="` + id + `"} 2`, `fenrir_http_request_duration_seconds_count{method="POST",route="/api/sessions",status="201"} 1`,
		`method="other"`, "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, bad := range []string{"made-up-by-a-client", "BREW"} {
		if strings.Contains(text, bad) {
			t.Errorf("a client can make up the label %s", bad)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.HSTS = true })
	c := d.as("anna", auth.Player)
	host := strings.TrimPrefix(d.base, "https://")
	for _, path := range []string{"/", "/api/me", "/api/nothing", "/healthz"} {
		a := c.call("GET", path, nil)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "max-age=31536000",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		csp := a.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "connect-src 'self' wss://" + host} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s: the policy %q allows unsafe things", path, csp)
		}
		if a.Header.Get("X-Request-Id") == "" || !strings.Contains(a.Header.Get("Permissions-Policy"), "keyboard-map=(self)") {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
	if got := plainHost("a.example:1; script-src *"); got != "invalid" {
		t.Errorf("a Host header writes policy: %q", got)
	}
	if a := open(t).client().want(200, "GET", "/", nil); a.Header.Get("Strict-Transport-Security") != "" {
		t.Error("HSTS with a self-signed certificate locks people out")
	}
}

func TestDocs(t *testing.T) {
	t.Parallel()
	d := open(t)
	a := d.client().want(200, "GET", "/api/docs", nil)
	page := string(a.body)
	if strings.Contains(page, "<script") || strings.Contains(page, " style=") || strings.Contains(page, "ZgotmplZ") {
		t.Error("the page needs more than its policy allows")
	}
	if csp := a.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "style-src 'sha256-") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy %q", csp)
	}
	for _, want := range []string{`id="session-not-found"`, "/api/sessions/{id}/signal", `id="schema-Session"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	var doc map[string]any
	if err := json.Unmarshal(d.client().want(200, "GET", "/api/openapi.json", nil).body, &doc); err != nil || doc["openapi"] != "3.1.0" {
		t.Errorf("openapi.json: %v, %v", doc["openapi"], err)
	}
}

func TestClientAddresses(t *testing.T) {
	t.Parallel()
	a := &API{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	for _, row := range []struct{ remote, forwarded, want string }{
		{"203.0.113.1:5", "", "203.0.113.1"},
		{"203.0.113.1:5", "198.51.100.1", "203.0.113.1"},               // not trusted
		{"10.0.0.1:5", "198.51.100.1", "198.51.100.1"},                 // trusted
		{"10.0.0.1:5", "1.1.1.1, 198.51.100.1", "198.51.100.1"},        // the client wrote the first
		{"10.0.0.1:5", "198.51.100.1, 10.0.0.2", "198.51.100.1"},       // two proxies
		{"10.0.0.1:5", "nonsense", "10.0.0.1"},                         //
		{"[::1]:5", "2001:db8::1", "2001:db8::1"},                      //
		{"[::ffff:203.0.113.1]:5", "198.51.100.1", "203.0.113.1"},      // mapped
		{"10.0.0.1:5", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"}, // nothing beyond nonsense
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = row.remote
		if row.forwarded != "" {
			r.Header.Set("X-Forwarded-For", row.forwarded)
		}
		if got := a.clientAddr(r).String(); got != row.want {
			t.Errorf("%s with %q: got %s, want %s", row.remote, row.forwarded, got, row.want)
		}
	}
}

func TestTheCookieIsRenewed(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := d.as("anna", auth.Player)
	if a := c.want(200, "GET", "/api/me", nil); a.Header.Get("Set-Cookie") != "" {
		t.Errorf("at once: %q", a.Header.Get("Set-Cookie"))
	}
}

func TestTheConnectionIsHTTP2(t *testing.T) {
	t.Parallel()
	d := open(t)
	a := d.client().want(200, "GET", "/healthz", nil)
	if a.ProtoMajor != 2 || a.TLS.Version < tls.VersionTLS12 {
		t.Errorf("got %s, TLS %x", a.Proto, a.TLS.Version)
	}
}

func TestHandlerRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	d := open(t)
	for name, change := range map[string]func(*API){
		"no page":     func(a *API) { a.Web = emptyFS{} },
		"no limits":   func(a *API) { a.Limits = Limits{} },
		"no lifetime": func(a *API) { a.CookieLifetime = 0 },
	} {
		a := &API{Auth: d.store, Sessions: d.sessions, Web: d.api.Web, Limits: d.api.Limits, CookieLifetime: time.Hour, Log: d.api.Log}
		change(a)
		if _, err := a.Handler(); err == nil {
			t.Errorf("%s: got a handler", name)
		}
	}
}

// emptyFS is a page without files.
type emptyFS struct{}

// Open is fs.FS's.
func (emptyFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
