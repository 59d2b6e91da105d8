package x11

import (
	"errors"
	"testing"

	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/xproto"
)

func TestSetSize(t *testing.T) {
	d, _ := xvfb(t) // 640×480
	c := dialTest(t, d)
	ctx := t.Context()
	for _, size := range [][2]int{{320, 200}, {640, 480}, {600, 100}, {100, 480}, {320, 200}, {640, 480}} {
		if err := SetSize(ctx, c, size[0], size[1]); err != nil {
			t.Fatal(err)
		}
		got, err := Reply(ctx, c, xproto.GetGeometry(c.X, xproto.Drawable(c.Root())))
		if err != nil {
			t.Fatal(err)
		}
		if int(got.Width) != size[0] || int(got.Height) != size[1] {
			t.Fatalf("got %d×%d, want %d×%d", got.Width, got.Height, size[0], size[1])
		}
		res, err := Reply(ctx, c, randr.GetScreenResourcesCurrent(c.X, c.Root()))
		if err != nil {
			t.Fatal(err)
		}
		crtc, err := Reply(ctx, c, randr.GetCrtcInfo(c.X, res.Crtcs[0], res.ConfigTimestamp))
		if err != nil {
			t.Fatal(err)
		}
		if int(crtc.Width) != size[0] || int(crtc.Height) != size[1] {
			t.Fatalf("got an output of %d×%d, want %d×%d", crtc.Width, crtc.Height, size[0], size[1])
		}
	}
	for _, size := range [][2]int{{641, 480}, {640, 9999}, {0, 0}, {1 << 20, 5}} {
		if err := SetSize(ctx, c, size[0], size[1]); !errors.Is(err, ErrSize) {
			t.Errorf("%v: got %v, want ErrSize", size, err)
		}
	}
}
