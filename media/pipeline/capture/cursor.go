package capture

import (
	"context"
	"fmt"

	"github.com/jezek/xgb/xfixes"
	"github.com/jezek/xgb/xproto"

	"fenrir/media/x11"
)

// cursor is the pointer's image and place, for pictures that are to hold it.
type cursor struct {
	width, height int
	hotX, hotY    int
	argb          []uint32 // alpha is multiplied in already
	x, y          int      // of the hot spot
	scaled        *cursor  // the image in the size that it was last wanted in; nil: in none yet
}

// fetchCursor asks what the cursor looks like.
func (s *Screen) fetchCursor(ctx context.Context) error {
	img, err := x11.Reply(ctx, s.conn, xfixes.GetCursorImage(s.conn.X))
	if err != nil {
		return fmt.Errorf("ask for cursor: %w", err)
	}
	c := s.cursor
	c.scaled = nil
	c.width, c.height, c.hotX, c.hotY = int(img.Width), int(img.Height), int(img.Xhot), int(img.Yhot)
	if c.argb = img.CursorImage; len(c.argb) < c.width*c.height {
		c.width, c.height = 0, 0
	}
	return nil
}

// Pointer asks where the pointer stands and tells whether it has moved. The
// Screen must have been opened with Options.Cursor.
func (s *Screen) Pointer(ctx context.Context) (moved bool, err error) {
	p, err := x11.Reply(ctx, s.conn, xproto.QueryPointer(s.conn.X, s.conn.Root()))
	if err != nil {
		return false, fmt.Errorf("ask for pointer: %w", err)
	}
	c := s.cursor
	x, y := int(p.RootX), int(p.RootY)
	moved = x != c.x || y != c.y
	c.x, c.y = x, y
	return moved, nil
}

// View is where a display is shown in a picture: FromWidth×FromHeight pixels of the one
// become Width×Height of the other, from X, Y on.
type View struct {
	FromWidth, FromHeight int
	X, Y, Width, Height   int
}

// Whole is a picture of the display as it is.
func Whole(width, height int) View {
	return View{FromWidth: width, FromHeight: height, Width: width, Height: height}
}

// Patch is a part of a picture with the cursor in it.
type Patch struct {
	X, Y, Width, Height int // place in the frame, even numbers
	Pixels              []byte
}

// Cursor returns the part of f that the cursor covers, painted over with it. f is
// a picture in which v says where the display is; the cursor is scaled with it. ok
// is false when there is none to be seen, and for a Screen that was opened
// without Options.Cursor.
func (s *Screen) Cursor(f Frame, v View) (p Patch, ok bool) {
	if s.cursor == nil || v.FromWidth < 1 || v.FromHeight < 1 {
		return p, false
	}
	return s.cursor.in(v).over(f)
}

// in is the cursor as a view shows it.
func (c *cursor) in(v View) *cursor {
	if v == Whole(v.Width, v.Height) || c.width == 0 || c.height == 0 {
		return c
	}
	x := func(n int) int { return n * v.Width / v.FromWidth }
	y := func(n int) int { return n * v.Height / v.FromHeight }
	out := &cursor{
		width: max(x(c.width), 1), height: max(y(c.height), 1), hotX: x(c.hotX), hotY: y(c.hotY),
		x: v.X + x(c.x), y: v.Y + y(c.y),
	}
	if c.scaled == nil || c.scaled.width != out.width || c.scaled.height != out.height {
		out.argb = resize(c.argb, c.width, c.height, out.width, out.height)
		c.scaled = out
	}
	out.argb = c.scaled.argb
	return out
}

// resize scales an image whose alpha is multiplied in: each pixel is the mean of
// what it covers.
func resize(from []uint32, w, h, width, height int) []uint32 {
	out := make([]uint32, width*height)
	for y := range height {
		for x := range width {
			// In units of 1/width and 1/height of a pixel of from's.
			x0, x1, y0, y1 := x*w, (x+1)*w, y*h, (y+1)*h
			var sum [4]int
			for sy := y0 / height; sy*height < y1; sy++ {
				rows := min(y1, (sy+1)*height) - max(y0, sy*height)
				for sx := x0 / width; sx*width < x1; sx++ {
					part := rows * (min(x1, (sx+1)*width) - max(x0, sx*width))
					px := from[sy*w+sx]
					for i := range sum {
						sum[i] += part * int(px>>(8*i)&255)
					}
				}
			}
			for i := range sum {
				out[y*width+x] |= uint32((sum[i]+w*h/2)/(w*h)) << (8 * i)
			}
		}
	}
	return out
}

func (c *cursor) over(f Frame) (p Patch, ok bool) {
	left, top := c.x-c.hotX, c.y-c.hotY
	x0, y0 := max(left, 0)&^1, max(top, 0)&^1 // chroma of two by two pixels is one sample
	x1, y1 := min(left+c.width+1, f.Width)&^1, min(top+c.height+1, f.Height)&^1
	if c.width == 0 || c.height == 0 || x0 >= x1 || y0 >= y1 {
		return p, false
	}
	p = Patch{X: x0, Y: y0, Width: x1 - x0, Height: y1 - y0}
	p.Pixels = make([]byte, 4*p.Width*p.Height)
	for y := y0; y < y1; y++ {
		to := p.Pixels[4*p.Width*(y-y0):][:4*p.Width]
		copy(to, f.Pixels[f.Stride*y+4*x0:])
		if y < top || y >= top+c.height {
			continue
		}
		for x := max(x0, left); x < min(x1, left+c.width); x++ {
			over := c.argb[c.width*(y-top)+x-left]
			keep := 255 - over>>24
			px := to[4*(x-x0):][:3]
			for i := range px {
				px[i] = byte(min(255, over>>(8*i)&255+(uint32(px[i])*keep+127)/255))
			}
		}
	}
	return p, true
}
