package playground

import (
	"testing"

	"fenrir/server/playground/canvas"
)

func BenchmarkPanel(b *testing.B) {
	p := &player{panel: &panel{}, scenes: newScenes(), mode: Fun, echo: newEcho(nil)}
	m := canvas.New(1280, 720)
	if err := p.panel.fit(1280, 720); err != nil {
		b.Fatal(err)
	}
	p.echo.text = "hello"
	for b.Loop() {
		p.frame++
		p.panel.draw(m, p)
		p.echo.strip.draw(m)
	}
}

func BenchmarkNight(b *testing.B) {
	p := &player{panel: &panel{}, scenes: newScenes(), mode: Fun, echo: newEcho(nil)}
	m := canvas.New(1280, 720)
	p.scenes.draw(p, m)
	for b.Loop() {
		p.scenes.step(p, 1)
		p.scenes.draw(p, m)
	}
}
