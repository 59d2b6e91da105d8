package xwin

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/shm"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"
)

// Picture is one of the window's two shared-memory pictures: rows of
// 0x00RRGGBB, Stride pixels apart. It belongs to the caller between Free and Show.
type Picture struct {
	Pix    []uint32
	Width  int
	Height int
	Stride int
	Index  int // 0 or 1: which of the two, for those who remember what stands in it

	seg    shm.Seg
	memory []byte
	shown  bool // the server has not finished reading it
}

// Window is a window over the whole screen. Its methods are for one goroutine.
type Window struct {
	Width, Height int // pixels; change with Handle

	X        *xgb.Conn
	ID       xproto.Window
	Root     xproto.Window
	gc       xproto.Gcontext
	depth    byte
	atoms    map[string]xproto.Atom
	pictures [2]*Picture
	stream   *stream
	events   chan xgb.Event
	done     chan struct{}
}

// Open connects and shows a window. The caller closes it.
func Open(ctx context.Context, display, authority, title string) (_ *Window, err error) {
	x, s, err := dial(ctx, display, authority)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Conn.Close()
			x.Close()
		}
	}()
	// What follows are round trips: a server that answers the handshake and
	// hangs then is left when ctx ends.
	stop := context.AfterFunc(ctx, func() { s.Conn.Close() })
	defer stop()
	w := &Window{X: x, stream: s, atoms: map[string]xproto.Atom{}, events: make(chan xgb.Event, 256), done: make(chan struct{})}
	for _, f := range []func() error{
		func() error { return shm.Init(x) },
		func() error { return randr.Init(x) },
		func() error { return useKeyboardExtension(x, s) },
		func() error { return w.create(title) },
		func() error { return selectRawMotion(x, s, w.Root) },
	} {
		if err := f(); err != nil {
			return nil, fmt.Errorf("open window on %s: %w", display, err)
		}
	}
	go w.pump()
	return w, nil
}

// create makes the window and maps it.
func (w *Window) create(title string) error {
	screen := xproto.Setup(w.X).DefaultScreen(w.X)
	if err := usable(xproto.Setup(w.X), screen); err != nil {
		return err
	}
	w.Root, w.depth = screen.Root, screen.RootDepth
	g, err := xproto.GetGeometry(w.X, xproto.Drawable(w.Root)).Reply()
	if err != nil {
		return fmt.Errorf("size of the screen: %w", err)
	}
	w.Width, w.Height = int(g.Width), int(g.Height)
	if w.ID, err = xproto.NewWindowId(w.X); err != nil {
		return err
	}
	const events = xproto.EventMaskKeyPress | xproto.EventMaskKeyRelease | xproto.EventMaskButtonPress |
		xproto.EventMaskButtonRelease | xproto.EventMaskPointerMotion | xproto.EventMaskStructureNotify |
		xproto.EventMaskExposure | xproto.EventMaskFocusChange
	err = xproto.CreateWindowChecked(w.X, screen.RootDepth, w.ID, w.Root, 0, 0, g.Width, g.Height, 0,
		xproto.WindowClassInputOutput, screen.RootVisual, xproto.CwBackPixmap|xproto.CwBitGravity|xproto.CwEventMask,
		[]uint32{xproto.BackPixmapNone, xproto.GravityNorthWest, events}).Check()
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if w.gc, err = xproto.NewGcontextId(w.X); err != nil {
		return err
	}
	xproto.CreateGC(w.X, w.gc, xproto.Drawable(w.ID), 0, nil)
	w.SetText("WM_NAME", title)
	w.SetText("_NET_WM_NAME", title)
	w.setBytes("WM_CLASS", xproto.AtomString, 8, []byte("fenrir-playground\x00Fenrir\x00"))
	full := make([]byte, 4)
	xgb.Put32(full, uint32(w.atom("_NET_WM_STATE_FULLSCREEN")))
	w.setBytes("_NET_WM_STATE", xproto.AtomAtom, 32, full) // for displays that have a window manager
	const rootEvents = xproto.EventMaskStructureNotify
	xproto.ChangeWindowAttributes(w.X, w.Root, xproto.CwEventMask, []uint32{rootEvents})
	randr.SelectInput(w.X, w.Root, randr.NotifyMaskScreenChange)
	if err := xproto.MapWindowChecked(w.X, w.ID).Check(); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return nil
}

// usable says whether pixels of the screen are 32-bit 0x00RRGGBB in little endian.
func usable(setup *xproto.SetupInfo, screen *xproto.ScreenInfo) error {
	if setup.ImageByteOrder != xproto.ImageOrderLSBFirst {
		return errors.New("the display wants big-endian pixels")
	}
	for _, f := range setup.PixmapFormats {
		if f.Depth == screen.RootDepth && f.BitsPerPixel != 32 {
			return fmt.Errorf("the display has %d bits per pixel, not 32", f.BitsPerPixel)
		}
	}
	for _, d := range screen.AllowedDepths {
		for _, v := range d.Visuals {
			if v.VisualId == screen.RootVisual && (v.RedMask != 0xff0000 || v.GreenMask != 0xff00 || v.BlueMask != 0xff) {
				return fmt.Errorf("the display has pixels %x/%x/%x, not RGB", v.RedMask, v.GreenMask, v.BlueMask)
			}
		}
	}
	return nil
}

// pump hands on the server's events until the connection is over.
func (w *Window) pump() {
	defer close(w.events)
	for {
		ev, xerr := w.X.WaitForEvent()
		if ev == nil && xerr == nil {
			return
		}
		if ev == nil {
			continue // an error about an unchecked request: a picture of a window that is being resized
		}
		select {
		case w.events <- ev:
		case <-w.done:
			return
		}
	}
}

// Events gives every event for Handle and the caller; it is closed when the
// connection to the server is over.
func (w *Window) Events() <-chan xgb.Event { return w.events }

// Handle keeps the window up to date with an event. It tells whether the
// window has a new size.
func (w *Window) Handle(ev xgb.Event) (resized bool) {
	switch e := ev.(type) {
	case shm.CompletionEvent:
		for _, p := range w.pictures {
			if p != nil && p.seg == e.Shmseg {
				p.shown = false
			}
		}
	case xproto.MapNotifyEvent:
		// Where no window manager gives focus, it is taken.
		xproto.SetInputFocus(w.X, xproto.InputFocusPointerRoot, w.ID, xproto.TimeCurrentTime)
	case randr.ScreenChangeNotifyEvent:
		w.fill(e.Width, e.Height)
	case xproto.ConfigureNotifyEvent:
		if e.Window == w.Root {
			w.fill(e.Width, e.Height)
			break
		}
		if int(e.Width) != w.Width || int(e.Height) != w.Height {
			w.Width, w.Height = int(e.Width), int(e.Height)
			return true
		}
	}
	return false
}

// fill asks for the window to be as large as the screen has become.
func (w *Window) fill(width, height uint16) {
	if int(width) == w.Width && int(height) == w.Height {
		return
	}
	xproto.ConfigureWindow(w.X, w.ID, xproto.ConfigWindowX|xproto.ConfigWindowY|xproto.ConfigWindowWidth|xproto.ConfigWindowHeight,
		[]uint32{0, 0, uint32(width), uint32(height)})
}

// Free is a picture of the window's size that may be drawn on, nil while the
// server still reads both. It waits for the server only after the window has
// become larger than ever.
func (w *Window) Free() (*Picture, error) {
	var free *Picture
	for i, p := range w.pictures {
		if p != nil && p.shown {
			continue
		}
		// Both are made together: the second must not have to be made, which takes
		// an answer of the server, when the server is busy with the first.
		if p == nil || p.Width != w.Width || p.Height != w.Height {
			n, err := w.newPicture(p, i)
			if err != nil {
				return nil, err
			}
			w.pictures[i], p = n, n
		}
		if free == nil {
			free = p
		}
	}
	return free, nil
}

// newPicture makes a picture of the window's size, in old's memory if it fits.
func (w *Window) newPicture(old *Picture, index int) (*Picture, error) {
	p := &Picture{Width: w.Width, Height: w.Height, Stride: w.Width, Index: index}
	size := 4 * p.Stride * p.Height
	if old != nil && len(old.memory) >= size {
		p.seg, p.memory = old.seg, old.memory
	} else {
		if old != nil {
			w.drop(old)
		}
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, unix.IPC_CREAT|0o600)
		if err != nil {
			return nil, fmt.Errorf("shared memory for a picture of %d×%d: %w", w.Width, w.Height, err)
		}
		p.memory, err = unix.SysvShmAttach(id, 0, 0)
		if err == nil {
			p.seg, err = shm.NewSegId(w.X)
		}
		if err == nil {
			err = shm.AttachChecked(w.X, p.seg, uint32(id), true).Check()
		}
		// Both sides are attached, or it is of no use: nobody else finds it, and
		// it is gone with the last of the two.
		_, rmErr := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		if err = errors.Join(err, rmErr); err != nil {
			if p.memory != nil {
				err = errors.Join(err, unix.SysvShmDetach(p.memory))
			}
			return nil, fmt.Errorf("share a picture with the X server: %w", err)
		}
	}
	p.Pix = unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(p.memory))), p.Stride*p.Height)
	return p, nil
}

// drop gives a picture's memory back.
func (w *Window) drop(p *Picture) {
	shm.Detach(w.X, p.seg)
	if err := unix.SysvShmDetach(p.memory); err != nil {
		panic("xwin: detach of own shared memory: " + err.Error()) // only for a wrong address
	}
}

// Show puts a part of the picture on the screen. The picture is the server's
// until Free gives it out again.
func (w *Window) Show(p *Picture, x, y, width, height int) {
	p.shown = true
	shm.PutImage(w.X, xproto.Drawable(w.ID), w.gc, uint16(p.Stride), uint16(p.Height), uint16(x), uint16(y),
		uint16(width), uint16(height), int16(x), int16(y), w.depth,
		xproto.ImageFormatZPixmap, 1, p.seg, 0)
}

// SetText sets a property of the window to a UTF-8 text.
func (w *Window) SetText(property, text string) {
	w.setBytes(property, w.atom("UTF8_STRING"), 8, []byte(text))
}

func (w *Window) setBytes(property string, kind xproto.Atom, format byte, data []byte) {
	xproto.ChangeProperty(w.X, xproto.PropModeReplace, w.ID, w.atom(property), kind, format,
		uint32(len(data))/uint32(format/8), data)
}

// atom interns a name; 0 when the connection is over.
func (w *Window) atom(name string) xproto.Atom {
	if a, ok := w.atoms[name]; ok {
		return a
	}
	r, err := xproto.InternAtom(w.X, false, uint16(len(name)), name).Reply()
	if err != nil {
		return 0
	}
	w.atoms[name] = r.Atom
	return r.Atom
}

// Close ends the connection; the server forgets the window.
func (w *Window) Close() {
	close(w.done)
	for _, p := range w.pictures {
		if p != nil {
			w.drop(p)
		}
	}
	// Closing the socket first keeps a hung server from holding us up.
	w.stream.Conn.Close()
	w.X.Close()
	for range w.events {
	}
}

// Abort breaks the connection, so that calls that wait for the server return. It may be
// called from any goroutine, any number of times; Close is still due.
func (w *Window) Abort() { w.stream.Conn.Close() }

// Pointer is a shape of the pointer over the window.
type Pointer int

// The shapes.
const (
	Arrow Pointer = iota
	Hand
	Hidden
	Pointers // how many there are
)

// SetPointer changes the pointer's shape.
func (w *Window) SetPointer(p Pointer) error {
	cursor, err := xproto.NewCursorId(w.X)
	if err != nil {
		return err
	}
	if p == Hidden {
		blank, err := xproto.NewPixmapId(w.X)
		if err != nil {
			return err
		}
		xproto.CreatePixmap(w.X, 1, blank, xproto.Drawable(w.ID), 1, 1)
		gc, err := xproto.NewGcontextId(w.X)
		if err != nil {
			return err
		}
		xproto.CreateGC(w.X, gc, xproto.Drawable(blank), xproto.GcForeground, []uint32{0})
		xproto.PolyFillRectangle(w.X, xproto.Drawable(blank), gc, []xproto.Rectangle{{Width: 1, Height: 1}})
		xproto.CreateCursor(w.X, cursor, blank, blank, 0, 0, 0, 0, 0, 0, 0, 0)
		xproto.FreeGC(w.X, gc)
		xproto.FreePixmap(w.X, blank)
	} else {
		// X11/cursorfont.h: a shape's mask is the glyph after it.
		glyph := map[Pointer]uint16{Arrow: 68, Hand: 60}[p]
		font, err := xproto.NewFontId(w.X)
		if err != nil {
			return err
		}
		const name = "cursor"
		xproto.OpenFont(w.X, font, uint16(len(name)), name)
		xproto.CreateGlyphCursor(w.X, cursor, font, font, glyph, glyph+1, 0xffff, 0xffff, 0xffff, 0, 0, 0)
		xproto.CloseFont(w.X, font)
	}
	xproto.ChangeWindowAttributes(w.X, w.ID, xproto.CwCursor, []uint32{uint32(cursor)})
	xproto.FreeCursor(w.X, cursor) // the window keeps it
	return nil
}
