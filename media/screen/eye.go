package screen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"time"

	"fenrir/media"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xfixes"
	"github.com/jezek/xgb/xproto"
)

const (
	lookActive = 8 * time.Millisecond   // between two looks at the pointer, after input
	lookIdle   = 500 * time.Millisecond // otherwise: the program may move it by itself
	activeFor  = 300 * time.Millisecond // after the last input
	cursorsMax = 64                     // remembered pictures
)

// Eye watches a display's cursor; make it with NewEye.
type Eye struct {
	touched chan struct{}
}

// NewEye makes an eye.
func NewEye() *Eye { return &Eye{touched: make(chan struct{}, 1)} }

// Touch tells that input was just given to the display, so that the pointer may
// move: for a moment the eye looks at its place up to 125 times a second. It never
// blocks and may be called from any goroutine.
func (e *Eye) Touch() {
	select {
	case e.touched <- struct{}{}:
	default:
	}
}

// Watch tells note, from its own goroutine, of the cursor's picture (at once, and
// whenever it changes; Width 0 while it is hidden) and of the pointer's place (when
// it has moved). It blocks until ctx ends, then returns nil, or until the display is
// lost. note must not block. What programs hide with XFixesHideCursor still counts as
// shown: X servers keep that to themselves.
func (e *Eye) Watch(ctx context.Context, display media.Display, note func(media.Note)) error {
	c, err := x11.Dial(ctx, display)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("watch cursor: %w", err)
	}
	defer c.Close()
	w := &watch{conn: c, note: note, known: map[uint32]*media.CursorImage{}}
	if err := w.run(ctx, e.touched); err != nil && ctx.Err() == nil {
		return fmt.Errorf("watch cursor of %s: %w", display.Name, err)
	}
	return nil
}

// Watch watches a display's cursor with an eye that nobody touches.
func Watch(ctx context.Context, display media.Display, note func(media.Note)) error {
	return NewEye().Watch(ctx, display, note)
}

type watch struct {
	conn  *x11.Conn
	note  func(media.Note)
	known map[uint32]*media.CursorImage // by the X server's serial
	shown uint32
	some  bool // shown is valid
	place media.CursorMove
	seen  bool // place is valid
}

func (w *watch) run(ctx context.Context, touched <-chan struct{}) error {
	if err := w.conn.Use(ctx, "XFIXES"); err != nil {
		return err
	}
	_, err := x11.Do(ctx, w.conn, func(x *xgb.Conn) (*xfixes.QueryVersionReply, error) {
		return xfixes.QueryVersion(x, 2, 0).Reply()
	})
	if err != nil {
		return fmt.Errorf("ask for the version of XFIXES: %w", err)
	}
	xfixes.SelectCursorInput(w.conn.X, w.conn.Root(), xfixes.CursorNotifyMaskDisplayCursor)
	if err := w.look(ctx); err != nil {
		return err
	}
	if err := w.find(ctx); err != nil {
		return err
	}
	var touch time.Time
	timer := time.NewTimer(lookIdle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.conn.Done():
			return w.conn.Err()
		case <-w.conn.Ready():
			changed, err := w.drain()
			if err != nil {
				return err
			}
			if changed {
				if err := w.look(ctx); err != nil {
					return err
				}
			}
		case <-touched:
			if time.Since(touch) > activeFor {
				timer.Reset(lookActive)
			}
			touch = time.Now()
		case <-timer.C:
			if err := w.find(ctx); err != nil {
				return err
			}
			if time.Since(touch) < activeFor {
				timer.Reset(lookActive)
			} else {
				timer.Reset(lookIdle)
			}
		}
	}
}

// drain takes all events and tells whether the cursor changed.
func (w *watch) drain() (changed bool, err error) {
	for {
		ev, err := w.conn.Poll()
		if errors.Is(err, x11.ErrEventsLost) {
			changed = true
			continue
		}
		if err != nil || ev == nil {
			return changed, err
		}
		if _, ok := ev.(xfixes.CursorNotifyEvent); ok {
			changed = true
		}
	}
}

// find tells where the pointer is, if it has moved.
func (w *watch) find(ctx context.Context) error {
	p, err := x11.Do(ctx, w.conn, func(x *xgb.Conn) (*xproto.QueryPointerReply, error) {
		return xproto.QueryPointer(x, w.conn.Root()).Reply()
	})
	if err != nil {
		return fmt.Errorf("look for the pointer: %w", err)
	}
	at := media.CursorMove{X: int(p.RootX), Y: int(p.RootY)}
	if w.seen && at == w.place {
		return nil
	}
	w.place, w.seen = at, true
	w.note(media.Note{Move: &at})
	return nil
}

// look tells what the cursor looks like, if that has changed.
func (w *watch) look(ctx context.Context) error {
	r, err := x11.Do(ctx, w.conn, func(x *xgb.Conn) (*xfixes.GetCursorImageReply, error) {
		return xfixes.GetCursorImage(x).Reply()
	})
	if err != nil {
		return fmt.Errorf("look at the cursor: %w", err)
	}
	if w.some && r.CursorSerial == w.shown {
		return nil
	}
	img, ok := w.known[r.CursorSerial]
	if !ok {
		if img, err = cursorImage(r); err != nil {
			return err
		}
		if len(w.known) >= cursorsMax {
			clear(w.known)
		}
		w.known[r.CursorSerial] = img
	}
	w.shown, w.some = r.CursorSerial, true
	w.note(media.Note{Cursor: img})
	return nil
}

// cursorImage makes a picture of what XFIXES gives: premultiplied ARGB. A
// cursor of one pixel, or of transparent ones only, is how programs hide it.
func cursorImage(r *xfixes.GetCursorImageReply) (*media.CursorImage, error) {
	c := &media.CursorImage{Serial: r.CursorSerial}
	w, h := int(r.Width), int(r.Height)
	if len(r.CursorImage) < w*h {
		return nil, fmt.Errorf("look at the cursor: %d pixels for %d×%d", len(r.CursorImage), w, h)
	}
	visible := false
	img := image.NewRGBA(image.Rect(0, 0, w, h)) // premultiplied too
	for i, p := range r.CursorImage[:w*h] {
		d := img.Pix[4*i : 4*i+4 : 4*i+4]
		d[0], d[1], d[2], d[3] = byte(p>>16), byte(p>>8), byte(p), byte(p>>24)
		visible = visible || p>>24 != 0
	}
	if !visible || w*h <= 1 {
		return c, nil
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("look at the cursor: %w", err)
	}
	c.Width, c.Height, c.HotX, c.HotY, c.PNG = w, h, int(r.Xhot), int(r.Yhot), b.Bytes()
	return c, nil
}
