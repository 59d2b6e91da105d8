package scene

import (
	"math"

	"fenrir/server/playground/canvas"
)

// Way is what a player can ask of the wolf.
type Way int

// The ways.
const (
	Left Way = iota
	Right
	Jump
	ways
)

// Night is a wolf running through a winter night after the light that the
// pointer is. The zero value is ready.
type Night struct {
	width, height int
	u             float64 // pixels in a 360th of the height
	sky           *sky
	lands         []land
	pack          *pack
	lights        []canvas.Light
	t             int // steps

	steer   [ways]bool
	px, py  float64 // the light
	idle    int     // steps since anyone asked for anything
	scroll  float64
	speed   float64 // of the world, pixels a step
	x, y    float64 // the wolf: column, and height over ground
	vx, vy  float64
	run     float64 // place in the gallop
	left    bool
	hunting bool // in the air towards the light
	caught  int
	sparks  []spark
	flakes  []flake
	rnd     chance
	falling spark // a shooting star
}

type spark struct {
	x, y, vx, vy float64
	life, total  int
	color        canvas.Color
	size         int
}

type flake struct{ x, y, depth int }

// Caught counts how often the wolf got the light.
func (n *Night) Caught() int { return n.caught }

// Point moves the light to a place of the picture.
func (n *Night) Point(x, y int) {
	if float64(x) != n.px || float64(y) != n.py {
		n.px, n.py, n.idle = float64(x), float64(y), 0
	}
}

// Steer begins or ends a wish.
func (n *Night) Steer(w Way, on bool) {
	if w == Jump && on && !n.steer[Jump] && n.y == 0 {
		n.vy = 7 * n.u
	}
	n.steer[w], n.idle = on, 0
}

// Click strikes sparks and makes the wolf leap there.
func (n *Night) Click(x, y int) {
	if n.sky == nil {
		return
	}
	n.idle = 0
	n.px, n.py = float64(x), float64(y)
	n.burst(n.px, n.py, 40, 0xffb45a)
	ground := float64(n.lands[len(n.lands)-1].at(int(n.x), int(n.scroll)))
	const flight = 26 // steps
	n.vx = (n.px - n.x) / flight
	rise := max(ground-n.py-30*n.u, 12*n.u) - n.y
	n.vy = rise/flight + n.gravity()*flight/2
	n.hunting = true
}

func (n *Night) gravity() float64 { return 0.42 * n.u }

// burst throws sparks.
func (n *Night) burst(x, y float64, count int, c canvas.Color) {
	for range count {
		a, v := n.rnd.between(0, 2*math.Pi), n.rnd.between(.4, 4.2)*n.u
		life := 24 + n.rnd.below(30)
		n.sparks = append(n.sparks, spark{x, y, v * math.Cos(a), v*math.Sin(a) - n.u, life, life, canvas.Mix(c, 0xff5a7a, uint32(n.rnd.below(256))), n.rnd.below(3)})
	}
	if over := len(n.sparks) - 300; over > 0 {
		n.sparks = n.sparks[over:]
	}
}

// Step moves the world on by a sixtieth of a second.
func (n *Night) Step() {
	n.t++
	if n.sky == nil {
		return // no size yet
	}
	n.idle++
	n.walk()
	live := n.sparks[:0]
	for _, s := range n.sparks {
		s.x, s.y, s.vx, s.vy, s.life = s.x+s.vx-n.speed/2, s.y+s.vy, s.vx*.97, s.vy*.97+.06*n.u, s.life-1
		if s.life > 0 {
			live = append(live, s)
		}
	}
	n.sparks = live
	if n.falling.life--; n.falling.life < -400-n.rnd.below(900) {
		x := n.rnd.between(.1, .8) * float64(n.width)
		n.falling = spark{x: x, y: .08 * float64(n.height), vx: 5 * n.u, vy: 1.8 * n.u, life: 40, total: 40}
	}
	n.falling.x, n.falling.y = n.falling.x+n.falling.vx, n.falling.y+n.falling.vy
}

// walk moves the wolf and the ground under it.
func (n *Night) walk() {
	cruise := 3.2 * n.u
	switch {
	case n.steer[Right]:
		cruise = 6 * n.u
	case n.steer[Left]:
		cruise = -4.5 * n.u
	case n.resting():
		cruise = 0
	}
	n.speed += (cruise - n.speed) * .06
	n.scroll += n.speed
	target := .42 * float64(n.width)
	if n.idle < 600 && n.px > 0 {
		target = n.px
	}
	if n.y > 0 || n.vy > 0 {
		n.y += n.vy
		n.vy -= n.gravity()
		n.x += n.vx
		if n.y <= 0 {
			n.y, n.vy, n.vx, n.hunting = 0, 0, 0, false
			n.dust(10)
		}
	} else {
		n.vx = min(max((target-n.x)*.05, -5*n.u), 5*n.u)
		n.x += n.vx
	}
	n.x = min(max(n.x, 0), float64(n.width-1))
	pace := n.speed + n.vx
	if math.Abs(pace) > .2*n.u {
		n.left = pace < 0
	}
	n.run += math.Abs(pace) / (9.5 * n.u)
	if n.y == 0 && math.Abs(pace) > 4*n.u && n.t%5 == 0 {
		n.dust(1)
	}
	// Where the jaws are.
	ground := float64(n.lands[len(n.lands)-1].at(int(n.x), int(n.scroll)))
	if n.hunting && math.Hypot(n.x-n.px, ground-n.y-30*n.u-n.py) < 26*n.u {
		n.hunting = false
		n.caught++
		n.burst(n.px, n.py, 70, 0x6affc2)
	}
}

// resting tells whether the wolf sits and howls: nobody has asked for anything
// for a while.
func (n *Night) resting() bool { return n.idle > 900 && n.idle%1500 > 900 }

func (n *Night) dust(count int) {
	ground := float64(n.lands[len(n.lands)-1].at(int(n.x), int(n.scroll)))
	for range count {
		life := 16 + n.rnd.below(14)
		n.sparks = append(n.sparks, spark{n.x + n.rnd.between(-14, 14)*n.u, ground, n.rnd.between(-1, 1) * n.u, -n.rnd.between(.2, 1.4) * n.u, life, life, 0x8090b8, n.rnd.below(2)})
	}
}

// fit makes everything for a picture's size.
func (n *Night) fit(w, h int) {
	if n.sky != nil && n.width == w && n.height == h {
		return
	}
	if n.width > 0 {
		n.x = n.x * float64(w) / float64(n.width)
	} else {
		n.x = .3 * float64(w)
	}
	n.width, n.height, n.u = w, h, float64(h)/360
	n.y, n.vy, n.vx, n.hunting, n.sparks = 0, 0, 0, false, nil
	n.sky = newSky(w, h)
	tile := max(w, 640)
	n.lands = []land{
		newLand(tile, h, hills{11, 2, .55, 46, 66, 0x5a6fa8, 0x26345f, 0x38497a, 0, 0, 40, 0}),
		newLand(tile, h, hills{23, 3, .5, 60, 76, 0x4a5f96, 0x1a2548, 0x27365f, 70, 16, 90, 0}),
		newLand(tile, h, hills{37, 3, .45, 70, 84, 0x3c4f84, 0x101833, 0x18233f, 42, 34, 150, 0}),
		newLand(tile, h, hills{53, 2, .35, 86, 92, 0xc9dcff, 0x5f77ab, 0x0c142c, 0, 0, 256, 0}),
	}
	n.pack = &pack{scale: n.u * .95}
	n.lights = nil
	for _, r := range []float64{2, 3, 4.5, 16} {
		n.lights = append(n.lights, canvas.NewLight(max(2, int(r*n.u))))
	}
	n.flakes = nil
	for range 70 {
		n.flakes = append(n.flakes, flake{n.rnd.below(w), n.rnd.below(h), 1 + n.rnd.below(3)})
	}
}

// Draw paints the night over the whole picture.
func (n *Night) Draw(m canvas.Image) {
	n.fit(m.Width, m.Height)
	scroll := int(n.scroll)
	n.sky.draw(m, n.t, n.lands[0].deepest)
	if f := n.falling; f.life > 0 {
		for k := range 12 {
			n.lights[0].Shine(m, int(f.x-f.vx*float64(k)/2), int(f.y-f.vy*float64(k)/2), canvas.Mix(0, 0xe8f0ff, uint32(256-20*k)))
		}
	}
	drawLands(m, n.lands, scroll)
	n.drawWolf(m)
	for _, s := range n.sparks {
		n.lights[s.size].Shine(m, int(s.x), int(s.y), canvas.Mix(0, s.color, uint32(256*s.life/s.total)))
	}
	n.snow(m, scroll)
	if n.px > 0 || n.py > 0 {
		pulse := uint32(200 + wave(n.t*16)/6)
		n.lights[3].Shine(m, int(n.px), int(n.py), canvas.Mix(0, 0x58ffc0, pulse))
		n.lights[1].Shine(m, int(n.px), int(n.py), 0xffffff)
	}
}

func (n *Night) drawWolf(m canvas.Image) {
	pose := int(n.run) % gallop
	switch {
	case n.y > 0:
		pose = leaping
	case n.resting() && math.Abs(n.speed+n.vx) < .2*n.u:
		pose = howling
	}
	f := n.pack.figure(pose, n.left)
	ground := n.lands[len(n.lands)-1].at(int(n.x), int(n.scroll))
	y := ground - int(n.y) + int(2*n.u)
	f.draw(m, int(n.x), y)
	n.lights[0].Shine(m, int(n.x)-f.footX+f.eyeX, y-f.footY+f.eyeY, 0x7dffb2)
}

func (n *Night) snow(m canvas.Image, scroll int) {
	u := max(1, int(n.u))
	for _, f := range n.flakes {
		x := f.x - scroll*f.depth/4 + int(wave(n.t*2+f.x*7))*u/32
		y := f.y + n.t*f.depth*u/3
		size := (f.depth + 1) * u / 2
		x, y = (x%m.Width+m.Width)%m.Width, y%m.Height
		m.Fill(x, y, size, size, 0xd8e4ff)
	}
}
