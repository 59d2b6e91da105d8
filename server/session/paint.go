package session

import (
	"errors"
	"time"

	"fenrir/media"
)

// When a peer is sent frames and paints none. The first step is for the peer
// alone; the second is for its encoder, which all its peers share.
const (
	blackAfter   = 5 * time.Second // until it is told and gets a key frame
	restartAfter = 8 * time.Second // until the media worker is replaced
	restartGap   = time.Minute     // between two of these
	restartTries = 2               // of these in a row, until somebody paints again
	reportFresh  = 3 * time.Second // how long a report counts: they come once a second
)

// errUnpainted is why a media worker is replaced although it lives.
var errUnpainted = unpainted{}

type unpainted struct{}

func (unpainted) Error() string  { return "nobody paints what the media worker makes" }
func (unpainted) Reason() string { return "unpainted" }

// paint is what a peer says of its picture. A tab that is on no screen and a
// screen on which nothing changes paint nothing, and that is fine: time counts
// only while there are frames that should have been painted.
type paint struct {
	at      time.Time // of the last report, zero before the first
	visible bool
	frames  uint64    // painted, as last reported
	owed    uint64    // frames sent when frames last rose
	since   time.Time // since when frames are sent and none is painted; zero: not so
	told    bool      // the peer was told, and got a key frame
}

// take takes a report, and tells whether the peer painted something.
func (w *paint) take(r media.Paint, now time.Time) (painted bool) {
	painted = r.Frames > w.frames
	stale := !w.at.IsZero() && now.Sub(w.at) > reportFresh // it slept: what it owes is not of its waking time
	fine := w.at                                           // all was well at the last report
	if fine.IsZero() {
		fine = now
	}
	w.at, w.visible = now, r.Visible
	switch {
	case r.Frames != w.frames, !r.Visible, stale:
		w.frames, w.owed = r.Frames, r.Sent
		w.since, w.told = time.Time{}, false
	case r.Sent <= w.owed:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since = fine
	}
	return painted
}

// again is what a new connection of the same client begins with: it is the client
// that sees nothing, whichever connection it has.
func (w paint) again() paint {
	w.frames, w.owed = 0, 0
	return w
}

// black is how long the peer has been sent frames without painting one.
func (w *paint) black(now time.Time) time.Duration {
	if w.since.IsZero() {
		return 0
	}
	return now.Sub(w.since)
}

func (w *paint) picture() media.Picture {
	switch {
	case w.at.IsZero():
		return media.PictureUnknown
	case w.told:
		return media.PictureBlack
	case !w.visible:
		return media.PictureHidden
	}
	return media.PictureOK
}

// Painted implements signaling.Attachment.
func (p *Peer) Painted(r media.Paint) {
	s, now := p.s, time.Now()
	s.mu.Lock()
	if p.gone || s.phase != media.Running {
		s.mu.Unlock()
		return
	}
	r.Visible = r.Visible && !p.away
	before, wasTold := p.paint.picture(), p.paint.told
	if p.paint.take(r, now) {
		p.rung.fruitless = 0
	}
	black := p.paint.black(now)
	tell := black >= blackAfter && !p.paint.told
	if tell {
		p.paint.told = true
	}
	restart := black >= restartAfter && s.nobodyPaints(p.rung, now) && p.rung.mayRestart(now)
	after := p.paint.picture()
	s.mu.Unlock()

	why := media.NewCause(media.CauseNoPicture, "frames are sent, and none of them was painted for %v", black.Round(time.Second))
	switch {
	case restart:
		s.log.Warn("nobody paints what the media worker makes, replacing it", "peer", p.spec.ID, "encoder", p.rung.choice.Encoder.Name, "black", black)
		s.tell(media.Event{Kind: media.EventPeerBlack, Peer: p.spec.ID, Why: "worker-restart", Detail: why.Detail})
		p.rung.restart()
		p.box.put(media.Note{Notice: media.NewCause(media.CauseNoPicture, "%s; the encoder is started anew", why.Detail)})
	case tell:
		s.log.Warn("peer paints nothing, sending a key frame", "peer", p.spec.ID, "black", black, "sent", r.Sent, "painted", r.Frames)
		s.tell(media.Event{Kind: media.EventPeerBlack, Peer: p.spec.ID, Why: "key-frame", Detail: why.Detail})
		p.rung.askKey(repair)
		p.box.put(media.Note{Notice: media.NewCause(media.CauseNoPicture, "%s; a fresh one is on its way", why.Detail)})
	case wasTold && after == media.PictureOK:
		s.log.Info("peer paints again", "peer", p.spec.ID)
		s.tell(media.Event{Kind: media.EventPeerPainted, Peer: p.spec.ID})
	}
	if before != after {
		s.changed()
	}
}

// nobodyPaints tells whether all peers of an encoder that could see its picture
// say that they see none. One that does not tell, as a standard player, may see
// it. Called with mu held.
func (s *Session) nobodyPaints(r *rung, now time.Time) bool {
	for _, p := range s.peers {
		if p.rung != r || p.away || p.paint.picture() == media.PictureHidden && now.Sub(p.paint.at) <= reportFresh {
			continue
		}
		if p.paint.black(now) < blackAfter || now.Sub(p.paint.at) > reportFresh {
			return false
		}
	}
	return true
}

// mayRestart counts a restart for want of painted frames in, if there may be one:
// a client that is broken must not cost the others their picture over and over.
// Called with Session.mu held.
func (r *rung) mayRestart(now time.Time) bool {
	if r.fruitless >= restartTries || !r.restarted.IsZero() && now.Sub(r.restarted) < restartGap {
		return false
	}
	r.fruitless++
	r.restarted = now
	return true
}

// restart ends the worker's present life; another begins at once.
func (r *rung) restart() {
	r.mu.Lock()
	end := r.endLife
	r.mu.Unlock()
	if end != nil {
		end(errUnpainted)
	}
}

// reasonOf is the stable word for why a media worker's life ended.
func reasonOf(err error) string {
	var r interface{ Reason() string }
	if errors.As(err, &r) {
		return r.Reason()
	}
	return "died"
}

// wordsOf is what a process printed before it ended, and the error without that.
func wordsOf(err error) (words string, rest error) {
	var said interface {
		Output() string
		Unwrap() error
	}
	if errors.As(err, &said) {
		return said.Output(), said.Unwrap()
	}
	return "", err
}

// tell tells the operator of an event. It must not be called with mu held.
func (s *Session) tell(ev media.Event) {
	if s.parts.Tell == nil {
		return
	}
	ev.At, ev.Session, ev.App, ev.Owner = time.Now(), string(s.id), s.req.App.ID, s.req.Owner.ID
	s.parts.Tell(ev)
}
