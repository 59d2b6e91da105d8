package session

import (
	"context"

	"fenrir/media"
)

// Bounds of a picture that is not the display's, pixels.
const (
	leastSide, mostSide = 16, 7680
	mostArea            = 3840 * 2160
	mostFPS             = 240
)

// Bounds of a display, as the desktop has them.
const (
	minWidth, maxWidth   = 640, 3840
	minHeight, maxHeight = 360, 2160
)

// settle brings a peer's wishes into the form in which equal ones are equal. The
// error is a *media.Cause: no-encoder for what is never made.
func settle(spec *media.PeerSpec) error {
	v := &spec.Video
	v.Width, v.Height = v.Width&^1, v.Height&^1
	sized := v.Width != 0 || v.Height != 0
	if sized && (min(v.Width, v.Height) < leastSide || max(v.Width, v.Height) > mostSide || v.Width*v.Height > mostArea) {
		return media.NewCause(media.CauseNoEncoder, "a picture of %d×%d is not made here", v.Width, v.Height)
	}
	if v.FPS < 0 || v.FPS > mostFPS {
		return media.NewCause(media.CauseNoEncoder, "a picture of %d frames a second is not made here", v.FPS)
	}
	if spec.Audio == nil {
		return nil
	}
	if err := spec.Audio.Check(); err != nil {
		return &media.Cause{Code: media.CauseNoEncoder, Detail: err.Error()}
	}
	own := *spec.Audio
	if own.Channels == 2 {
		own.Channels = 0
	}
	spec.Audio = &own
	return nil
}

// fit makes the display as large as a peer that has just come wants its picture.
// Whose wish counts:
//
//   - Who only watches and who names no size, as a browser, has no say.
//   - Of the owner's players the one that came last decides: that is the device that
//     the owner sits at now.
//   - Anybody else decides only as long as nobody else is attached.
//   - A size that no display has, below 640×360 or above 3840×2160, is nobody's to decide.
//
// Whoever has no say, or comes to have another size than the display's later, is
// sent the display scaled into its own size, with black bars where the shape differs.
// So is everybody when the display refuses. Nothing is changed back when a peer
// leaves: the next one decides. Called with mu held; it does not block.
func (s *Session) fit(p *Peer) {
	w, h := p.spec.Video.Width, p.spec.Video.Height
	if w < minWidth || w > maxWidth || h < minHeight || h > maxHeight || p.grant == View {
		return
	}
	if len(s.peers) > 1 && p.spec.Person.ID != s.req.Owner.ID {
		return
	}
	s.fitTo = [2]int{w, h}
	if s.fitting || s.width == w && s.height == h {
		return
	}
	s.fitting = true
	s.tasks["fit"]++
	s.spawn("fit", func(ctx context.Context) error {
		s.fitDisplay(ctx)
		return nil
	})
}

// fitDisplay resizes the display until it has the size that was wished last.
func (s *Session) fitDisplay(ctx context.Context) {
	for {
		s.mu.Lock()
		w, h := s.fitTo[0], s.fitTo[1]
		s.mu.Unlock()
		_, _, err := s.waitDesktop(ctx)
		if err == nil {
			bounded, cancel := context.WithTimeout(ctx, fitBound)
			err = s.changeDisplay(bounded, Change{Width: &w, Height: &h}, true, false)
			cancel()
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("the display stays as it is, pictures are scaled", "width", w, "height", h, "err", err)
		} else if err == nil {
			s.log.Info("the display follows a player", "width", w, "height", h)
		}
		s.mu.Lock()
		over := err != nil || s.fitTo == [2]int{w, h}
		if over {
			s.fitting = false
		}
		s.mu.Unlock()
		if over {
			break
		}
	}
	s.changed()
}
