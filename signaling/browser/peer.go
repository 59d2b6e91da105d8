package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/congestion"
)

// Peer is one client attached to a session, over one PeerConnection. Serve
// owns the connection: everything about it happens on Serve's goroutine, which
// others ask through call.
type Peer struct {
	server   *Server
	session  string
	spec     media.PeerSpec
	att      signaling.Attachment
	log      *slog.Logger
	resource string // of a WHEP peer: id and entity tag
	etag     string
	signal   signal // how the client hears of candidates, states and the end
	started  time.Time
	counts   counts
	path     *congestion.Controller
	state    atomic.Int32 // webrtc.PeerConnectionState
	broken   atomic.Int32 // input packets that break the protocol, so far
	maxKbps  atomic.Int32 // the client's own cap, 0 for none

	calls    chan func()
	done     chan struct{} // closed when Serve returns
	wake     chan struct{} // 1 slot: the connection's state changed
	rated    chan struct{} // 1 slot: the path's estimate may have changed
	found    chan *webrtc.ICECandidate
	opened   chan channel
	goodbyes chan error // 1 slot: the client leaves

	video, audio *track
	videoClock   videoClock
	audioClock   audioClock
	clocks       sync.Mutex // guards both
	meter        meter
	news         news

	// Serve's own.
	pc                       *webrtc.PeerConnection
	helpers                  sync.WaitGroup
	offeredAt                time.Time // zero until the first offer
	brokenAt                 time.Time // zero while media flows
	orphanedAt               time.Time // zero while there is a websocket
	streaming                bool      // the pumps run
	lastOffer                uint32
	ufrag                    string // of the offer, WHEP only
	early                    []webrtc.ICECandidateInit
	candidates               int // of the client, so far
	isConnected              bool
	sentBefore, resentBefore uint64   // packets, at the last timing
	told                     struct { // to the session, of the path
		kbps       int
		up, change time.Time
	}
}

// signal is a client's ear. No method blocks.
type signal interface {
	candidate(c *webrtc.ICECandidate) // nil: no more
	state(s media.SessionState)
	bye(err error)
}

// Limits on what a client may make us do or keep.
const (
	maxEarly      = 64  // candidates before the first offer
	maxCandidates = 512 // in a peer's life
)

func (s *Server) newPeer(sessionID string, spec media.PeerSpec, att signaling.Attachment, sig signal) *Peer {
	p := &Peer{
		server: s, session: sessionID, spec: spec, att: att, signal: sig,
		log:      s.Log.With("session", sessionID, "peer", att.ID(), "transport", spec.Transport),
		started:  time.Now(),
		calls:    make(chan func()),
		done:     make(chan struct{}),
		wake:     make(chan struct{}, 1),
		rated:    make(chan struct{}, 1),
		found:    make(chan *webrtc.ICECandidate, 64),
		opened:   make(chan channel, 8),
		goodbyes: make(chan error, 1),
	}
	p.maxKbps.Store(int32(spec.MaxKbps))
	p.path = congestion.NewController(congestion.Config{
		Min: s.Bitrate.Min * 1000, Start: s.Bitrate.Start * 1000, Max: s.Bitrate.Max * 1000,
	}, func(congestion.Report) {
		select {
		case p.rated <- struct{}{}:
		default:
		}
	})
	p.video = newTrack(media.Video, att.Codec(), uint16(rand.Uint32()), &p.counts)
	p.audio = newTrack(media.Audio, media.Opus, uint16(rand.Uint32()), &p.counts)
	p.videoClock.offset = rand.Uint32()
	p.audioClock.due = rand.Uint32()
	p.news.init()
	return p
}

// errPeerEnded is returned by call when the peer has ended.
var errPeerEnded = errors.New("peer has ended")

// call runs f on Serve's goroutine and returns its error.
func (p *Peer) call(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	select {
	case p.calls <- func() { result <- f() }:
	case <-p.done:
		return errPeerEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-result:
		return err
	case <-p.done:
		return errPeerEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave makes Serve end with err; the first one counts.
func (p *Peer) leave(err error) {
	select {
	case p.goodbyes <- err:
	default:
	}
}

// Serve runs the peer until the client leaves, its path is lost for good, its
// attachment ends, the server stops, or ctx ends. It tells the client why,
// closes the connection within 300 ms and detaches. The returned error is the
// cause.
func (p *Peer) Serve(ctx context.Context) (err error) {
	defer close(p.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		var cause *media.Cause
		if !errors.As(err, &cause) {
			p.log.Error("peer failed", "err", err)
			cause = &media.Cause{Code: signaling.CauseInternal}
		}
		p.att.Detach(cause)
		p.log.Info("peer gone", "cause", cause.Code, "detail", cause.Detail, "took", time.Since(p.started).Round(time.Millisecond))
	}()
	p.log.Info("peer attached", "codec", p.att.Codec(), "person", p.spec.Person.ID, "view_only", p.spec.ViewOnly)

	pc, err := p.server.newPeerConnection(p.att.Codec(), p.path)
	if err != nil {
		err = fmt.Errorf("make peer connection: %w", err)
		p.signal.bye(err)
		return err
	}
	p.pc = pc
	defer p.close(cancel)
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		p.state.Store(int32(s))
		select {
		case p.wake <- struct{}{}:
		default:
		}
	})
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		select {
		case p.found <- c:
		default: // more local addresses than anyone has
		}
	})
	pc.OnDataChannel(p.onDataChannel)
	if p.maxKbps.Load() > 0 {
		p.tellRate(true)
	}
	p.help(func() { p.pumpNotes(ctx) })
	p.help(func() { p.writeEvents(ctx) })

	err = p.loop(ctx)
	p.signal.bye(err)
	return err
}

// help runs a helper that Serve waits for.
func (p *Peer) help(f func()) {
	p.helpers.Add(1)
	go func() {
		defer p.helpers.Done()
		f()
	}()
}

// close ends the helpers and the connection and waits for both, but no longer
// than peerCloseTimeout: pion may spend 0.4 s on telling a client that is gone.
// What is left then is the Server's to wait for.
func (p *Peer) close(cancel context.CancelFunc) {
	cancel()
	done := make(chan struct{})
	p.server.wg.Add(1)
	go func() {
		defer p.server.wg.Done()
		defer close(done)
		begin := time.Now()
		if err := p.pc.GracefulClose(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			p.log.Debug("close peer connection", "err", err)
		}
		p.helpers.Wait()
		if took := time.Since(begin); took > slowClose {
			p.log.Warn("peer connection closed late", "took", took)
		}
	}()
	select {
	case <-done:
	case <-time.After(peerCloseTimeout):
		p.log.Debug("peer connection is still closing", "bound", peerCloseTimeout)
	}
}

func (p *Peer) loop(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	timer := time.NewTimer(offerTimeout)
	defer timer.Stop()
	for {
		at, late := p.deadline()
		if at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return media.NewCause(media.CauseLost, "the connection to the server ended")
		case <-p.att.Context().Done():
			return context.Cause(p.att.Context())
		case <-p.server.stopping:
			return media.NewCause(media.CauseShutdown, "the server is going down")
		case err := <-p.goodbyes:
			return err
		case f := <-p.calls:
			f()
		case c := <-p.found:
			p.signal.candidate(c)
		case c := <-p.opened:
			p.help(func() { p.serveChannel(ctx, c) })
		case <-p.wake:
			if err := p.onState(ctx); err != nil {
				return err
			}
		case <-p.rated:
			p.tellRate(false)
		case <-tick.C:
			p.everySecond()
		case <-timer.C:
			return late
		}
	}
}

// deadline is when the peer must be given up as things stand, and why.
func (p *Peer) deadline() (at time.Time, why *media.Cause) {
	earlier := func(from time.Time, d time.Duration, c *media.Cause) {
		if t := from.Add(d); !from.IsZero() && (at.IsZero() || t.Before(at)) {
			at, why = t, c
		}
	}
	switch {
	case p.offeredAt.IsZero():
		earlier(p.started, offerTimeout, media.NewCause(media.CauseNegotiation, "no offer came within %v", offerTimeout))
	case !p.streaming:
		earlier(p.offeredAt, connectTimeout, media.NewCause(media.CauseICE, "no network path was found within %v", connectTimeout))
	default:
		earlier(p.brokenAt, restartTimeout, media.NewCause(media.CauseICE, "the network path was lost for %v", restartTimeout))
	}
	earlier(p.orphanedAt, orphanGrace, media.NewCause(media.CauseLost, "the websocket was lost and the client did not come back"))
	return at, why
}

// orphan tells that the websocket is gone. Media goes on for a while, so that
// the client can come back with a new one.
func (p *Peer) orphan() error {
	p.orphanedAt = time.Now()
	if !p.isConnected {
		p.leave(media.NewCause(media.CauseLost, "the websocket was lost"))
	}
	return nil
}

// onState follows the connection's state.
func (p *Peer) onState(ctx context.Context) error {
	s := webrtc.PeerConnectionState(p.state.Load())
	p.log.Debug("connection state", "state", s.String())
	p.isConnected = s == webrtc.PeerConnectionStateConnected
	switch s {
	case webrtc.PeerConnectionStateConnected:
		if !p.streaming {
			p.streaming = true
			p.log.Info("peer connected", "took", time.Since(p.started).Round(time.Millisecond))
			p.help(func() { p.pumpVideo(ctx) })
			p.help(func() { p.pumpAudio(ctx) })
		} else if !p.brokenAt.IsZero() {
			p.att.RequestKeyFrame() // what was sent meanwhile is lost
		}
		p.brokenAt = time.Time{}
	case webrtc.PeerConnectionStateDisconnected:
		p.markBroken()
	case webrtc.PeerConnectionStateFailed:
		p.markBroken()
		if p.spec.Transport == transportWHEP && p.streaming {
			return media.NewCause(media.CauseICE, "the network path was lost")
		}
	case webrtc.PeerConnectionStateClosed:
		return media.NewCause(media.CauseLost, "the client closed the connection")
	}
	return nil
}

func (p *Peer) markBroken() {
	if p.streaming && p.brokenAt.IsZero() {
		p.brokenAt = time.Now()
		p.att.Input(media.Input{Kind: media.ReleaseAll, Received: media.Now()})
	}
}

// negotiate answers an offer. The first one makes the tracks; later ones
// restart ICE or change directions, on the same tracks.
func (p *Peer) negotiate(sdp string) (answer string, err error) {
	offer, err := parseOffer(sdp)
	if err != nil {
		return "", media.NewCause(media.CauseNegotiation, "the offer cannot be used: %v", err)
	}
	if p.offeredAt.IsZero() {
		if !offer.has(p.att.Codec()) {
			return "", media.NewCause(media.CauseNegotiation, "the offer has no %s, which was agreed on", p.att.Codec())
		}
		if err := p.addTracks(offer); err != nil {
			return "", err
		}
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return "", media.NewCause(media.CauseNegotiation, "the offer cannot be used: %v", err)
	}
	desc, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return "", media.NewCause(media.CauseNegotiation, "the offer cannot be answered: %v", err)
	}
	if err := p.pc.SetLocalDescription(desc); err != nil {
		return "", fmt.Errorf("set local description: %w", err)
	}
	p.offeredAt = time.Now()
	for _, c := range p.early {
		p.addCandidate(c)
	}
	p.early = nil
	return desc.SDP, nil
}

func (p *Peer) addTracks(offer offerInfo) error {
	tracks := []*track{p.video}
	if offer.audio {
		tracks = append(tracks, p.audio)
	}
	for _, t := range tracks {
		tr, err := p.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return fmt.Errorf("add %s track: %w", t.kind, err)
		}
		p.help(func() { p.readRTCP(tr.Sender()) })
	}
	return nil
}

// trickle takes one candidate of the client.
func (p *Peer) trickle(c webrtc.ICECandidateInit) error {
	if p.candidates++; p.candidates > maxCandidates {
		return media.NewCause(media.CauseProtocol, "more than %d candidates", maxCandidates)
	}
	if p.offeredAt.IsZero() {
		if len(p.early) == maxEarly {
			return media.NewCause(media.CauseProtocol, "more than %d candidates before an offer", maxEarly)
		}
		p.early = append(p.early, c)
		return nil
	}
	p.addCandidate(c)
	return nil
}

// addCandidate is lenient: a candidate that cannot be used is no path, and the
// others may be.
func (p *Peer) addCandidate(c webrtc.ICECandidateInit) {
	if err := p.pc.AddICECandidate(c); err != nil {
		p.log.Debug("candidate not used", "err", err)
	}
}

// readRTCP handles what the client reports about one track, until the sender stops.
func (p *Peer) readRTCP(sender *webrtc.RTPSender) {
	buf := make([]byte, 1500)
	for garbage := 0; garbage < maxBadInputs; {
		n, _, err := sender.Read(buf)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
			return
		}
		var packets []rtcp.Packet
		if err == nil {
			packets, err = rtcp.Unmarshal(buf[:n])
		}
		if err != nil {
			garbage++ // of the client's own making: it went through SRTCP
			continue
		}
		for _, pkt := range packets {
			switch pkt := pkt.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				p.counts.plis.Add(1)
				p.att.RequestKeyFrame()
			case *rtcp.TransportLayerNack:
				for i := range pkt.Nacks {
					p.counts.nacks.Add(uint64(len(pkt.Nacks[i].PacketList())))
				}
			case *rtcp.ReceiverReport:
				p.onReports(pkt.Reports)
			}
		}
	}
}

func (p *Peer) stats() PeerStats {
	path := p.path.Report()
	totals := p.counts.totals()
	totals.Resent = path.Resent
	return PeerStats{
		Session: p.session, Peer: p.att.ID(), Person: p.spec.Person, Transport: p.spec.Transport, Codec: p.att.Codec(),
		State:  webrtc.PeerConnectionState(p.state.Load()).String(),
		Kbps:   path.Bitrate / 1000,
		RTT:    time.Duration(p.meter.rtt.Load()),
		Loss:   path.Loss,
		Totals: totals,
	}
}
