package nvhttp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fenrir/media"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/pairing"
	"fenrir/signaling/tcp"
)

// Bounds of what a client can make last, or large.
const (
	headerTimeout  = 5 * time.Second // of the TLS handshake, and of a request
	requestTimeout = 10 * time.Second
	pairingTimeout = pairing.Patience + 10*time.Second // of its first request, which waits for a person
	maxHeader      = 16 << 10                          // bytes; the longest request has 2,200
	maxConnections = 256                               // of each port
	maxOfAddress   = 96                                // of them from one address (IPv6: one /64)
	closeTimeout   = 200 * time.Millisecond
)

// Host is what this server says of itself.
type Host struct {
	Name         string // shown to people; "" is "Fenrir"
	MAC          string // "aa:bb:cc:dd:ee:ff", with which it can be woken; "" for none
	ExternalPort int    // of HTTP as seen from outside; 0: the same as inside
	// Codecs are those that can be encoded now. It does not block.
	Codecs func() []media.Codec
}

// Launches is where launches wait for their clients: launch.Pending, or what
// stands before it.
type Launches interface {
	// Add lets l wait and does not block. If it fails, l is still the caller's to end.
	Add(l *launch.Launch) error
}

// Server is the two ports. Fill the exported fields, which do not change
// afterwards, call Listen, then Run.
type Server struct {
	Host     Host
	Identity *Identity
	Pairings *pairing.Pending // closed by its owner
	Devices  Devices
	Programs Programs
	Sessions Sessions
	Launches Launches
	RTSPPort int          // where streams are negotiated; it listens before Run
	Log      *slog.Logger // nil: slog.Default()

	http, https net.Listener
	under       atomic.Int64 // requests under way
	art         art
	turns       turns
	quiet       quiet
}

// Listen opens the ports, ":47989" and ":47984" by custom. What it opened is
// closed when Run returns, or by itself when it fails.
func (s *Server) Listen(httpAddr, httpsAddr string) (err error) {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if s.http, err = tcp.Listen(httpAddr, maxConnections, s.Log); err != nil {
		return fmt.Errorf("moonlight HTTP: %w", err)
	}
	if s.https, err = tcp.Listen(httpsAddr, maxConnections, s.Log); err != nil {
		return errors.Join(fmt.Errorf("moonlight HTTPS: %w", err), s.http.Close())
	}
	return nil
}

// HTTPAddr is the address of the HTTP port, which is the one that people type.
func (s *Server) HTTPAddr() netip.AddrPort { return addrOf(s.http.Addr()) }

// HTTPSAddr is the address of the HTTPS port; clients are told.
func (s *Server) HTTPSAddr() netip.AddrPort { return addrOf(s.https.Addr()) }

// addrOf is a as an address without zone; IPv4 is IPv4.
func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// Run answers until ctx ends, then ends what is under way, waits for it at most
// 200 ms and closes the ports. The error is nil when nothing is left.
func (s *Server) Run(ctx context.Context) error {
	requests, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	plain, secure := s.server(requests, false), s.server(requests, true)
	served := make(chan error, 2)
	go func() { served <- plain.Serve(s.http) }()
	go func() { served <- secure.ServeTLS(s.https, "", "") }()
	var failed error
	left := 2
	select {
	case err := <-served:
		failed, left = fmt.Errorf("serve moonlight clients: %w", err), 1
	case <-ctx.Done():
	}
	end(media.NewCause(media.CauseShutdown, "the server is going down"))
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	stopped := make(chan error, 2)
	for _, srv := range []*http.Server{plain, secure} {
		go func() {
			_ = srv.Shutdown(bounded) // connections linger after an answer; those are cut
			stopped <- srv.Close()
		}()
	}
	failed = errors.Join(failed, <-stopped, <-stopped)
	for range left {
		<-served // they return as soon as the listeners are closed
	}
	if n := s.under.Load(); n > 0 {
		failed = errors.Join(failed, fmt.Errorf("%d moonlight requests did not end within %s", n, closeTimeout))
	}
	return failed
}

func (s *Server) server(requests context.Context, secure bool) *http.Server {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, secure) }),
		// Bounds the TLS handshake as well. The rest is bounded per request.
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return requests },
		// Reachability tests, scanners and clients that hang up write a line each.
		ErrorLog:  slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		Protocols: new(http.Protocols),
		ConnState: new(crowd).watch,
	}
	srv.Protocols.SetHTTP1(true)
	srv.SetKeepAlivesEnabled(false)
	if secure {
		srv.TLSConfig = s.Identity.tlsConfig()
	}
	return srv
}

// crowd keeps one address from taking all connections of a port.
type crowd struct {
	mu   sync.Mutex
	from map[netip.Prefix]int      // connections; guarded by mu
	of   map[net.Conn]netip.Prefix // guarded by mu
}

// watch is for http.Server.ConnState.
func (c *crowd) watch(conn net.Conn, now http.ConnState) {
	switch now {
	case http.StateNew:
		if !c.enter(conn) {
			_ = conn.Close() // it was told nothing and sent nothing
		}
	case http.StateClosed, http.StateHijacked:
		c.leave(conn)
	default:
	}
}

func (c *crowd) enter(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of, c.from = make(map[net.Conn]netip.Prefix), make(map[netip.Prefix]int)
	}
	of := pairing.Network(addrOf(conn.RemoteAddr()).Addr())
	if c.from[of] >= maxOfAddress {
		return false
	}
	c.from[of]++
	c.of[conn] = of
	return true
}

func (c *crowd) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of, in := c.of[conn]
	if !in {
		return
	}
	delete(c.of, conn)
	if c.from[of]--; c.from[of] == 0 {
		delete(c.from, of)
	}
}

// request is one of a client.
type request struct {
	query  url.Values
	from   netip.Addr
	local  netip.Addr        // that it came in on
	secure bool              // over HTTPS
	cert   *x509.Certificate // the client's, over HTTPS
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, secure bool) {
	s.under.Add(1)
	defer s.under.Add(-1)
	// Nobody here has a body to send, and nobody's is waited for.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(pairingTimeout)) // real connections have one
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
		refusal(http.StatusBadRequest, "only GET without a body is understood").send(w)
		return
	}
	req := &request{query: r.URL.Query(), secure: secure}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		req.from = from.Addr().Unmap().WithZone("")
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		req.local = addrOf(a).Addr()
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		req.cert = r.TLS.PeerCertificates[0]
	}
	within := requestTimeout
	if req.query.Get("phrase") == phraseCert {
		within = pairingTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	s.answer(ctx, strings.TrimSuffix(r.URL.Path, "/"), req).send(w)
}

// answer finds who answers.
func (s *Server) answer(ctx context.Context, path string, r *request) answer {
	switch path {
	case "/serverinfo":
		return s.serverInfo(ctx, r)
	case "/pair":
		return s.pair(ctx, r)
	case "/unpair":
		return s.unpair(ctx, r)
	}
	var f func(context.Context, *request, Device) answer
	switch path {
	case "/applist":
		f = s.appList
	case "/appasset":
		f = s.appAsset
	case "/launch":
		f = s.launch
	case "/resume":
		f = s.resume
	case "/cancel":
		f = s.cancel
	default:
		return refusal(http.StatusNotFound, "there is nothing at this address")
	}
	d, err := s.device(ctx, r)
	if err != nil {
		return s.unknown(err)
	}
	return f(ctx, r, d)
}

// device is who asks: ErrUnknown over plain HTTP, and for those that are not paired.
func (s *Server) device(ctx context.Context, r *request) (Device, error) {
	if r.cert == nil {
		return Device{}, ErrUnknown
	}
	return s.Devices.Find(ctx, r.cert)
}

// unknown answers who is not paired, or whom a fault of ours keeps from being found.
func (s *Server) unknown(err error) answer {
	if errors.Is(err, ErrUnknown) {
		return refusal(http.StatusUnauthorized, "this client is not paired")
	}
	return s.fault("find a moonlight device", err)
}

// fault answers what went wrong here, and keeps the detail in the log.
func (s *Server) fault(doing string, err error) answer {
	var c *media.Cause
	if errors.As(err, &c) {
		return refusal(http.StatusServiceUnavailable, c.Detail)
	}
	if errors.Is(err, context.Canceled) {
		s.Log.Debug("moonlight client hung up", "doing", doing)
	} else {
		s.Log.Error(doing, "err", err)
	}
	return refusal(http.StatusInternalServerError, "something went wrong in the server")
}

// turns lets one at a time of each person do something.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // by person, closed when it is over; guarded by mu
}

// take waits for the turn of a person, until ctx ends. Who gets it calls over.
func (t *turns) take(ctx context.Context, person string) (over func(), err error) {
	for {
		t.mu.Lock()
		other, busy := t.taken[person]
		if !busy {
			mine := make(chan struct{})
			if t.taken == nil {
				t.taken = make(map[string]chan struct{})
			}
			t.taken[person] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.taken, person)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
