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
	"fenrir/signaling/browser/peer"
)

// Rates of websocket messages, above anything that a client needs. What comes
// faster is read later; TCP holds it back.
const (
	messageRate  = 50 // a second
	messageBurst = 200
	offerRate    = 1 // a second: each one makes us look for paths again
	offerBurst   = 10
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
		ID: hello.Peer, Person: person, Transport: peer.WebRTC,
		Codecs: hello.Codecs, ViewOnly: hello.ViewOnly,
	}
	p, err := s.attach(ctx, sessionID, spec, t)
	if err != nil {
		return err
	}
	defer s.leave(p)
	att := p.Attachment
	t.log.Debug("hello", "peer", att.ID(), "client", hello.Client, "version", version)

	first, cancelFirst := context.WithTimeout(ctx, attachTimeout)
	state, err := p.FirstState(first)
	cancelFirst()
	if err != nil {
		p.Abandon(err)
		return err
	}
	t.send(signaling.Welcome{
		Version: version, Peer: att.ID(), Codec: att.Codec(), HeartbeatMs: int(peer.Heartbeat.Milliseconds()),
		Grant: att.Grant(), ICEServers: s.iceServers(att.ID()), Session: state,
	})

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
		t.read(ctx, p, hello.MaxKbps)
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
func (t *talk) read(ctx context.Context, p *peer.Peer, maxKbps int) {
	limit := rate.NewLimiter(messageRate, messageBurst)
	var err error
	if maxKbps > 0 {
		err = p.Cap(ctx, maxKbps)
	}
	offers := rate.NewLimiter(offerRate, offerBurst)
	for offer := uint32(0); err == nil; {
		if err = limit.Wait(ctx); err != nil {
			return
		}
		var m signaling.Message
		if m, err = t.next(ctx); err != nil {
			break
		}
		if m.Type() == "offer" {
			if err = offers.Wait(ctx); err != nil {
				return
			}
		}
		err = t.handle(ctx, p, m, &offer)
	}
	if errors.Is(err, errGone) {
		// When the peer has ended nobody needs to know.
		_ = p.Orphan(ctx)
		return
	}
	p.Leave(err)
}

// handle does what a message asks for. offer is the number of the last offer.
func (t *talk) handle(ctx context.Context, p *peer.Peer, m signaling.Message, offer *uint32) error {
	switch m := m.(type) {
	case signaling.Offer:
		if m.ID <= *offer {
			return media.NewCause(media.CauseProtocol, "offer %d after offer %d", m.ID, *offer)
		}
		*offer = m.ID
		return p.Negotiate(ctx, m.SDP, func(answer string) { t.send(signaling.Answer{ID: m.ID, SDP: answer}) })
	case signaling.Candidate:
		return p.Trickle(ctx, webrtc.ICECandidateInit{
			Candidate: m.Candidate, SDPMid: m.SDPMid, SDPMLineIndex: m.SDPMLineIndex, UsernameFragment: m.UsernameFragment,
		})
	case signaling.Settings:
		return p.Cap(ctx, m.MaxKbps)
	case signaling.Painted:
		p.Painted(m)
		return nil
	case signaling.Bye:
		return media.NewCause(media.CauseLeft, "the client left")
	}
	return media.NewCause(media.CauseProtocol, "%s is not expected here", m.Type())
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

// Candidate implements peer.Signal.
func (t *talk) Candidate(c *webrtc.ICECandidate) {
	if c == nil {
		t.send(signaling.Candidate{})
		return
	}
	i := c.ToJSON()
	t.send(signaling.Candidate{Candidate: i.Candidate, SDPMid: i.SDPMid, SDPMLineIndex: i.SDPMLineIndex, UsernameFragment: i.UsernameFragment})
}

// State implements peer.Signal: the newest wins.
func (t *talk) State(s media.SessionState) {
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

// Notice implements peer.Signal.
func (t *talk) Notice(c *media.Cause) { t.send(signaling.Error{Code: c.Code, Detail: c.Detail}) }

// Bye implements peer.Signal.
func (t *talk) Bye(err error) { t.send(signaling.ByeFor(err)) }

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
