package rtsp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/tcp"
)

const (
	connTimeout    = 10 * time.Second // of a connection, from its accept to its answer
	closeTimeout   = time.Second      // for the client to close it then
	maxConnections = 128
)

// Ports are where streams go, UDP.
type Ports struct{ Video, Control, Audio int }

// Server is the port. Fill the exported fields, which do not change afterwards, call
// Listen, then Run.
type Server struct {
	Pending *launch.Pending // whose clients come here
	Offer   Offer
	Ports   Ports
	// Announced takes what a client wants. It does not block; its error refuses the
	// stream. It is called once for each launch.
	Announced func(l *launch.Launch, c Config) error
	Log       *slog.Logger

	listener net.Listener

	mu    sync.Mutex // guards what follows
	talks map[*launch.Launch]*talk
	conns map[net.Conn]struct{}
	over  bool
}

// talk is how far the agreement with one client has got.
type talk struct {
	mu        sync.Mutex // guards what follows; held while one request is answered
	sent      uint32     // the last number of a sealed answer
	got       uint32     // the last number of a sealed request
	setup     map[string]bool
	announced bool
	accepted  bool // the stream that was announced can be had
	playing   bool
}

// Listen opens the port, ":48010" by custom. It is closed when Run returns.
func (s *Server) Listen(addr string) (err error) {
	s.talks, s.conns = make(map[*launch.Launch]*talk), make(map[net.Conn]struct{})
	s.listener, err = tcp.Listen(addr, maxConnections, s.Log)
	return err
}

// Addr is the address of the port.
func (s *Server) Addr() netip.AddrPort {
	a, _ := netip.ParseAddrPort(s.listener.Addr().String())
	return a
}

// Run answers until ctx ends; then it cuts what is open and returns.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		_ = s.listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
		for c := range s.conns {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("moonlight RTSP: %w", err)
		}
		all.Go(func() { s.converse(c) })
	}
}

// bound lets c live for d from now. It tells whether it may be served.
func (s *Server) bound(c net.Conn, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || c.SetDeadline(time.Now().Add(d)) != nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) leave(c net.Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	_ = c.Close() // nothing of ours is left in it
}

// converse answers the one request of a connection. Who says nothing is told
// nothing: clients look that way whether the port can be reached.
func (s *Server) converse(c net.Conn) {
	if !s.bound(c, connTimeout) {
		_ = c.Close() // it was told nothing
		return
	}
	defer s.leave(c)
	b, err := read(c)
	if err != nil || len(b) == 0 {
		if errors.Is(err, ErrMalformed) {
			s.Log.Debug("moonlight RTSP: no request", "client", c.RemoteAddr())
		}
		return
	}
	from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	out := s.answer(b, from.Addr())
	if out == nil {
		return
	}
	if _, err := c.Write(out); err == nil { // who is gone by now does not get it
		s.finish(c)
	}
}

// finish tells the client that its answer is whole, and lets it close first: a
// connection that is closed while something in it is unread is reset, and the answer
// can be lost with it.
func (s *Server) finish(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || !s.bound(c, closeTimeout) {
		return
	}
	_, _ = io.CopyN(io.Discard, c, maxRequest) // whatever it is, nobody answers it
}

// read reads one request, which is nothing when the client closes at once.
func read(c io.Reader) ([]byte, error) {
	b := make([]byte, 0, 2048)
	for {
		var size int
		var err error
		if len(b) > 0 && b[0]&0x80 != 0 {
			size, err = sealedSize(b)
		} else {
			size, err = whole(b)
		}
		if err != nil {
			return nil, err
		}
		if size > 0 && len(b) > size && b[0]&0x80 != 0 {
			return nil, ErrMalformed // the length of a sealed one is exact
		}
		if size > 0 && len(b) >= size {
			return b[:size], nil
		}
		if len(b) >= maxRequest {
			return nil, ErrMalformed
		}
		if len(b) == cap(b) {
			b = append(b, make([]byte, 2048)...)[:len(b)]
		}
		n, err := c.Read(b[len(b):min(cap(b), maxRequest)])
		b = b[:len(b)+n]
		if err != nil && n == 0 {
			return nil, err
		}
	}
}

// answer finds out whose request it is and answers it; nil for nobody's.
func (s *Server) answer(b []byte, from netip.Addr) []byte {
	if b[0]&0x80 == 0 {
		if l := s.Pending.BySource(from); l != nil {
			return s.reply(l, b, 0)
		}
		return response{status: 404}.bytes("0")
	}
	for _, l := range s.Pending.All() {
		key, ok := l.Key()
		if !ok || l.CoreVer == 0 {
			continue
		}
		if text, seq, ok := open(key, b); ok {
			return s.reply(l, text, seq)
		}
	}
	return nil
}

// talkOf is the talk with a client, which is forgotten with its launch.
func (s *Server) talkOf(l *launch.Launch) *talk {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.talks[l]
	if t == nil {
		t = &talk{setup: make(map[string]bool)}
		s.talks[l] = t
		for other := range s.talks {
			select {
			case <-other.Done():
				delete(s.talks, other)
			default:
			}
		}
	}
	return t
}

// reply answers a request of a launch; seq is 0 for a plain one.
func (s *Server) reply(l *launch.Launch, text []byte, seq uint32) []byte {
	t := s.talkOf(l)
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq != 0 && seq <= t.got {
		return nil // it came before
	}
	t.got = seq
	r, err := parse(text)
	out := response{status: 400}
	if err == nil {
		before := t.progress()
		out = s.step(l, t, r)
		if t.progress() > before { // repeats do not let it wait for ever
			s.Pending.Renew(l)
		}
	}
	number := r.headers["cseq"]
	if number == "" {
		number = "0"
	}
	plain := out.bytes(number)
	if out.status != 200 {
		s.Log.Info("moonlight RTSP: refused", "device", l.Device, "method", r.method, "status", out.status)
	}
	if seq == 0 {
		return plain
	}
	key, ok := l.Key()
	if !ok {
		return nil
	}
	t.sent++
	sealed, err := seal(key, t.sent, plain)
	if err != nil {
		return nil
	}
	return sealed
}

// step is one step of the agreement.
func (s *Server) step(l *launch.Launch, t *talk, r request) response {
	session := [2]string{"Session", l.PingPayload + ";timeout = 90"}
	switch r.method {
	case "OPTIONS":
		return response{status: 200}
	case "DESCRIBE":
		return response{status: 200, body: s.Offer.describe()}
	case "SETUP":
		name, _, _ := strings.Cut(strings.TrimPrefix(r.target, "streamid="), "/")
		port, known := map[string]int{"video": s.Ports.Video, "audio": s.Ports.Audio, "control": s.Ports.Control}[name]
		if !known {
			return response{status: 404}
		}
		t.setup[name] = true
		mark := [2]string{"X-SS-Ping-Payload", l.PingPayload}
		if name == "control" {
			mark = [2]string{"X-SS-Connect-Data", fmt.Sprint(l.ConnectData)}
		}
		return response{status: 200, headers: [][2]string{session, {"Transport", fmt.Sprintf("server_port=%d", port)}, mark}}
	case "ANNOUNCE":
		if t.announced || len(t.setup) < 3 {
			return response{status: 455}
		}
		return s.announce(l, t, r)
	case "PLAY":
		if !t.accepted {
			return response{status: 455}
		}
		t.playing = true
		return response{status: 200}
	}
	return response{status: 501}
}

func (s *Server) announce(l *launch.Launch, t *talk, r request) response {
	c, err := s.Offer.configure(r.body)
	if err != nil {
		s.Log.Warn("moonlight stream refused", "device", l.Device, "err", err)
		return response{status: 451}
	}
	t.announced = true
	t.mu.Unlock() // one that comes meanwhile is told that it is not its turn
	err = s.Announced(l, c)
	t.mu.Lock()
	if err != nil {
		s.Log.Warn("moonlight stream refused", "device", l.Device, "err", err)
		return response{status: 503}
	}
	t.accepted = true
	return response{status: 200}
}

// progress counts the steps that were done.
func (t *talk) progress() int {
	n := len(t.setup)
	for _, done := range [...]bool{t.accepted, t.playing} {
		if done {
			n++
		}
	}
	return n
}

// Close closes the port of a server that is not run.
func (s *Server) Close() error { return s.listener.Close() }
