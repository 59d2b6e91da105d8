package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling/browser/offer"
	"fenrir/signaling/browser/rtpstream"
)

// Negotiate answers an offer: the first one makes the tracks, later ones restart
// ICE. deliver is called with the answer before any candidate of it is told. The
// error is a *media.Cause when the client is to blame.
func (p *Peer) Negotiate(ctx context.Context, sdp string, deliver func(answer string)) error {
	return p.call(ctx, func() error {
		answer, err := p.negotiate(sdp)
		if err == nil {
			deliver(answer)
		}
		return err
	})
}

// Answer is the present answer with all candidates found so far.
func (p *Peer) Answer(ctx context.Context) (sdp string, err error) {
	err = p.call(ctx, func() error {
		d := p.pc.LocalDescription()
		if d == nil {
			return errors.New("there was no offer")
		}
		sdp = d.SDP
		// pion knows nothing of our public addresses.
		for _, c := range p.external {
			line := "a=" + c.ToJSON().Candidate + "\r\n"
			if i := strings.Index(sdp, "a=candidate:"); i >= 0 {
				sdp = sdp[:i] + line + sdp[i:]
			}
		}
		return nil
	})
	return sdp, err
}

// tellCandidate tells the client of one of our candidates, nil for the end of
// them, and of what it looks like from outside.
func (p *Peer) tellCandidate(c *webrtc.ICECandidate) {
	if c == nil {
		p.Signal.Candidate(nil)
		return
	}
	p.Signal.Candidate(c)
	for _, e := range p.Ports.External(c) {
		same := func(o *webrtc.ICECandidate) bool {
			return o.Address == e.Address && o.Port == e.Port && o.Protocol == e.Protocol
		}
		if !slices.ContainsFunc(p.external, same) {
			p.external = append(p.external, e)
			p.Signal.Candidate(e)
		}
	}
}

// Trickle takes candidates of the client.
func (p *Peer) Trickle(ctx context.Context, candidates ...webrtc.ICECandidateInit) error {
	return p.call(ctx, func() error {
		for _, c := range candidates {
			if err := p.trickle(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// negotiate answers an offer. The first one makes the tracks; later ones
// restart ICE or change directions, on the same tracks.
func (p *Peer) negotiate(sdp string) (answer string, err error) {
	o, err := offer.Parse(sdp)
	if err != nil {
		return "", media.NewCause(media.CauseNegotiation, "the offer cannot be used: %v", err)
	}
	if p.offeredAt.IsZero() {
		if !o.Has(p.att.Codec()) {
			return "", media.NewCause(media.CauseNegotiation, "the offer has no %s, which was agreed on", p.att.Codec())
		}
		if err := p.addTracks(o); err != nil {
			return "", err
		}
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return "", media.NewCause(media.CauseNegotiation, "the offer cannot be used: %v", err)
	}
	if p.offeredAt.IsZero() && p.Spec.Transport == MoonlightWeb && o.Data {
		if err := p.makeControl(); err != nil {
			return "", err
		}
	}
	desc, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return "", media.NewCause(media.CauseNegotiation, "the offer cannot be answered: %v", err)
	}
	if err := p.pc.SetLocalDescription(desc); err != nil {
		return "", fmt.Errorf("set local description: %w", err)
	}
	p.offeredAt = time.Now()
	p.external = nil
	for _, c := range p.early {
		p.addCandidate(c)
	}
	p.early = nil
	return desc.SDP, nil
}

func (p *Peer) addTracks(o offer.Offer) error {
	tracks := []*rtpstream.Track{p.video}
	if o.Audio {
		tracks = append(tracks, p.audio)
	}
	for _, t := range tracks {
		tr, err := p.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return fmt.Errorf("add %s track: %w", t.Kind(), err)
		}
		for _, e := range tr.Sender().GetParameters().Encodings {
			p.reports.reads(uint32(e.SSRC), t.Kind())
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
		if len(p.early) == MaxEarly {
			return media.NewCause(media.CauseProtocol, "more than %d candidates before an offer", MaxEarly)
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
