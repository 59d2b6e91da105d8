package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// xwd builds a file as Xvfb does.
func xwd(width, height, stride, colors uint32, change func(words []uint32)) []byte {
	const comment = 60
	words := make([]uint32, xwdWords)
	words[xwdHeaderSize] = 4*xwdWords + comment
	words[xwdVersion] = 7
	words[xwdPixmapFormat] = 2
	words[xwdWidth], words[xwdHeight], words[xwdStride] = width, height, stride
	words[xwdBitsPerPixel] = 32
	words[xwdRedMask], words[xwdGreenMask], words[xwdBlueMask] = 0xff0000, 0xff00, 0xff
	words[xwdColors] = colors
	if change != nil {
		change(words)
	}
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	b = append(b, make([]byte, comment+xwdColorSize*int(colors))...)
	for y := range int(height) {
		for x := range int(stride) {
			b = append(b, byte(y*16+x))
		}
	}
	return b
}

func TestFramebuffer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "screen")
	content := xwd(6, 5, 32, 256, nil)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	fb, err := openFramebuffer(path)
	if err != nil {
		t.Fatal(err)
	}
	defer fb.close()
	f, err := fb.read(context.Background(), 4, 3) // a display that became smaller
	if err != nil {
		t.Fatal(err)
	}
	if f.Width != 4 || f.Height != 3 || f.Stride != 32 || !bytes.Equal(f.Pixels, content[len(content)-5*32:]) {
		t.Errorf("%d×%d, stride %d, %d bytes", f.Width, f.Height, f.Stride, len(f.Pixels))
	}
	for _, size := range [][2]int{{7, 5}, {6, 6}} {
		if _, err := fb.read(context.Background(), size[0], size[1]); !errors.Is(err, ErrFormat) {
			t.Errorf("%v: %v", size, err)
		}
	}
}

func TestFramebufferRefuses(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"text":              bytes.Repeat([]byte("no framebuffer "), 100),
		"a cut header":      xwd(6, 5, 32, 0, nil)[:80],
		"a cut picture":     xwd(6, 5, 32, 0, nil)[:200],
		"a short stride":    xwd(6, 5, 20, 0, nil),
		"16 bits a pixel":   xwd(6, 5, 32, 0, func(w []uint32) { w[xwdBitsPerPixel] = 16 }),
		"big endian pixels": xwd(6, 5, 32, 0, func(w []uint32) { w[xwdByteOrder] = 1 }),
		"other masks":       xwd(6, 5, 32, 0, func(w []uint32) { w[xwdRedMask] = 0xff }),
		"no width":          xwd(0, 5, 32, 0, nil),
		"a huge height":     xwd(6, 5, 32, 0, func(w []uint32) { w[xwdHeight] = 1 << 31 }),
		"a huge stride":     xwd(6, 5, 32, 0, func(w []uint32) { w[xwdStride] = 1<<32 - 1 }),
		"a huge table":      xwd(6, 5, 32, 0, func(w []uint32) { w[xwdColors] = 1<<32 - 1 }),
		"a huge header":     xwd(6, 5, 32, 0, func(w []uint32) { w[xwdHeaderSize] = 1<<32 - 1 }),
		"another version":   xwd(6, 5, 32, 0, func(w []uint32) { w[xwdVersion] = 6 }),
	} {
		path := filepath.Join(t.TempDir(), "screen")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if fb, err := openFramebuffer(path); err == nil {
			fb.close()
			t.Errorf("%s was taken for a framebuffer", name)
		}
	}
	if _, err := openFramebuffer(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzXWD(f *testing.F) {
	f.Add(xwd(6, 5, 32, 3, nil)[:4*xwdWords], int64(1000))
	f.Add(xwd(1280, 720, 5120, 256, nil)[:4*xwdWords], int64(4<<20))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		l, err := parseXWD(b, size)
		if err != nil {
			return
		}
		if l.offset < 0 || l.width <= 0 || l.height <= 0 || l.stride < 4*l.width || int64(l.offset)+int64(l.stride)*int64(l.height) > size {
			t.Fatalf("%+v in a file of %d bytes", l, size)
		}
	})
}

// grey is a picture of one colour.
func grey(w, h int, v byte) Frame {
	return Frame{Pixels: bytes.Repeat([]byte{v}, 4*w*h), Stride: 4 * w, Width: w, Height: h}
}

func TestCursorIsBlended(t *testing.T) {
	t.Parallel()
	const opaque, half, none = 0xffff0000, 0x80800000, 0 // red, multiplied with its alpha
	c := &cursor{width: 3, height: 1, argb: []uint32{opaque, half, none}, x: 5, y: 7}
	p, ok := c.over(grey(20, 20, 100))
	if !ok || p.X != 4 || p.Y != 6 || p.Width != 4 || p.Height != 2 {
		t.Fatalf("%v %+v", ok, p)
	}
	at := func(x, y int) [3]byte { return [3]byte(p.Pixels[4*((y-p.Y)*p.Width+x-p.X):]) }
	for _, want := range []struct {
		x, y int
		bgr  [3]byte
	}{
		{4, 7, [3]byte{100, 100, 100}}, {5, 7, [3]byte{0, 0, 255}}, {6, 7, [3]byte{50, 50, 178}}, {7, 7, [3]byte{100, 100, 100}}, {5, 6, [3]byte{100, 100, 100}},
	} {
		if got := at(want.x, want.y); got != want.bgr {
			t.Errorf("(%d, %d) is %v, want %v", want.x, want.y, got, want.bgr)
		}
	}
}

func TestCursorAtTheEdges(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{20, 20}, {21, 19}, {2, 2}} {
		for x := -10; x < 35; x++ {
			for y := -10; y < 35; y++ {
				c := &cursor{width: 5, height: 4, hotX: 1, hotY: 2, argb: make([]uint32, 20), x: x, y: y}
				p, ok := c.over(grey(size[0], size[1], 9))
				if !ok {
					continue
				}
				if p.X < 0 || p.Y < 0 || p.X+p.Width > size[0] || p.Y+p.Height > size[1] || len(p.Pixels) != 4*p.Width*p.Height {
					t.Fatalf("cursor at (%d, %d) of %v: %d×%d at (%d, %d)", x, y, size, p.Width, p.Height, p.X, p.Y)
				}
				if (p.X|p.Y|p.Width|p.Height)&1 == 1 {
					t.Fatalf("odd: %+v", p)
				}
			}
		}
	}
	c := &cursor{x: 5, y: 5}
	if _, ok := c.over(grey(20, 20, 9)); ok {
		t.Error("a cursor without an image covers something")
	}
}
