package input

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"fenrir/media"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"
)

// board is the virtual keyboard and mouse of one display over one connection.
// One goroutine uses it.
type board struct {
	conn *x11.Conn
	*remains
	width   int // pixels of the screen
	height  int
	wheelV  wheel
	wheelH  wheel
	keys    *keymap // nil: to be read again before it is needed
	injects uint64
}

// remains is what a board changes on its display. It outlives the connection:
// keys that XTEST pressed stay down when its client goes.
type remains struct {
	keysDown    []xproto.Keycode // in the order of pressing
	buttonsDown []byte
	loans       map[xproto.Keycode]loan // spare keys that have a character
}

// loan is a character on a spare key.
type loan struct {
	r    rune
	used time.Time // when it was last pressed
}

func (r *remains) clone() *remains {
	return &remains{slices.Clone(r.keysDown), slices.Clone(r.buttonsDown), maps.Clone(r.loans)}
}

func (r *remains) empty() bool { return len(r.keysDown)+len(r.buttonsDown)+len(r.loans) == 0 }

// openBoard connects to the display and undoes what an earlier board left behind.
func openBoard(ctx context.Context, display media.Display, left *remains) (*board, error) {
	c, err := x11.Dial(ctx, display)
	if err != nil {
		return nil, err
	}
	b := &board{conn: c, remains: left}
	err = b.prepare(ctx)
	if err == nil {
		err = b.lockNumbers(ctx, display)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return b, nil
}

// undo releases everything and takes the characters off the spare keys. It
// returns when the server has done so.
func (b *board) undo(ctx context.Context) error {
	b.releaseAll()
	_, err := x11.Do(ctx, b.conn, func(x *xgb.Conn) (*xproto.GetInputFocusReply, error) {
		for code := range b.loans {
			xproto.ChangeKeyboardMapping(x, 1, code, 1, []xproto.Keysym{0})
		}
		return xproto.GetInputFocus(x).Reply()
	})
	if err != nil {
		return fmt.Errorf("release everything: %w", err)
	}
	clear(b.loans)
	return nil
}

func (b *board) prepare(ctx context.Context) error {
	if err := b.conn.Use(ctx, "XTEST"); err != nil {
		return err
	}
	g, err := x11.Do(ctx, b.conn, func(x *xgb.Conn) (*xproto.GetGeometryReply, error) {
		// A grab of the server by others must not stop input.
		xtest.GrabControl(x, true)
		xproto.ChangeWindowAttributes(x, b.conn.Root(), xproto.CwEventMask, []uint32{xproto.EventMaskStructureNotify})
		return xproto.GetGeometry(x, xproto.Drawable(b.conn.Root())).Reply()
	})
	if err != nil {
		return fmt.Errorf("ask for the size of the screen: %w", err)
	}
	b.width, b.height = int(g.Width), int(g.Height)
	return b.undo(ctx)
}

// look gives the keymap, read again if it has changed, and the modifiers that
// are in effect.
func (b *board) look(ctx context.Context) (*keymap, uint16, error) {
	if err := b.news(); err != nil {
		return nil, 0, err
	}
	if b.keys == nil {
		k, err := readKeymap(ctx, b.conn)
		if err != nil {
			return nil, 0, err
		}
		b.keys = k
		b.forget()
	}
	p, err := x11.Do(ctx, b.conn, func(x *xgb.Conn) (*xproto.QueryPointerReply, error) {
		return xproto.QueryPointer(x, b.conn.Root()).Reply()
	})
	if err != nil {
		return nil, 0, fmt.Errorf("ask for the modifiers: %w", err)
	}
	return b.keys, p.Mask, nil
}

// news takes in what the server said about the screen's size and the keyboard.
func (b *board) news() error {
	for {
		ev, err := b.conn.Poll()
		if err != nil && b.conn.Err() == nil { // events were lost: both may have changed
			b.keys = nil
			continue
		}
		if err != nil || ev == nil {
			return err
		}
		switch e := ev.(type) {
		case xproto.MappingNotifyEvent:
			b.keys = nil
		case xproto.ConfigureNotifyEvent:
			if e.Window == b.conn.Root() {
				b.width, b.height = int(e.Width), int(e.Height)
			}
		}
	}
}

// fake injects one event. It does not wait for the server.
func (b *board) fake(kind, detail byte) {
	xtest.FakeInput(b.conn.X, kind, detail, 0, b.conn.Root(), 0, 0, 0)
	b.injects++
}

func (b *board) key(code xproto.Keycode, down bool) {
	at := slices.Index(b.keysDown, code)
	switch {
	case down && at < 0:
		b.keysDown = append(b.keysDown, code)
		b.fake(xproto.KeyPress, byte(code))
	case !down && at >= 0:
		b.keysDown = slices.Delete(b.keysDown, at, at+1)
		b.fake(xproto.KeyRelease, byte(code))
	}
}

// buttons are the X buttons of media's.
var buttons = [...]byte{media.ButtonLeft: 1, media.ButtonMiddle: 2, media.ButtonRight: 3, media.ButtonX1: 8, media.ButtonX2: 9}

func (b *board) button(n byte, down bool) {
	at := slices.Index(b.buttonsDown, n)
	switch {
	case down && at < 0:
		b.buttonsDown = append(b.buttonsDown, n)
		b.fake(xproto.ButtonPress, n)
	case !down && at >= 0:
		b.buttonsDown = slices.Delete(b.buttonsDown, at, at+1)
		b.fake(xproto.ButtonRelease, n)
	}
}

// releaseAll lets go of everything, newest first, buttons before keys.
func (b *board) releaseAll() {
	for _, n := range slices.Backward(slices.Clone(b.buttonsDown)) {
		b.button(n, false)
	}
	for _, code := range slices.Backward(slices.Clone(b.keysDown)) {
		b.key(code, false)
	}
}

// moveTo puts the pointer at x of w and y of h.
func (b *board) moveTo(x, y, w, h int) error {
	if err := b.news(); err != nil {
		return err
	}
	xtest.FakeInput(b.conn.X, xproto.MotionNotify, 0, 0, b.conn.Root(), int16(scale(x, w, b.width)), int16(scale(y, h, b.height)), 0)
	b.injects++
	return nil
}

// scale brings 0…of to 0…size−1. Where of is the size, or the size less one, as
// some clients have it, pixels stay what they are.
func scale(at, of, size int) int {
	if of <= 0 {
		return 0
	}
	return min(max(at*size/of, 0), size-1)
}

// moveBy moves the pointer by pixels, in steps that the protocol can carry.
func (b *board) moveBy(dx, dy int) {
	const most = 1<<15 - 1
	for dx != 0 || dy != 0 {
		sx, sy := min(max(dx, -most), most), min(max(dy, -most), most)
		xtest.FakeInput(b.conn.X, xproto.MotionNotify, 1, 0, b.conn.Root(), int16(sx), int16(sy), 0)
		b.injects++
		dx, dy = dx-sx, dy-sy
	}
}

// wheel turns 120ths of a notch into notches.
type wheel struct{ rest int }

const (
	notch      = 120
	notchesMax = 64 // of one event: more is no wheel
)

// turn adds d and returns the whole notches that have come together. What is
// left over from the other direction is forgotten.
func (w *wheel) turn(d int) int {
	if d > 0 && w.rest < 0 || d < 0 && w.rest > 0 {
		w.rest = 0
	}
	w.rest += d
	n := w.rest / notch
	w.rest -= n * notch
	return min(max(n, -notchesMax), notchesMax)
}

// scroll clicks a wheel button: forward for positive n, else back.
func (b *board) scroll(n int, forward, back byte) {
	button := forward
	if n < 0 {
		button, n = back, -n
	}
	for range n {
		b.fake(xproto.ButtonPress, button)
		b.fake(xproto.ButtonRelease, button)
	}
}
