package canvas

// Clear marks a transparent pixel in what NewSprite and NewLayer read.
const Clear Color = 0xff000000

// run is a stretch of opaque pixels of a row.
type run struct{ from, to int32 }

// Sprite is a picture with holes, kept as runs of opaque pixels.
type Sprite struct {
	img  Image
	runs [][]run // per row
}

// NewSprite takes over a picture whose holes are Clear.
func NewSprite(img Image) Sprite {
	s := Sprite{img: img, runs: make([][]run, img.Height)}
	for y := range img.Height {
		row := img.Row(y, 0, img.Width)
		for x := 0; x < len(row); {
			if row[x] == Clear {
				x++
				continue
			}
			from := x
			for x < len(row) && row[x] != Clear {
				x++
			}
			s.runs[y] = append(s.runs[y], run{int32(from), int32(x)})
		}
	}
	return s
}

// Width is the sprite's width in pixels.
func (s Sprite) Width() int { return s.img.Width }

// Height is the sprite's height in pixels.
func (s Sprite) Height() int { return s.img.Height }

// Draw puts the sprite at x, y.
func (s Sprite) Draw(m Image, x, y int) {
	for r := max(0, -y); r < s.img.Height && y+r < m.Height; r++ {
		for _, n := range s.runs[r] {
			from := max(int(n.from), -x)
			if from < int(n.to) {
				copy(m.Row(y+r, x+from, x+int(n.to)), s.img.Row(r, from, int(n.to)))
			}
		}
	}
}

// DrawTiled puts the sprite over the picture's full width at row y, repeated
// sideways and scrolled to the left by shift pixels. Rows from bottom on are
// left out: something else will hide them.
func (s Sprite) DrawTiled(m Image, shift, y, bottom int) {
	m.Height = min(m.Height, bottom)
	w := s.img.Width
	for x := -((shift%w + w) % w); x < m.Width; x += w {
		s.Draw(m, x, y)
	}
}
