// Package boxart makes the portrait pictures by which Moonlight clients show
// programs: the icon on a dark ground, and the title, since clients write none
// over a picture. It imports golang.org/x/image only.
package boxart

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/png"
	"math"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// Size of the pictures, pixels.
const (
	Width  = 600
	Height = 800
)

// Where things are, pixels.
const (
	iconEdge   = 256
	iconMiddle = 330 // of the height
	titleTop   = 560
	titleSize  = 46
	titleLine  = 58
	titleLines = 3
	margin     = 48
	letterSize = 190
)

// Bounds of icons.
const (
	maxIconBytes = 1 << 20
	maxIconEdge  = 2048
)

// ErrIcon says that an icon is no PNG that can be used.
var ErrIcon = errors.New("icon cannot be used")

// Compose makes a PNG for a program. seed, its id, decides on the colour. An icon
// of no bytes is none: then the title's first letter stands for it. With ErrIcon in
// the chain of the error there is a picture too, without the icon.
func Compose(seed, title string, icon []byte) ([]byte, error) {
	hue := hueOf(seed)
	m := image.NewRGBA(image.Rect(0, 0, Width, Height))
	ground(m, hue)
	pic, bad := decode(icon)
	var err error
	if pic != nil {
		place(m, pic)
	} else {
		err = letter(m, title, hue)
	}
	if err == nil {
		err = write(m, title)
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, m); err != nil {
		return nil, fmt.Errorf("write box art: %w", err)
	}
	return b.Bytes(), bad
}

func hueOf(seed string) float64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(seed)) // a hash never fails
	return float64(h.Sum32()%360) / 60
}

// shade is a colour of hue 0…6 with saturation and value 0…1.
func shade(hue, s, v float64) color.RGBA {
	f := func(n float64) uint8 {
		k := math.Mod(n+hue, 6)
		return uint8(math.Round(255 * (v - v*s*max(0, min(k, 4-k, 1)))))
	}
	return color.RGBA{f(5), f(3), f(1), 255}
}

// ground is a gradient from a dark colour to nearly black.
func ground(m *image.RGBA, hue float64) {
	for y := range Height {
		at := float64(y) / (Height - 1)
		c := shade(hue, 0.55-0.2*at, 0.34-0.27*at)
		draw.Draw(m, image.Rect(0, y, Width, y+1), image.NewUniform(c), image.Point{}, draw.Src)
	}
}

// decode reads an icon; nil without an error is none.
func decode(icon []byte) (image.Image, error) {
	if len(icon) == 0 {
		return nil, nil
	}
	if len(icon) > maxIconBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrIcon, len(icon))
	}
	c, err := png.DecodeConfig(bytes.NewReader(icon))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIcon, err)
	}
	if c.Width > maxIconEdge || c.Height > maxIconEdge || c.Width <= 0 || c.Height <= 0 {
		return nil, fmt.Errorf("%w: %d × %d pixels", ErrIcon, c.Width, c.Height)
	}
	m, err := png.Decode(bytes.NewReader(icon))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIcon, err)
	}
	return m, nil
}

// place draws the icon as large as fits, in its own proportions.
func place(m *image.RGBA, icon image.Image) {
	b := icon.Bounds()
	scale := iconEdge / float64(max(b.Dx(), b.Dy()))
	w := max(int(math.Round(float64(b.Dx())*scale)), 1)
	h := max(int(math.Round(float64(b.Dy())*scale)), 1)
	at := image.Pt((Width-w)/2, iconMiddle-h/2)
	draw.CatmullRom.Scale(m, image.Rectangle{at, at.Add(image.Pt(w, h))}, icon, b, draw.Over, nil)
}

var typeface = sync.OnceValues(func() (*sfnt.Font, error) { return opentype.Parse(gomedium.TTF) })

// pen is a typeface in one size.
type pen struct {
	of   *sfnt.Font
	face font.Face
}

func newPen(size float64) (*pen, error) {
	f, err := typeface()
	if err != nil {
		return nil, fmt.Errorf("box art: %w", err)
	}
	face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		return nil, fmt.Errorf("box art: %w", err)
	}
	return &pen{f, face}, nil
}

// known is s without what the typeface has no letters for.
func (p *pen) known(s string) string {
	var buf sfnt.Buffer
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if i, err := p.of.GlyphIndex(&buf, r); err != nil || i == 0 || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)), " ")
}

func (p *pen) width(s string) int { return font.MeasureString(p.face, s).Ceil() }

// fit cuts s to the width of a line.
func (p *pen) fit(s string) string {
	if p.width(s) <= Width-2*margin {
		return s
	}
	r := []rune(s)
	for len(r) > 0 && p.width(string(r)+"…") > Width-2*margin {
		r = r[:len(r)-1]
	}
	return strings.TrimSpace(string(r)) + "…"
}

// lines breaks s between words into at most titleLines lines.
func (p *pen) lines(s string) []string {
	var out []string
	words := strings.Fields(s)
	for len(words) > 0 {
		n := 1
		for n < len(words) && p.width(strings.Join(words[:n+1], " ")) <= Width-2*margin {
			n++
		}
		if len(out) == titleLines-1 {
			n = len(words) // the last one takes what is left, and is cut
		}
		out = append(out, p.fit(strings.Join(words[:n], " ")))
		words = words[n:]
	}
	return out
}

// centred draws s with its base at y.
func (p *pen) centred(m *image.RGBA, s string, y int, c color.Color) {
	d := font.Drawer{Dst: m, Src: image.NewUniform(c), Face: p.face}
	d.Dot = fixed.P((Width-p.width(s))/2, y)
	d.DrawString(s)
}

// maxTitle is how much of a title is looked at, runes.
const maxTitle = 200

func write(m *image.RGBA, title string) error {
	p, err := newPen(titleSize)
	if err != nil {
		return err
	}
	if r := []rune(title); len(r) > maxTitle {
		title = string(r[:maxTitle])
	}
	for i, line := range p.lines(p.known(title)) {
		p.centred(m, line, titleTop+i*titleLine, color.White)
	}
	return nil
}

// letter draws a disc with the first letter of the title where the icon would be.
func letter(m *image.RGBA, title string, hue float64) error {
	p, err := newPen(letterSize)
	if err != nil {
		return err
	}
	disc(m, shade(hue, 0.45, 0.62))
	for _, r := range p.known(title) {
		b := p.face.Metrics().CapHeight.Ceil()
		p.centred(m, string(unicode.ToUpper(r)), iconMiddle+b/2, color.White)
		break
	}
	return nil
}

func disc(m *image.RGBA, c color.RGBA) {
	const radius = iconEdge / 2
	mask := image.NewAlpha(image.Rect(0, 0, 2*radius, 2*radius))
	for y := range 2 * radius {
		for x := range 2 * radius {
			away := math.Hypot(float64(x)+0.5-radius, float64(y)+0.5-radius)
			mask.SetAlpha(x, y, color.Alpha{uint8(255 * max(0, min(radius-away, 1)))})
		}
	}
	at := image.Rect(Width/2-radius, iconMiddle-radius, Width/2+radius, iconMiddle+radius)
	draw.DrawMask(m, at, image.NewUniform(c), image.Point{}, mask, image.Point{}, draw.Over)
}
