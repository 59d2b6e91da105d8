package playground

import (
	"errors"
	"image"
	"math/bits"

	"fenrir/server/playground/canvas"
)

// The strip is what machines read off the picture: black and white cells of
// StripCell×StripCell pixels in the top left corner, two rows of StripColumns
// cells, in every mode. A reader samples the middle of a cell: brighter than half is 1.
//
//	row 0:  1 0 | frame counter, 32 bits | parity | 1
//	row 1:  0 1 | event counter, 8 bits | event kind, 4 bits | event value, 20 bits | parity | 0
//
// Numbers stand with their most significant bit first. The parity cell makes
// the number of ones among the row's number cells and itself even. The frame
// counter grows by one with each picture that is shown. The event counter
// (modulo 256), kind and value tell the newest event other than motion and the
// program's own news: kind 1 key down, 2 key up (value: X keycode), 3 button
// down, 4 button up (value: X button), 5 wheel (value: X button 4…7),
// 6 character typed (value: code point, at most 0xFFFFF). Events that come in
// quick succession are shown one after the other, each in ten pictures, so that
// a viewer who gets fewer of them sees every one; latency mode shows the newest.
const (
	StripCell    = 16 // pixels
	StripColumns = 36
	StripRows    = 2
	StripWidth   = StripCell * StripColumns // pixels
	StripHeight  = StripCell * StripRows

	stripPictures = 10 // that an event is shown in when others wait
	stripWaiting  = 64 // events, the oldest are left out beyond
)

// StripKind is the kind of the newest event in a Strip.
type StripKind uint8

// The kinds of events in the strip.
const (
	StripNone StripKind = iota
	StripKeyDown
	StripKeyUp
	StripButtonDown
	StripButtonUp
	StripWheel
	StripText
)

// Strip is what the strip says.
type Strip struct {
	Frame  uint32
	Events uint8
	Kind   StripKind
	Value  uint32 // 20 bits
}

// ErrNoStrip is returned by DecodeStrip for pictures without a whole, undamaged strip.
var ErrNoStrip = errors.New("no readable strip in the picture")

const (
	stripMark0, stripEnd0 = 0b10, 1
	stripMark1, stripEnd1 = 0b01, 0
	stripBits             = 32 // number cells per row
)

// rows is the strip as two rows of StripColumns bits.
func (s Strip) rows() [StripRows]uint64 {
	row := func(mark uint64, number uint32, end uint64) uint64 {
		parity := uint64(bits.OnesCount32(number) & 1)
		return mark<<(stripBits+2) | uint64(number)<<2 | parity<<1 | end
	}
	number := uint32(s.Events)<<24 | uint32(s.Kind&15)<<20 | s.Value&0xfffff
	return [StripRows]uint64{row(stripMark0, s.Frame, stripEnd0), row(stripMark1, number, stripEnd1)}
}

// draw paints the strip into the top left corner.
func (s Strip) draw(m canvas.Image) {
	for r, row := range s.rows() {
		for c := range StripColumns {
			paint := canvas.Color(0)
			if row>>(StripColumns-1-c)&1 == 1 {
				paint = 0xffffff
			}
			m.Fill(c*StripCell, r*StripCell, StripCell, StripCell, paint)
		}
	}
}

// DecodeStrip reads the strip off a picture of the playground at its original size.
func DecodeStrip(img image.Image) (Strip, error) {
	at := img.Bounds().Min
	if img.Bounds().Dx() < StripWidth || img.Bounds().Dy() < StripHeight {
		return Strip{}, ErrNoStrip
	}
	var number [StripRows]uint32
	for r, frame := range [StripRows][2]uint64{{stripMark0, stripEnd0}, {stripMark1, stripEnd1}} {
		var row uint64
		for c := range StripColumns {
			row <<= 1
			if bright(img, at.X+c*StripCell+StripCell/2, at.Y+r*StripCell+StripCell/2) {
				row |= 1
			}
		}
		number[r] = uint32(row >> 2)
		parity := uint64(bits.OnesCount32(number[r]) & 1)
		if row>>(stripBits+2) != frame[0] || row&1 != frame[1] || row>>1&1 != parity {
			return Strip{}, ErrNoStrip
		}
	}
	return Strip{
		Frame:  number[0],
		Events: uint8(number[1] >> 24),
		Kind:   StripKind(number[1] >> 20 & 15),
		Value:  number[1] & 0xfffff,
	}, nil
}

// bright tells whether the 4×4 pixels around x, y are brighter than half on average.
func bright(img image.Image, x, y int) bool {
	var sum uint32
	for dy := -2; dy < 2; dy++ {
		for dx := -2; dx < 2; dx++ {
			r, g, b, _ := img.At(x+dx, y+dy).RGBA()
			sum += (r + g + b) / 3
		}
	}
	return sum/16 > 0x7fff
}
