package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"fenrir/media"
	"fenrir/server/api/problem"
	"fenrir/server/auth"
)

// Limits of bodies.
const (
	jsonLimit = 16 << 10
	sdpLimit  = 256 << 10
)

// cookieName is the login's cookie.
const cookieName = "fenrir"

// visit is what is known of a request while it is served.
type visit struct {
	id   string
	addr netip.Addr     // of the client
	who  *auth.Identity // nil: nobody
}

type visitKey struct{}

// visitOf finds the visit of a request; begin made it.
func visitOf(r *http.Request) *visit {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{} // a handler of ours called from outside our router
}

// IdentityOf is who a request came from, for the doors that API calls: a player
// outlives the request that brought it, and must go when its login does.
func IdentityOf(ctx context.Context) (id auth.Identity, ok bool) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok || v.who == nil {
		return auth.Identity{}, false
	}
	return *v.who, true
}

// Identified notes who a request comes from, for a mounted handler that has found
// that out by itself.
func Identified(r *http.Request, id auth.Identity) {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		v.who = &id
	}
}

// AddressOf is the address that a request comes from, "" where nobody looked.
func AddressOf(r *http.Request) string {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v.addr.String()
	}
	return ""
}

// begin names the request, and measures and logs it when it is over. Queries,
// headers and bodies are never logged.
func (a *API) begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		v := &visit{id: strings.ToLower(rand.Text()[:12]), addr: a.clientAddr(r)}
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		w.Header().Set("X-Request-Id", v.id)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		defer func() {
			took := time.Since(start)
			status := ww.Status()
			if status == 0 {
				status = http.StatusOK
				if r.Header.Get("Upgrade") != "" {
					status = http.StatusSwitchingProtocols // hijacked: nobody called WriteHeader
				}
			}
			route := chi.RouteContext(r.Context()).RoutePattern()
			a.metrics.Observe(route, r.Method, status, took)
			who := ""
			if v.who != nil {
				who = v.who.Person.Name
			}
			level := a.Log.DebugContext
			if r.Method != http.MethodGet && r.Method != http.MethodHead || status >= http.StatusBadRequest && status != http.StatusUnauthorized {
				level = a.Log.InfoContext
			}
			level(r.Context(), "request", "request", v.id, "method", r.Method, "path", r.URL.Path, "status", status,
				"bytes", ww.BytesWritten(), "took", took, "client", v.addr, "person", who)
		}()
		next.ServeHTTP(ww, r)
	})
}

// clientAddr is the address of the client: the peer's, or what a trusted proxy
// says of it.
func (a *API) clientAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	trusted := func(x netip.Addr) bool {
		return slices.ContainsFunc(a.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(x) })
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !trusted(addr) {
			break
		}
		x, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		addr = x.Unmap()
	}
	return addr
}

// recover turns a panic into a problem document, or cuts the connection when
// the answer has begun.
func (a *API) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			a.Log.ErrorContext(r.Context(), "handler panicked", "request", visitOf(r).id, "panic", p, "stack", string(debug.Stack()))
			if ww, ok := w.(middleware.WrapResponseWriter); ok && ww.Status() != 0 || r.Header.Get("Upgrade") != "" {
				panic(http.ErrAbortHandler)
			}
			a.fail(w, r, problem.ErrPanic)
		}()
		next.ServeHTTP(w, r)
	})
}

// pagePolicy is the Content-Security-Policy of everything that says no other.
// wss: is named because not every browser counts it as 'self'.
func pagePolicy(host string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; " +
		"font-src 'self'; connect-src 'self' wss://" + host + "; manifest-src 'self'; worker-src 'self'; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

func (a *API) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy(plainHost(r.Host)))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// Isolation gives the page clocks of 5 µs, which the latency figures need.
		h.Set("Cross-Origin-Embedder-Policy", "require-corp")
		h.Set("Permissions-Policy", "autoplay=(self), clipboard-read=(self), clipboard-write=(self), fullscreen=(self), gamepad=(self), keyboard-map=(self), screen-wake-lock=(self), "+
			"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()")
		if a.HSTS {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// plainHost keeps a Host header from writing policy.
func plainHost(host string) string {
	for _, c := range []byte(host) {
		if !(c == '.' || c == '-' || c == ':' || c == '[' || c == ']' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') {
			return "invalid"
		}
	}
	return host
}

// deadlines bound how long a request may take to arrive and to be answered.
// They are set per request so that websocket and event stream can have others.
func (a *API) deadlines(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		now := time.Now()
		if err := errors.Join(rc.SetReadDeadline(now.Add(a.readWithin)), rc.SetWriteDeadline(now.Add(answerWithin+5*time.Second))); err != nil {
			a.fail(w, r, fmt.Errorf("set deadlines: %w", err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// within bounds a handler's context.
func within(d time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), d)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

func limitBody(n int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, n)
			next.ServeHTTP(w, r)
		})
	}
}

// checkOrigin refuses unsafe requests and websockets that another site caused.
// A request without an Origin is no browser's, or an old one's: it needs a
// bearer token, which no site can make a browser send.
func (a *API) checkOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		if safe && r.Header.Get("Upgrade") == "" {
			next.ServeHTTP(w, r)
			return
		}
		origins := r.Header.Values("Origin")
		switch {
		case len(origins) == 0 && bearerOf(r) != "":
		case len(origins) == 1 && (sameOrigin(origins[0], r.Host) || a.origins[normalOrigin(origins[0])]):
		case len(origins) == 0:
			a.fail(w, r, fmt.Errorf("%w: it has no Origin header and no bearer token", problem.ErrOrigin))
			return
		default:
			a.fail(w, r, problem.ErrOrigin)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func sameOrigin(origin, host string) bool {
	return normalOrigin(origin) == normalOrigin("https://"+host)
}

// normalOrigin makes equal origins equal strings.
func normalOrigin(o string) string { return strings.TrimSuffix(strings.ToLower(o), ":443") }

// crossOrigin lets pages of PublicOrigins use WHEP with a bearer token. There
// is no Allow-Credentials: the cookie stays with our own page.
func (a *API) crossOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		whep := strings.Contains(r.URL.Path, "/whep")
		if !whep || origin == "" || !a.origins[normalOrigin(origin)] {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Location, ETag, Link, Accept-Patch")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "POST, PATCH, DELETE, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearerOf is the bearer token of a request, or "".
func bearerOf(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// whois finds out who asks. A bearer token that is wrong is not made good by a
// cookie.
func (a *API) whois(r *http.Request) (id auth.Identity, renewed bool, err error) {
	if token := bearerOf(r); token != "" {
		id, err = a.Auth.FromBearer(token)
		return id, false, err
	}
	c, err := r.Cookie(cookieName)
	if err != nil {
		return auth.Identity{}, false, auth.ErrUnauthenticated
	}
	return a.Auth.FromCookie(c.Value)
}

// identify notes who asks; it refuses nobody.
func (a *API) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, renewed, err := a.whois(r)
		switch {
		case err == nil:
			visitOf(r).who = &id
			if renewed {
				if c, err := r.Cookie(cookieName); err == nil {
					a.setCookie(w, c.Value)
				}
			}
		case !errors.Is(err, auth.ErrUnauthenticated):
			a.fail(w, r, fmt.Errorf("look up login: %w", err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *API) setCookie(w http.ResponseWriter, token string) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: token, Path: "/", MaxAge: int(a.CookieLifetime.Seconds()),
		HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode})
}

func (a *API) requirePerson(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if visitOf(r).who == nil {
			a.fail(w, r, auth.ErrUnauthenticated)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *API) requireAdmin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isAdmin(r) {
			a.fail(w, r, problem.ErrForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isAdmin(r *http.Request) bool {
	who := visitOf(r).who
	return who != nil && who.Person.Role == auth.Admin
}

// person is who asks, behind requirePerson.
func person(r *http.Request) auth.Person { return visitOf(r).who.Person }

func personRef(r *http.Request) media.PersonRef {
	p := person(r)
	return media.PersonRef{ID: string(p.ID), Name: p.Name}
}

// methodNotAllowed answers with the methods that are.
func (a *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	routes := chi.RouteContext(r.Context()).Routes
	var allow []string
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		if routes.Match(chi.NewRouteContext(), m, r.URL.Path) {
			allow = append(allow, m)
		}
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	a.fail(w, r, problem.ErrMethod)
}

// readJSON reads a body of exactly one JSON object without unknown members.
func readJSON(r *http.Request, v any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return fmt.Errorf("%w: send application/json", problem.ErrMediaType)
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err = dec.Decode(v)
	if err == nil {
		if _, extra := dec.Token(); extra != io.EOF {
			err = errors.New("something follows the object")
			if extra != nil && isTransport(extra) {
				err = extra
			}
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.ErrSlow
	case isTransport(err):
		return err
	}
	return fmt.Errorf("%w: %s", problem.ErrBadJSON, strings.TrimPrefix(err.Error(), "json: "))
}

// isTransport tells errors of the connection or its limits from bad JSON.
func isTransport(err error) bool {
	var big *http.MaxBytesError
	var netErr net.Error
	return errors.As(err, &big) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &netErr)
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(v)
}
