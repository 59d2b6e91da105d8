package wm

import (
	"slices"

	"github.com/jezek/xgb/xproto"
)

// settle gives the keyboard to whom it belongs, once the X server has told all that
// follows from what was done or heard: until then the pointer enters and leaves
// windows because they moved, not because it did. The answer is a PropertyNotify,
// whose time is what ICCCM 4.1.7 wants in requests for the keyboard.
func (w *manager) settle() {
	w.settles++
	xproto.ChangeProperty(w.x, xproto.PropModeAppend, w.check, w.atoms.manager, xproto.AtomCardinal, 32, 0, nil)
}

// wanted is whom the keyboard belongs to, nil: nobody.
func (w *manager) wanted() *client {
	for _, c := range slices.Backward(w.recent) {
		if c.focusable() {
			return c
		}
	}
	return nil
}

// focus gives the keyboard to whom it belongs, if that is another. Whatever a
// program does with it inside its windows is left alone.
func (w *manager) focus(now xproto.Timestamp) {
	c := w.wanted()
	if c == w.focused {
		return
	}
	w.focused = c
	w.announceActive()
	switch {
	case c == nil:
		xproto.SetInputFocus(w.x, xproto.InputFocusPointerRoot, xproto.InputFocusPointerRoot, now)
		return
	case c.wishes.input:
		xproto.SetInputFocus(w.x, xproto.InputFocusPointerRoot, c.win, now)
	}
	if c.wishes.takesFocus {
		w.protocol(c, w.atoms.takeFocus, now)
	}
}

// prefer makes the window, or rather its newest dialog, the one that the keyboard
// belongs to.
func (w *manager) prefer(c *client) {
	for _, f := range w.family(c) {
		w.recent = append(slices.DeleteFunc(w.recent, func(r *client) bool { return r == f }), f)
	}
}

// entered follows a pointer that was moved.
func (w *manager) entered(e xproto.EnterNotifyEvent) {
	c := w.clients[e.Event]
	if c == nil || w.settles > 0 || e.Mode != xproto.NotifyModeNormal || e.Detail == xproto.NotifyDetailInferior || !c.focusable() {
		return
	}
	w.prefer(c)
	w.focus(e.Time) // at once: to settle would be to overlook the next window on the way
}

// focusIn takes note of where the keyboard went without us.
func (w *manager) focusIn(e xproto.FocusInEvent) {
	if e.Mode == xproto.NotifyModeGrab || e.Mode == xproto.NotifyModeUngrab {
		return
	}
	if e.Event == w.root {
		if e.Detail == xproto.NotifyDetailPointerRoot || e.Detail == xproto.NotifyDetailNone { // nobody has it
			w.focused = nil
			w.settle()
		}
		return
	}
	c := w.clients[e.Event]
	if c == nil || c == w.focused || w.settles > 0 || e.Detail == xproto.NotifyDetailPointer {
		return
	}
	w.focused = c
	w.recent = append(slices.DeleteFunc(w.recent, func(r *client) bool { return r == c }), c)
	w.announceActive()
}
