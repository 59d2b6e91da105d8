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
}

// fetchCursor asks what the cursor looks like.
func (s *Screen) fetchCursor(ctx context.Context) error {
	img, err := x11.Reply(ctx, s.conn, xfixes.GetCursorImage(s.conn.X))
	if err != nil {
		return fmt.Errorf("ask for cursor: %w", err)
	}
	c := s.cursor
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

// Patch is a part of a picture with the cursor in it.
type Patch struct {
	X, Y, Width, Height int // place in the frame, even numbers
	Pixels              []byte
}

// Cursor returns the part of f that the cursor covers, painted over with it. ok
// is false when there is none to be seen, and for a Screen that was opened
// without Options.Cursor.
func (s *Screen) Cursor(f Frame) (p Patch, ok bool) {
	if s.cursor == nil {
		return p, false
	}
	return s.cursor.over(f)
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
