package wm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"fenrir/media"
	"fenrir/media/x11"
)

// ErrTaken is why Run returns when another window manager has the display, or
// replaces this one.
var ErrTaken = errors.New("wm: display has another window manager")

// maxClients bounds what a program that opens windows without end can cost. A
// window beyond is shown and otherwise left alone.
const maxClients = 1024

// Run manages the windows of a display, those that are there included. It blocks
// until ctx ends, then returns nil, or until the display is lost or is another
// window manager's (ErrTaken). Windows stay as they are in each case.
func Run(ctx context.Context, display media.Display, log *slog.Logger) error {
	c, err := x11.Dial(ctx, display)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("manage windows: %w", err)
	}
	defer c.Close()
	w := &manager{conn: c, x: c.X, root: c.Root(), log: log, clients: map[xproto.Window]*client{}}
	err = w.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("manage windows of %s: %w", display.Name, err)
}

// manager is used by the goroutine of Run alone. Requests about a window are sent
// unchecked, for it may die at any moment: the errors are counted by the connection
// and the DestroyNotify says the rest.
type manager struct {
	conn  *x11.Conn
	x     *xgb.Conn
	root  xproto.Window
	log   *slog.Logger
	atoms atoms
	size  rect          // of the root
	check xproto.Window // of our own, never seen

	clients map[xproto.Window]*client
	age     []*client // in the order of mapping
	recent  []*client // who should have the keyboard, the best last
	focused *client   // whom it was given to, nil: none
	settles int       // PropertyNotify events of check on their way, see settle
}

// run returns why it ends.
func (w *manager) run(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	if err := w.adopt(ctx); err != nil {
		return err
	}
	for {
		ev, err := w.conn.Next(ctx)
		if errors.Is(err, x11.ErrEventsLost) {
			w.log.Warn("events lost, looking at all windows anew")
			err = w.adopt(ctx)
		} else if err == nil {
			err = w.handle(ctx, ev)
		}
		if err != nil {
			return err
		}
	}
}

// start takes the display and says so to programs.
func (w *manager) start(ctx context.Context) (err error) {
	if w.atoms, err = intern(ctx, w.conn); err != nil {
		return err
	}
	// StructureNotify tells of the root's size, SubstructureNotify of windows that
	// go, FocusChange of a keyboard that nobody has.
	const events = xproto.EventMaskSubstructureRedirect | xproto.EventMaskSubstructureNotify |
		xproto.EventMaskStructureNotify | xproto.EventMaskFocusChange
	err = x11.Check(ctx, w.conn, xproto.ChangeWindowAttributesChecked(w.x, w.root, xproto.CwEventMask, []uint32{events}))
	if errors.As(err, new(xproto.AccessError)) {
		return ErrTaken
	}
	if err != nil {
		return fmt.Errorf("take the root window: %w", err)
	}
	root, err := x11.Reply(ctx, w.conn, xproto.GetGeometry(w.x, xproto.Drawable(w.root)))
	if err != nil {
		return fmt.Errorf("ask for the size: %w", err)
	}
	w.size = rect{w: int(root.Width), h: int(root.Height)}
	w.check, err = xproto.NewWindowId(w.x)
	if err != nil {
		return fmt.Errorf("make a window: %w", err)
	}
	err = x11.Check(ctx, w.conn, xproto.CreateWindowChecked(w.x, 0, w.check, w.root, -10, -10, 1, 1, 0,
		xproto.WindowClassInputOnly, 0, xproto.CwOverrideRedirect|xproto.CwEventMask,
		[]uint32{1, xproto.EventMaskPropertyChange}))
	if err != nil {
		return fmt.Errorf("make a window: %w", err)
	}
	xproto.SetSelectionOwner(w.x, w.check, w.atoms.manager, xproto.TimeCurrentTime)
	w.announce()
	return nil
}

// adopt takes the windows that are mapped and forgets those that are not.
func (w *manager) adopt(ctx context.Context) error {
	tree, err := x11.Reply(ctx, w.conn, xproto.QueryTree(w.x, w.root))
	if err != nil {
		return fmt.Errorf("ask for windows: %w", err)
	}
	root, err := x11.Reply(ctx, w.conn, xproto.GetGeometry(w.x, xproto.Drawable(w.root)))
	if err != nil {
		return fmt.Errorf("ask for the size: %w", err)
	}
	w.settles = 0 // none of them is known to come
	for _, c := range slices.Clone(w.age) {
		if !slices.Contains(tree.Children, c.win) {
			w.forget(c, true)
		}
	}
	for _, win := range tree.Children { // from the lowest to the highest
		if win == w.check {
			continue
		}
		l, err := w.look(ctx, win)
		if err != nil {
			return err
		}
		switch c := w.clients[win]; {
		case c != nil && (l == nil || !l.mapped):
			w.forget(c, l == nil)
		case c == nil && l != nil && l.mapped && !l.ignored:
			w.manage(win, l)
		}
	}
	w.resize(int(root.Width), int(root.Height))
	w.settle()
	return nil
}

// handle deals with one event. Its errors are final.
func (w *manager) handle(ctx context.Context, ev xgb.Event) error {
	switch e := ev.(type) {
	case xproto.MapRequestEvent:
		l, err := w.look(ctx, e.Window)
		if err != nil || l == nil { // nil: it is gone already
			return err
		}
		if c := w.clients[e.Window]; c != nil {
			w.forget(c, false)
		}
		if !l.ignored {
			w.manage(e.Window, l)
		}
		xproto.MapWindow(w.x, e.Window)
		w.settle()
	case xproto.ConfigureRequestEvent:
		if c := w.clients[e.Window]; c != nil {
			w.asked(c, e)
		} else {
			w.pass(e)
		}
	case xproto.UnmapNotifyEvent:
		if c := w.clients[e.Window]; c != nil {
			w.forget(c, false)
		}
		w.settle()
	case xproto.DestroyNotifyEvent:
		if c := w.clients[e.Window]; c != nil {
			w.forget(c, true)
			w.settle()
		}
	case xproto.ReparentNotifyEvent:
		if c := w.clients[e.Window]; c != nil && e.Parent != w.root {
			w.forget(c, false)
			w.settle()
		}
	case xproto.MapNotifyEvent: // maybe of a menu, which the pointer is over now
		w.settle()
	case xproto.ConfigureNotifyEvent:
		if e.Window == w.root {
			w.resize(int(e.Width), int(e.Height))
		}
		w.settle()
	case xproto.PropertyNotifyEvent:
		return w.property(ctx, e)
	case xproto.EnterNotifyEvent:
		w.entered(e)
	case xproto.FocusInEvent:
		w.focusIn(e)
	case xproto.ClientMessageEvent:
		w.message(e)
	case xproto.SelectionClearEvent:
		if e.Selection == w.atoms.manager {
			return ErrTaken
		}
	}
	return nil
}

// resize makes windows follow the size of the root.
func (w *manager) resize(width, height int) {
	old := w.size
	w.size = rect{w: width, h: height}
	if old == w.size {
		return
	}
	w.announceSize()
	for _, c := range w.age {
		if c.at.covers(old) {
			c.wish.w, c.wish.h = c.limit(width, height)
		}
	}
	for _, c := range w.age {
		w.arrange(c)
	}
}

func (w *manager) property(ctx context.Context, e xproto.PropertyNotifyEvent) error {
	if e.Window == w.check {
		if e.Atom == w.atoms.manager && w.settles > 0 {
			if w.settles--; w.settles == 0 {
				w.focus(e.Time)
			}
		}
		return nil
	}
	a := &w.atoms
	c := w.clients[e.Window]
	if c == nil || !slices.Contains([]xproto.Atom{xproto.AtomWmNormalHints, xproto.AtomWmHints, xproto.AtomWmTransientFor, a.protocols}, e.Atom) {
		return nil
	}
	l, err := w.look(ctx, e.Window)
	if err != nil || l == nil {
		return err
	}
	over := c.wishes.parent
	c.wishes = l.wishes
	if c.wishes.parent != over {
		w.arrange(c)
		w.raise(c)
	}
	w.settle()
	return nil
}
