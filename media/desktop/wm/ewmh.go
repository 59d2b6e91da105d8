package wm

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"fenrir/media/x11"
)

// atoms are the X server's numbers of the names in intern.
type atoms struct {
	manager, utf8, wmState, protocols, takeFocus, deleteWindow  xproto.Atom
	supported, supporting, name, active, list, workarea, frame  xproto.Atom
	requestFrame, close, desktops, current, geometry, viewport  xproto.Atom
	desktopOf, windowType, normal, dialog, desktop              xproto.Atom
	state, fullscreen, maximizedH, maximizedV, modal            xproto.Atom
	splash, tooltip, notification, dock, dropdown, popup, combo xproto.Atom
	dnd                                                         xproto.Atom

	passive []xproto.Atom // types of windows that never want the keyboard
	known   []xproto.Atom // for _NET_SUPPORTED
}

func intern(ctx context.Context, c *x11.Conn) (atoms, error) {
	return x11.Do(ctx, c, func(x *xgb.Conn) (a atoms, err error) {
		names := []struct {
			to   *xproto.Atom
			name string
		}{
			{&a.manager, "WM_S0"}, {&a.utf8, "UTF8_STRING"}, {&a.wmState, "WM_STATE"},
			{&a.protocols, "WM_PROTOCOLS"}, {&a.takeFocus, "WM_TAKE_FOCUS"}, {&a.deleteWindow, "WM_DELETE_WINDOW"},
			{&a.supported, "_NET_SUPPORTED"}, {&a.supporting, "_NET_SUPPORTING_WM_CHECK"}, {&a.name, "_NET_WM_NAME"},
			{&a.active, "_NET_ACTIVE_WINDOW"}, {&a.list, "_NET_CLIENT_LIST"}, {&a.workarea, "_NET_WORKAREA"},
			{&a.frame, "_NET_FRAME_EXTENTS"}, {&a.requestFrame, "_NET_REQUEST_FRAME_EXTENTS"},
			{&a.close, "_NET_CLOSE_WINDOW"}, {&a.desktops, "_NET_NUMBER_OF_DESKTOPS"}, {&a.current, "_NET_CURRENT_DESKTOP"},
			{&a.geometry, "_NET_DESKTOP_GEOMETRY"}, {&a.viewport, "_NET_DESKTOP_VIEWPORT"}, {&a.desktopOf, "_NET_WM_DESKTOP"},
			{&a.state, "_NET_WM_STATE"}, {&a.fullscreen, "_NET_WM_STATE_FULLSCREEN"}, {&a.modal, "_NET_WM_STATE_MODAL"},
			{&a.maximizedH, "_NET_WM_STATE_MAXIMIZED_HORZ"}, {&a.maximizedV, "_NET_WM_STATE_MAXIMIZED_VERT"},
			{&a.windowType, "_NET_WM_WINDOW_TYPE"}, {&a.normal, "_NET_WM_WINDOW_TYPE_NORMAL"},
			{&a.dialog, "_NET_WM_WINDOW_TYPE_DIALOG"}, {&a.desktop, "_NET_WM_WINDOW_TYPE_DESKTOP"},
			{&a.splash, "_NET_WM_WINDOW_TYPE_SPLASH"}, {&a.tooltip, "_NET_WM_WINDOW_TYPE_TOOLTIP"},
			{&a.notification, "_NET_WM_WINDOW_TYPE_NOTIFICATION"}, {&a.dock, "_NET_WM_WINDOW_TYPE_DOCK"},
			{&a.dropdown, "_NET_WM_WINDOW_TYPE_DROPDOWN_MENU"}, {&a.popup, "_NET_WM_WINDOW_TYPE_POPUP_MENU"},
			{&a.combo, "_NET_WM_WINDOW_TYPE_COMBO"}, {&a.dnd, "_NET_WM_WINDOW_TYPE_DND"},
		}
		cookies := make([]xproto.InternAtomCookie, len(names))
		for i, n := range names {
			cookies[i] = xproto.InternAtom(x, false, uint16(len(n.name)), n.name)
		}
		for i, cookie := range cookies {
			r, err := cookie.Reply()
			if err != nil {
				return a, err
			}
			*names[i].to = r.Atom
			if n := names[i].name; len(n) > 5 && n[:5] == "_NET_" {
				a.known = append(a.known, r.Atom)
			}
		}
		a.passive = []xproto.Atom{a.splash, a.tooltip, a.notification, a.dock, a.dropdown, a.popup, a.combo, a.dnd, a.desktop}
		return a, nil
	})
}

// set writes a property of 32-bit values.
func (w *manager) set(win xproto.Window, property, kind xproto.Atom, values ...uint32) {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	xproto.ChangeProperty(w.x, xproto.PropModeReplace, win, property, kind, 32, uint32(len(values)), b)
}

// announce says what this window manager is and can do.
func (w *manager) announce() {
	a := &w.atoms
	const name = "Fenrir"
	xproto.ChangeProperty(w.x, xproto.PropModeReplace, w.check, a.name, a.utf8, 8, uint32(len(name)), []byte(name))
	w.set(w.root, a.supported, xproto.AtomAtom, numbers(a.known)...)
	w.set(w.root, a.desktops, xproto.AtomCardinal, 1)
	w.set(w.root, a.current, xproto.AtomCardinal, 0)
	w.set(w.root, a.viewport, xproto.AtomCardinal, 0, 0)
	w.announceSize()
	w.announceClients()
	w.announceActive()
	w.set(w.check, a.supporting, xproto.AtomWindow, uint32(w.check))
	w.set(w.root, a.supporting, xproto.AtomWindow, uint32(w.check)) // last: what is asked for then is there
}

func (w *manager) announceSize() {
	width, height := uint32(w.size.w), uint32(w.size.h)
	w.set(w.root, w.atoms.geometry, xproto.AtomCardinal, width, height)
	w.set(w.root, w.atoms.workarea, xproto.AtomCardinal, 0, 0, width, height)
}

func (w *manager) announceClients() {
	list := make([]uint32, len(w.age))
	for i, c := range w.age {
		list[i] = uint32(c.win)
	}
	w.set(w.root, w.atoms.list, xproto.AtomWindow, list...)
}

func (w *manager) announceActive() {
	var win xproto.Window
	if w.focused != nil {
		win = w.focused.win
	}
	w.set(w.root, w.atoms.active, xproto.AtomWindow, uint32(win))
}

func numbers(list []xproto.Atom) []uint32 {
	out := make([]uint32, len(list))
	for i, a := range list {
		out[i] = uint32(a)
	}
	return out
}

// send gives an event to a window.
func (w *manager) send(to xproto.Window, mask uint32, event []byte) {
	xproto.SendEvent(w.x, false, to, mask, string(event))
}

// protocol sends a message of WM_PROTOCOLS.
func (w *manager) protocol(c *client, what xproto.Atom, now xproto.Timestamp) {
	w.send(c.win, xproto.EventMaskNoEvent, xproto.ClientMessageEvent{
		Format: 32, Window: c.win, Type: w.atoms.protocols,
		Data: xproto.ClientMessageDataUnionData32New([]uint32{uint32(what), uint32(now), 0, 0, 0}),
	}.Bytes())
}

// message does what programs ask for.
func (w *manager) message(e xproto.ClientMessageEvent) {
	if e.Format != 32 || len(e.Data.Data32) < 5 {
		return
	}
	a := &w.atoms
	data := e.Data.Data32
	if e.Type == a.requestFrame { // of a window that is not mapped yet
		w.set(e.Window, a.frame, xproto.AtomCardinal, 0, 0, 0, 0)
		return
	}
	c := w.clients[e.Window]
	if c == nil {
		return
	}
	switch e.Type {
	case a.state:
		w.changeState(c, data[0], xproto.Atom(data[1]), xproto.Atom(data[2]))
	case a.active:
		w.raise(c)
		w.prefer(c)
		w.settle()
	case a.close:
		if c.wishes.deletes {
			w.protocol(c, a.deleteWindow, xproto.TimeCurrentTime)
		} else {
			xproto.KillClient(w.x, uint32(c.win))
		}
	}
}

// changeState removes (0), adds (1) or toggles (2) up to two states of a window.
func (w *manager) changeState(c *client, action uint32, which ...xproto.Atom) {
	a := &w.atoms
	for _, s := range which {
		if !slices.Contains([]xproto.Atom{a.fullscreen, a.maximizedH, a.maximizedV, a.modal}, s) {
			continue
		}
		on := action == 1 || action == 2 && !c.has(s)
		c.state = slices.DeleteFunc(c.state, func(have xproto.Atom) bool { return have == s })
		if on {
			c.state = append(c.state, s)
		}
	}
	w.set(c.win, a.state, xproto.AtomAtom, numbers(c.state)...)
	w.arrange(c)
	for _, dialog := range w.family(c)[1:] {
		w.arrange(dialog)
	}
	if c.has(a.fullscreen) {
		w.raise(c)
	}
	w.settle()
}
