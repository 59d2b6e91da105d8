package scene

import (
	"testing"

	"fenrir/server/playground/canvas"
)

func BenchmarkNight720p(b *testing.B) {
	n := &Night{}
	m := canvas.New(1280, 720)
	n.Draw(m)
	n.Point(640, 200)
	for b.Loop() {
		n.Step()
		n.Draw(m)
	}
}

func BenchmarkRush720p(b *testing.B) {
	r := &Rush{}
	m := canvas.New(1280, 720)
	for b.Loop() {
		r.Step(1)
		r.Draw(m)
	}
}
