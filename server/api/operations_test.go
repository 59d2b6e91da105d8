package api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/server/api/profile"
	"fenrir/server/auth"
	"fenrir/server/events"
)

// follow opens the server's event stream and returns its lines.
func (c *client) follow(after string) (lines <-chan string, leave func()) {
	c.d.t.Helper()
	req := c.request("GET", "/api/events", nil)
	ctx, cancel := context.WithCancel(req.Context())
	req = req.WithContext(ctx)
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.d.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		c.d.t.Fatalf("got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	out := make(chan string, 1024)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			out <- s.Text()
		}
	}()
	return out, func() {
		cancel()
		for range out {
		}
	}
}

// read waits for the next event of a stream; comments are counted.
func read(t *testing.T, lines <-chan string, comments *int) (id, kind string, ev media.Event) {
	t.Helper()
	bound := time.After(10 * time.Second)
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				t.Fatal("the stream ended")
			}
			switch {
			case strings.HasPrefix(l, ":"):
				*comments++
			case strings.HasPrefix(l, "id: "):
				id = l[4:]
			case strings.HasPrefix(l, "event: "):
				kind = l[7:]
			case strings.HasPrefix(l, "data: "):
				if err := json.Unmarshal([]byte(l[6:]), &ev); err != nil {
					t.Fatal(err)
				}
			case l == "" && kind != "":
				return id, kind, ev
			}
		case <-bound:
			t.Fatal("no event within 10 s")
		}
	}
}

func TestServerEvents(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.heartbeat = 20 * time.Millisecond })
	admin := d.as("admin", auth.Admin)
	d.events.Publish(media.Event{Kind: media.EventSessionStarted, Session: "s_1", App: "game"})
	d.events.Publish(media.Event{Kind: media.EventWorkerRestarted, Session: "s_1", Why: "silent", Output: "last\nwords"})
	comments := 0
	all, leave := admin.follow("")
	defer leave()
	if id, kind, ev := read(t, all, &comments); id != "1" || kind != "session-started" || ev.App != "game" || ev.At.IsZero() {
		t.Errorf("got %s %s %+v", id, kind, ev)
	}
	if id, kind, ev := read(t, all, &comments); id != "2" || kind != "worker-restarted" || ev.Why != "silent" || ev.Output != "last\nwords" {
		t.Errorf("got %s %s %+v", id, kind, ev)
	}
	for comments < 3 { // it stays open, and says so
		select {
		case l := <-all:
			if strings.HasPrefix(l, ":") {
				comments++
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no sign of life within 10 s")
		}
	}
	d.events.Publish(media.Event{Kind: media.EventSessionEnded, Session: "s_1", Why: media.CauseIdle})
	if id, _, ev := read(t, all, &comments); id != "3" || ev.Why != media.CauseIdle {
		t.Errorf("got %s %+v", id, ev)
	}
	later, leaveLater := admin.follow("2")
	defer leaveLater()
	if id, _, _ := read(t, later, &comments); id != "3" {
		t.Errorf("after 2 came %s, want 3", id)
	}
	req := admin.request("GET", "/api/events", nil)
	req.Header.Set("Last-Event-ID", "x")
	if a := admin.do(req); a.StatusCode != 422 || a.code() != "invalid-value" {
		t.Errorf("a number that is none: got %d %s", a.StatusCode, a.body)
	}
}

func TestEventsEndWithTheLogin(t *testing.T) {
	t.Parallel()
	d := open(t)
	admin := d.as("admin", auth.Admin)
	lines, leave := admin.follow("")
	defer leave()
	admin.want(http.StatusNoContent, "POST", "/api/logout", nil)
	bound := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-lines:
			if !ok {
				return
			}
		case <-bound:
			t.Fatal("the stream outlives the login")
		}
	}
}

func TestASlowReaderOfEventsIsCutOff(t *testing.T) {
	t.Parallel()
	d := open(t, func(a *API) { a.sendWithin = 500 * time.Millisecond })
	admin := d.as("admin", auth.Admin)
	req := admin.request("GET", "/api/events", nil)
	resp, err := admin.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	// Nobody reads: the windows of HTTP/2 and the socket fill, then the queue.
	big := strings.Repeat("x", 4<<10)
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; ; i++ {
		d.events.Publish(media.Event{Kind: media.EventHealth, Output: big})
		if i > 2*events.Queue && strings.Contains(d.log.String(), "server event stream over") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a listener that does not read is not cut off within 20 s")
		}
		time.Sleep(100 * time.Microsecond) // paces the flood; nothing is waited for
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Logf("the stream ended with %v", err)
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	d := open(t)
	admin := d.as("admin", auth.Admin)
	for _, name := range []string{"goroutine", "heap", "allocs", "threadcreate", "profile", "trace"} {
		if a := admin.want(http.StatusOK, "GET", "/debug/pprof/"+name+"?seconds=1", nil); len(a.body) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	if a := admin.want(http.StatusOK, "GET", "/debug/pprof/goroutine?debug=2", nil); !strings.Contains(string(a.body), "goroutine 1 [") {
		t.Errorf("got %.100q, want stacks in words", a.body)
	}
	for _, q := range []string{"profile?seconds=0", "profile?seconds=21", "trace?seconds=6", "profile?seconds=x"} {
		admin.refused(422, "invalid-value", "GET", "/debug/pprof/"+q, nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	began, over := make(chan struct{}), make(chan error, 1)
	go func() {
		close(began)
		_, err := profile.Take(ctx, "trace", 5, false)
		over <- err
	}()
	<-began
	deadline := time.Now().Add(10 * time.Second)
	for admin.call("GET", "/debug/pprof/trace?seconds=1", nil).code() != "busy" {
		if time.Now().After(deadline) {
			t.Fatal("two traces are taken at a time")
		}
	}
	cancel()
	<-over
	d.api.Profiles = false
	admin.refused(404, "not-found", "GET", "/debug/pprof/heap", nil)
}

func TestLogOfASession(t *testing.T) {
	t.Parallel()
	d := open(t)
	owner := d.as("owner", auth.Player)
	id := owner.session().ID
	a := owner.want(http.StatusOK, "GET", "/api/sessions/"+id+"/log", nil)
	if !strings.Contains(string(a.body), "the log of "+id) || !strings.Contains(string(a.body), `"dropped":3`) {
		t.Errorf("got %s", a.body)
	}
	d.as("other", auth.Player).refused(404, media.CauseSessionGone, "GET", "/api/sessions/"+id+"/log", nil)
}
