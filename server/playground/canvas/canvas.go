// Package canvas draws on 32-bit pictures in memory: rectangles, sprites made
// of runs of opaque pixels, light that adds up, and text. It promises speed by
// whole rows and tables (a copy wherever a copy will do) and never draws outside of the
// picture. It knows no display.
package canvas

// Color is 0x00RRGGBB.
type Color = uint32

// Image is a picture: rows of Color, Stride pixels apart.
type Image struct {
	Pix    []Color
	Width  int
	Height int
	Stride int
}

// New makes a black picture.
func New(width, height int) Image {
	return Image{Pix: make([]Color, width*height), Width: width, Height: height, Stride: width}
}

// Row is the pixels x0…x1−1 of row y, cut to the picture; nil outside of it.
func (m Image) Row(y, x0, x1 int) []Color {
	x0, x1 = max(x0, 0), min(x1, m.Width)
	if y < 0 || y >= m.Height || x0 >= x1 {
		return nil
	}
	return m.Pix[y*m.Stride+x0 : y*m.Stride+x1]
}

// Fill paints a rectangle.
func (m Image) Fill(x, y, w, h int, c Color) {
	for r := y; r < y+h; r++ {
		row := m.Row(r, x, x+w)
		if len(row) == 0 {
			continue
		}
		row[0] = c
		for n := 1; n < len(row); n *= 2 {
			copy(row[n:], row[:n])
		}
	}
}

// Mix is a+(b−a)·t/256 for t in 0…256.
func Mix(a, b Color, t uint32) Color {
	const rb, g = 0xff00ff, 0x00ff00
	return ((a&rb)*(256-t)+(b&rb)*t)>>8&rb | ((a&g)*(256-t)+(b&g)*t)>>8&g
}

// Veil lays three quarters of a colour over a rectangle.
func (m Image) Veil(x, y, w, h int, c Color) {
	const quarter = 0x3f3f3f
	over := c - c>>2&quarter
	for r := y; r < y+h; r++ {
		row := m.Row(r, x, x+w)
		for i, p := range row {
			row[i] = p>>2&quarter + over
		}
	}
}

// Add is a+b with each channel stopping at 255.
func Add(a, b Color) Color {
	const low, high = 0x7f7f7f, 0x808080
	sum := a&low + b&low // 7-bit sums; the top bits are settled below
	carry := (a&b | (a|b)&sum) & high
	sum ^= (a ^ b) & high
	return sum | (carry<<1 - carry>>7)
}

// Copy puts src at x, y.
func (m Image) Copy(src Image, x, y int) {
	for r := max(0, -y); r < src.Height && y+r < m.Height; r++ {
		copy(m.Row(y+r, x, x+src.Width), src.Row(r, max(0, -x), src.Width))
	}
}

// Light is a round glow: brightness falls from the middle to nothing at the rim.
type Light struct {
	radius int
	level  []uint8 // (2·radius+1)² values
}

// NewLight makes a glow of the given radius in pixels.
func NewLight(radius int) Light {
	n := 2*radius + 1
	l := Light{radius: radius, level: make([]uint8, n*n)}
	for y := range n {
		for x := range n {
			dx, dy := x-radius, y-radius
			d := 256 * (dx*dx + dy*dy) / (radius*radius + 1)
			if d < 256 {
				f := 256 - d
				l.level[y*n+x] = uint8(f * f / 257)
			}
		}
	}
	return l
}

// Shine adds the glow in colour c to the picture around x, y.
func (l Light) Shine(m Image, x, y int, c Color) {
	n := 2*l.radius + 1
	const rb, g = 0xff00ff, 0x00ff00
	for r := range n {
		x0 := x - l.radius
		row := m.Row(y-l.radius+r, x0, x0+n)
		if len(row) == 0 {
			continue
		}
		level := l.level[r*n+max(0, -x0):]
		for i := range row {
			if v := uint32(level[i]); v != 0 {
				row[i] = Add(row[i], (c&rb)*v>>8&rb|(c&g)*v>>8&g)
			}
		}
	}
}
