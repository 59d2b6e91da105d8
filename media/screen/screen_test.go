package screen

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"os"
	"syscall"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/media/screen/screentest"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/xproto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, d media.Display) *x11.Conn {
	t.Helper()
	c, err := x11.Dial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// paint fills a rectangle of the root window.
func paint(t *testing.T, c *x11.Conn, color uint32, r xproto.Rectangle) {
	t.Helper()
	_, err := x11.Do(t.Context(), c, func(x *xgb.Conn) (struct{}, error) {
		gc, err := xproto.NewGcontextId(x)
		if err != nil {
			return struct{}{}, err
		}
		xproto.CreateGC(x, gc, xproto.Drawable(c.Root()), xproto.GcForeground, []uint32{color})
		return struct{}{}, xproto.PolyFillRectangleChecked(x, xproto.Drawable(c.Root()), gc, []xproto.Rectangle{r}).Check()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestScreenshotShowsWhatIsThere(t *testing.T) {
	d, _ := screentest.Xvfb(t, 3840, 2160)
	paint(t, dial(t, d), 0x123456, xproto.Rectangle{X: 100, Y: 50, Width: 3740, Height: 2110})
	began := time.Now()
	b, err := Screenshot(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("3840×2160: %v, %d bytes", time.Since(began), len(b))
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := img.Bounds(), image.Rect(0, 0, 3840, 2160); got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	for at, want := range map[image.Point]uint32{{99, 50}: 0, {100, 49}: 0, {100, 50}: 0x123456, {3839, 2159}: 0x123456} {
		r, g, b, a := img.At(at.X, at.Y).RGBA()
		if got := r>>8<<16 | g>>8<<8 | b>>8; got != want || a != 0xffff {
			t.Errorf("pixel %v is %06x, alpha %x, want %06x, ffff", at, got, a, want)
		}
	}
}

func TestResizeUpAndDown(t *testing.T) {
	d, _ := screentest.Xvfb(t, 3840, 2160)
	c := dial(t, d)
	for _, size := range [][2]int{{1280, 720}, {1280, 720}, {1920, 1080}, {640, 2160}, {3840, 360}, {642, 362}, {3840, 2160}, {1366, 768}} {
		began := time.Now()
		if err := Resize(t.Context(), d, size[0], size[1]); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		g, err := x11.Reply(t.Context(), c, xproto.GetGeometry(c.X, xproto.Drawable(c.Root())))
		if err != nil {
			t.Fatal(err)
		}
		if int(g.Width) != size[0] || int(g.Height) != size[1] {
			t.Errorf("got %d×%d, want %v", g.Width, g.Height, size)
		}
		img, err := Picture(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := img.Bounds().Max, image.Pt(size[0], size[1]); got != want {
			t.Errorf("picture is %v, want %v", got, want)
		}
		t.Logf("%v took %v", size, took)
	}
	// Modes that are no longer used do not pile up.
	if err := c.Use(t.Context(), "RANDR"); err != nil {
		t.Fatal(err)
	}
	r, err := x11.Reply(t.Context(), c, randr.GetScreenResources(c.X, c.Root()))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(r.Names, []byte(modePrefix)); n > 1 {
		t.Errorf("%d modes of ours are left: %s", n, r.Names)
	}
}

func TestResizeSaysWhatCannotBe(t *testing.T) {
	d, _ := screentest.Xvfb(t, 1280, 720)
	for _, size := range [][2]int{{1282, 720}, {1280, 722}, {0, 720}, {-2, 40000}} {
		if err := Resize(t.Context(), d, size[0], size[1]); !errors.Is(err, ErrFixed) {
			t.Errorf("Resize to %v: %v, want ErrFixed", size, err)
		}
	}
	img, err := Picture(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := img.Bounds().Max, image.Pt(1280, 720); got != want {
		t.Errorf("size is %v after refused sizes, want %v", got, want)
	}
}

func TestHungServerIsLeft(t *testing.T) {
	d, server := screentest.Xvfb(t, 640, 360)
	stopped(t, server)
	began := time.Now()
	if _, err := Screenshot(t.Context(), d); err == nil {
		t.Error("screenshot of a hung server succeeded")
	}
	if took := time.Since(began); took > ScreenshotBound+500*time.Millisecond {
		t.Errorf("screenshot took %v", took)
	}
	began = time.Now()
	if err := Resize(t.Context(), d, 320, 200); err == nil {
		t.Error("resize of a hung server succeeded")
	}
	if took := time.Since(began); took > ResizeBound+500*time.Millisecond {
		t.Errorf("resize took %v", took)
	}
}

func stopped(t *testing.T, server *os.Process) {
	t.Helper()
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// watching runs an eye and gives its notes.
func watching(t *testing.T, d media.Display) (eye *Eye, notes <-chan media.Note, over <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	eye = NewEye()
	out, end := make(chan media.Note, 1024), make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		end <- eye.Watch(ctx, d, func(n media.Note) { out <- n })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return eye, out, end
}

// cursor waits for a cursor that fits.
func cursor(t *testing.T, notes <-chan media.Note, what string, fits func(*media.CursorImage) bool) *media.CursorImage {
	t.Helper()
	bound := time.After(5 * time.Second)
	for {
		select {
		case n := <-notes:
			if n.Cursor != nil && fits(n.Cursor) {
				return n.Cursor
			}
		case <-bound:
			t.Fatalf("no %s within 5 s", what)
		}
	}
}

// setCursor gives the root window a cursor of one colour.
func setCursor(t *testing.T, c *x11.Conn, width, height uint16, hotX, hotY uint16, transparent bool) {
	t.Helper()
	_, err := x11.Do(t.Context(), c, func(x *xgb.Conn) (struct{}, error) {
		source, _ := xproto.NewPixmapId(x)
		mask, _ := xproto.NewPixmapId(x)
		root := xproto.Drawable(c.Root())
		for _, p := range []xproto.Pixmap{source, mask} {
			xproto.CreatePixmap(x, 1, p, root, width, height)
			gc, _ := xproto.NewGcontextId(x)
			on := uint32(1)
			if p == mask && transparent {
				on = 0
			}
			xproto.CreateGC(x, gc, xproto.Drawable(p), xproto.GcForeground, []uint32{on})
			xproto.PolyFillRectangle(x, xproto.Drawable(p), gc, []xproto.Rectangle{{Width: width, Height: height}})
		}
		id, err := xproto.NewCursorId(x)
		if err != nil {
			return struct{}{}, err
		}
		if err := xproto.CreateCursorChecked(x, id, source, mask, 0xffff, 0x8000, 0, 0, 0, 0, hotX, hotY).Check(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, xproto.ChangeWindowAttributesChecked(x, c.Root(), xproto.CwCursor, []uint32{uint32(id)}).Check()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEyeSeesCursors(t *testing.T) {
	d, _ := screentest.Xvfb(t, 640, 360)
	c := dial(t, d)
	_, notes, _ := watching(t, d)
	first := cursor(t, notes, "first cursor", func(*media.CursorImage) bool { return true })

	setCursor(t, c, 20, 30, 4, 7, false)
	got := cursor(t, notes, "20×30 cursor", func(i *media.CursorImage) bool { return i.Width == 20 })
	if got.Height != 30 || got.HotX != 4 || got.HotY != 7 || got.Serial == first.Serial {
		t.Errorf("got %d×%d hot %d,%d serial %d, want 20×30 hot 4,7, serial other than %d", got.Width, got.Height, got.HotX, got.HotY, got.Serial, first.Serial)
	}
	img, err := png.Decode(bytes.NewReader(got.PNG))
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, a := img.At(10, 10).RGBA(); r>>8 != 0xff || g>>8 != 0x80 || b != 0 || a != 0xffff {
		t.Errorf("pixel is %x %x %x %x, want ff 80 0 ff", r>>8, g>>8, b>>8, a>>8)
	}

	hidden := func(i *media.CursorImage) bool { return i.Width == 0 && len(i.PNG) == 0 }
	setCursor(t, c, 16, 16, 0, 0, true)
	cursor(t, notes, "transparent cursor", hidden)
	setCursor(t, c, 9, 9, 1, 1, false)
	cursor(t, notes, "9×9 cursor", func(i *media.CursorImage) bool { return i.Width == 9 })
	setCursor(t, c, 1, 1, 0, 0, false)
	cursor(t, notes, "cursor of one pixel", hidden)
}

func TestEyeFollowsThePointer(t *testing.T) {
	d, _ := screentest.Xvfb(t, 640, 360)
	c := dial(t, d)
	eye, notes, _ := watching(t, d)
	warp := func(x, y int16) time.Duration {
		t.Helper()
		if err := x11.Check(t.Context(), c, xproto.WarpPointerChecked(c.X, 0, c.Root(), 0, 0, 0, 0, x, y)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		bound := time.After(5 * time.Second)
		for {
			select {
			case n := <-notes:
				if n.Move != nil && *n.Move == (media.CursorMove{X: int(x), Y: int(y)}) {
					return time.Since(began)
				}
			case <-bound:
				t.Fatalf("pointer at %d,%d was not seen within 5 s", x, y)
			}
		}
	}
	t.Logf("a move of the program's own was seen after %v", warp(10, 20))
	for i := range 5 {
		eye.Touch()
		took := warp(int16(30+i), 40)
		t.Logf("after input: %v", took)
		if took > 200*time.Millisecond {
			t.Errorf("a move after input was seen after %v", took)
		}
	}
}

func TestEyeEndsWithTheServer(t *testing.T) {
	d, server := screentest.Xvfb(t, 640, 360)
	_, notes, over := watching(t, d)
	cursor(t, notes, "cursor", func(*media.CursorImage) bool { return true })
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-over:
		if err == nil {
			t.Error("Watch returned nil after the server died")
		}
	case <-time.After(5 * time.Second):
		t.Error("Watch still runs 5 s after the server died")
	}
}
