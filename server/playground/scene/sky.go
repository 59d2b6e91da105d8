package scene

import (
	"math"

	"fenrir/server/playground/canvas"
)

// sky is the night: a gradient with a moon and stars, and the aurora before it.
type sky struct {
	still   canvas.Image // without the aurora
	now     canvas.Image // with it
	u       int          // pixels in a 360th of the height
	glow    [64][64]canvas.Color
	profile []uint8 // aurora's brightness by height above its edge, 0…63
	twinkle []star
	pop     canvas.Light
}

type star struct{ x, y, phase int }

// depth of the aurora's lower edge, in rows.
const soft = 8

func newSky(width, height int) *sky {
	s := &sky{still: canvas.New(width, height), now: canvas.New(width, height), u: max(height/360, 1)}
	top, low := canvas.Color(0x040716), canvas.Color(0x1c2b58)
	for y := range height {
		s.still.Fill(0, y, width, 1, canvas.Mix(top, low, uint32(256*y/height)))
	}
	c := chance(7)
	for range 260 {
		x, y := c.below(width), c.below(height*6/10)
		size := 1 + c.below(10)/9*s.u/2 + s.u/3
		s.still.Fill(x, y, size, size, canvas.Mix(top, 0xb8c8f0, uint32(60+c.below(150))))
	}
	for range 24 {
		s.twinkle = append(s.twinkle, star{c.below(width), c.below(height / 2), c.below(1024)})
	}
	s.pop = canvas.NewLight(2 * s.u)
	s.moon(width*78/100, height*24/100, height/13)

	// The aurora only adds light; its sum with the dark sky stays below 256 a channel.
	for hue := range s.glow {
		green := canvas.Color(0x18a068)
		tint := canvas.Mix(green, 0x7030a0, uint32(hue*hue/16))
		for l := range s.glow[hue] {
			s.glow[hue][l] = canvas.Mix(0, tint, uint32(l*4))
		}
	}
	s.profile = make([]uint8, height*3/10)
	for d := range s.profile {
		f := 1 - float64(d)/float64(len(s.profile))
		s.profile[d] = uint8(63 * f * f)
	}
	s.shine(0)
	return s
}

// moon paints a moon with its halo and a few seas.
func (s *sky) moon(x, y, r int) {
	canvas.NewLight(4*r).Shine(s.still, x, y, 0x28304a)
	for dy := -r - 1; dy <= r+1; dy++ {
		row := s.still.Row(y+dy, x-r-1, x+r+2)
		for i := range row {
			dx := i - r - 1
			d := math.Hypot(float64(dx), float64(dy))
			cover := min(max(float64(r)-d+0.5, 0), 1)
			if cover == 0 {
				continue
			}
			face := canvas.Mix(0xf4f1de, 0xc9c6b4, uint32(min(256, max(0, 128+128*(dx+dy)/r))))
			for _, sea := range [][3]int{{-30, -20, 26}, {20, 25, 20}, {25, -35, 12}, {-20, 40, 14}} {
				q := math.Hypot(float64(dx*100-sea[0]*r), float64(dy*100-sea[1]*r)) / float64(sea[2]*r)
				if q < 1 {
					face = canvas.Mix(face, 0xb9b6a4, uint32(140*min(1, 3*(1-q))))
				}
			}
			row[i] = canvas.Mix(row[i], face, uint32(256*cover))
		}
	}
}

// shine draws the aurora of moment t (in steps) before the sky.
func (s *sky) shine(t int) {
	const block = 4 // columns that share a value
	w, h := s.still.Width, s.still.Height
	n := (w + block - 1) / block
	edge, power := make([]int, n), make([]uint32, n)
	scale := 1024 * block * 1000 / (w * 700)
	deepest := 0
	for i := range n {
		a := i * scale
		sway := wave(a+t) + wave(2*a-t*3/2)/2 + wave(5*a+t*2)/6
		edge[i] = h*36/100 + int(sway)*h/3200
		deepest = max(deepest, edge[i])
		p := 150 + wave(a*3/2-t/2)/2 + wave(7*a+t*3)/6 + wave(23*a-t*2)/10
		power[i] = uint32(max(0, min(255, p)))
	}
	for y := range min(h, deepest+soft*s.u) {
		dst, src := s.now.Row(y, 0, w), s.still.Row(y, 0, w)
		for i := range n {
			d := edge[i] - y
			var level uint32
			switch {
			case d >= len(s.profile):
			case d >= 0:
				level = uint32(s.profile[d])
			case -d < soft*s.u:
				level = uint32(63 * (soft*s.u + d) / (soft * s.u))
			}
			from, to := i*block, min(i*block+block, w)
			level = level * power[i] >> 8
			if level == 0 {
				copy(dst[from:to], src[from:to])
				continue
			}
			light := s.glow[min(63, max(0, d)*64/len(s.profile))][level]
			for x := from; x < to; x++ {
				dst[x] = canvas.Add(src[x], light)
			}
		}
	}
	for y := deepest + soft*s.u; y < h; y++ {
		copy(s.now.Row(y, 0, w), s.still.Row(y, 0, w))
	}
}

// draw puts the sky into the picture, down to row bottom.
func (s *sky) draw(m canvas.Image, t, bottom int) {
	if t%3 == 0 {
		s.shine(t)
	}
	if m.Stride == s.now.Stride {
		copy(m.Pix, s.now.Pix[:bottom*s.now.Stride])
	} else {
		for y := range bottom {
			copy(m.Row(y, 0, m.Width), s.now.Row(y, 0, m.Width))
		}
	}
	for _, st := range s.twinkle {
		if b := wave(st.phase + t*6); b > 0 {
			s.pop.Shine(m, st.x, st.y, canvas.Mix(0, 0xdfe8ff, uint32(b)))
		}
	}
}
