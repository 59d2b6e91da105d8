// Package api is the HTTPS door: who is asking, what may be started, the
// sessions one owns, and the page itself. It promises that every request has a
// size limit and a deadline, that nobody reaches another one's session, and that
// every refusal is a problem document with a code from one table. It imports
// chi and Prometheus, the noun packages beside it, and media;
// sessions and the other doors are handed in.
package api

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"fenrir/media"
	"fenrir/server/api/docs"
	"fenrir/server/api/metrics"
	"fenrir/server/api/page"
	"fenrir/server/api/problem"
	"fenrir/server/auth"
	"fenrir/server/catalog"
	"fenrir/server/journal"
)

// Sessions are the running programs. Its methods do not block but where it is
// said; unknown ids are told by ok or by a *media.Cause session-not-found.
type Sessions interface {
	// Create starts a session and returns at once, while it starts. Refusals
	// are *media.Cause (no-encoder, no-encoder-slot, too-many-sessions, …).
	Create(ctx context.Context, req CreateRequest) (media.SessionState, error)
	// List is every living session, oldest first.
	List() []media.SessionState
	// Get is one session, living or ended a short while ago.
	Get(id string) (state media.SessionState, ok bool)
	// Patch changes a living session and returns its new state. It may wait
	// for the display, at most 3 s.
	Patch(ctx context.Context, id string, change PatchRequest) (media.SessionState, error)
	// End begins to end a session; done closes when nothing of it is left. ok is
	// false when there is none.
	End(id string, cause *media.Cause) (done <-chan struct{}, ok bool)
	// Watch follows a session until ctx ends. next blocks until the state is
	// another than it returned before (the first call does not block), its own
	// ctx ends, or the session is over and its last state was returned: io.EOF.
	Watch(ctx context.Context, id string) (next func(context.Context) (media.SessionState, error), ok bool)
	// Screenshot is the display as PNG, within 2 s.
	Screenshot(ctx context.Context, id string) ([]byte, error)
	// Log is what was logged about a session, oldest first, and how many older
	// lines were dropped. Of a session that ended it is kept for a while.
	Log(id string) (lines []journal.Line, dropped int)
}

// Apps is the catalogue.
type Apps interface {
	List(ctx context.Context) []catalog.App
	Find(ctx context.Context, id string) (catalog.App, bool)
	HasIcon(ctx context.Context, id string) bool
	Icon(ctx context.Context, id string, size int) (*catalog.Icon, error)
}

// CreateRequest asks for a session. It has been checked: the program exists and
// the numbers are within Limits.
type CreateRequest struct {
	Owner   media.PersonRef
	App     catalog.App
	Width   int // pixels, even
	Height  int
	FPS     int
	MaxKbps int         // 0: the server's maximum
	Codec   media.Codec // empty: the best for the first peer
	Layout  string      // empty: the server's default
}

// PatchRequest changes a session; nil fields stay as they are. Width and Height
// come together.
type PatchRequest struct {
	Width, Height, FPS, MaxKbps *int
	Layout                      *string
}

// API makes the handler. All fields are required but those that say otherwise.
type API struct {
	Auth     *auth.Store
	Sessions Sessions
	Apps     Apps
	// Signal serves the websocket of a session for a person who may have it. It
	// is also called, with an empty sessionID, for a websocket handshake to a
	// session that is unknown or another one's: browsers show scripts no HTTP
	// status, so only the door can say session-not-found. The request's context
	// ends with a *media.Cause when the login behind it is revoked.
	Signal func(w http.ResponseWriter, r *http.Request, sessionID string, person media.PersonRef)
	// WHEP serves POST and OPTIONS of a session's endpoint (peerID is empty)
	// and PATCH and DELETE of one of its players.
	WHEP func(w http.ResponseWriter, r *http.Request, sessionID, peerID string, person media.PersonRef)
	// Info fills in what /api/server tells; Limits and Version are added.
	Info func(ctx context.Context) ServerInfo
	// Ready is asked by /readyz; nothing to check means ready. May be nil.
	Ready func(ctx context.Context) []Check
	// Events are what admins can listen to.
	Events Events
	// Pairings are Moonlight's. May be nil.
	Pairings Pairings
	// Mounts are further handlers by path, behind the same bounds and checks of the
	// origin; who asks is their own affair. May be nil.
	Mounts map[string]http.Handler
	Web    fs.FS // the page; index.html at its root
	Limits Limits

	Version        string
	PublicOrigins  []string       // further origins of the page, "https://play.example.org"
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	HSTS           bool           // the certificate is one that browsers trust
	CookieLifetime time.Duration
	MetricsAccess  string                 // as in package config
	Collectors     []prometheus.Collector // further metrics. May be nil
	Profiles       bool                   // serve /debug/pprof to admins
	Log            *slog.Logger
	Now            func() time.Time // nil: time.Now

	origins    map[string]bool // PublicOrigins, normalised
	page       *page.Page
	metrics    *metrics.Metrics
	docs       []byte
	docsPolicy string
	isSetUp    atomic.Bool   // an admin exists; never becomes false again
	readWithin time.Duration // bound of a body's arrival
	heartbeat  time.Duration // of the event streams
	sendWithin time.Duration // bound of one write to them
	live       live
}

// Limits are what requests for sessions are checked against; the page reads
// them to build its menus.
type Limits struct {
	Width        int      `json:"width"` // defaults
	Height       int      `json:"height"`
	FPS          int      `json:"fps"`
	MinWidth     int      `json:"min_width"`
	MaxWidth     int      `json:"max_width"`
	MinHeight    int      `json:"min_height"`
	MaxHeight    int      `json:"max_height"`
	MinFPS       int      `json:"min_fps"`
	MaxFPS       int      `json:"max_fps"`
	MinKbps      int      `json:"min_kbps"`
	MaxKbps      int      `json:"max_kbps"`
	MaxSessions  int      `json:"max_sessions"`
	MaxPerPerson int      `json:"max_per_person"`
	MaxPeers     int      `json:"max_peers"`
	Codecs       []string `json:"codecs"`
}

// Bounds of every session, whatever the configuration says.
const (
	minWidth, maxWidth   = 640, 3840
	minHeight, maxHeight = 360, 2160
	minFPS, maxFPS       = 10, 240
)

// ServerInfo is what /api/server tells.
type ServerInfo struct {
	Version  string          `json:"version"`
	Encoders []media.Encoder `json:"encoders"`
	Choice   Choice          `json:"choice"` // for a peer that decodes everything
	GPUs     []GPU           `json:"gpus"`
	GPUNote  string          `json:"gpu_note"` // why there are none, or what to know about them
	Limits   Limits          `json:"limits"`
	// ICEServers is how many STUN and TURN servers a client is told. Where there are
	// none, it can send its offer with its hello.
	ICEServers int `json:"ice_servers"`
}

// Choice is the encoder that would be taken now, and why.
type Choice struct {
	Encoder  string      `json:"encoder"` // empty: none works, Reason says why
	Codec    media.Codec `json:"codec"`
	Hardware bool        `json:"hardware"`
	Reason   string      `json:"reason"`
}

// GPU is one graphics processor. Numbers that the driver does not tell are nil,
// never 0.
type GPU struct {
	Index           int    `json:"index"`
	Name            string `json:"name"`
	Driver          string `json:"driver"`
	MemoryMiB       *int   `json:"memory_mib"`
	MemoryUsedMiB   *int   `json:"memory_used_mib"`
	EncoderSessions *int   `json:"encoder_sessions"`
	EncoderPercent  *int   `json:"encoder_percent"`
	GPUPercent      *int   `json:"gpu_percent"`
	Encodes         string `json:"encodes"` // has a video encoder: "yes", "no", "unknown"
	Note            string `json:"note"`
}

// Check is one thing that has to work before the server is ready.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Deadlines of ordinary requests; the websocket and the event stream have their own.
const (
	bodyWithin   = 15 * time.Second // the whole body
	answerWithin = 30 * time.Second
	endWait      = 100 * time.Millisecond // what DELETE waits for an end: most take less, and it is to answer within 300 on any machine
)

// Handler builds everything and returns the root handler. Call it once.
func (a *API) Handler() (http.Handler, error) {
	if a.Now == nil {
		a.Now = time.Now
	}
	a.readWithin, a.heartbeat = cmp.Or(a.readWithin, bodyWithin), cmp.Or(a.heartbeat, heartbeat)
	a.sendWithin = cmp.Or(a.sendWithin, eventWithin)
	a.Limits.MinWidth, a.Limits.MaxWidth = minWidth, maxWidth
	a.Limits.MinHeight, a.Limits.MaxHeight = minHeight, maxHeight
	a.Limits.MinFPS = minFPS
	if a.Limits.MaxFPS < minFPS || a.Limits.MaxFPS > maxFPS || a.CookieLifetime <= 0 {
		return nil, errors.New("api: Limits.MaxFPS or CookieLifetime is out of range")
	}
	a.origins = map[string]bool{}
	for _, o := range a.PublicOrigins {
		a.origins[normalOrigin(o)] = true
	}
	var err error
	if a.page, err = page.New(a.Web); err != nil {
		return nil, err
	}
	if a.docs, a.docsPolicy, err = docs.Render(); err != nil {
		return nil, err
	}
	a.metrics = metrics.New(a.Sessions.List, a.Collectors...)
	a.Auth.OnRevoked(a.revoked)
	return a.routes(), nil
}

func (a *API) routes() chi.Router {
	r := chi.NewRouter()
	r.Use(a.begin, a.recover, a.headers, a.deadlines, a.checkOrigin, a.identify)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) { a.fail(w, r, problem.ErrNotFound) })
	r.MethodNotAllowed(a.methodNotAllowed)

	r.Get("/healthz", a.getHealth)
	r.With(within(answerWithin)).Get("/readyz", a.getReady)
	r.Get("/metrics", a.getMetrics)
	r.Get("/api/openapi.json", a.getOpenAPI)
	r.Get("/api/docs", a.getDocs)

	r.Group(func(r chi.Router) { // open to everybody
		r.Use(within(answerWithin), limitBody(jsonLimit))
		r.Post("/api/setup", a.postSetup)
		r.Post("/api/login", a.postLogin)
		r.Post("/api/logout", a.postLogout)
	})
	r.Group(func(r chi.Router) { // for persons
		r.Use(a.requirePerson, within(answerWithin), limitBody(jsonLimit))
		r.Get("/api/me", a.getMe)
		r.Put("/api/me/password", a.putPassword)
		r.Get("/api/tokens", a.getTokens)
		r.Post("/api/tokens", a.postToken)
		r.Delete("/api/tokens/{id}", a.deleteToken)
		r.Get("/api/moonlight", a.getMoonlight)
		r.Post("/api/moonlight/waiting/{id}", a.postPIN)
		r.Get("/api/devices", a.getDevices)
		r.Patch("/api/devices/{id}", a.patchDevice)
		r.Delete("/api/devices/{id}", a.deleteDevice)
		r.Get("/api/apps", a.getApps)
		r.Get("/api/apps/{id}/icon", a.getIcon)
		r.Get("/api/server", a.getServer)
		r.Get("/api/sessions", a.getSessions)
		r.Post("/api/sessions", a.postSession)
		r.Get("/api/sessions/{id}", a.getSession)
		r.Patch("/api/sessions/{id}", a.patchSession)
		r.Delete("/api/sessions/{id}", a.deleteSession)
		r.Get("/api/sessions/{id}/screenshot", a.getScreenshot)
		r.Get("/api/sessions/{id}/log", a.getLog)
		r.Group(func(r chi.Router) {
			r.Use(a.requireAdmin)
			r.Get("/api/users", a.getUsers)
			r.Post("/api/users", a.postUser)
			r.Patch("/api/users/{id}", a.patchUser)
			r.Delete("/api/users/{id}", a.deleteUser)
			r.Get("/debug/pprof/{name}", a.getProfile)
		})
	})
	r.Group(func(r chi.Router) { // other doors, and what lasts
		r.Use(a.crossOrigin, a.requirePerson)
		r.Get("/api/sessions/{id}/events", a.getEvents)
		r.With(a.requireAdmin).Get("/api/events", a.getServerEvents)
		r.Get("/api/sessions/{id}/signal", a.getSignal)
		r.Group(func(r chi.Router) {
			r.Use(within(answerWithin), limitBody(sdpLimit))
			r.Post("/api/sessions/{id}/whep", a.whep)
			r.Options("/api/sessions/{id}/whep", a.whep)
			r.Patch("/api/sessions/{id}/whep/{peer}", a.whep)
			r.Delete("/api/sessions/{id}/whep/{peer}", a.whep)
			r.Options("/api/sessions/{id}/whep/{peer}", a.whep)
		})
	})
	for path, h := range a.Mounts {
		r.With(within(answerWithin), limitBody(sdpLimit)).Mount(path, h)
	}
	r.Get("/*", a.getStatic)
	r.Head("/*", a.getStatic)
	return r
}

// live knows the long requests (websockets, event streams), to end those whose
// login is taken away.
type live struct {
	mu   sync.Mutex
	open map[*lasting]struct{} // guarded by mu
}

type lasting struct {
	who    auth.Identity
	cancel context.CancelCauseFunc
}

// last gives a long request a context that ends when the login behind it does.
// The caller calls done when the request is over.
func (a *API) last(r *http.Request) (ctx context.Context, done func(), err error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	l := &lasting{who: *visitOf(r).who, cancel: cancel}
	a.live.mu.Lock()
	if a.live.open == nil {
		a.live.open = map[*lasting]struct{}{}
	}
	a.live.open[l] = struct{}{}
	a.live.mu.Unlock()
	done = func() {
		a.live.mu.Lock()
		delete(a.live.open, l)
		a.live.mu.Unlock()
		cancel(context.Canceled)
	}
	// The login may have been revoked between the check and the entry above.
	if _, _, err := a.whois(r); err != nil {
		done()
		return nil, nil, err
	}
	return ctx, done, nil
}

// revoked ends what a revocation leaves without a right. It does not block.
func (a *API) revoked(rev auth.Revocation) {
	cause := media.NewCause(media.CauseRevoked, "the login was ended")
	a.live.mu.Lock()
	for l := range a.live.open {
		if rev.Matches(l.who) {
			l.cancel(cause)
		}
	}
	a.live.mu.Unlock()
	if !rev.Deleted {
		return
	}
	for _, s := range a.Sessions.List() {
		if s.Owner.ID == string(rev.Person) {
			a.Sessions.End(s.ID, media.NewCause(media.CauseRevoked, "its owner was deleted"))
		}
	}
}
