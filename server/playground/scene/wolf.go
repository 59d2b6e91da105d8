package scene

import (
	"math"

	"fenrir/server/playground/canvas"
)

// point is a place in the wolf's own measure: it is 100 long, feet at y 0, y up,
// looking to the right.
type point struct{ x, y float64 }

// limb is a rounded cone, the matter that the wolf is made of.
type limb struct {
	a, b   point
	ra, rb float64
	back   bool // on the far side: darker
}

// dist is how far p is outside of the limb; negative inside.
func (l limb) dist(p point) float64 {
	dx, dy := l.b.x-l.a.x, l.b.y-l.a.y
	t := ((p.x-l.a.x)*dx + (p.y-l.a.y)*dy) / (dx*dx + dy*dy)
	t = min(max(t, 0), 1)
	return math.Hypot(p.x-l.a.x-t*dx, p.y-l.a.y-t*dy) - (l.ra + t*(l.rb-l.ra))
}

// near tells whether p could be within margin of the limb.
func (l limb) near(p point, margin float64) bool {
	r := max(l.ra, l.rb) + margin
	return p.x > min(l.a.x, l.b.x)-r && p.x < max(l.a.x, l.b.x)+r && p.y > min(l.a.y, l.b.y)-r && p.y < max(l.a.y, l.b.y)+r
}

// The poses: a gallop of so many steps, one in the air, and one sitting and
// howling.
const (
	gallop  = 12
	leaping = gallop
	howling = gallop + 1
	poses   = gallop + 2
)

// body builds the wolf in a pose, and says where its eye is.
func body(pose int) (limbs []limb, eye point) {
	if pose == howling {
		return sitting()
	}
	phi := 2 * math.Pi * float64(pose) / gallop
	if pose == leaping {
		phi = 5.6
	}
	bob := 1.6 * math.Sin(phi)
	chest, hip := point{17, 31 + bob}, point{-19, 31 - bob}
	leg := func(root point, off, reach float64, hind, back bool) {
		a := phi + off
		paw := point{root.x + reach*math.Cos(a), max(1.5, 2+11*math.Sin(a))}
		if pose == leaping {
			paw = point{root.x + 19, 17}
			if hind {
				paw = point{root.x - 21, 13}
			}
			if back {
				paw.x, paw.y = paw.x-5, paw.y+4
			}
		}
		mid := point{(root.x+paw.x)/2 + 3.5, (root.y + paw.y) / 2}
		if hind {
			mid.x -= 8
		}
		limbs = append(limbs, limb{root, mid, 5.2, 3, back}, limb{mid, paw, 3, 1.7, back}, limb{paw, point{paw.x + 3.5, paw.y - .6}, 1.8, 1.3, back})
	}
	leg(point{chest.x - 1, chest.y - 5}, 0.9, 17, false, true)
	leg(point{hip.x + 2, hip.y - 4}, 0.9+math.Pi*.8, 16, true, true)
	tail := point{hip.x - 17, hip.y + 3 + 3*math.Sin(phi+1)}
	head := point{chest.x + 18, chest.y + 12 - bob/2}
	limbs = append(limbs,
		limb{hip, chest, 8, 10.2, false},
		limb{point{hip.x - 3, hip.y}, point{hip.x + 2, hip.y - 4}, 8, 7.5, false},
		limb{point{chest.x + 3, chest.y + 2}, head, 9, 6.2, false},
		limb{head, point{head.x + 12, head.y - 4}, 5.4, 2.3, false},
		limb{point{head.x + 2, head.y - 4}, point{head.x + 10, head.y - 6}, 2.8, 1.5, false},
		limb{point{head.x - 3, head.y + 4}, point{head.x - 6, head.y + 11}, 2.6, .4, false},
		limb{point{head.x, head.y + 4}, point{head.x - 1, head.y + 12}, 2.6, .4, true},
		limb{point{hip.x - 6, hip.y + 2}, tail, 3.2, 4.2, false},
		limb{tail, point{tail.x - 13, tail.y - 4 + 4*math.Sin(phi)}, 4.2, .8, false},
	)
	leg(point{chest.x, chest.y - 5}, 0, 18, false, false)
	leg(point{hip.x, hip.y - 4}, math.Pi*.8, 17, true, false)
	return limbs, point{head.x + 4, head.y + 1.5}
}

// sitting is the wolf that howls at the moon.
func sitting() ([]limb, point) {
	chest, hip, head := point{9, 30}, point{-10, 12}, point{16, 49}
	return []limb{
		{point{9, 22}, point{12, 2}, 4, 2.2, true},
		{hip, chest, 11, 9.5, false},
		{chest, head, 8.5, 5.8, false},
		{head, point{24, 60}, 5, 2.2, false},
		{point{18, 46}, point{27, 54}, 2.6, 1.2, false},
		{point{12, 51}, point{5, 54}, 2.6, .4, false},
		{point{-16, 8}, point{-30, 4}, 3.4, 4, false},
		{point{-30, 4}, point{-42, 7}, 4, .8, false},
		{point{-7, 10}, point{3, 4}, 8, 3, false},
		{point{2, 2.4}, point{8, 2}, 2.4, 1.8, false},
		{point{11, 24}, point{14, 3}, 4.4, 2.2, false},
		{point{14, 2}, point{18, 1.8}, 2.2, 1.6, false},
	}, point{17, 52.5}
}

// figure is the wolf in one pose as pixels.
type figure struct {
	img      canvas.Image
	alpha    []uint8
	footX    int // the wolf's origin within img
	footY    int
	eyeX     int
	eyeY     int
	rendered bool
}

// pack holds the figures for a size, left and right, each made when first seen.
type pack struct {
	scale float64
	right [poses]figure
	left  [poses]figure
}

func (p *pack) figure(pose int, left bool) *figure {
	f := &p.right[pose]
	if left {
		f = &p.left[pose]
	}
	if !f.rendered {
		f.render(pose, p.scale, left)
	}
	return f
}

// render rasterises a pose: the union of its limbs, lit from above.
func (f *figure) render(pose int, scale float64, left bool) {
	const x0, x1, y0, y1 = -60, 58, -4, 66
	limbs, eye := body(pose)
	w, h := int((x1-x0)*scale), int((y1-y0)*scale)
	f.img, f.alpha = canvas.New(w, h), make([]uint8, w*h)
	place := func(p point) (int, int) {
		x := int((p.x - x0) * scale)
		if left {
			x = w - 1 - x
		}
		return x, int((y1 - p.y) * scale)
	}
	f.footX, f.footY = place(point{})
	f.eyeX, f.eyeY = place(eye)
	for y := range h {
		for x := range w {
			p := point{x0 + (float64(x)+.5)/scale, y1 - (float64(y)+.5)/scale}
			c, cover := shade(limbs, p, scale)
			if cover == 0 {
				continue
			}
			at := x
			if left {
				at = w - 1 - x
			}
			f.img.Pix[y*w+at], f.alpha[y*w+at] = c, uint8(255*cover)
		}
	}
	f.rendered = true
}

// shade is the wolf's colour at a point and how much of the pixel it covers.
func shade(limbs []limb, p point, scale float64) (c canvas.Color, cover float64) {
	// Above is the place that must be free for moonlight to fall on p.
	const rim = 4
	over := point{p.x - .6, p.y + 2.4}
	front, back, above := math.Inf(1), math.Inf(1), math.Inf(1)
	for _, l := range limbs {
		if !l.near(p, rim) {
			continue
		}
		d := l.dist(p)
		if l.back {
			back = min(back, d)
			continue
		}
		front = min(front, d)
		above = min(above, l.dist(over))
	}
	d := front
	c = canvas.Mix(0x3a4566, 0x222a44, uint32(min(256, max(0, 256-8*p.y))))
	if above > 0 {
		c = canvas.Mix(c, 0xb9cbff, uint32(min(200, 120*above)))
	}
	if front > 0.4/scale && back < front {
		d, c = back, 0x1a2138
	}
	return c, min(max(.5-d*scale, 0), 1)
}

// draw puts the wolf's feet at x, y.
func (f *figure) draw(m canvas.Image, x, y int) {
	x0, y0 := x-f.footX, y-f.footY
	for r := range f.img.Height {
		row := m.Row(y0+r, x0, x0+f.img.Width)
		off := r*f.img.Width + max(0, -x0)
		for i := range row {
			switch a := uint32(f.alpha[off+i]); a {
			case 0:
			case 255:
				row[i] = f.img.Pix[off+i]
			default:
				row[i] = canvas.Mix(row[i], f.img.Pix[off+i], a+a>>7)
			}
		}
	}
}
