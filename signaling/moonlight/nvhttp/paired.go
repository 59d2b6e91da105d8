package nvhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"fenrir/media"
	"fenrir/signaling/moonlight/launch"
)

// apps is what a device's person may start.
func (s *Server) apps(ctx context.Context, d Device) ([]app, error) {
	of, err := s.Programs.List(ctx, d.Person)
	if err != nil {
		return nil, err
	}
	return numbered(of, numberOf), nil
}

func (s *Server) appList(ctx context.Context, _ *request, d Device) answer {
	apps, err := s.apps(ctx, d)
	if err != nil {
		return s.fault("list programs", err)
	}
	if len(apps) == 0 {
		return refusal(http.StatusServiceUnavailable, "there is no program that you may start") // clients take an empty list for a failure
	}
	list := make([]element, len(apps))
	for i, a := range apps {
		list[i] = element{name: "App", within: []element{
			number("IsHdrSupported", 0),
			{name: "AppTitle", text: orElse(strings.TrimSpace(a.Title), a.ID)},
			number("ID", a.number),
		}}
	}
	return ok(list...)
}

// appAsset is a program's picture.
func (s *Server) appAsset(ctx context.Context, r *request, d Device) answer {
	apps, err := s.apps(ctx, d)
	if err != nil {
		return s.fault("list programs", err)
	}
	n, err := strconv.ParseUint(r.query.Get("appid"), 10, 31)
	a, found := byNumber(apps, uint32(n))
	if err != nil || !found {
		return refusal(http.StatusNotFound, "there is no such program")
	}
	png, err := s.art.of(ctx, a, func(ctx context.Context) ([]byte, error) { return s.Programs.Icon(ctx, d.Person, a.ID) }, s.Log)
	if err != nil {
		return s.fault("make box art", err)
	}
	return answer{kind: "image/png", body: png}
}

// launch starts a program, or shows its session if it runs already: then the
// client did not know yet. While another one of the person runs it is refused, and
// the client says so: clients ask before they end one, and a game that somebody
// plays in a browser is not ended because a list on a television is old.
func (s *Server) launch(ctx context.Context, r *request, d Device) answer {
	want, err := parseStart(r.query)
	if err == nil && (want.app == 0 || !r.query.Has("localAudioPlayMode")) {
		err = errors.New("appid or localAudioPlayMode is missing")
	}
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error(), number("gamesession", 0))
	}
	over, err := s.turns.take(ctx, d.Person.ID)
	if err != nil {
		return s.fault("wait for another launch", err)
	}
	defer over()
	apps, err := s.apps(ctx, d)
	if err != nil {
		return s.fault("list programs", err)
	}
	now, running := s.Sessions.Find(d.Person)
	a, found := byNumber(apps, want.app)
	switch {
	case running && numberRunning(apps, now) == want.app:
		return s.hand(r, d, want, now, "gamesession")
	case running:
		return refusal(http.StatusBadRequest, fmt.Sprintf("%s is running: quit it first", orElse(now.Title, "another program")), number("gamesession", 0))
	case !found:
		return refusal(http.StatusNotFound, "there is no such program", number("gamesession", 0))
	}
	t := want.terms
	now, err = s.Sessions.Start(ctx, Order{Device: d, Program: a.ID, Width: t.Width, Height: t.Height, FPS: t.FPS, HDR: t.HDR})
	if err != nil {
		return s.fault("start a session for a moonlight device", err)
	}
	out := s.hand(r, d, want, now, "gamesession")
	if out.failed {
		s.Sessions.End(now.Session, media.NewCause(media.CauseTooMany, "its client could not be let in"))
	}
	return out
}

// resume shows the session that runs, whatever number the client knows it by.
func (s *Server) resume(_ context.Context, r *request, d Device) answer {
	want, err := parseStart(r.query)
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error(), number("resume", 0))
	}
	now, running := s.Sessions.Find(d.Person)
	if !running {
		return refusal(http.StatusServiceUnavailable, "nothing is running", number("resume", 0))
	}
	want.terms.Resume = true
	return s.hand(r, d, want, now, "resume")
}

// hand lets a launch wait for its client and tells where.
func (s *Server) hand(r *request, d Device, want start, now Running, done string) answer {
	t := want.terms
	t.Device, t.Person, t.Session, t.App, t.From = d.ID, d.Person, now.Session, int(want.app), r.from
	l := launch.New(t, want.key)
	if err := s.Launches.Add(l); err != nil {
		l.End()
		s.Log.Warn("moonlight launch refused", "launch", l, "err", err)
		out := refusal(http.StatusServiceUnavailable, err.Error(), number(done, 0))
		out.failed = true
		return out
	}
	s.quiet.end(d.ID)
	s.Log.Info("moonlight launch", "launch", l, "person", d.Person.ID)
	scheme := "rtsp"
	if t.CoreVer >= 1 {
		scheme = "rtspenc"
	}
	url := scheme + "://" + net.JoinHostPort(r.local.String(), strconv.Itoa(s.RTSPPort))
	return ok(element{name: "sessionUrl0", text: url}, number(done, 1))
}

// cancel ends what the person runs and does not wait until it has ended.
func (s *Server) cancel(_ context.Context, r *request, d Device) answer {
	if now, running := s.Sessions.Find(d.Person); running {
		s.Sessions.End(now.Session, media.NewCause(media.CauseUser, "quit on %s", orElse(d.Name, "a Moonlight device")))
		s.Log.Info("moonlight cancel", "session", now.Session, "device", d.ID, "from", r.from)
	}
	s.quiet.begin(d.ID, time.Now())
	return ok(number("cancel", 1))
}

// quietFor is how long a device is told that nothing runs after it has quit what
// ran. A person can have a second session, in a browser; a client that hears of it
// at once tells its user that quitting failed.
const quietFor = 5 * time.Second

// quiet are devices that have just quit.
type quiet struct {
	mu    sync.Mutex
	until map[string]time.Time // by device; guarded by mu
}

func (q *quiet) begin(device string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.until == nil {
		q.until = make(map[string]time.Time)
	}
	for d, t := range q.until {
		if now.After(t) {
			delete(q.until, d)
		}
	}
	q.until[device] = now.Add(quietFor)
}

func (q *quiet) end(device string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.until, device)
}

func (q *quiet) is(device string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return time.Now().Before(q.until[device])
}
