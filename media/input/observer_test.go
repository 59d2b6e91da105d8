package input

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/media/input/keysym"
	"fenrir/media/screen/screentest"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observer is a program on the display: a window over all of it, which reads
// the keyboard mapping again whenever it is told to.
type observer struct {
	t      *testing.T
	conn   *x11.Conn
	events chan xgb.Event
	keys   *keymap
}

func observe(t *testing.T, d media.Display) *observer {
	t.Helper()
	c, err := x11.Dial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{t: t, conn: c, events: make(chan xgb.Event, 4096)}
	_, err = x11.Do(t.Context(), c, func(x *xgb.Conn) (struct{}, error) {
		w, err := xproto.NewWindowId(x)
		if err != nil {
			return struct{}{}, err
		}
		const mask = xproto.EventMaskKeyPress | xproto.EventMaskKeyRelease | xproto.EventMaskButtonPress |
			xproto.EventMaskButtonRelease | xproto.EventMaskPointerMotion | xproto.EventMaskStructureNotify
		xproto.CreateWindow(x, 0, w, c.Root(), 0, 0, 3840, 2160, 0, xproto.WindowClassInputOutput, 0, xproto.CwEventMask, []uint32{mask})
		if err := xproto.MapWindowChecked(x, w).Check(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, xproto.SetInputFocusChecked(x, xproto.InputFocusPointerRoot, w, 0).Check()
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.keys, err = readKeymap(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		for {
			ev, err := c.Next(ctx)
			if err != nil {
				return
			}
			o.events <- ev
		}
	}()
	t.Cleanup(func() { cancel(); <-done; c.Close() })
	return o
}

// next is the next event of interest; mappings are taken in on the way, in order.
func (o *observer) next() xgb.Event {
	o.t.Helper()
	bound := time.After(5 * time.Second)
	for {
		select {
		case ev := <-o.events:
			switch ev.(type) {
			case xproto.MappingNotifyEvent:
				k, err := readKeymap(o.t.Context(), o.conn)
				if err != nil {
					o.t.Fatal(err)
				}
				o.keys = k
			case xproto.KeyPressEvent, xproto.KeyReleaseEvent, xproto.ButtonPressEvent, xproto.ButtonReleaseEvent, xproto.MotionNotifyEvent:
				return ev
			}
		case <-bound:
			o.t.Fatal("no event within 5 s")
		}
	}
}

// quiet fails the test if there is another event, and returns after a round
// trip: whatever was injected before would have come.
func (o *observer) quiet() {
	o.t.Helper()
	if _, err := x11.Reply(o.t.Context(), o.conn, xproto.GetInputFocus(o.conn.X)); err != nil {
		o.t.Fatal(err)
	}
	for {
		select {
		case ev := <-o.events:
			switch ev.(type) {
			case xproto.MappingNotifyEvent, xproto.MapNotifyEvent, xproto.ConfigureNotifyEvent:
			default:
				o.t.Errorf("unexpected event %T %+v", ev, ev)
			}
		default:
			return
		}
	}
}

// state asks for what is held: modifiers and buttons, and keys.
func (o *observer) state() (mask uint16, keys []int) {
	o.t.Helper()
	p, err := x11.Reply(o.t.Context(), o.conn, xproto.QueryPointer(o.conn.X, o.conn.Root()))
	if err != nil {
		o.t.Fatal(err)
	}
	k, err := x11.Reply(o.t.Context(), o.conn, xproto.QueryKeymap(o.conn.X))
	if err != nil {
		o.t.Fatal(err)
	}
	for code := range 256 {
		if k.Keys[code/8]>>(code%8)&1 == 1 {
			keys = append(keys, code)
		}
	}
	return p.Mask, keys
}

// typed is what a program makes of a key press: the column by Shift, Lock and AltGr.
func (o *observer) typed(ev xproto.KeyPressEvent) keysym.Sym {
	col := 0
	if o.keys.altGrMask != 0 && ev.State&o.keys.altGrMask != 0 && o.keys.at(ev.Detail, 4) != keysym.None {
		col = 4
	}
	shift := ev.State&xproto.ModMaskShift != 0
	if ev.State&xproto.ModMaskLock != 0 && o.keys.cased(ev.Detail, col) {
		shift = !shift
	}
	if shift && o.keys.at(ev.Detail, col+1) != keysym.None {
		col++
	}
	return o.keys.at(ev.Detail, col)
}

// devicesOn runs devices on a display until the test ends.
func devicesOn(t *testing.T, dev *Devices, d media.Display) (in chan<- media.Input, over <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, end := make(chan media.Input), make(chan error, 1)
	done := make(chan struct{})
	started := make(chan struct{})
	first := true
	go func() {
		defer close(done)
		end <- dev.Run(ctx, d, events, func(media.Note) {
			if first {
				first = false
				close(started)
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-started:
	case <-time.After(5 * time.Second):
		t.Fatal("devices do not run after 5 s")
	}
	return events, end
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// bench is a display with devices and a program that observes them.
func bench(t *testing.T, width, height int) (in chan<- media.Input, o *observer, d media.Display, server *os.Process, dev *Devices, over <-chan error) {
	t.Helper()
	d, server = screentest.Xvfb(t, width, height)
	o = observe(t, d)
	dev = &Devices{Log: quietLog()}
	in, over = devicesOn(t, dev, d)
	return in, o, d, server, dev, over
}

// settled waits until everything that was put into in has happened: a button,
// pressed and released, comes last.
func (o *observer) settled(in chan<- media.Input) {
	o.t.Helper()
	in <- media.Input{Kind: media.ButtonDown, Button: 5}
	in <- media.Input{Kind: media.ButtonUp, Button: 5}
	for describe(o.next()) != "release 9" {
	}
}

func describe(ev xgb.Event) string {
	switch e := ev.(type) {
	case xproto.KeyPressEvent:
		return fmt.Sprintf("+%d", e.Detail)
	case xproto.KeyReleaseEvent:
		return fmt.Sprintf("-%d", e.Detail)
	case xproto.ButtonPressEvent:
		return fmt.Sprintf("press %d", e.Detail)
	case xproto.ButtonReleaseEvent:
		return fmt.Sprintf("release %d", e.Detail)
	case xproto.MotionNotifyEvent:
		return fmt.Sprintf("at %d,%d", e.RootX, e.RootY)
	}
	return fmt.Sprintf("%T", ev)
}
