package browser

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"
	"golang.org/x/time/rate"

	"fenrir/media"
	"fenrir/signaling"
)

// Transports of media.PeerSpec.
const (
	transportWebRTC = "webrtc"
	transportWHEP   = "whep"
)

// Rates of websocket messages, above anything that a client needs. What comes
// faster is read later; TCP holds it back.
const (
	messageRate  = 50 // a second
	messageBurst = 200
	maxOutgoing  = 256 // messages that wait for a slow client
)

// ServeSignal serves one websocket of the signaling protocol, see PROTOCOL.md,
// and the peer behind it, until both are over. The caller has checked that
// person may see the session. Requests of other origins are refused.
func (s *Server) ServeSignal(w http.ResponseWriter, r *http.Request, sessionID string, person media.PersonRef) {
	keeper := &connKeeper{ResponseWriter: w}
	ws, err := websocket.Accept(keeper, r, &websocket.AcceptOptions{Subprotocols: []string{signaling.Subprotocol}})
	if err != nil {
		s.Log.Debug("websocket refused", "session", sessionID, "err", err)
		return // Accept has answered
	}
	ws.SetReadLimit(signaling.MaxMessage)
	// The peer ends with its websocket, its attachment or the server, each with
	// a cause; the request's context would only add an end without one.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()

	t := &talk{
		ws: ws, conn: keeper.conn,
		out: make(chan []byte, maxOutgoing), newest: make(chan media.SessionState, 1),
		log: s.Log.With("session", sessionID),
	}
	err = s.converse(ctx, t, sessionID, person)
	t.finish(ctx, err)
}

// converse runs the protocol on t and returns why it ended.
func (s *Server) converse(ctx context.Context, t *talk, sessionID string, person media.PersonRef) error {
	if t.ws.Subprotocol() != signaling.Subprotocol {
		return media.NewCause(media.CauseVersion, "the client does not ask for subprotocol %s", signaling.Subprotocol)
	}
	hello, err := t.hello(ctx)
	if err != nil {
		return err
	}
	version, err := signaling.Negotiate(hello.Version)
	if err != nil {
		return err
	}
	// The client's cap is kept here, where it can change: Estimate stays below it.
	spec := media.PeerSpec{
		ID: hello.Peer, Person: person, Transport: transportWebRTC,
		Codecs: hello.Codecs, ViewOnly: hello.ViewOnly,
	}
	p, err := s.attach(ctx, sessionID, spec, t)
	if err != nil {
		return err
	}
	defer s.leave(p)
	p.maxKbps.Store(int32(hello.MaxKbps))
	p.log.Debug("hello", "client", hello.Client, "version", version)

	state, err := p.firstState(ctx)
	if err != nil {
		p.abandon(err)
		return err
	}
	welcome := signaling.Welcome{
		Version: version, Peer: p.att.ID(), Codec: p.att.Codec(), HeartbeatMs: int(heartbeat.Milliseconds()),
		Grant: p.att.Grant(), ICEServers: s.iceServers(p.att.ID()), Session: state,
	}
	t.send(welcome)

	ctx, cancel := context.WithCancel(ctx)
	written, read, pinged := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		t.write(ctx)
	}()
	go func() {
		defer close(pinged)
		t.ping(ctx)
	}()
	go func() {
		defer close(read)
		t.read(ctx, p)
	}()
	err = p.Serve(ctx)
	// The farewell is in the queue; the writer sends it and ends.
	close(t.out)
	select {
	case <-written:
	case <-time.After(closeTimeout):
	}
	t.stop = func() {
		cancel()
		<-read // both end with the connection, which is closed by now
		<-pinged
	}
	return err
}

// attach asks for a place in the session and counts the peer in. Who gets a
// peer calls leave when it has ended.
func (s *Server) attach(ctx context.Context, sessionID string, spec media.PeerSpec, sig signal) (*Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	att, err := s.Attach(ctx, sessionID, spec)
	if err != nil {
		return nil, err
	}
	p := s.newPeer(sessionID, spec, att, sig)
	if err := s.enter(p); err != nil {
		p.abandon(err)
		return nil, err
	}
	return p, nil
}

// attachTimeout bounds Attach, which does not wait for anything slow.
const attachTimeout = time.Second

// abandon gives the place in the session back without having served.
func (p *Peer) abandon(err error) {
	var cause *media.Cause
	if !errors.As(err, &cause) {
		cause = &media.Cause{Code: signaling.CauseInternal}
	}
	p.att.Detach(cause)
	close(p.done)
}

// firstState waits for the present state, which every attachment tells first.
// Other news on the way there is kept.
func (p *Peer) firstState(ctx context.Context) (media.SessionState, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	for {
		n, err := p.att.NextNote(ctx)
		if err != nil {
			if c := context.Cause(p.att.Context()); c != nil {
				return media.SessionState{}, c
			}
			return media.SessionState{}, fmt.Errorf("wait for the session's state: %w", err)
		}
		p.note(n)
		if n.State != nil {
			return *n.State, nil
		}
	}
}

func (s *Server) iceServers(peer string) []signaling.ICEServer {
	if s.Network.ICEServers == nil {
		return []signaling.ICEServer{}
	}
	return s.Network.ICEServers(peer)
}

// talk is one websocket conversation: one reader, one writer with a bounded
// queue. It is the signal of a Peer.
type talk struct {
	ws     *websocket.Conn
	conn   net.Conn
	out    chan []byte
	newest chan media.SessionState // 1 slot, newest wins
	log    *slog.Logger

	stop func() // waits for reader and pinger; nil when there are none
}

// hello reads the first message.
func (t *talk) hello(ctx context.Context) (signaling.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	m, err := t.next(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = media.NewCause(media.CauseProtocol, "no hello within %v", helloTimeout)
		}
		return signaling.Hello{}, err
	}
	h, ok := m.(signaling.Hello)
	if !ok {
		return signaling.Hello{}, media.NewCause(media.CauseProtocol, "the first message must be hello, not %s", m.Type())
	}
	return h, nil
}

// next reads one message. Errors are causes, except when the websocket is gone.
func (t *talk) next(ctx context.Context) (signaling.Message, error) {
	kind, b, err := t.ws.Read(ctx)
	if err != nil {
		if errors.Is(err, websocket.ErrMessageTooBig) {
			return nil, media.NewCause(media.CauseProtocol, "a message is longer than %d bytes", signaling.MaxMessage)
		}
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	if kind != websocket.MessageText {
		return nil, media.NewCause(media.CauseProtocol, "messages must be text")
	}
	m, err := signaling.ParseClient(b)
	if err != nil {
		return nil, media.NewCause(media.CauseProtocol, "%v", err)
	}
	return m, nil
}

// errGone says that the websocket is gone: nothing more can be told to the client.
var errGone = errors.New("websocket is gone")

// read hands messages to p until the websocket ends.
func (t *talk) read(ctx context.Context, p *Peer) {
	limit := rate.NewLimiter(messageRate, messageBurst)
	for {
		if err := limit.Wait(ctx); err != nil {
			return
		}
		m, err := t.next(ctx)
		if err == nil {
			err = p.call(ctx, func() error { return p.handle(m) })
		}
		var cause *media.Cause
		switch {
		case err == nil:
		case errors.As(err, &cause):
			p.leave(cause)
			return
		case errors.Is(err, errGone):
			// ctx ends with the peer; then nobody waits for this call.
			_ = p.call(ctx, p.orphan)
			return
		default:
			p.leave(err)
			return
		}
	}
}

// handle does what a message asks for. On Serve's goroutine.
func (p *Peer) handle(m signaling.Message) error {
	switch m := m.(type) {
	case signaling.Offer:
		if m.ID <= p.lastOffer {
			return media.NewCause(media.CauseProtocol, "offer %d after offer %d", m.ID, p.lastOffer)
		}
		p.lastOffer = m.ID
		answer, err := p.negotiate(m.SDP)
		if err != nil {
			return err
		}
		p.signal.(*talk).send(signaling.Answer{ID: m.ID, SDP: answer})
	case signaling.Candidate:
		return p.trickle(webrtc.ICECandidateInit{
			Candidate: m.Candidate, SDPMid: m.SDPMid, SDPMLineIndex: m.SDPMLineIndex, UsernameFragment: m.UsernameFragment,
		})
	case signaling.Settings:
		p.maxKbps.Store(int32(m.MaxKbps))
		p.tellRate(true)
	case signaling.Painted:
		if was := p.counts.painted.Load(); m.Frames > was {
			p.counts.painted.Store(m.Frames)
		}
	case signaling.Bye:
		return media.NewCause(media.CauseLeft, "the client left")
	default:
		return media.NewCause(media.CauseProtocol, "%s is not expected here", m.Type())
	}
	return nil
}

// send queues m. A client that lets the queue run full is cut off.
func (t *talk) send(m signaling.Message) {
	b, err := signaling.Encode(m)
	if err != nil {
		t.log.Error("encode message", "type", m.Type(), "err", err)
		return
	}
	select {
	case t.out <- b:
	default:
		t.abort()
	}
}

func (t *talk) candidate(c *webrtc.ICECandidate) {
	if c == nil {
		t.send(signaling.Candidate{})
		return
	}
	i := c.ToJSON()
	t.send(signaling.Candidate{Candidate: i.Candidate, SDPMid: i.SDPMid, SDPMLineIndex: i.SDPMLineIndex, UsernameFragment: i.UsernameFragment})
}

func (t *talk) state(s media.SessionState) {
	for {
		select {
		case t.newest <- s:
			return
		default:
		}
		select {
		case <-t.newest: // an older one that nobody read
		default:
		}
	}
}

func (t *talk) bye(err error) { t.send(signaling.ByeFor(err)) }

// ping asks for a sign of life every pingInterval and cuts the connection when
// none comes.
func (t *talk) ping(ctx context.Context) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pctx, cancel := context.WithTimeout(ctx, pingTimeout)
		err := t.ws.Ping(pctx)
		cancel()
		if err != nil {
			t.abort()
			return
		}
	}
}

// write sends what is queued until the queue is closed or the websocket breaks.
func (t *talk) write(ctx context.Context) {
	for {
		var err error
		select {
		case b, ok := <-t.out:
			if !ok {
				return
			}
			err = t.writeOne(ctx, b)
		case s := <-t.newest:
			var b []byte
			if b, err = signaling.Encode(signaling.State{Session: s}); err == nil {
				err = t.writeOne(ctx, b)
			}
		}
		if err != nil {
			t.abort()
			return
		}
	}
}

func (t *talk) writeOne(ctx context.Context, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return t.ws.Write(ctx, websocket.MessageText, b)
}

// abort cuts the connection; the reader notices and the peer is orphaned.
func (t *talk) abort() {
	// Only the deadline: closing is finish's. Nothing to do if it fails.
	_ = t.conn.SetDeadline(time.Now())
}

// finish says goodbye with err's close code and closes the websocket, within
// closeTimeout.
func (t *talk) finish(ctx context.Context, err error) {
	bye := signaling.ByeFor(err)
	code, _ := signaling.CloseCode(bye.Code)
	if t.stop == nil && !errors.Is(err, errGone) {
		// Refused before there was a peer: the bye was not sent yet.
		if b, err := signaling.Encode(bye); err == nil {
			ctx, cancel := context.WithTimeout(ctx, closeTimeout)
			_ = t.ws.Write(ctx, websocket.MessageText, b) // the close frame below says it too
			cancel()
		}
	}
	cut := time.AfterFunc(closeTimeout, func() {
		_ = t.conn.SetDeadline(time.Now()) // ends Close, which would wait longer
	})
	defer cut.Stop()
	if errors.Is(err, errGone) {
		_ = t.ws.CloseNow() // it is gone already
	} else if err := t.ws.Close(websocket.StatusCode(code), bye.Code); err != nil {
		t.log.Debug("close websocket", "err", err)
	}
	if t.stop != nil {
		t.stop()
	}
}

// connKeeper remembers the connection that a handler takes over, so that it
// can be cut whatever the websocket library waits for.
type connKeeper struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack is what the websocket library calls.
func (k *connKeeper) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(k.ResponseWriter).Hijack()
	k.conn = c
	return c, rw, err
}
