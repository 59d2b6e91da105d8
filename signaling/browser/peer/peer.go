// Package peer is one client of a session over one WebRTC PeerConnection:
// tracks, data channels, congestion control, and the life of the connection from
// the first offer to the goodbye. How the client signals is others' affair.
//
// It imports media, signaling and pion.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/congestion"
	"fenrir/signaling/browser/legs"
	"fenrir/signaling/browser/ports"
	"fenrir/signaling/browser/resend"
	"fenrir/signaling/browser/rtpstream"
)

// Peer is one client attached to a session, over one PeerConnection. Fill the
// exported fields, call Prepare, then Serve, which owns the connection:
// everything about it happens on Serve's goroutine, which the other methods ask.
type Peer struct {
	Session    string // for the log
	Spec       media.PeerSpec
	Attachment signaling.Attachment // detached by Serve
	Signal     Signal
	Ports      *ports.Ports
	Bitrate    Bitrate
	Latency    legs.Watcher    // nil: nobody is told
	Stopping   <-chan struct{} // closed when the server stops
	Closing    *sync.WaitGroup // counts connections that still close when Serve has returned
	Log        *slog.Logger

	log       *slog.Logger
	att       signaling.Attachment
	started   time.Time
	counts    counts
	path      *congestion.Controller
	resend    *resend.Responder
	state     atomic.Int32 // webrtc.PeerConnectionState
	broken    atomic.Int32 // input packets that break the protocol, so far
	maxKbps   atomic.Int32 // the client's own cap, 0 for none
	keys      signaling.CopySequence
	timed     atomic.Bool  // the client was told the round trip
	heard     atomic.Int64 // media.Stamp of the client's last report about the media
	keyFrames keyFrames
	packet    uint32 // number of the packet of `input` that keys hands out

	calls    chan func()
	done     chan struct{} // closed when Serve returns
	wake     chan struct{} // 1 slot: the connection's state changed
	rated    chan struct{} // 1 slot: the path's estimate may have changed
	found    chan *webrtc.ICECandidate
	opened   chan channel
	goodbyes chan error // 1 slot: the client leaves

	video, audio *rtpstream.Track
	meter        *legs.Meter
	rtt          atomic.Int64 // nanoseconds, 0 while unknown
	news         news
	simple       simple
	reports      reports

	// Serve's own.
	pc           *webrtc.PeerConnection
	helpers      sync.WaitGroup
	offeredAt    time.Time // zero until the first offer
	brokenAt     time.Time // zero while media flows
	orphanedAt   time.Time // zero while there is a websocket
	streaming    bool      // the pumps run
	connected    bool
	early        []webrtc.ICECandidateInit
	external     []*webrtc.ICECandidate // candidates of our public addresses, of this negotiation
	candidates   int                    // of the client, so far
	sentBefore   uint64                 // packets, at the last timing
	resentBefore uint64
	repair       repair
	told         struct { // to the session, of the path
		kbps       int
		up, change time.Time
	}
}

// Signal is how a client hears from its Peer. Its methods do not block and are
// called from one goroutine at a time.
type Signal interface {
	// Candidate tells one of our candidates; nil says that there are no more.
	Candidate(c *webrtc.ICECandidate)
	// State tells a change of the session. Only the newest matters.
	State(s media.SessionState)
	// Notice tells of something that went wrong and ends nothing.
	Notice(c *media.Cause)
	// Bye tells why the peer ends, before its connection is closed.
	Bye(err error)
}

// Bitrate bounds what the congestion control asks of encoders, kbit/s.
type Bitrate struct {
	Min, Start, Max int // zero values: 300, 8000, 100000
}

// WithDefaults fills in zero values.
func (b Bitrate) WithDefaults() Bitrate {
	if b.Min == 0 {
		b.Min = 300
	}
	if b.Max == 0 {
		b.Max = 100_000
	}
	if b.Start == 0 {
		b.Start = 8000
	}
	b.Start = min(max(b.Start, b.Min), b.Max)
	return b
}

// Transports of media.PeerSpec.
const (
	WebRTC = "webrtc"
	WHEP   = "whep"
	// MoonlightWeb is a page of moonlight-web: it has no websocket either, and one
	// data channel, which we make, for Moonlight's control packets.
	MoonlightWeb = "moonlight-web"
)

// Limits on what a client may make us do or keep.
const (
	MaxEarly      = 64  // candidates before the first offer
	maxCandidates = 512 // in a peer's life
)

// Times that the protocol promises.
const (
	Heartbeat        = 500 * time.Millisecond // of a client on the channel `input`
	MissedHeartbeats = 4
	OfferTimeout     = 15 * time.Second // from the start to the first offer
	ConnectTimeout   = 15 * time.Second // from an offer to media flowing
	RestartTimeout   = 22 * time.Second // broken path until the peer is given up; 3 s before, it was heard of last
	OrphanGrace      = 10 * time.Second // media without a websocket
	UnheardTimeout   = 10 * time.Second // media flows and the client reports nothing about it
	CloseTimeout     = 300 * time.Millisecond
	slowClose        = 2 * time.Second // worth a warning
	unheardFrames    = 10              // so many have to be sent before a report is missed
)

// Prepare makes the Peer ready for Serve and for its other methods.
func (p *Peer) Prepare() error {
	p.att = p.Attachment
	p.log = p.Log.With("session", p.Session, "peer", p.att.ID(), "transport", p.Spec.Transport)
	p.started = time.Now()
	p.calls = make(chan func())
	p.done = make(chan struct{})
	p.wake = make(chan struct{}, 1)
	p.rated = make(chan struct{}, 1)
	p.found = make(chan *webrtc.ICECandidate, 64)
	p.opened = make(chan channel, 8)
	p.goodbyes = make(chan error, 1)
	p.news.init()
	p.meter = legs.NewMeter(p.Latency)
	p.state.Store(int32(webrtc.PeerConnectionStateNew))
	b := p.Bitrate.WithDefaults()
	p.path = congestion.NewController(congestion.Config{Min: b.Min * 1000, Start: b.Start * 1000, Max: b.Max * 1000},
		func(congestion.Report) {
			select {
			case p.rated <- struct{}{}:
			default:
			}
		})
	p.Bitrate = b
	p.resend = resend.New(p.wantKey)
	var err error
	if p.video, err = rtpstream.NewTrack(p.att.Codec()); err != nil {
		return err
	}
	p.audio, err = rtpstream.NewTrack(media.Opus)
	return err
}

// Done is closed when Serve has returned.
func (p *Peer) Done() <-chan struct{} { return p.done }

// ErrEnded is returned by methods that ask a Peer whose Serve has returned.
var ErrEnded = errors.New("peer has ended")

// call runs f on Serve's goroutine and returns its error.
func (p *Peer) call(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	select {
	case p.calls <- func() { result <- f() }:
	case <-p.done:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-result:
		return err
	case <-p.done:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Leave makes Serve end with err; the first one counts.
func (p *Peer) Leave(err error) {
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
		cause := CauseOf(err)
		if cause.Code == signaling.CauseInternal {
			p.log.Error("peer failed", "err", err)
		}
		p.att.Detach(cause)
		p.log.Info("peer gone", "cause", cause.Code, "detail", cause.Detail, "took", time.Since(p.started).Round(time.Millisecond))
	}()
	p.log.Info("peer attached", "codec", p.att.Codec(), "person", p.Spec.Person.ID, "view_only", p.Spec.ViewOnly)

	pc, err := newPeerConnection(p.Ports, p.att.Codec(), p.path, p.resend, &p.reports)
	if err != nil {
		err = fmt.Errorf("make peer connection: %w", err)
		p.Signal.Bye(err)
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
	p.help(func() { p.meter.Run(ctx) })

	err = p.loop(ctx)
	p.simple.end()
	p.Signal.Bye(err)
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
// than CloseTimeout: pion may spend 0.4 s on telling a client that is gone.
// What is left then is the Server's to wait for.
func (p *Peer) close(cancel context.CancelFunc) {
	cancel()
	done := make(chan struct{})
	p.Closing.Add(1)
	go func() {
		defer p.Closing.Done()
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
	case <-time.After(CloseTimeout):
		p.log.Debug("peer connection is still closing", "bound", CloseTimeout)
	}
}

func (p *Peer) loop(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	timer := time.NewTimer(OfferTimeout)
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
		case <-p.Stopping:
			return media.NewCause(media.CauseShutdown, "the server is going down")
		case err := <-p.goodbyes:
			return err
		case f := <-p.calls:
			f()
		case c := <-p.found:
			p.tellCandidate(c)
		case c := <-p.opened:
			p.help(func() { p.serveChannel(ctx, c) })
		case <-p.wake:
			if err := p.onState(ctx); err != nil {
				return err
			}
		case <-p.rated:
			p.tellRate(false) // first: what repairs a flood should be of the new rate
			p.tune()
		case <-tick.C:
			p.everySecond()
			if err := p.unheard(); err != nil {
				return err
			}
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
		earlier(p.started, OfferTimeout, media.NewCause(media.CauseNegotiation, "no offer came within %v", OfferTimeout))
	case !p.streaming:
		earlier(p.offeredAt, ConnectTimeout, media.NewCause(media.CauseICE, "no network path was found within %v", ConnectTimeout))
	default:
		earlier(p.brokenAt, RestartTimeout, media.NewCause(media.CauseICE, "the network path was lost for %v", RestartTimeout))
	}
	earlier(p.orphanedAt, OrphanGrace, media.NewCause(media.CauseLost, "the websocket was lost and the client did not come back"))
	return at, why
}

// Orphan tells that the websocket is gone. Media goes on for a while, so that
// the client can come back with a new one; without media the peer ends.
func (p *Peer) Orphan(ctx context.Context) error {
	return p.call(ctx, func() error {
		p.orphanedAt = time.Now()
		if !p.connected {
			p.Leave(media.NewCause(media.CauseLost, "the websocket was lost"))
		}
		return nil
	})
}

// onState follows the connection's state.
func (p *Peer) onState(ctx context.Context) error {
	s := webrtc.PeerConnectionState(p.state.Load())
	p.log.Debug("connection state", "state", s.String())
	p.connected = s == webrtc.PeerConnectionStateConnected
	switch s {
	case webrtc.PeerConnectionStateConnected:
		if !p.streaming {
			p.streaming = true
			p.heard.Store(int64(media.Now()))
			p.log.Info("peer connected", "took", time.Since(p.started).Round(time.Millisecond))
			p.help(func() { p.pumpVideo(ctx) })
			p.help(func() { p.pumpAudio(ctx) })
		} else if !p.brokenAt.IsZero() {
			p.att.Away(false)
		}
		p.brokenAt = time.Time{}
	case webrtc.PeerConnectionStateDisconnected:
		p.markBroken()
	case webrtc.PeerConnectionStateFailed:
		p.markBroken()
		if p.Spec.Transport != WebRTC && p.streaming {
			return media.NewCause(media.CauseICE, "the network path was lost")
		}
	case webrtc.PeerConnectionStateClosed:
		return media.NewCause(media.CauseLost, "the client closed the connection")
	}
	return nil
}

// unheard is why a client must go that is sent frames and reports nothing about
// them, although the path to it works: its media part has died.
func (p *Peer) unheard() error {
	if !p.streaming || !p.connected || p.counts.frames.Load() < unheardFrames || media.Now().Sub(media.Stamp(p.heard.Load())) < UnheardTimeout {
		return nil
	}
	return media.NewCause(media.CauseNoPicture, "the client has reported nothing about the media for %v", UnheardTimeout)
}

func (p *Peer) markBroken() {
	if p.streaming && p.brokenAt.IsZero() {
		p.brokenAt = time.Now()
		p.att.Away(true)
		p.att.Input(media.Input{Kind: media.ReleaseAll, Received: media.Now()})
	}
}

// Cap sets the client's own bound on the video bitrate, kbit/s, 0 for none.
func (p *Peer) Cap(ctx context.Context, kbps int) error {
	return p.call(ctx, func() error {
		p.maxKbps.Store(int32(kbps))
		p.tellRate(true)
		return nil
	})
}

// heardWithin is how old the last report about the media may be for the path to
// count as working: clients report about once a second.
const heardWithin = 3 * time.Second

// Painted takes the client's word on what it painted, and whether the picture is on
// a screen. Called by one goroutine at a time.
func (p *Peer) Painted(says signaling.Painted) {
	frames := p.meter.Painted(says, p.counts.frames.Load(), p.counts.inputs.Load())
	if frames > p.counts.painted.Load() {
		p.counts.painted.Store(frames)
	}
	works := webrtc.PeerConnectionState(p.state.Load()) == webrtc.PeerConnectionStateConnected &&
		media.Now().Sub(media.Stamp(p.heard.Load())) < heardWithin
	p.att.Painted(media.Paint{Frames: frames, Sent: p.counts.frames.Load(), Visible: says.Visible && works})
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
		p.heard.Store(int64(media.Now()))
		for _, pkt := range packets {
			switch pkt := pkt.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				p.counts.plis.Add(1)
				p.att.RequestKeyFrame() // the client knows what it says
			case *rtcp.TransportLayerNack:
				for i := range pkt.Nacks {
					p.counts.nacks.Add(uint64(len(pkt.Nacks[i].PacketList())))
				}
			case *rtcp.ReceiverReport:
				p.onReports(pkt.Reports)
			case *rtcp.ExtendedReport:
				p.onExtended(pkt)
			}
		}
	}
}

// Abandon gives the place in the session back without having served.
func (p *Peer) Abandon(err error) {
	p.att.Detach(CauseOf(err))
	close(p.done)
}

// CauseOf is the *media.Cause in err's chain, or one that says nothing but that
// the fault is ours.
func CauseOf(err error) *media.Cause {
	var c *media.Cause
	if errors.As(err, &c) {
		return c
	}
	return &media.Cause{Code: signaling.CauseInternal}
}

// FirstState waits for the present state of the session, which every attachment
// tells first, before Serve. Other news on the way there is kept.
func (p *Peer) FirstState(ctx context.Context) (media.SessionState, error) {
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

// Stats is a snapshot. It does not block.
func (p *Peer) Stats() Stats {
	path := p.path.Report()
	totals := p.counts.totals()
	totals.Resent = path.Resent
	for _, t := range []*rtpstream.Track{p.video, p.audio} {
		packets, octets := t.Sent()
		totals.Packets += packets
		totals.Bytes += octets
	}
	return Stats{
		Session: p.Session, Peer: p.att.ID(), Person: p.Spec.Person, Transport: p.Spec.Transport, Codec: p.att.Codec(),
		State:  webrtc.PeerConnectionState(p.state.Load()).String(),
		Kbps:   path.Bitrate / 1000,
		RTT:    time.Duration(p.rtt.Load()),
		Loss:   path.Loss,
		Totals: totals,
	}
}
