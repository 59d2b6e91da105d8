package session

import (
	"context"
	"slices"
	"time"

	"fenrir/media"
)

// runDesktop runs the desktop and takes its news.
func (s *Session) runDesktop(ctx context.Context) error {
	err := s.parts.Desktop.Run(ctx, s.desktopEvent)
	if err == nil && ctx.Err() == nil {
		s.End(&media.Cause{Code: media.CauseAppExited})
	}
	return err
}

// progressOf is how far a start is when a step begins.
var progressOf = map[media.Step]float64{
	media.StepDisplay: 0.05, media.StepSound: 0.25, media.StepProgram: 0.45, media.StepPicture: 0.8,
}

func (s *Session) desktopEvent(ev media.DesktopEvent) {
	switch ev.Kind {
	case media.DesktopStep:
		s.setStep(ev.Step)
	case media.DesktopDisplay:
		s.mu.Lock()
		s.display = ev.Display
		s.sound = ev.Sound
		if ev.Display.Width > 0 {
			s.width, s.height = ev.Display.Width, ev.Display.Height
		}
		select {
		case <-s.displayUp:
		default:
			close(s.displayUp)
		}
		s.mu.Unlock()
	case media.DesktopSound:
		s.mu.Lock()
		s.sound = ev.Sound
		s.mu.Unlock()
	case media.DesktopSilent:
		s.soundChanged(false)
	case media.DesktopProgram:
		s.mu.Lock()
		s.program.PID = ev.PID
		s.running = true
		s.mu.Unlock()
		s.setStep(media.StepPicture)
		s.firstFrame()
	case media.DesktopFinished:
		cause := ev.Cause
		if cause == nil {
			cause = &media.Cause{Code: media.CauseAppExited}
		}
		s.End(cause)
	}
}

func (s *Session) setStep(step media.Step) {
	s.mu.Lock()
	if s.phase == media.Starting && progressOf[step] > s.progress {
		s.step, s.progress = step, progressOf[step]
	}
	s.mu.Unlock()
	s.changed()
}

// firstFrame makes the session running once the program runs and a frame of it
// was encoded.
func (s *Session) firstFrame() {
	s.mu.Lock()
	ok := s.phase == media.Starting && s.running && slices.ContainsFunc(s.rungs, func(r *rung) bool { return r.video.Written() > 0 })
	if ok {
		s.phase, s.step, s.progress = media.Running, "", 1
	}
	s.mu.Unlock()
	if ok {
		s.log.Info("session running", "took", time.Since(s.created).Round(time.Millisecond))
		s.tell(media.Event{Kind: media.EventSessionRunning})
	}
	s.changed()
}

// waitDesktop blocks until the display is up; the sound server may follow later,
// at the address that is known from now on.
func (s *Session) waitDesktop(ctx context.Context) (media.Display, media.Sound, error) {
	select {
	case <-s.displayUp:
	case <-ctx.Done():
		return media.Display{}, media.Sound{}, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.display, s.sound, nil
}

// runDevices feeds the input devices and takes the cursor's news. Devices that
// fail are tried again: a hung display ends the session through the desktop.
func (s *Session) runDevices(ctx context.Context) error {
	display, _, err := s.waitDesktop(ctx)
	if err != nil {
		return nil // ended before there was a display
	}
	in := make(chan media.Input)
	feeding := make(chan struct{})
	feed, stop := context.WithCancel(ctx)
	go func() { // waited for below
		defer close(feeding)
		for {
			ev, err := s.inputs.next(feed)
			if err != nil {
				return
			}
			select {
			case in <- ev:
			case <-feed.Done():
				return
			}
		}
	}()
	defer func() { stop(); <-feeding }()
	for {
		err := s.parts.Devices.Run(ctx, display, in, s.deviceNote)
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn("input devices lost, trying again", "err", err)
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Session) deviceNote(n media.Note) {
	s.mu.Lock()
	if n.Injected != nil {
		p := s.peers[n.Injected.Peer]
		s.mu.Unlock()
		if p != nil {
			p.box.put(n)
		}
		return
	}
	if n.Cursor != nil {
		s.cursor = n.Cursor
	}
	if n.Move != nil {
		s.move = n.Move
	}
	boxes := s.boxes()
	s.mu.Unlock()
	for _, b := range boxes {
		b.put(n)
	}
}

// boxes are the mailboxes of all peers. Called with mu held.
func (s *Session) boxes() []*mailbox {
	out := make([]*mailbox, 0, len(s.peers)+len(s.watchers))
	for _, p := range s.peers {
		out = append(out, p.box)
	}
	return out
}

// changed tells everyone who watches what the session looks like now.
func (s *Session) changed() {
	state := s.State()
	s.mu.Lock()
	boxes := s.boxes()
	for w := range s.watchers {
		boxes = append(boxes, w)
	}
	s.mu.Unlock()
	for _, b := range boxes {
		b.put(media.Note{State: &state})
	}
}

func (s *Session) soundChanged(ok bool) {
	now := "lost"
	if ok {
		now = "ok"
	}
	s.mu.Lock()
	same := s.soundOK == now || (s.soundOK == "starting" && !ok)
	if !same {
		s.soundOK = now
	}
	s.mu.Unlock()
	if !same {
		s.log.Info("sound", "state", now)
		s.changed()
	}
}

func (s *Session) resized(width, height int) {
	s.mu.Lock()
	same := s.width == width && s.height == height
	s.width, s.height = width, height
	s.mu.Unlock()
	if !same {
		s.changed()
	}
}
