// Package input is the virtual keyboard and mouse of an X display: it turns
// media.Input into XTEST events, types any Unicode text, sets keyboard layouts, and
// watches the cursor. It promises that events keep their order, that nothing
// stays pressed, and bounded waits: a display that hangs or dies ends Run with an error.
// Pure Go; it imports media, media/x11, media/screen and xgb.
package input

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"fenrir/media"
	"fenrir/media/screen"

	"github.com/jezek/xgb/xproto"
)

// Devices are the virtual keyboard and pointer of displays, and the eye on their
// cursor. Several displays may be served at once. The zero value is ready.
type Devices struct {
	Log *slog.Logger // slog.Default when nil

	mu     sync.Mutex          // guards what follows
	left   map[string]*remains // by display: what the last Run could not undo
	counts Counts
}

// Counts are totals over all displays since the start.
type Counts struct {
	Injected    uint64                     // X events made
	Unsupported map[media.InputKind]uint64 // inputs that there is no device for
	Unknown     uint64                     // keys and buttons that do not exist
	Untyped     uint64                     // characters that could not be typed
}

// Counts returns the totals.
func (d *Devices) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Unsupported = maps.Clone(c.Unsupported)
	return c
}

// undoBound is the time that Run takes at its end to let go of what is held.
const undoBound = 300 * time.Millisecond

// Run injects what comes in until ctx ends (nil) or the display is lost or hangs
// (an error), and tells note what the cursor looks like, where it stands, and when
// numbered inputs were injected; note may be called by two goroutines at a time. At
// its end everything that it pressed is released; if the server does not answer
// then, the next Run for the same display does it. Touch, pen and pads have no device
// here: they are counted. It takes from in without delay, but for text of many
// unusual characters and a server that does not answer: the sender keeps the queue.
func (d *Devices) Run(ctx context.Context, display media.Display, in <-chan media.Input, note func(media.Note)) error {
	if err := d.run(ctx, display, in, note); err != nil && ctx.Err() == nil {
		return fmt.Errorf("input devices of %s: %w", display.Name, err)
	}
	return nil
}

func (d *Devices) run(ctx context.Context, display media.Display, in <-chan media.Input, note func(media.Note)) error {
	left := d.take(display.Name)
	// The connection outlives ctx by a moment, to undo what was done.
	life, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() {
		bound := time.NewTimer(undoBound)
		defer bound.Stop()
		select {
		case <-bound.C:
			cut()
		case <-life.Done():
		}
	})()
	b, err := openBoard(life, display, left)
	if err != nil {
		d.leave(display.Name, left)
		return err
	}
	defer b.conn.Close()

	r := &runner{devices: d, board: b, eye: screen.NewEye(), note: note}
	watching, blind := context.WithCancel(ctx)
	lost := make(chan error, 1)
	go func() {
		err := r.eye.Watch(watching, display, note)
		lost <- err
		if err != nil {
			cut() // the eye asks the server something all the time, injection does not
		}
	}()
	err = r.loop(ctx, in, lost)
	blind()
	if !r.blind {
		if seen := <-lost; seen != nil { // its connection closes with its context
			err = seen
		}
	}
	still := b.remains.clone()
	undoing, done := context.WithTimeout(life, undoBound)
	defer done()
	if b.undo(undoing) != nil { // the next Run will
		d.leave(display.Name, still)
	}
	d.mu.Lock()
	d.counts.Injected += b.injects
	d.mu.Unlock()
	return err
}

// take gets what the last Run left pressed on a display.
func (d *Devices) take(display string) *remains {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.left[display]
	delete(d.left, display)
	if h == nil {
		h = &remains{}
	}
	return h
}

// leave remembers what is still pressed.
func (d *Devices) leave(display string, h *remains) {
	if h.empty() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == nil {
		d.left = map[string]*remains{}
	}
	d.left[display] = h
}

// Resize changes the size of the display; it blocks at most 3 s.
func (d *Devices) Resize(ctx context.Context, display media.Display, width, height int) error {
	return screen.Resize(ctx, display, width, height)
}

// SetLayout changes the keyboard layout, given as an XKB name with an optional
// variant in brackets: "us", "de(nodeadkeys)". ErrLayout says that there is no
// such layout. It blocks at most LayoutBound.
func (d *Devices) SetLayout(ctx context.Context, display media.Display, layout string) error {
	return setLayout(ctx, display, layout)
}

func (d *Devices) log() *slog.Logger {
	if d.Log == nil {
		return slog.Default()
	}
	return d.Log
}

// unsupported counts an input without device, and says so the first time.
func (d *Devices) unsupported(k media.InputKind) {
	d.mu.Lock()
	if d.counts.Unsupported == nil {
		d.counts.Unsupported = map[media.InputKind]uint64{}
	}
	d.counts.Unsupported[k]++
	first := d.counts.Unsupported[k] == 1
	d.mu.Unlock()
	if first {
		d.log().Info("no device for this kind of input", "kind", int(k))
	}
}

// runner is one Run.
type runner struct {
	devices *Devices
	board   *board
	eye     *screen.Eye
	note    func(media.Note)
	blind   bool // the eye's end has been taken from its channel
}

func (r *runner) loop(ctx context.Context, in <-chan media.Input, lost <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-lost:
			r.blind = true
			return err
		case <-r.board.conn.Done():
			return r.board.conn.Err()
		case ev, ok := <-in:
			if !ok {
				in = nil // nothing more will come: wait for the end
				continue
			}
			at, before := media.Now(), r.board.injects
			if err := r.inject(ctx, ev); err != nil {
				return err
			}
			if ev.Number != 0 && r.board.injects != before {
				r.note(media.Note{Injected: &media.Injection{Peer: ev.Peer, Number: ev.Number, Received: ev.Received, Injected: at}})
			}
		}
	}
}

// inject does what one input asks for.
func (r *runner) inject(ctx context.Context, ev media.Input) error {
	b := r.board
	switch ev.Kind {
	case media.KeyDown, media.KeyUp:
		code := Keycode(ev.Key)
		if code == 0 {
			r.unknown()
			return nil
		}
		b.key(xproto.Keycode(code), ev.Kind == media.KeyDown)
	case media.ButtonDown, media.ButtonUp:
		if int(ev.Button) >= len(buttons) || buttons[ev.Button] == 0 {
			r.unknown()
			return nil
		}
		b.button(buttons[ev.Button], ev.Kind == media.ButtonDown)
		r.eye.Touch()
	case media.PointerMove:
		r.eye.Touch()
		return b.moveTo(ev.X, ev.Y, ev.W, ev.H)
	case media.PointerDelta:
		b.moveBy(ev.DX, ev.DY)
		r.eye.Touch()
	case media.ScrollV:
		b.scroll(b.wheelV.turn(ev.DY), 4, 5)
	case media.ScrollH:
		b.scroll(b.wheelH.turn(ev.DX), 7, 6)
	case media.Text:
		return r.text(ctx, ev.Text)
	case media.ReleaseAll:
		b.releaseAll()
	default:
		r.devices.unsupported(ev.Kind)
	}
	return nil
}

// text types; a character that the server does not take is no reason to end.
func (r *runner) text(ctx context.Context, s string) error {
	for _, c := range s {
		if err := r.board.char(ctx, c); err != nil {
			if r.board.conn.Err() != nil || ctx.Err() != nil {
				return err
			}
			r.devices.mu.Lock()
			r.devices.counts.Untyped++
			r.devices.mu.Unlock()
			r.devices.log().Warn("a character could not be typed", "err", err)
		}
	}
	return nil
}

func (r *runner) unknown() {
	r.devices.mu.Lock()
	r.devices.counts.Unknown++
	r.devices.mu.Unlock()
}
