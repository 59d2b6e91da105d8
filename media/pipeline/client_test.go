//go:build cgo

package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"

	"fenrir/media"
	"fenrir/media/pipeline/encoders"
	"fenrir/media/pipeline/h264"
	"fenrir/media/x11"
)

func (b *brush) warp(x, y int) {
	xproto.WarpPointer(b.c.X, 0, b.c.Root(), 0, 0, 0, 0, int16(x), int16(y))
	b.sync()
}

// TestPictureOfAnExactSize: whatever size the display has, the picture keeps the one
// that was asked for, with the display and its cursor scaled into it.
func TestPictureOfAnExactSize(t *testing.T) {
	const width, height = 800, 600
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 1280, 720, func(spec *media.Spec) {
		spec.Video.Width, spec.Video.Height, spec.Video.Cursor = width, height, true
	})
	s.brush.cursor(0xff2020)
	for i, c := range []struct {
		w, h           int // of the display
		x, y, inW, inH int // where it is in the picture
	}{
		{1280, 720, 0, 74, 800, 450},
		{640, 480, 0, 0, 800, 600},
		{640, 960, 200, 0, 400, 600},
		{800, 400, 0, 100, 800, 400},
		{800, 600, 0, 0, 800, 600},
	} {
		if err := x11.SetSize(context.Background(), s.brush.c, c.w, c.h); err != nil {
			t.Fatal(err)
		}
		paper := []uint32{0x203040, 0x403020, 0x204030, 0x304020, 0x402030}[i]
		s.brush.fill(paper, 0, 0, c.w, c.h)
		s.brush.fill(0x40c0f0, c.w-80, c.h-80, 80, 80)
		s.brush.warp(c.w/4, c.h/4)
		at := func(x, y int) (int, int) { return c.x + x*c.inW/c.w, c.y + y*c.inH/c.h }
		shows := func(what string, x, y int, rgb uint32) {
			t.Helper()
			s.shows(fmt.Sprintf("%s with a display of %d×%d", what, c.w, c.h), x, y, rgb)
		}
		x, y := at(c.w-30, c.h-30)
		shows("the corner", x, y, 0x40c0f0)
		x, y = at(c.w/2, c.h/2)
		shows("the background", x, y, paper)
		x, y = at(c.w/4, c.h/4)
		shows("the cursor", x, y, 0xff2020)
		x, y = at(c.w/4+14, c.h/4) // it has 12 pixels
		shows("what is beside the cursor", x, y, paper)
		if c.x > 0 {
			shows("the left bar", c.x/2, height/2, 0)
			shows("the right bar", width-c.x/2, height/2, 0)
		}
		if c.y > 0 {
			shows("the upper bar", width/2, c.y/2, 0)
			shows("the lower bar", width/2, height-c.y/2, 0)
		}
		s.brush.warp(c.w/2, c.h/4)
		x, y = at(c.w/2, c.h/4)
		shows("the cursor that moved", x, y, 0xff2020)
		x, y = at(c.w/4, c.h/4)
		shows("the place that it left", x, y, paper)
	}
	for i := range s.n() {
		if u := s.unit(i); u.Width != width || u.Height != height {
			t.Fatalf("unit %d is %d×%d", i, u.Width, u.Height)
		}
	}
}

// TestCursorIsInASmallerPicture: so it is where only the share of the display's size
// is told.
func TestCursorIsInASmallerPicture(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 1280, 720, func(spec *media.Spec) { spec.Video.Cursor, spec.Video.Scale = true, 50 })
	s.brush.cursor(0xff2020)
	s.brush.warp(600, 300)
	s.shows("the cursor", 300, 150, 0xff2020)
	if u := s.unit(s.n() - 1); u.Width != 640 || u.Height != 360 {
		t.Errorf("the picture is %d×%d", u.Width, u.Height)
	}
}

// TestKeyFramesBeginAsStrictClientsWant: some look for parameter sets and the begin of
// the picture within the first packet of a frame, about 1000 bytes, and see nothing at
// all when a long message stands in between.
func TestKeyFramesBeginAsStrictClientsWant(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 1280, 720, func(spec *media.Spec) { spec.Video.Cursor = true })
	newMovie(t, s.brush, 1280, 720).play(60, time.Second, 0)
	s.orders <- media.Order{Kind: media.OrderKeyFrame}
	keys := func() (n int) {
		for _, u := range s.video {
			if u.Key {
				n++
			}
		}
		return n
	}
	s.until(t, 5*time.Second, "another key frame", func() bool { return keys() >= 2 })
	for i := range s.n() {
		u := s.unit(i)
		if !bytes.HasPrefix(u.Data, []byte{0, 0, 0, 1}) {
			t.Fatalf("unit %d begins with % x, want a start code of four bytes", i, u.Data[:min(4, len(u.Data))])
		}
		var kinds []byte
		before := 0 // bytes until the first slice
		for _, nal := range nals(u.Data) {
			kind := nal[0] & 31
			kinds = append(kinds, kind)
			if kind == 7 {
				sps, err := h264.ParseSPS(nal)
				if err != nil {
					t.Fatal(err)
				}
				// BT.601 in limited range, as libyuv makes it.
				if !sps.Signal || sps.FullRange || sps.Matrix != 6 && sps.Matrix != 5 || sps.Primaries == 0 || sps.Transfer == 0 {
					t.Errorf("unit %d: colours are %+v", i, sps)
				}
				if !sps.Prompt() || sps.RefFrames != 1 {
					t.Errorf("unit %d: decoders may wait: %+v", i, sps)
				}
			}
			if kind == 5 || kind == 1 {
				if slice := nal[1] >> 1; nal[1]&0x80 != 0 && kind == 1 && slice&0x38>>3 == 2 { // first_mb 0, slice_type 1
					t.Errorf("unit %d is a B picture", i)
				}
				break
			}
			before += len(nal) + 4
		}
		if i == 0 || u.Key {
			t.Logf("unit %d: NAL units %v, the picture after %d bytes", i, kinds, before)
		}
		switch {
		case !u.Key:
			if kinds[0] != 1 {
				t.Errorf("unit %d, no key frame: NAL units %v", i, kinds)
			}
		case len(kinds) < 3 || kinds[0] != 7 || kinds[1] != 8 || kinds[len(kinds)-1] != 5 || before > 200:
			t.Errorf("unit %d: NAL units %v, the picture after %d bytes", i, kinds, before)
		}
	}
}
