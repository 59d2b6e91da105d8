package scene

import (
	"fenrir/server/playground/canvas"
)

// Rush is motion over the whole picture, as a fast game has it: textured layers
// that scroll at different speeds, and sprites that fly about. It depends on
// nothing but the size and the number of steps. The zero value is ready.
type Rush struct {
	t      int
	width  int
	height int
	back   canvas.Image // one tile larger than the picture, so that it can slide
	lands  []land
	balls  []canvas.Sprite
}

const rushTile = 256 // pixels after which the ground of the picture repeats

// Step moves the world on by n sixtieths of a second.
func (r *Rush) Step(n int) { r.t += n }

func (r *Rush) fit(w, h int) {
	if r.width == w && r.height == h {
		return
	}
	r.width, r.height = w, h
	r.back = canvas.New(w+rushTile, h+rushTile)
	c := chance(99)
	var grain [rushTile][rushTile]uint32
	for y := range grain {
		for x := range grain[y] {
			grain[y][x] = uint32(c.below(40))
		}
	}
	for y := range r.back.Height {
		row := r.back.Row(y, 0, r.back.Width)
		for x := range row {
			bx, by := x%rushTile, y%rushTile
			base := canvas.Color(0x2f6fb2)
			if (bx/32+by/32)%2 == 0 {
				base = 0x3d86c6
			}
			v := 128 + wave(bx*4)/4 + wave(by*4)/4
			row[x] = canvas.Mix(canvas.Mix(base, 0x9fd0f0, uint32(v)/2), 0x103050, grain[by][bx])
		}
	}
	tile := max(w, 640)
	r.lands = []land{
		newLand(tile, h, hills{5, 3, .6, 40, 66, 0xd8f0c0, 0x4a8c5a, 0x2f5f46, 60, 20, 128, 120}),
		newLand(tile, h, hills{6, 4, .5, 62, 82, 0xf0e0a0, 0x8c6a3a, 0x6a4e30, 40, 30, 256, 150}),
	}
	u := max(1, h/360)
	r.balls = nil
	for i, paint := range []canvas.Color{0xff5050, 0xffd040, 0x50d0ff, 0xd070ff} {
		r.balls = append(r.balls, ball((10+3*i)*u, paint))
	}
}

// ball makes a shaded ball with a spot.
func ball(radius int, c canvas.Color) canvas.Sprite {
	n := 2*radius + 1
	img := canvas.New(n, n)
	for y := range n {
		for x := range n {
			dx, dy := x-radius, y-radius
			if dx*dx+dy*dy > radius*radius {
				img.Pix[y*n+x] = canvas.Clear
				continue
			}
			dark := uint32(min(256, 90*((dx+radius/3)*(dx+radius/3)+(dy+radius/3)*(dy+radius/3))/(radius*radius)))
			p := canvas.Mix(c, 0x181020, dark)
			if (dx+radius/3)*(dx+radius/3)+(dy+radius/3)*(dy+radius/3) < radius*radius/12 {
				p = 0xffffff
			}
			img.Pix[y*n+x] = p
		}
	}
	return canvas.NewSprite(img)
}

// Draw paints the rush over the whole picture.
func (r *Rush) Draw(m canvas.Image) {
	r.fit(m.Width, m.Height)
	x, y := r.t*3%rushTile, r.t*2%rushTile
	for row := range r.lands[0].deepest {
		copy(m.Row(row, 0, m.Width), r.back.Row(row+y, x, x+m.Width))
	}
	u := max(1, m.Height/360)
	drawLands(m, r.lands, r.t*4*u)
	for i := range 28 {
		b := r.balls[i%len(r.balls)]
		bx := int(wave(r.t*(3+i%5)+i*97))*(m.Width-b.Width())/512 + (m.Width-b.Width())/2
		by := int(wave(r.t*(4+i%3)+i*61))*(m.Height-b.Height())/512 + (m.Height-b.Height())/2
		b.Draw(m, bx, by)
	}
}
