package scene

import (
	"fmt"
	"slices"
	"testing"

	"fenrir/server/playground/canvas"
)

// world is what both scenes are.
type world interface{ Draw(canvas.Image) }

func TestScenesFillEveryPixel(t *testing.T) {
	for _, size := range [][2]int{{640, 360}, {1280, 720}, {642, 362}, {1366, 768}, {360, 640}, {3840, 360}} {
		for name, w := range map[string]world{"night": &Night{}, "rush": &Rush{}} {
			m := canvas.New(size[0], size[1])
			for step := range 40 {
				const nothing = 0x01ff02
				m.Fill(0, 0, m.Width, m.Height, nothing)
				w.Draw(m)
				if at := slices.Index(m.Pix, nothing); at >= 0 {
					t.Fatalf("%s %v, step %d: nothing is drawn at %d, %d", name, size, step, at%m.Width, at/m.Width)
				}
				if i := slices.IndexFunc(m.Pix, func(c canvas.Color) bool { return c > 0xffffff }); i >= 0 {
					t.Fatalf("%s %v: pixel %#x", name, size, m.Pix[i])
				}
				switch w := w.(type) {
				case *Night:
					w.Step()
				case *Rush:
					w.Step(1)
				}
			}
		}
	}
}

func TestRushIsTheSameEachTimeAndMovesEverywhere(t *testing.T) {
	a, b := &Rush{}, &Rush{}
	m, n := canvas.New(1280, 720), canvas.New(1280, 720)
	before := slices.Clone(m.Pix)
	for step := range 60 {
		a.Step(1)
		a.Draw(m)
		changed := 0
		for i := range before {
			if m.Pix[i] != before[i] {
				changed++
			}
		}
		if share := float64(changed) / float64(len(before)); step > 0 && share < .75 {
			t.Fatalf("step %d changes %.0f %% of the picture", step, 100*share)
		}
		copy(before, m.Pix)
	}
	b.Step(60)
	b.Draw(n)
	if !slices.Equal(m.Pix, n.Pix) {
		t.Error("sixty steps one by one and at once give different pictures")
	}
}

// play runs the night for some steps.
func play(n *Night, m canvas.Image, steps int) {
	for range steps {
		n.Step()
	}
	n.Draw(m)
}

func TestTheWolfObeys(t *testing.T) {
	m := canvas.New(640, 360)
	n := &Night{}
	play(n, m, 0)
	n.Point(500, 100)
	play(n, m, 240)
	if n.x < 440 || n.x > 560 {
		t.Errorf("the light is at 500, the wolf at %.0f", n.x)
	}
	scroll := n.scroll
	n.Steer(Left, true)
	play(n, m, 120)
	if !n.left || n.scroll > scroll+60 {
		t.Errorf("steered to the left it looks left %t and went %.0f pixels", n.left, n.scroll-scroll)
	}
	n.Steer(Left, false)
	n.Steer(Jump, true)
	play(n, m, 10)
	if n.y <= 0 {
		t.Error("it does not jump")
	}
	n.Steer(Jump, false)
	play(n, m, 200)
	if n.y != 0 {
		t.Errorf("it does not land: %.0f above the ground", n.y)
	}
	for i := range 8 {
		n.Click(150+40*i, 120+10*i)
		play(n, m, 120)
	}
	if n.Caught() < 4 {
		t.Errorf("it caught the light %d times of 8", n.Caught())
	}
	play(n, m, 1200)
	if !n.resting() && n.idle < 900 {
		t.Errorf("left alone it does not rest: idle %d", n.idle)
	}
}

func TestEveryPoseHasAWolf(t *testing.T) {
	p := &pack{scale: 2}
	for pose := range poses {
		right, left := p.figure(pose, false), p.figure(pose, true)
		ink := func(f *figure) (n int) {
			for _, a := range f.alpha {
				if a > 128 {
					n++
				}
			}
			return n
		}
		if r, l := ink(right), ink(left); r < 2000 || l != r {
			t.Errorf("pose %d: %d pixels to the right, %d to the left", pose, r, l)
		}
		// Whole on all sides: nothing is cut off at the sprite's edge.
		w, h := right.img.Width, right.img.Height
		for i := range w {
			if right.alpha[i] != 0 || right.alpha[(h-1)*w+i] != 0 {
				t.Errorf("pose %d is cut off above or below", pose)
				break
			}
		}
		for i := range h {
			if right.alpha[i*w] != 0 || right.alpha[i*w+w-1] != 0 {
				t.Errorf("pose %d is cut off at a side", pose)
				break
			}
		}
	}
}

func BenchmarkScenes(b *testing.B) {
	for _, h := range []int{720, 1080, 2160} {
		m := canvas.New(h*16/9, h)
		n, r := &Night{}, &Rush{}
		n.Draw(m)
		r.Draw(m)
		n.Point(640, 200)
		b.Run(fmt.Sprintf("night%d", h), func(b *testing.B) {
			for b.Loop() {
				n.Step()
				n.Draw(m)
			}
		})
		b.Run(fmt.Sprintf("rush%d", h), func(b *testing.B) {
			for b.Loop() {
				r.Step(1)
				r.Draw(m)
			}
		})
	}
}
