package canvas

import (
	"fmt"
	"image"
	"unicode"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Typeface names an embedded font.
type Typeface int

// The fonts, of the Go family.
const (
	Mono Typeface = iota
	Medium
)

// glyph is a rasterised letter.
type glyph struct {
	mask    []uint8
	w, h    int
	dx, dy  int // from the pen to the mask's corner
	advance int
}

// Font is a typeface at one size; letters are rasterised once. It is for one goroutine.
type Font struct {
	face   font.Face
	glyphs map[rune]glyph
	Ascent int // pixels from a line's top to its base
	Line   int // pixels from line to line
}

// NewFont makes a font of the given size in pixels.
func NewFont(t Typeface, pixels int) (*Font, error) {
	data := gomono.TTF
	if t == Medium {
		data = gomedium.TTF
	}
	parsed, err := opentype.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("embedded font: %w", err)
	}
	face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: float64(pixels), DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		return nil, fmt.Errorf("embedded font: %w", err)
	}
	m := face.Metrics()
	return &Font{face: face, glyphs: map[rune]glyph{}, Ascent: m.Ascent.Ceil(), Line: m.Height.Ceil() + pixels/6}, nil
}

// glyph finds or makes a letter; false when the font has none.
func (f *Font) glyph(r rune) (glyph, bool) {
	if g, ok := f.glyphs[r]; ok {
		return g, g.advance > 0
	}
	dr, mask, at, advance, ok := f.face.Glyph(fixed.Point26_6{}, r)
	if !ok || mask == nil {
		f.glyphs[r] = glyph{}
		return glyph{}, false
	}
	g := glyph{w: dr.Dx(), h: dr.Dy(), dx: dr.Min.X, dy: dr.Min.Y, advance: advance.Round()}
	g.mask = make([]uint8, g.w*g.h)
	for y := range g.h {
		for x := range g.w {
			_, _, _, a := mask.At(at.X+x, at.Y+y).RGBA()
			g.mask[y*g.w+x] = uint8(a >> 8)
		}
	}
	f.glyphs[r] = g
	return g, g.advance > 0
}

// spell lists what is drawn for a letter: itself, or its code point where the
// font has no such letter.
func (f *Font) spell(r rune) string {
	if _, ok := f.glyph(r); ok && !unicode.IsControl(r) {
		return string(r)
	}
	return fmt.Sprintf("‹%X›", r)
}

// Width is the width of a text in pixels.
func (f *Font) Width(text string) int {
	w := 0
	for _, r := range text {
		for _, c := range f.spell(r) {
			g, _ := f.glyph(c)
			w += g.advance
		}
	}
	return w
}

// Draw writes a text whose first line's top left corner is x, y, and returns the x behind it.
func (f *Font) Draw(m Image, x, y int, c Color, text string) int {
	for _, r := range text {
		for _, part := range f.spell(r) {
			g, _ := f.glyph(part)
			g.draw(m, x, y+f.Ascent, c)
			x += g.advance
		}
	}
	return x
}

func (g glyph) draw(m Image, x, y int, c Color) {
	at := image.Pt(x+g.dx, y+g.dy)
	for r := range g.h {
		row := m.Row(at.Y+r, at.X, at.X+g.w)
		mask := g.mask[r*g.w+min(g.w, max(0, -at.X)):]
		for i := range row {
			switch a := uint32(mask[i]); a {
			case 0:
			case 255:
				row[i] = c
			default:
				row[i] = Mix(row[i], c, a+a>>7)
			}
		}
	}
}
