// Package screen looks at an X display from outside and sets its size: the
// cursor's picture and place, screenshots, and resizing through RandR. It promises
// bounded waits: whatever the X server does, every call returns. Pure Go; it imports
// media, media/x11, xgb and golang.org/x/sys.
package screen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"runtime"
	"time"

	"fenrir/media"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"
)

// The bounds of this package's calls.
const (
	ScreenshotBound = 2 * time.Second // reading the picture; encoding comes on top, about 0.2 s at 3840×2160
	ResizeBound     = 3 * time.Second
)

// ErrBound is the cause of a call that took longer than its bound.
var ErrBound = errors.New("the X server took too long")

// leisure is the nice value at which pictures are compressed: whoever plays comes first.
const leisure = 10

// Screenshot is the display's picture, without the cursor, as PNG.
func Screenshot(ctx context.Context, display media.Display) ([]byte, error) {
	img, err := Picture(ctx, display)
	if err != nil {
		return nil, fmt.Errorf("screenshot of %s: %w", display.Name, err)
	}
	var b bytes.Buffer
	made := make(chan error)
	go func() { // waited for below
		runtime.LockOSThread()                              // and never unlocked: the thread ends with this
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, leisure) // less than before is always allowed
		e := png.Encoder{CompressionLevel: png.BestSpeed}
		made <- e.Encode(&b, img)
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("screenshot of %s: %w", display.Name, err)
	}
	return b.Bytes(), nil
}

// Picture is the display's picture, without the cursor. All of it is of one
// moment. It blocks at most ScreenshotBound.
func Picture(ctx context.Context, display media.Display) (*image.RGBA, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ScreenshotBound, ErrBound)
	defer cancel()
	c, err := x11.Dial(ctx, display)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := plain(c); err != nil {
		return nil, err
	}
	r, err := x11.Do(ctx, c, func(x *xgb.Conn) (*picture, error) {
		root := xproto.Drawable(c.Root())
		// Nobody may resize the screen between the two requests.
		xproto.GrabServer(x)
		defer xproto.UngrabServer(x)
		g, err := xproto.GetGeometry(x, root).Reply()
		if err != nil {
			return nil, err
		}
		i, err := xproto.GetImage(x, xproto.ImageFormatZPixmap, root, 0, 0, g.Width, g.Height, 0xffffffff).Reply()
		if err != nil {
			return nil, err
		}
		return &picture{int(g.Width), int(g.Height), i.Data}, nil
	})
	if err != nil {
		return nil, err
	}
	return r.rgba()
}

// picture is what GetImage gives: rows of B, G, R, unused.
type picture struct {
	width, height int
	data          []byte
}

func (p picture) rgba() (*image.RGBA, error) {
	img := image.NewRGBA(image.Rect(0, 0, p.width, p.height))
	if len(p.data) < len(img.Pix) {
		return nil, fmt.Errorf("the X server sent %d bytes for %d×%d pixels", len(p.data), p.width, p.height)
	}
	for i := 0; i < len(img.Pix); i += 4 {
		s, d := p.data[i:i+4:i+4], img.Pix[i:i+4:i+4]
		d[0], d[1], d[2], d[3] = s[2], s[1], s[0], 255
	}
	return img, nil
}

// plain says whether the display's pixels are 32 bits of B, G, R, unused.
func plain(c *x11.Conn) error {
	s := c.Screen()
	for _, f := range c.Setup.PixmapFormats {
		if f.Depth == s.RootDepth && f.BitsPerPixel != 32 {
			return fmt.Errorf("pixels of %d bits: %w", f.BitsPerPixel, errors.ErrUnsupported)
		}
	}
	for _, d := range s.AllowedDepths {
		for _, v := range d.Visuals {
			if v.VisualId == s.RootVisual && (v.RedMask != 0xff0000 || v.GreenMask != 0xff00 || v.BlueMask != 0xff) {
				return fmt.Errorf("pixels with masks %x/%x/%x: %w", v.RedMask, v.GreenMask, v.BlueMask, errors.ErrUnsupported)
			}
		}
	}
	if c.Setup.ImageByteOrder != xproto.ImageOrderLSBFirst {
		return fmt.Errorf("big-endian pixels: %w", errors.ErrUnsupported)
	}
	return nil
}
