package playground

import (
	"errors"
	"image"
	"image/color"
	"testing"

	"fenrir/server/playground/canvas"
)

// asImage shows a canvas as image/… knows it.
type asImage struct{ canvas.Image }

func (m asImage) ColorModel() color.Model { return color.RGBAModel }
func (m asImage) Bounds() image.Rectangle { return image.Rect(0, 0, m.Width, m.Height) }
func (m asImage) At(x, y int) color.Color {
	c := m.Pix[y*m.Stride+x]
	return color.RGBA{R: uint8(c >> 16), G: uint8(c >> 8), B: uint8(c), A: 255}
}

func TestStripReadsBack(t *testing.T) {
	for _, want := range []Strip{
		{}, {Frame: 1}, {Frame: 0xffffffff, Events: 255, Kind: 15, Value: 0xfffff},
		{Frame: 0x12345678, Events: 7, Kind: StripText, Value: 0x1f642},
	} {
		m := canvas.New(640, 360)
		m.Fill(0, 0, 640, 360, 0xffffff)
		want.draw(m)
		got, err := DecodeStrip(asImage{m})
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		// One cell that flips is noticed.
		for row := range StripRows {
			for col := range StripColumns {
				damaged := canvas.New(640, 360)
				copy(damaged.Pix, m.Pix)
				x, y := col*StripCell, row*StripCell
				damaged.Fill(x, y, StripCell, StripCell, ^m.Pix[y*m.Stride+x]&0xffffff)
				if got, err := DecodeStrip(asImage{damaged}); !errors.Is(err, ErrNoStrip) {
					t.Errorf("cell %d,%d flipped: got %+v, %v, want ErrNoStrip", col, row, got, err)
				}
			}
		}
	}
}

func TestNoStripInOtherPictures(t *testing.T) {
	for _, m := range []canvas.Image{canvas.New(640, 360), canvas.New(StripWidth-1, StripHeight)} {
		if got, err := DecodeStrip(asImage{m}); !errors.Is(err, ErrNoStrip) {
			t.Errorf("got %+v, %v, want ErrNoStrip", got, err)
		}
	}
}

// TestEveryEventIsShown: a burst is shown one event after the other, in order.
func TestEveryEventIsShown(t *testing.T) {
	e := newEcho(nil)
	if got := e.inStrip(false); got != (Strip{}) {
		t.Fatalf("before any event: %+v", got)
	}
	for v := range uint32(10) {
		e.mark(StripText, v, "")
	}
	seen := map[uint32]int{}
	last := uint32(0)
	for range 100 {
		s := e.inStrip(false)
		if s.Value < last {
			t.Fatalf("%d is shown after %d", s.Value, last)
		}
		last = s.Value
		seen[s.Value]++
	}
	for v := range uint32(9) {
		if seen[v] != stripPictures {
			t.Errorf("event %d is shown in %d pictures, want %d", v, seen[v], stripPictures)
		}
	}
	if last != 9 {
		t.Errorf("the last event shown is %d, want 9", last)
	}
	e.mark(StripKeyDown, 10, "")
	e.mark(StripKeyUp, 11, "")
	if got := e.inStrip(true); got.Value != 11 {
		t.Errorf("in a hurry %d is shown, want the newest, 11", got.Value)
	}
}
