package capture

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
)

// framebuffer is the memory of an Xvfb that was started with -fbdir, which is a
// file in the format of xwd: a header of big-endian words, a colour table, then
// rows of pixels. A change of the display's size changes neither header nor
// stride.
type framebuffer struct {
	mapped []byte
	pixels []byte
	stride int
	width  int // of the largest picture that it holds
	height int
}

// Words of the header that matter, see XWDFile.h.
const (
	xwdHeaderSize   = 0
	xwdVersion      = 1
	xwdPixmapFormat = 2
	xwdWidth        = 4
	xwdHeight       = 5
	xwdByteOrder    = 7
	xwdBitsPerPixel = 11
	xwdStride       = 12
	xwdRedMask      = 14
	xwdGreenMask    = 15
	xwdBlueMask     = 16
	xwdColors       = 19
	xwdWords        = 25

	xwdColorSize = 12
)

// layout is what an XWD header says.
type layout struct {
	offset, stride, width, height int
}

// parseXWD reads a header of a file of size bytes and checks that the picture is
// within it.
func parseXWD(b []byte, size int64) (l layout, err error) {
	if len(b) < 4*xwdWords {
		return l, fmt.Errorf("%w: %d bytes are no XWD header", ErrFormat, len(b))
	}
	word := func(n int) int64 { return int64(binary.BigEndian.Uint32(b[4*n:])) }
	const version, zPixmap, lsbFirst = 7, 2, 0
	switch {
	case word(xwdVersion) != version || word(xwdHeaderSize) < 4*xwdWords:
		return l, fmt.Errorf("%w: no XWD header", ErrFormat)
	case word(xwdPixmapFormat) != zPixmap || word(xwdByteOrder) != lsbFirst || word(xwdBitsPerPixel) != 32:
		return l, fmt.Errorf("%w: format %d, byte order %d, %d bits a pixel", ErrFormat, word(xwdPixmapFormat), word(xwdByteOrder), word(xwdBitsPerPixel))
	case word(xwdRedMask) != 0xff0000 || word(xwdGreenMask) != 0xff00 || word(xwdBlueMask) != 0xff:
		return l, fmt.Errorf("%w: masks %x, %x, %x", ErrFormat, word(xwdRedMask), word(xwdGreenMask), word(xwdBlueMask))
	case word(xwdWidth) == 0 || word(xwdHeight) == 0 || word(xwdWidth) > 1<<15 || word(xwdHeight) > 1<<15 || word(xwdStride) < 4*word(xwdWidth):
		return l, fmt.Errorf("%w: %d×%d pixels, %d bytes a row", ErrFormat, word(xwdWidth), word(xwdHeight), word(xwdStride))
	}
	offset := word(xwdHeaderSize) + xwdColorSize*word(xwdColors)
	if end := offset + word(xwdStride)*word(xwdHeight); end > size {
		return l, fmt.Errorf("%w: picture ends at byte %d of %d", ErrFormat, end, size)
	}
	return layout{int(offset), int(word(xwdStride)), int(word(xwdWidth)), int(word(xwdHeight))}, nil
}

func openFramebuffer(path string) (*framebuffer, error) {
	fb, err := mapFramebuffer(path)
	if err != nil {
		return nil, fmt.Errorf("open framebuffer: %w", err)
	}
	return fb, nil
}

func mapFramebuffer(path string) (*framebuffer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping stays
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	header := make([]byte, 4*xwdWords)
	if _, err := f.ReadAt(header, 0); err != nil {
		return nil, err
	}
	l, err := parseXWD(header, info.Size())
	if err != nil {
		return nil, err
	}
	end := l.offset + l.stride*l.height
	mapped, err := syscall.Mmap(int(f.Fd()), 0, end, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", end, err)
	}
	return &framebuffer{mapped: mapped, pixels: mapped[l.offset:end], stride: l.stride, width: l.width, height: l.height}, nil
}

func (fb *framebuffer) read(_ context.Context, width, height int) (Frame, error) {
	if width > fb.width || height > fb.height {
		return Frame{}, fmt.Errorf("%w: display of %d×%d in a framebuffer of %d×%d", ErrFormat, width, height, fb.width, fb.height)
	}
	return Frame{Pixels: fb.pixels, Stride: fb.stride, Width: width, Height: height}, nil
}

func (fb *framebuffer) close() {
	_ = syscall.Munmap(fb.mapped) // it was mapped
	fb.mapped, fb.pixels = nil, nil
}
