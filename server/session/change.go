package session

import (
	"context"
	"fmt"
	"time"
)

// fitBound is how long the display may take to change.
const fitBound = 3 * time.Second

// Change is what may be changed of a living session; nil fields stay.
type Change struct {
	Width, Height *int // both or none
	FPS           *int
	MaxKbps       *int
	Layout        *string
}

// Change applies c. The size and the layout follow when the display has taken
// them, which this waits for until ctx ends or 3 s are over.
func (s *Session) Change(ctx context.Context, c Change) error {
	s.mu.Lock()
	if c.FPS != nil {
		s.fps = *c.FPS
		for _, r := range s.rungs {
			if r.video.Readers() > 0 {
				r.watch(s.fps)
			}
		}
	}
	if c.MaxKbps != nil {
		s.maxKbps = max(min(*c.MaxKbps, s.cfg.MaxKbps), s.cfg.MinKbps)
		s.wished = true
	}
	width, height, layout := s.width, s.height, s.layout
	s.mu.Unlock()
	s.steer()
	defer s.changed()

	resize := c.Width != nil && c.Height != nil && (*c.Width != width || *c.Height != height)
	relayout := c.Layout != nil && *c.Layout != layout
	if !resize && !relayout {
		return nil
	}
	result := make(chan error, 1)
	s.Go("change", func(life context.Context) error {
		ctx, cancel := context.WithTimeout(life, fitBound)
		defer cancel()
		result <- s.changeDisplay(ctx, c, resize, relayout)
		return nil
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.ctx.Done():
		return s.Err()
	}
}

func (s *Session) changeDisplay(ctx context.Context, c Change, resize, relayout bool) error {
	display, _, err := s.waitDesktop(ctx)
	if err != nil {
		return err
	}
	if resize {
		if err := s.parts.Devices.Resize(ctx, display, *c.Width, *c.Height); err != nil {
			return fmt.Errorf("resize the display: %w", err)
		}
		s.mu.Lock()
		s.width, s.height = *c.Width, *c.Height
		s.mu.Unlock()
	}
	if relayout {
		if err := s.parts.Devices.SetLayout(ctx, display, *c.Layout); err != nil {
			return fmt.Errorf("set the keyboard layout: %w", err)
		}
		s.mu.Lock()
		s.layout = *c.Layout
		s.mu.Unlock()
	}
	return nil
}

// Screenshot is the display as PNG, within 2 s.
func (s *Session) Screenshot(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	display, _, err := s.waitDesktop(ctx)
	if err != nil {
		return nil, err
	}
	return s.parts.Screenshot(ctx, display)
}
