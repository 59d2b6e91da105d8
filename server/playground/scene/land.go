package scene

import (
	"fenrir/server/playground/canvas"
)

// land is one row of hills that scrolls by.
type land struct {
	hills   canvas.Sprite
	top     int   // row of the picture where the sprite begins
	height  []int // ridge, in rows of the picture, per column of the sprite
	deepest int   // lowest row of the ridge: nothing can be seen behind the land below it
	share   int   // speed in 256ths of the ground's
}

// hills describes a land.
type hills struct {
	seed      uint32
	bumps     int
	rough     float64
	high, low int // highest and lowest ridge, in percent of the picture from above
	rim       canvas.Color
	upper     canvas.Color
	lower     canvas.Color
	trees     int // per 1000 columns of a 640-column picture
	tree      int // height in 360ths of the picture
	share     int
	grain     uint32 // depth of the ground's texture, 0…256
}

func newLand(width, height int, d hills) land {
	u := max(height/360, 1)
	top := height*d.high/100 - (d.tree+4)*u
	img := canvas.New(width, height-top)
	img.Fill(0, 0, img.Width, img.Height, canvas.Clear)
	l := land{top: top, height: make([]int, width), share: d.share}
	span := height * (d.low - d.high) / 100
	for x, v := range ridge(width, d.seed, d.bumps, d.rough) {
		l.height[x] = height*d.high/100 + int(float64(span)*(1-v))
		l.deepest = max(l.deepest, l.height[x])
	}
	shade := make([]canvas.Color, img.Height)
	for y := range shade {
		shade[y] = canvas.Mix(d.upper, d.lower, uint32(min(256, 256*y/max(1, img.Height*7/10))))
	}
	for x := range width {
		from := l.height[x] - top
		for y := from; y < img.Height; y++ {
			c := shade[y]
			if depth := y - from; depth < u {
				c = d.rim
			} else if depth < 3*u {
				c = canvas.Mix(d.rim, c, uint32(128+64*depth/u))
			}
			img.Pix[y*img.Stride+x] = c
		}
	}
	if d.grain > 0 {
		l.weather(img, d.grain)
	}
	c := chance(d.seed * 31)
	for range d.trees * width / (1000 * u) {
		x, size := c.below(width), d.tree*u*(60+c.below(40))/100
		l.pine(img, x, size, canvas.Mix(d.upper, 0, 90), d.rim)
	}
	l.hills = canvas.NewSprite(img)
	return l
}

// weather gives the ground stripes and stains, so that one sees it move.
func (l land) weather(img canvas.Image, depth uint32) {
	u := max(1, (img.Height+l.top)/360)
	for y := range img.Height {
		row := img.Row(y, 0, img.Width)
		bend := int(wave(y*3/u)) * u / 16
		for x := range row {
			if row[x] == canvas.Clear {
				continue
			}
			// Whole cycles per width, so that the ends meet.
			v := wave((x*1024*24/img.Width)+bend) + wave((x*1024*7/img.Width)-2*bend+y*5/u)
			row[x] = canvas.Mix(row[x], 0, min(256, uint32(v+512)*depth>>10))
		}
	}
}

// pine plants a tree.
func (l land) pine(img canvas.Image, x, size int, body, rim canvas.Color) {
	foot := l.height[x] - l.top + size/10
	for y := range size {
		tier := y * 4 / size
		within := y - tier*size/4
		half := size/18 + within*size/18/max(1, size/4)*3 + tier*size/14
		if y == 0 {
			half = 0
		}
		for dx := -half; dx <= half; dx++ {
			c := body
			if dx > half*2/3 && half > 1 {
				c = canvas.Mix(body, rim, 70)
			}
			row := foot - size + y
			if row >= 0 && row < img.Height {
				img.Pix[row*img.Stride+((x+dx)%img.Width+img.Width)%img.Width] = c
			}
		}
	}
}

// shift is how far the land has gone by when the ground has scrolled by s pixels.
func (l land) shift(s int) int { return s * l.share >> 8 }

// drawLands paints hills from back to front, each down to where the next ones
// hide it everywhere.
func drawLands(m canvas.Image, lands []land, scroll int) {
	for i, l := range lands {
		bottom := m.Height
		if i+1 < len(lands) {
			bottom = lands[i+1].deepest
		}
		l.hills.DrawTiled(m, l.shift(scroll), l.top, bottom)
	}
}

// at is the ridge's row under column x of the picture.
func (l land) at(x, scroll int) int {
	w := len(l.height)
	return l.height[((x+l.shift(scroll))%w+w)%w]
}
