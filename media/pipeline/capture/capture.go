// Package capture reads the pixels of an X display when they change. It learns
// of changes from the DAMAGE extension and reads pixels in the cheapest way
// that the display offers: straight from the file that an Xvfb keeps its
// framebuffer in, through shared memory, or through the X connection.
//
// It imports media, media/x11 and xgb, and calls no C.
package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/damage"
	"github.com/jezek/xgb/xfixes"
	"github.com/jezek/xgb/xproto"

	"fenrir/media"
	"fenrir/media/x11"
)

// ErrFormat is why a display is refused whose pixels are not 32 bits of blue,
// green, red and nothing, in this order in memory.
var ErrFormat = errors.New("pixel format of the display is not supported")

// settleRounds is how many times a frame waits for a program that is in the
// middle of drawing, each time for one answer of the X server.
const settleRounds = 3

// Frame is a picture of the display.
type Frame struct {
	// Pixels are rows of Stride bytes, four bytes (blue, green, red, unused) to a
	// pixel. They belong to the Screen and may change at any time when they are
	// the display's own memory.
	Pixels        []byte
	Stride        int
	Width, Height int // pixels
}

// News is what happened on the display.
type News struct {
	Damaged int  // reports of damage
	Cursor  bool // the cursor looks different
	Resized bool // Size has changed
}

func (n *News) add(m News) {
	n.Damaged += m.Damaged
	n.Cursor = n.Cursor || m.Cursor
	n.Resized = n.Resized || m.Resized
}

// Any tells whether a new picture is due.
func (n News) Any() bool { return n.Damaged > 0 || n.Cursor || n.Resized }

// reader gets the pixels of a display's first width×height.
type reader interface {
	// read is called when what must be in the picture has been drawn, as far as
	// the X server had been told.
	read(ctx context.Context, width, height int) (Frame, error)
	close()
}

// Screen watches one display. One goroutine uses it.
type Screen struct {
	conn          *x11.Conn
	damage        damage.Damage
	reader        reader
	method        string
	width, height int
	cursor        *cursor // nil when it is not to be in the picture
}

// Options say how to watch.
type Options struct {
	Cursor bool // Cursor and Pointer work; otherwise the cursor is nobody's business
}

// Open connects to a display and begins to watch it. ctx is the life of the
// Screen: every call ends with it. Each waits at most x11.ReplyBound a request.
// The caller closes the Screen.
func Open(ctx context.Context, display media.Display, o Options) (*Screen, error) {
	conn, err := x11.Dial(ctx, display)
	if err != nil {
		return nil, err
	}
	s := &Screen{conn: conn}
	if err := s.open(ctx, display, o); err != nil {
		s.Close()
		return nil, fmt.Errorf("watch display %q: %w", display.Name, err)
	}
	return s, nil
}

func (s *Screen) open(ctx context.Context, display media.Display, o Options) error {
	c := s.conn
	if err := c.Use(ctx, "DAMAGE", "XFIXES"); err != nil {
		return err
	}
	if _, err := x11.Reply(ctx, c, damage.QueryVersion(c.X, 1, 1)); err != nil {
		return fmt.Errorf("agree on DAMAGE version: %w", err)
	}
	if _, err := x11.Reply(ctx, c, xfixes.QueryVersion(c.X, 5, 0)); err != nil {
		return fmt.Errorf("agree on XFIXES version: %w", err)
	}
	// From here on the display's changes of size are told.
	err := x11.Check(ctx, c, xproto.ChangeWindowAttributesChecked(c.X, c.Root(), xproto.CwEventMask, []uint32{xproto.EventMaskStructureNotify}))
	if err != nil {
		return fmt.Errorf("watch size: %w", err)
	}
	if err := s.measure(ctx); err != nil {
		return err
	}
	s.damage, err = damage.NewDamageId(c.X)
	if err != nil {
		return fmt.Errorf("make damage: %w", err)
	}
	err = x11.Check(ctx, c, damage.CreateChecked(c.X, s.damage, xproto.Drawable(c.Root()), damage.ReportLevelNonEmpty))
	if err != nil {
		return fmt.Errorf("watch damage: %w", err)
	}
	if err := s.choose(ctx, display); err != nil {
		return err
	}
	if o.Cursor {
		s.cursor = &cursor{}
		err := x11.Check(ctx, c, xfixes.SelectCursorInputChecked(c.X, c.Root(), xfixes.CursorNotifyMaskDisplayCursor))
		if err != nil {
			return fmt.Errorf("watch cursor: %w", err)
		}
		if err := s.fetchCursor(ctx); err != nil {
			return err
		}
		if _, err := s.Pointer(ctx); err != nil {
			return err
		}
	}
	return nil
}

// choose finds the cheapest way to the pixels.
func (s *Screen) choose(ctx context.Context, display media.Display) error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	if display.Framebuffer != "" {
		fb, err := openFramebuffer(display.Framebuffer)
		if err != nil {
			return err // ours, and known to be there: anything else would hide a fault
		}
		s.reader, s.method = fb, "framebuffer"
		// The X server paints its cursor into this very memory.
		if err := x11.Check(ctx, s.conn, xfixes.HideCursorChecked(s.conn.X, s.conn.Root())); err != nil {
			return fmt.Errorf("hide cursor: %w", err)
		}
		return nil
	}
	if err := s.conn.Use(ctx, "MIT-SHM"); err == nil {
		shm := &shared{conn: s.conn}
		if _, err := shm.read(ctx, s.width, s.height); err == nil {
			s.reader, s.method = shm, "shared memory"
			return nil
		}
		shm.close() // an X server on another machine or of another user
	}
	if err := s.conn.Err(); err != nil {
		return err
	}
	s.reader, s.method = plain{s.conn}, "X connection"
	return nil
}

func (s *Screen) checkFormat() error {
	setup, screen := s.conn.Setup, s.conn.Screen()
	if setup.ImageByteOrder != xproto.ImageOrderLSBFirst {
		return fmt.Errorf("%w: most significant byte first", ErrFormat)
	}
	for _, f := range setup.PixmapFormats {
		if f.Depth == screen.RootDepth && f.BitsPerPixel != 32 {
			return fmt.Errorf("%w: %d bits a pixel", ErrFormat, f.BitsPerPixel)
		}
	}
	for _, d := range screen.AllowedDepths {
		for _, v := range d.Visuals {
			if v.VisualId == screen.RootVisual && (v.RedMask != 0xff0000 || v.GreenMask != 0xff00 || v.BlueMask != 0xff) {
				return fmt.Errorf("%w: masks %x, %x, %x", ErrFormat, v.RedMask, v.GreenMask, v.BlueMask)
			}
		}
	}
	return nil
}

// measure asks for the display's size.
func (s *Screen) measure(ctx context.Context) error {
	g, err := x11.Reply(ctx, s.conn, xproto.GetGeometry(s.conn.X, xproto.Drawable(s.conn.Root())))
	if err != nil {
		return fmt.Errorf("ask for size: %w", err)
	}
	s.width, s.height = int(g.Width), int(g.Height)
	return nil
}

// Method says in words where the pixels come from.
func (s *Screen) Method() string { return s.method }

// Size is the size of the display in pixels, as of the last Take or Frame.
func (s *Screen) Size() (width, height int) { return s.width, s.height }

// Ready receives a value when Take may have news.
func (s *Screen) Ready() <-chan struct{} { return s.conn.Ready() }

// Done is closed when the display is lost; Take then says why.
func (s *Screen) Done() <-chan struct{} { return s.conn.Done() }

// Take returns what has happened since the last call. It blocks only when
// events were lost or the cursor's image must be fetched.
func (s *Screen) Take(ctx context.Context) (News, error) {
	var n News
	for {
		ev, err := s.conn.Poll()
		if errors.Is(err, x11.ErrEventsLost) {
			width, height := s.width, s.height
			if err := s.measure(ctx); err != nil {
				return n, err
			}
			n.add(News{Damaged: 1, Resized: s.width != width || s.height != height})
			continue
		}
		if err != nil {
			return n, err
		}
		if ev == nil {
			break
		}
		s.event(ev, &n)
	}
	if n.Cursor {
		if err := s.fetchCursor(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Screen) event(ev xgb.Event, n *News) {
	switch ev := ev.(type) {
	case damage.NotifyEvent:
		n.Damaged++
	case xproto.ConfigureNotifyEvent:
		if ev.Window == s.conn.Root() && (int(ev.Width) != s.width || int(ev.Height) != s.height) {
			s.width, s.height = int(ev.Width), int(ev.Height)
			n.Resized = true
		}
	case xfixes.CursorNotifyEvent:
		n.Cursor = s.cursor != nil
	}
}

// Frame returns the picture as it is now, and what happened while it was made:
// Damaged is 0 in it unless something is being drawn right now, so that another
// picture is due. Every change that Take reported before is in the picture; a
// later one will be reported, though it may be in it as well. The picture is
// valid until the next call. Its size is that of Size after the call.
func (s *Screen) Frame(ctx context.Context) (Frame, News, error) {
	var news News
	for range settleRounds {
		news.Damaged = 0
		// The damage is taken back before the pixels are read, and known by the X
		// server to be taken back, so that no change falls in between.
		damage.Subtract(s.conn.X, s.damage, 0, 0)
		if _, err := x11.Reply(ctx, s.conn, xproto.GetInputFocus(s.conn.X)); err != nil {
			return Frame{}, news, fmt.Errorf("wait for display: %w", err)
		}
		n, err := s.Take(ctx)
		news.add(n)
		if err != nil {
			return Frame{}, news, err
		}
		if n.Damaged == 0 {
			break // else a program is drawing just now: give it the chance to finish
		}
	}
	f, err := s.reader.read(ctx, s.width, s.height)
	if err == nil {
		return f, news, nil
	}
	// A display that shrinks in this very moment refuses the size it had.
	width, height := s.width, s.height
	if measured := s.measure(ctx); measured != nil || s.width == width && s.height == height {
		return Frame{}, news, fmt.Errorf("read pixels: %w", err)
	}
	news.Resized = true
	if f, err = s.reader.read(ctx, s.width, s.height); err != nil {
		return Frame{}, news, fmt.Errorf("read pixels: %w", err)
	}
	return f, news, nil
}

// Close ends the watching. It may be called again.
func (s *Screen) Close() {
	if s.reader != nil {
		s.reader.close()
		s.reader = nil
	}
	s.conn.Close()
}
