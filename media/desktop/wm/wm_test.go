package wm

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/media/screen/screentest"
	"fenrir/media/x11"

	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// app is a program with windows on a display.
type app struct {
	*testing.T
	conn *x11.Conn
	d    media.Display
}

func newApp(t *testing.T, d media.Display) *app {
	t.Helper()
	c, err := x11.Dial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Use(t.Context(), "XTEST"); err != nil {
		t.Fatal(err)
	}
	a := &app{T: t, conn: c, d: d}
	a.ok(xproto.ChangeWindowAttributesChecked(c.X, c.Root(), xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange}))
	return a
}

func (a *app) ok(cookie interface{ Check() error }) {
	a.Helper()
	if err := x11.Check(a.Context(), a.conn, cookie); err != nil {
		a.Fatal(err)
	}
}

func (a *app) atom(name string) xproto.Atom {
	a.Helper()
	r, err := x11.Reply(a.Context(), a.conn, xproto.InternAtom(a.conn.X, false, uint16(len(name)), name))
	if err != nil {
		a.Fatal(err)
	}
	return r.Atom
}

// manage runs the window manager and returns when it is there; wait tells how it ended.
func manage(t *testing.T, d media.Display) (stop context.CancelFunc, wait func() error) {
	t.Helper()
	a := newApp(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- Run(ctx, d, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	wait = func() error {
		t.Helper()
		select {
		case err := <-over:
			over <- err
			return err
		case <-time.After(patience):
			t.Fatal("Run does not end")
			return nil
		}
	}
	t.Cleanup(func() { cancel(); _ = wait() }) // the tests look at what it returns
	began := time.Now()
	a.until("a window manager", func() bool { return len(a.property(a.conn.Root(), "_NET_SUPPORTING_WM_CHECK")) == 1 })
	t.Logf("there after %v", time.Since(began))
	return cancel, wait
}

// until waits for something that the window manager tells of by a property of the
// root, or that shows in an event of ours.
func (a *app) until(what string, is func() bool) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	defer cancel()
	for !is() {
		if _, err := a.conn.Next(ctx); err != nil {
			a.Fatalf("no %s: %v", what, err)
		}
	}
}

func (a *app) property(win xproto.Window, name string) []uint32 {
	a.Helper()
	r, err := x11.Reply(a.Context(), a.conn, xproto.GetProperty(a.conn.X, false, win, a.atom(name), xproto.GetPropertyTypeAny, 0, 4096))
	if err != nil {
		a.Fatal(err)
	}
	return words(r.Value)
}

func (a *app) set(win xproto.Window, name string, kind xproto.Atom, values ...uint32) {
	a.Helper()
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	a.ok(xproto.ChangePropertyChecked(a.conn.X, xproto.PropModeReplace, win, a.atom(name), kind, 32, uint32(len(values)), b))
}

// window makes a window at 0,0 which is not mapped yet.
func (a *app) window(width, height int) xproto.Window {
	a.Helper()
	win, err := xproto.NewWindowId(a.conn.X)
	if err != nil {
		a.Fatal(err)
	}
	const events = xproto.EventMaskStructureNotify | xproto.EventMaskKeyPress | xproto.EventMaskFocusChange | xproto.EventMaskPropertyChange
	a.ok(xproto.CreateWindowChecked(a.conn.X, 0, win, a.conn.Root(), 0, 0, uint16(width), uint16(height), 3,
		xproto.WindowClassInputOutput, 0, xproto.CwEventMask, []uint32{events}))
	return win
}

func (a *app) show(win xproto.Window) {
	a.Helper()
	a.ok(xproto.MapWindowChecked(a.conn.X, win))
	a.until("window in the list", func() bool { return slices.Contains(a.property(a.conn.Root(), "_NET_CLIENT_LIST"), uint32(win)) })
}

func (a *app) isAt(win xproto.Window, want rect) {
	a.Helper()
	var got rect
	bound := time.AfterFunc(patience, func() { a.Errorf("window is at %v, want %v", got, want) })
	defer bound.Stop()
	a.until("window where it belongs", func() bool {
		g, err := x11.Reply(a.Context(), a.conn, xproto.GetGeometry(a.conn.X, xproto.Drawable(win)))
		if err != nil {
			a.Fatal(err)
		}
		got = rect{int(g.X), int(g.Y), int(g.Width), int(g.Height)}
		return got == want && g.BorderWidth == 0
	})
}

// isFocused waits until the window has the keyboard and the window manager says so.
func (a *app) isFocused(win xproto.Window) {
	a.Helper()
	a.until("keyboard for the window", func() bool {
		f, err := x11.Reply(a.Context(), a.conn, xproto.GetInputFocus(a.conn.X))
		if err != nil {
			a.Fatal(err)
		}
		active := a.property(a.conn.Root(), "_NET_ACTIVE_WINDOW")
		return f.Focus == win && slices.Equal(active, []uint32{uint32(win)})
	})
}

func (a *app) fake(kind, detail byte, x, y int) {
	a.Helper()
	a.ok(xtest.FakeInputChecked(a.conn.X, kind, detail, 0, a.conn.Root(), int16(x), int16(y), 0))
}

// getsKey presses a key and waits until the window is told of it.
func (a *app) getsKey(win xproto.Window) {
	a.Helper()
	const key = 38
	a.fake(xproto.KeyPress, key, 0, 0)
	a.fake(xproto.KeyRelease, key, 0, 0)
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	defer cancel()
	for {
		ev, err := a.conn.Next(ctx)
		if err != nil {
			a.Fatalf("the key does not come: %v", err)
		}
		if e, ok := ev.(xproto.KeyPressEvent); ok {
			if e.Event != win {
				a.Errorf("window %x got the key, want %x", e.Event, win)
			}
			return
		}
	}
}

func (a *app) message(win xproto.Window, name string, data ...uint32) {
	a.Helper()
	data = append(data, make([]uint32, 5-len(data))...)
	e := xproto.ClientMessageEvent{Format: 32, Window: win, Type: a.atom(name), Data: xproto.ClientMessageDataUnionData32New(data)}
	a.ok(xproto.SendEventChecked(a.conn.X, false, a.conn.Root(),
		xproto.EventMaskSubstructureNotify|xproto.EventMaskSubstructureRedirect, string(e.Bytes())))
}

func TestNewestHasTheKeyboardAndReturnsIt(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	stop, wait := manage(t, d)
	a := newApp(t, d)
	a.fake(xproto.MotionNotify, 0, 5, 5) // over none of them
	first, second := a.window(400, 300), a.window(200, 100)
	a.show(first)
	a.isAt(first, rect{440, 210, 400, 300})
	a.isFocused(first)
	a.getsKey(first)
	a.show(second)
	a.isFocused(second)
	a.getsKey(second)
	a.ok(xproto.DestroyWindowChecked(a.conn.X, second))
	a.isFocused(first)
	a.getsKey(first)
	third := a.window(100, 100)
	a.show(third)
	a.isFocused(third)
	a.ok(xproto.UnmapWindowChecked(a.conn.X, third))
	a.isFocused(first)
	if got := a.property(third, "WM_STATE"); !slices.Equal(got, []uint32{0, 0}) {
		t.Errorf("WM_STATE of an unmapped window is %v, want withdrawn", got)
	}
	a.show(third)
	a.isFocused(third)
	a.getsKey(third)
	stop()
	if err := wait(); err != nil {
		t.Errorf("Run returned %v after its context", err)
	}
}

func TestPointerTakesTheKeyboardAlongWhenItMoves(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	manage(t, d)
	a := newApp(t, d)
	a.fake(xproto.MotionNotify, 0, 640, 100)
	large, small := a.window(1280, 720), a.window(200, 100)
	a.show(large)
	a.isFocused(large)
	a.show(small)
	a.isFocused(small) // though the pointer rests in large
	a.fake(xproto.MotionNotify, 0, 640, 360)
	a.fake(xproto.MotionNotify, 0, 640, 100)
	a.isFocused(large)
	dialog := a.window(300, 50)
	a.set(dialog, "WM_TRANSIENT_FOR", xproto.AtomWindow, uint32(large))
	a.show(dialog)
	a.isFocused(dialog)
	a.fake(xproto.MotionNotify, 0, 640, 320) // small
	a.isFocused(small)
	a.fake(xproto.MotionNotify, 0, 640, 100) // large, whose dialog waits for an answer
	a.isFocused(dialog)
	a.getsKey(dialog)
}

func TestWindowsUnderARestingPointerDoNotCount(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	manage(t, d)
	a := newApp(t, d)
	a.fake(xproto.MotionNotify, 0, 640, 360)
	large, aside, middle := a.window(1280, 720), a.window(100, 100), a.window(200, 100)
	a.set(aside, "WM_NORMAL_HINTS", xproto.AtomWmSizeHints, 1)
	for _, win := range []xproto.Window{large, aside, middle} {
		a.show(win)
		a.isFocused(win)
	}
	a.isAt(aside, rect{0, 0, 100, 100})
	a.ok(xproto.DestroyWindowChecked(a.conn.X, middle)) // the pointer enters large by that
	a.isFocused(aside)
	a.getsKey(aside)
}

func TestFocusAsProgramsWantIt(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	manage(t, d)
	a := newApp(t, d)
	plain := a.window(640, 480)
	a.show(plain)
	a.isFocused(plain)

	deaf := a.window(100, 100)
	a.set(deaf, "WM_HINTS", xproto.AtomWmHints, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	a.show(deaf)
	splash := a.window(100, 100)
	a.set(splash, "_NET_WM_WINDOW_TYPE", xproto.AtomAtom, uint32(a.atom("_NET_WM_WINDOW_TYPE_SPLASH")))
	a.show(splash)
	a.getsKey(plain)

	own := a.window(100, 100)
	a.set(own, "WM_HINTS", xproto.AtomWmHints, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	a.set(own, "WM_PROTOCOLS", xproto.AtomAtom, uint32(a.atom("WM_TAKE_FOCUS")), uint32(a.atom("WM_DELETE_WINDOW")))
	protocols, take, remove := a.atom("WM_PROTOCOLS"), a.atom("WM_TAKE_FOCUS"), a.atom("WM_DELETE_WINDOW")
	next := func() xproto.ClientMessageEvent {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			ev, err := a.conn.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := ev.(xproto.ClientMessageEvent); ok && e.Type == protocols {
				return e
			}
		}
	}
	a.ok(xproto.MapWindowChecked(a.conn.X, own))
	e := next()
	if xproto.Atom(e.Data.Data32[0]) != take || e.Data.Data32[1] == 0 {
		t.Fatalf("got message %v, want WM_TAKE_FOCUS with a time", e.Data.Data32)
	}
	a.ok(xproto.SetInputFocusChecked(a.conn.X, xproto.InputFocusParent, own, xproto.Timestamp(e.Data.Data32[1])))
	a.isFocused(own)

	a.message(own, "_NET_CLOSE_WINDOW")
	if e := next(); xproto.Atom(e.Data.Data32[0]) != remove {
		t.Errorf("got message %v, want WM_DELETE_WINDOW", e.Data.Data32)
	}
	a.message(plain, "_NET_ACTIVE_WINDOW", 1)
	a.isFocused(plain)
	// A program that leaves the keyboard to nobody gets it back.
	a.ok(xproto.SetInputFocusChecked(a.conn.X, xproto.InputFocusNone, xproto.InputFocusNone, xproto.TimeCurrentTime))
	a.isFocused(plain)
}

func TestWindowsGoWhereTheyBelong(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	manage(t, d)
	a := newApp(t, d)
	hints := func(flags, maxW, maxH uint32) []uint32 {
		return []uint32{flags, 0, 0, 0, 0, 0, 0, maxW, maxH, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	at := func(win xproto.Window, x, y uint32) {
		a.ok(xproto.ConfigureWindowChecked(a.conn.X, win, xproto.ConfigWindowX|xproto.ConfigWindowY, []uint32{x, y}))
	}
	huge := a.window(1920, 1080)
	a.show(huge)
	a.isAt(huge, rect{0, 0, 1920, 1080})

	user := a.window(300, 200)
	a.set(user, "WM_NORMAL_HINTS", xproto.AtomWmSizeHints, hints(1, 0, 0)...)
	at(user, 10, 20)
	a.show(user)
	a.isAt(user, rect{10, 20, 300, 200})
	at(user, 100, 150)
	a.isAt(user, rect{100, 150, 300, 200})

	dialog := a.window(101, 51)
	a.set(dialog, "WM_TRANSIENT_FOR", xproto.AtomWindow, uint32(user))
	a.show(dialog)
	a.isAt(dialog, rect{199, 224, 101, 51})
	a.message(user, "_NET_ACTIVE_WINDOW", 1) // brings the dialog along
	a.isFocused(dialog)
	tree, err := x11.Reply(t.Context(), a.conn, xproto.QueryTree(a.conn.X, a.conn.Root()))
	if err != nil {
		t.Fatal(err)
	}
	if u, d := slices.Index(tree.Children, user), slices.Index(tree.Children, dialog); d < u {
		t.Errorf("dialog is below its parent: %d, %d", d, u)
	}

	plain := a.window(640, 480)
	a.show(plain)
	a.isAt(plain, rect{320, 120, 640, 480})
	a.ok(xproto.ConfigureWindowChecked(a.conn.X, plain, xproto.ConfigWindowX|xproto.ConfigWindowWidth|xproto.ConfigWindowHeight, []uint32{7, 800, 600}))
	a.isAt(plain, rect{240, 60, 800, 600})
	// What changes nothing is answered.
	for synthetic := false; !synthetic; {
		at(plain, 1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ev, err := a.conn.Next(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		e, ok := ev.(xproto.ConfigureNotifyEvent)
		synthetic = ok && e.Window == plain && e.X == 240 && e.Y == 60 && e.Width == 800 && e.AboveSibling == 0
	}

	menu := a.window(50, 60)
	a.ok(xproto.ChangeWindowAttributesChecked(a.conn.X, menu, xproto.CwOverrideRedirect, []uint32{1}))
	a.ok(xproto.MapWindowChecked(a.conn.X, menu))
	last := a.window(60, 60)
	a.show(last) // the menu was dealt with by now
	g, err := x11.Reply(t.Context(), a.conn, xproto.GetGeometry(a.conn.X, xproto.Drawable(menu)))
	if err != nil || g.X != 0 || g.Y != 0 || g.BorderWidth != 3 {
		t.Errorf("a menu was touched: %+v, %v", g, err)
	}
	if slices.Contains(a.property(a.conn.Root(), "_NET_CLIENT_LIST"), uint32(menu)) {
		t.Error("a menu is in the list")
	}
}

func TestFullscreenAndBack(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	manage(t, d)
	a := newApp(t, d)
	full := uint32(a.atom("_NET_WM_STATE_FULLSCREEN"))
	h, v := uint32(a.atom("_NET_WM_STATE_MAXIMIZED_HORZ")), uint32(a.atom("_NET_WM_STATE_MAXIMIZED_VERT"))
	win := a.window(400, 300)
	a.show(win)
	windowed := rect{440, 210, 400, 300}
	const remove, add, toggle = 0, 1, 2
	for _, step := range []struct {
		action, one, two uint32
		want             rect
	}{
		{add, full, 0, rect{0, 0, 1280, 720}},
		{add, full, 0, rect{0, 0, 1280, 720}},
		{remove, full, 0, windowed},
		{toggle, full, 0, rect{0, 0, 1280, 720}},
		{toggle, full, 0, windowed},
		{add, h, v, rect{0, 0, 1280, 720}},
		{remove, h, 0, rect{440, 0, 400, 720}},
		{toggle, h, v, rect{0, 210, 1280, 300}},
		{remove, h, v, windowed},
	} {
		a.message(win, "_NET_WM_STATE", step.action, step.one, step.two, 1)
		a.isAt(win, step.want)
	}
	if got := a.property(win, "_NET_WM_STATE"); len(got) != 0 {
		t.Errorf("_NET_WM_STATE is %v at last, want none", got)
	}
	// From the start, and a size that the program asks for on its way there.
	born := a.window(320, 200)
	a.set(born, "_NET_WM_STATE", xproto.AtomAtom, full)
	a.show(born)
	a.isAt(born, rect{0, 0, 1280, 720})
	a.ok(xproto.ConfigureWindowChecked(a.conn.X, born, xproto.ConfigWindowWidth|xproto.ConfigWindowHeight, []uint32{1280, 720}))
	a.message(born, "_NET_WM_STATE", remove, full)
	a.isAt(born, rect{480, 260, 320, 200})
}

func TestWindowsFollowTheScreen(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1920, 1080)
	a := newApp(t, d)
	resize := func(width, height int) {
		t.Helper()
		if err := x11.SetSize(t.Context(), a.conn, width, height); err != nil {
			t.Fatal(err)
		}
	}
	resize(1280, 720)
	manage(t, d)
	cover, fixed, full, small := a.window(1280, 720), a.window(1280, 720), a.window(300, 200), a.window(400, 300)
	a.set(fixed, "WM_NORMAL_HINTS", xproto.AtomWmSizeHints, 16|32, 0, 0, 0, 0, 1280, 720, 1280, 720, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	a.set(full, "_NET_WM_STATE", xproto.AtomAtom, uint32(a.atom("_NET_WM_STATE_FULLSCREEN")))
	corner := a.window(100, 100)
	a.set(corner, "WM_NORMAL_HINTS", xproto.AtomWmSizeHints, 1)
	a.ok(xproto.ConfigureWindowChecked(a.conn.X, corner, xproto.ConfigWindowX|xproto.ConfigWindowY, []uint32{1180, 620}))
	for _, win := range []xproto.Window{cover, fixed, full, small, corner} {
		a.show(win)
	}
	a.isAt(corner, rect{1180, 620, 100, 100})
	for _, size := range [][2]int{{1920, 1080}, {1280, 720}} {
		resize(size[0], size[1])
		all := rect{0, 0, size[0], size[1]}
		a.isAt(cover, all)
		a.isAt(full, all)
		a.isAt(fixed, rect{w: 1280, h: 720}.centred(all))
		a.isAt(small, rect{w: 400, h: 300}.centred(all))
		a.isAt(corner, rect{1180, 620, 100, 100})
		a.until("work area", func() bool {
			return slices.Equal(a.property(a.conn.Root(), "_NET_WORKAREA"), []uint32{0, 0, uint32(size[0]), uint32(size[1])})
		})
	}
	resize(800, 600)
	a.isAt(cover, rect{0, 0, 800, 600})
	a.isAt(corner, rect{700, 500, 100, 100})
	a.isAt(small, rect{200, 150, 400, 300})
}

func TestWindowsThatAreThereAreAdopted(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	a := newApp(t, d)
	low, high, hidden := a.window(400, 300), a.window(200, 100), a.window(10, 10)
	a.ok(xproto.MapWindowChecked(a.conn.X, low))
	a.ok(xproto.MapWindowChecked(a.conn.X, high))
	_, wait := manage(t, d)
	a.isAt(low, rect{440, 210, 400, 300})
	a.isAt(high, rect{540, 310, 200, 100})
	a.isFocused(high)
	if got := a.property(a.conn.Root(), "_NET_CLIENT_LIST"); !slices.Equal(got, []uint32{uint32(low), uint32(high)}) {
		t.Errorf("clients are %x, want %x %x without %x", got, low, high, hidden)
	}
	// Another that takes its place.
	win := a.window(1, 1)
	a.ok(xproto.SetSelectionOwnerChecked(a.conn.X, win, a.atom("WM_S0"), xproto.TimeCurrentTime))
	if err := wait(); !errors.Is(err, ErrTaken) {
		t.Errorf("Run returned %v when it was replaced, want ErrTaken", err)
	}
}

func TestAnotherWindowManager(t *testing.T) {
	d, _ := screentest.Xvfb(t, 640, 360)
	manage(t, d)
	if err := Run(t.Context(), d, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrTaken) {
		t.Errorf("a second one returned %v, want ErrTaken", err)
	}
}

func TestDisplayDies(t *testing.T) {
	d, server := screentest.Xvfb(t, 640, 360)
	_, wait := manage(t, d)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err == nil || errors.Is(err, ErrTaken) {
		t.Errorf("Run returned %v after the display died", err)
	}
	if err := Run(t.Context(), d, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Run returned nil without a display")
	}
}

func TestManyWindowsLeaveNothing(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	a := newApp(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := x11.Dial(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{conn: c, x: c.X, root: c.Root(), log: slog.New(slog.DiscardHandler), clients: map[xproto.Window]*client{}}
	over := make(chan error, 1)
	go func() { over <- m.run(ctx) }()
	defer c.Close()
	a.until("a window manager", func() bool { return len(a.property(a.conn.Root(), "_NET_SUPPORTING_WM_CHECK")) == 1 })
	first := a.window(640, 480)
	a.show(first)
	var wins []xproto.Window
	for i := range 50 {
		win := a.window(100+i, 100)
		a.ok(xproto.MapWindowChecked(a.conn.X, win))
		switch i % 5 {
		case 0: // gone before anybody looks
			a.ok(xproto.DestroyWindowChecked(a.conn.X, win))
		case 1:
			a.set(win, "WM_TRANSIENT_FOR", xproto.AtomWindow, uint32(win)) // of itself
			fallthrough
		default:
			wins = append(wins, win)
		}
	}
	a.until("all windows", func() bool { return len(a.property(a.conn.Root(), "_NET_CLIENT_LIST")) == 1+len(wins) })
	a.isFocused(wins[len(wins)-1])
	for _, win := range wins {
		a.ok(xproto.DestroyWindowChecked(a.conn.X, win))
	}
	a.until("one window", func() bool { return len(a.property(a.conn.Root(), "_NET_CLIENT_LIST")) == 1 })
	a.isFocused(first)
	cancel()
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("does not end")
	}
	if len(m.clients) != 1 || len(m.age) != 1 || len(m.recent) != 1 || m.focused != m.clients[first] {
		t.Errorf("left: %d clients, %d by age, %d for the keyboard, focused %v", len(m.clients), len(m.age), len(m.recent), m.focused)
	}
}

func FuzzHints(f *testing.F) {
	f.Add([]byte{})
	f.Add(slices.Repeat([]byte{255}, 72))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := words(b)
		h := parseSizeHints(v)
		if h.bounded && (h.maxW < 1 || h.maxH < 1) {
			t.Errorf("largest size is %d×%d", h.maxW, h.maxH)
		}
		_ = parseInput(v)
	})
}
