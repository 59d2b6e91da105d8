package wm

import (
	"context"
	"slices"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"fenrir/media/x11"
)

// client is a window that is mapped and managed.
type client struct {
	win    xproto.Window
	wishes wishes
	state  []xproto.Atom // _NET_WM_STATE
	wish   rect          // where it wants to be when it is neither fullscreen nor maximised
	placed bool          // the place in wish counts, else it is kept in the middle
	at     rect          // where it was put
}

// wishes are what the properties of a window say.
type wishes struct {
	size       sizeHints
	input      bool // wants the keyboard to be given to it
	takesFocus bool // takes the keyboard by itself when told so
	deletes    bool // closes when told so
	passive    bool // of a type that never wants the keyboard
	below      bool // the background of a desktop
	dialog     bool
	parent     xproto.Window
}

// focusable tells whether the window can have the keyboard.
func (c *client) focusable() bool {
	return !c.wishes.passive && (c.wishes.input || c.wishes.takesFocus)
}

func (c *client) has(state xproto.Atom) bool { return slices.Contains(c.state, state) }

// limit is the size that the window takes when it is offered that of the screen.
func (c *client) limit(width, height int) (int, int) {
	if c.wishes.size.bounded {
		return min(width, c.wishes.size.maxW), min(height, c.wishes.size.maxH)
	}
	return width, height
}

// looks is what there is to know of a window.
type looks struct {
	wishes  wishes
	state   []xproto.Atom
	at      rect
	mapped  bool
	ignored bool // override-redirect, or unable to show anything
}

// look asks for everything about a window in one round trip. It returns nil when
// the window is gone.
func (w *manager) look(ctx context.Context, win xproto.Window) (*looks, error) {
	a := &w.atoms
	return x11.Do(ctx, w.conn, func(x *xgb.Conn) (*looks, error) {
		attributes := xproto.GetWindowAttributes(x, win)
		geometry := xproto.GetGeometry(x, xproto.Drawable(win))
		names := []xproto.Atom{xproto.AtomWmNormalHints, xproto.AtomWmHints, xproto.AtomWmTransientFor, a.protocols, a.state, a.windowType}
		cookies := make([]xproto.GetPropertyCookie, len(names))
		for i, name := range names {
			cookies[i] = xproto.GetProperty(x, false, win, name, xproto.GetPropertyTypeAny, 0, 64)
		}
		kind, err1 := attributes.Reply()
		place, err2 := geometry.Reply()
		values := make([][]uint32, len(names))
		for i, cookie := range cookies {
			if p, err := cookie.Reply(); err == nil && p.Format == 32 { // else as if it had none
				values[i] = words(p.Value)
			}
		}
		if err1 != nil || err2 != nil {
			return nil, w.conn.Err() // nil while only the window is gone
		}
		l := &looks{
			at:      rect{int(place.X), int(place.Y), int(place.Width), int(place.Height)},
			mapped:  kind.MapState != xproto.MapStateUnmapped,
			ignored: kind.OverrideRedirect || kind.Class == xproto.WindowClassInputOnly,
			wishes:  wishes{size: parseSizeHints(values[0]), input: parseInput(values[1])},
		}
		if len(values[2]) > 0 {
			l.wishes.dialog, l.wishes.parent = true, xproto.Window(values[2][0])
		}
		l.wishes.takesFocus = slices.Contains(values[3], uint32(a.takeFocus))
		l.wishes.deletes = slices.Contains(values[3], uint32(a.deleteWindow))
		for _, v := range values[4] {
			l.state = append(l.state, xproto.Atom(v))
		}
		for _, v := range values[5] { // the first that is known counts
			if t := xproto.Atom(v); t == a.normal || t == a.dialog {
				l.wishes.dialog = l.wishes.dialog || t == a.dialog
				break
			} else if slices.Contains(a.passive, t) {
				l.wishes.passive, l.wishes.below = true, t == a.desktop
				break
			}
		}
		return l, nil
	})
}

// manage takes a window that is mapped or about to be.
func (w *manager) manage(win xproto.Window, l *looks) {
	if len(w.age) >= maxClients {
		return
	}
	c := &client{win: win, wishes: l.wishes, state: l.state, wish: l.at, at: l.at}
	// Toolkits set PPosition with 0,0 for no reason.
	hint := l.wishes.size
	c.placed = hint.userPlace || hint.programPlace && !c.wishes.dialog && (l.at.x != 0 || l.at.y != 0)
	w.clients[win] = c
	w.age = append(w.age, c)
	w.recent = append(w.recent, c)
	const events = xproto.EventMaskPropertyChange | xproto.EventMaskEnterWindow | xproto.EventMaskFocusChange
	xproto.ChangeWindowAttributes(w.x, win, xproto.CwEventMask, []uint32{events})
	xproto.ConfigureWindow(w.x, win, xproto.ConfigWindowBorderWidth, []uint32{0})
	w.set(win, w.atoms.frame, xproto.AtomCardinal, 0, 0, 0, 0)
	w.set(win, w.atoms.desktopOf, xproto.AtomCardinal, 0)
	w.set(win, w.atoms.wmState, w.atoms.wmState, 1, 0) // NormalState, no icon
	w.arrange(c)
	if c.wishes.below {
		xproto.ConfigureWindow(w.x, win, xproto.ConfigWindowStackMode, []uint32{xproto.StackModeBelow})
	} else {
		w.raise(c)
	}
	w.announceClients()
}

// forget ends what manage began. A window that is gone needs nothing more.
func (w *manager) forget(c *client, gone bool) {
	is := func(other *client) bool { return other == c }
	delete(w.clients, c.win)
	w.age = slices.DeleteFunc(w.age, is)
	w.recent = slices.DeleteFunc(w.recent, is)
	if w.focused == c {
		w.focused = nil
	}
	if !gone {
		xproto.ChangeWindowAttributes(w.x, c.win, xproto.CwEventMask, []uint32{0})
		w.set(c.win, w.atoms.wmState, w.atoms.wmState, 0, 0) // WithdrawnState
		xproto.DeleteProperty(w.x, c.win, w.atoms.state)     // EWMH wants it
	}
	w.announceClients()
}

// place is where a window belongs.
func (w *manager) place(c *client) rect {
	a := &w.atoms
	if c.has(a.fullscreen) {
		return w.size
	}
	r := c.wish
	if !c.placed {
		over := w.size
		if p := w.clients[c.wishes.parent]; p != nil && p != c {
			over = p.at
		}
		r = r.centred(over)
	}
	r = r.within(w.size)
	if c.has(a.maximizedH) {
		r.x, r.w = 0, w.size.w
	}
	if c.has(a.maximizedV) {
		r.y, r.h = 0, w.size.h
	}
	return r
}

// arrange puts a window where it belongs and tells whether its size changed.
func (w *manager) arrange(c *client) (resized bool) {
	r := w.place(c)
	if r == c.at {
		return false
	}
	resized = r.w != c.at.w || r.h != c.at.h
	c.at = r
	xproto.ConfigureWindow(w.x, c.win,
		xproto.ConfigWindowX|xproto.ConfigWindowY|xproto.ConfigWindowWidth|xproto.ConfigWindowHeight,
		[]uint32{uint32(r.x), uint32(r.y), uint32(r.w), uint32(r.h)})
	return resized
}

// raise puts a window, and its dialogs above it, in front of the others.
func (w *manager) raise(c *client) {
	for _, f := range w.family(c) {
		xproto.ConfigureWindow(w.x, f.win, xproto.ConfigWindowStackMode, []uint32{xproto.StackModeAbove})
	}
}

// family is a window, its dialogs in the order of their age, and so on.
func (w *manager) family(c *client) []*client {
	all := []*client{c}
	seen := map[*client]bool{c: true}
	for i := 0; i < len(all); i++ {
		for _, d := range w.age {
			if d.wishes.parent == all[i].win && !seen[d] { // programs can make circles
				seen[d] = true
				all = append(all, d)
			}
		}
	}
	return all
}

// asked does what a managed window asks for.
func (w *manager) asked(c *client, e xproto.ConfigureRequestEvent) {
	wish, placed := c.wish, c.placed
	if e.ValueMask&xproto.ConfigWindowWidth != 0 {
		wish.w = max(1, int(e.Width))
	}
	if e.ValueMask&xproto.ConfigWindowHeight != 0 {
		wish.h = max(1, int(e.Height))
	}
	if hint := c.wishes.size; hint.userPlace || hint.programPlace {
		if e.ValueMask&xproto.ConfigWindowX != 0 {
			wish.x, placed = int(e.X), true
		}
		if e.ValueMask&xproto.ConfigWindowY != 0 {
			wish.y, placed = int(e.Y), true
		}
	}
	// Programs that go to fullscreen often ask for the screen's size, too, which is
	// not what they want to return to.
	if !c.has(w.atoms.fullscreen) || !wish.covers(w.size) {
		c.wish, c.placed = wish, placed
	}
	if e.ValueMask&xproto.ConfigWindowStackMode != 0 {
		mask, values := uint16(xproto.ConfigWindowStackMode), []uint32{uint32(e.StackMode)}
		if e.ValueMask&xproto.ConfigWindowSibling != 0 {
			mask, values = mask|xproto.ConfigWindowSibling, []uint32{uint32(e.Sibling), uint32(e.StackMode)}
		}
		xproto.ConfigureWindow(w.x, c.win, mask, values)
		if e.StackMode == xproto.StackModeAbove {
			for _, dialog := range w.family(c)[1:] {
				xproto.ConfigureWindow(w.x, dialog.win, xproto.ConfigWindowStackMode, []uint32{xproto.StackModeAbove})
			}
		}
	}
	if !w.arrange(c) { // ICCCM 4.1.5: X itself tells of a new size only
		w.send(c.win, xproto.EventMaskStructureNotify, xproto.ConfigureNotifyEvent{
			Event: c.win, Window: c.win, X: int16(c.at.x), Y: int16(c.at.y), Width: uint16(c.at.w), Height: uint16(c.at.h),
		}.Bytes())
	}
}

// pass lets a window that is not managed have what it asks for.
func (w *manager) pass(e xproto.ConfigureRequestEvent) {
	var values []uint32
	for _, v := range []struct {
		bit   uint16
		value uint32
	}{
		{xproto.ConfigWindowX, uint32(int32(e.X))}, {xproto.ConfigWindowY, uint32(int32(e.Y))},
		{xproto.ConfigWindowWidth, uint32(e.Width)}, {xproto.ConfigWindowHeight, uint32(e.Height)},
		{xproto.ConfigWindowBorderWidth, uint32(e.BorderWidth)},
		{xproto.ConfigWindowSibling, uint32(e.Sibling)}, {xproto.ConfigWindowStackMode, uint32(e.StackMode)},
	} {
		if e.ValueMask&v.bit != 0 {
			values = append(values, v.value)
		}
	}
	const known = 1<<7 - 1
	xproto.ConfigureWindow(w.x, e.Window, e.ValueMask&known, values)
}
