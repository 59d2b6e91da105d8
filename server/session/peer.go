package session

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"fenrir/media"
)

// Grant is what a peer may do besides watching.
type Grant media.GrantBits

// Full allows everything, View nothing but watching.
var (
	Full = Grant{Keyboard: true, Pointer: true, Pads: true}
	View = Grant{}
)

// Allows tells whether in may come from a peer with this grant.
func (g Grant) Allows(in media.Input) bool {
	switch in.Kind {
	case media.KeyDown, media.KeyUp, media.Text:
		return g.Keyboard
	case media.PointerMove, media.PointerDelta, media.ButtonDown, media.ButtonUp,
		media.ScrollV, media.ScrollH, media.Touch, media.Pen:
		return g.Pointer
	case media.PadArrival, media.PadState, media.PadTouch, media.PadMotion, media.PadBattery:
		return g.Pads
	case media.ReleaseAll:
		return true
	}
	return false
}

// Peer is one connection attached to a session. It implements
// signaling.Attachment. Only the Next… methods block.
type Peer struct {
	s      *Session
	spec   media.PeerSpec
	grant  Grant
	since  time.Time
	rung   *rung
	sound  *sound
	video  *Reader
	audio  *Reader
	box    *mailbox
	ctx    context.Context // ends with the peer; its cause says why
	cancel context.CancelCauseFunc

	estimate atomic.Int64 // kbit/s, 0 until known
	denied   atomic.Uint64

	held  held  // guarded by Session.mu
	paint paint // guarded by Session.mu
	away  bool  // guarded by Session.mu
	gone  bool  // guarded by Session.mu
}

// Attach makes a peer. One with the same id and person is superseded. It never
// blocks: an encoder that has to start does so behind the scenes. The errors are
// *media.Cause: no-encoder, too-many-sessions, or why the session is ending.
func (s *Session) Attach(spec media.PeerSpec, grant Grant) (*Peer, error) {
	if spec.ID == "" {
		spec.ID = "p_" + strings.ToLower(rand.Text())
	}
	if spec.ViewOnly {
		grant = View
	}
	if err := settle(&spec); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.phase == media.Ending || s.phase == media.Ended {
		s.mu.Unlock()
		return nil, asCause(s.Err())
	}
	old := s.peers[spec.ID]
	if old != nil && old.spec.Person.ID != spec.Person.ID {
		s.mu.Unlock()
		return nil, &media.Cause{Code: media.CauseProtocol, Detail: "this peer id belongs to someone else"}
	}
	if old == nil && len(s.peers) >= s.cfg.MaxPeers {
		s.mu.Unlock()
		return nil, media.NewCause(media.CauseTooMany, "the session has its maximum of %d connections", s.cfg.MaxPeers)
	}
	r, a, err := s.streamsFor(spec)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	p := &Peer{s: s, spec: spec, grant: grant, since: time.Now(), rung: r, sound: a, box: newMailbox()}
	p.ctx, p.cancel = context.WithCancelCause(s.ctx)
	p.audio = a.packets.NewReader()
	p.video = r.video.NewReader()
	r.watch(s.fps)
	cursor, move := s.cursor, s.move
	if old != nil {
		old.leave()
		p.paint = old.paint.again()
	}
	s.peers[spec.ID] = p
	s.fit(p)
	s.mu.Unlock()

	if spec.Unmeasured {
		s.steer()
	}
	if old != nil {
		old.finish(&media.Cause{Code: media.CauseSuperseded, Detail: "the same client connected again"})
	}
	if cursor != nil {
		p.box.put(media.Note{Cursor: cursor})
	}
	if move != nil {
		p.box.put(media.Note{Move: move})
	}
	s.log.Debug("peer attached", "peer", spec.ID, "person", spec.Person.ID, "transport", spec.Transport, "codec", r.choice.Encoder.Codec)
	s.tell(media.Event{Kind: media.EventPeerAttached, Peer: spec.ID, Detail: spec.Transport + ", " + string(r.choice.Encoder.Codec)})
	s.changed()
	return p, nil
}

// streamsFor finds what a peer is sent, and starts what of it does not run yet.
// The error is a *media.Cause. Called with mu held.
func (s *Session) streamsFor(spec media.PeerSpec) (*rung, *sound, error) {
	a, err := s.soundFor(spec.Audio)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.rungFor(spec, a)
	if err != nil {
		return nil, nil, err
	}
	s.voice(a)
	return r, a, nil
}

// rungFor finds the encoder for a peer: one that runs already if it makes the
// picture that the peer wants in a codec that it decodes, else the best one, which
// makes the sound a as well if nobody does yet. It begins at the bitrate of a peer
// whose path nobody measures, and never has to be told another. Called with mu held.
func (s *Session) rungFor(spec media.PeerSpec, a *sound) (*rung, error) {
	for _, r := range s.rungs {
		if !r.resting && !r.voice && r.wish == spec.Video && slices.Contains(spec.Codecs, r.choice.Encoder.Codec) {
			return r, nil
		}
	}
	choice, err := s.encoders.Choose(spec.Codecs)
	if err != nil {
		return nil, err
	}
	if err := s.makeRoom(); err != nil {
		return nil, err
	}
	kbps := s.cfg.StartKbps
	if spec.Unmeasured && spec.MaxKbps > 0 {
		kbps = max(spec.MaxKbps, s.cfg.MinKbps)
	}
	return s.startRung(choice, spec.Video, a, kbps), nil
}

func (p *Peer) state() media.PeerState {
	return media.PeerState{
		ID: p.spec.ID, Person: p.spec.Person, Transport: p.spec.Transport,
		Codec: p.rung.choice.Encoder.Codec, Grant: media.GrantBits(p.grant), Since: p.since,
		Picture: p.paint.picture(),
	}
}

// ID implements signaling.Attachment.
func (p *Peer) ID() string { return p.spec.ID }

// Codec implements signaling.Attachment.
func (p *Peer) Codec() media.Codec { return p.rung.choice.Encoder.Codec }

// Audio implements signaling.Attachment.
func (p *Peer) Audio() media.AudioFormat { return p.sound.spec.Format() }

// Grant implements signaling.Attachment.
func (p *Peer) Grant() media.GrantBits { return media.GrantBits(p.grant) }

// Context implements signaling.Attachment.
func (p *Peer) Context() context.Context { return p.ctx }

// NextVideo implements signaling.Attachment.
func (p *Peer) NextVideo(ctx context.Context) (media.Unit, error) { return p.video.Next(ctx) }

// NextAudio implements signaling.Attachment.
func (p *Peer) NextAudio(ctx context.Context) (media.Unit, error) { return p.audio.Next(ctx) }

// NextNote implements signaling.Attachment.
func (p *Peer) NextNote(ctx context.Context) (media.Note, error) { return p.box.next(ctx, p.ctx) }

// RequestKeyFrame implements signaling.Attachment.
func (p *Peer) RequestKeyFrame() { p.rung.askKey(repair) }

// Estimate implements signaling.Attachment.
func (p *Peer) Estimate(kbps int) {
	p.estimate.Store(int64(kbps))
	p.s.steer()
}

// Target implements signaling.Attachment.
func (p *Peer) Target() int { return p.rung.target() }

// Input implements signaling.Attachment.
func (p *Peer) Input(in media.Input) {
	if !p.grant.Allows(in) {
		p.denied.Add(1)
		return
	}
	in.Peer = p.spec.ID
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.gone {
		return
	}
	switch in.Kind {
	case media.ReleaseAll:
		p.release()
		return
	case media.KeyDown:
		if _, down := p.held.keys[in.Key]; down {
			return // the display repeats by itself
		}
	case media.KeyUp:
		if _, down := p.held.keys[in.Key]; !down {
			return // not this peer's to release
		}
	case media.ButtonUp:
		if _, down := p.held.buttons[in.Button]; !down {
			return
		}
	}
	p.held.apply(in)
	if s.othersHold(in) {
		return
	}
	s.inputs.put(in)
	s.prompt(in)
}

// promptGap is the least time between two presses that are answered out of turn.
const promptGap = 50 * time.Millisecond

// prompt lets encoders that are watched answer a press at once. It goes out with
// the input, and is there before the program has drawn. Called with mu held.
func (s *Session) prompt(in media.Input) {
	switch in.Kind {
	case media.KeyDown, media.ButtonDown, media.ScrollV, media.ScrollH, media.Text:
	default:
		return
	}
	now := time.Now()
	if now.Sub(s.prompted) < promptGap {
		return
	}
	s.prompted = now
	for _, r := range s.rungs {
		if !r.resting && r.video.Readers() > 0 {
			r.order(media.Order{Kind: media.OrderPrompt})
		}
	}
}

// othersHold tells whether in releases what another peer still holds. Called
// with mu held.
func (s *Session) othersHold(in media.Input) bool {
	for _, p := range s.peers {
		switch in.Kind {
		case media.KeyUp:
			if _, ok := p.held.keys[in.Key]; ok {
				return true
			}
		case media.ButtonUp:
			if _, ok := p.held.buttons[in.Button]; ok {
				return true
			}
		}
	}
	return false
}

// release undoes what the peer holds. Called with Session.mu held.
func (p *Peer) release() {
	for _, in := range p.held.releases(media.Now()) {
		if !p.s.othersHold(in) {
			p.s.inputs.put(in)
		}
	}
}

// Away implements signaling.Attachment.
func (p *Peer) Away(away bool) {
	s := p.s
	s.mu.Lock()
	if p.gone || p.away == away {
		s.mu.Unlock()
		return
	}
	p.away = away
	p.video.Pause(away)
	p.audio.Pause(away)
	if away {
		p.rung.ease()
	} else {
		p.rung.watch(s.fps)
	}
	s.mu.Unlock()
	s.log.Debug("peer away", "peer", p.spec.ID, "away", away)
	s.steer()
}

// leave takes the peer out of the session. Called with Session.mu held; tells
// whether it was in.
func (p *Peer) leave() bool {
	if p.gone {
		return false
	}
	p.gone = true
	p.release()
	if p.s.peers[p.spec.ID] == p {
		delete(p.s.peers, p.spec.ID)
	}
	p.s.alone = time.Now()
	return true
}

// finish ends what a peer that has left still holds.
func (p *Peer) finish(cause *media.Cause) {
	p.cancel(cause)
	p.video.Close(cause)
	p.audio.Close(cause)
	p.s.mu.Lock()
	p.s.totals.add(p.totals())
	p.rung.ease()
	if r := p.sound.carrier; r != nil && r != p.rung {
		r.ease()
	}
	p.s.mu.Unlock()
	p.s.log.Debug("peer gone", "peer", p.spec.ID, "cause", cause.Code, "detail", cause.Detail,
		"lost_video", p.video.Dropped(), "lost_audio", p.audio.Dropped(), "denied_inputs", p.denied.Load())
	p.s.tell(media.Event{Kind: media.EventPeerGone, Peer: p.spec.ID, Why: cause.Code, Detail: cause.Detail})
}

// Detach implements signaling.Attachment.
func (p *Peer) Detach(cause *media.Cause) {
	p.s.mu.Lock()
	was := p.leave()
	p.s.mu.Unlock()
	if !was {
		return
	}
	p.finish(cause)
	p.s.steer()
	p.s.changed()
}

// steer sets each encoder's bitrate, and what follows from it, to what its slowest
// player can take; those who only watch have a say only where nobody plays, and
// never raise a cap. Who sets no cap is not given more than the picture can use.
// Frame rate and size follow the best path: one slow player may cost the others
// quality, but no frames.
func (s *Session) steer() {
	type order struct {
		r    *rung
		kbps int
		best int // of the paths, 0 while none is known
	}
	var orders []order
	s.mu.Lock()
	for _, r := range s.rungs {
		if r.voice {
			continue
		}
		players, watchers, best := 0, 0, 0
		for _, p := range s.peers {
			est := int(p.estimate.Load())
			if est == 0 && p.spec.Unmeasured {
				est = p.spec.MaxKbps
			}
			if p.rung != r || est == 0 || p.away {
				continue
			}
			if p.spec.MaxKbps > 0 {
				est = min(est, p.spec.MaxKbps)
			} else if !s.wished {
				est = min(est, r.usefulKbps(s.width, s.height, s.fps))
			}
			if p.grant == View {
				watchers = lower(watchers, est)
			} else {
				players = lower(players, est)
			}
			best = max(best, est)
		}
		kbps := min(s.cfg.StartKbps, s.maxKbps)
		if players > 0 {
			kbps = players
		} else if watchers > 0 {
			kbps = watchers
		}
		orders = append(orders, order{r, max(min(kbps, s.maxKbps), s.cfg.MinKbps), min(best, s.maxKbps)})
	}
	fps, width, height := s.fps, s.width, s.height
	s.mu.Unlock()
	for _, o := range orders {
		o.r.steer(o.kbps)
		if o.best > 0 {
			o.r.shape(o.best, fps, width, height)
		}
	}
}

// usefulKbps is the bitrate above which nobody sees the difference: a sixth of a
// bit for a pixel, 9 Mbit/s at 720p60 and 21 at 1080p60. More costs the encoder,
// the path and the player's decoder time that is missing elsewhere. The size is
// the display's and the rate the session's.
func (r *rung) usefulKbps(width, height, fps int) int {
	width, height = r.size(width, height)
	return width * height * r.bound(fps) / 6000
}

// lower is the smaller of two, where 0 stands for none.
func lower(a, b int) int {
	if a == 0 || b < a {
		return b
	}
	return a
}
