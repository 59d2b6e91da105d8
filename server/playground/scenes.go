package playground

import (
	"fenrir/media/input/keysym"
	"fenrir/server/playground/canvas"
	"fenrir/server/playground/scene"
)

// scenes are the pictures of the modes.
type scenes struct {
	fun  *scene.Night
	busy *scene.Rush
}

func newScenes() scenes { return scenes{fun: &scene.Night{}, busy: &scene.Rush{}} }

// step moves the present mode's world on by n sixtieths of a second.
func (s *scenes) step(p *player, n int) {
	switch p.mode {
	case Fun:
		s.fun.Point(p.echo.x, p.echo.y)
		for range min(n, fps) {
			s.fun.Step()
		}
	case Busy:
		s.busy.Step(n)
	}
}

func (s *scenes) draw(p *player, m canvas.Image) {
	switch p.mode {
	case Fun:
		s.fun.Draw(m)
	case Busy:
		s.busy.Draw(m)
	case Latency:
		s.paint(p, m, m.Height)
	}
}

// paint gives the first rows of the picture latency mode's colour.
func (s *scenes) paint(p *player, m canvas.Image, rows int) {
	color := canvas.Color(0)
	if p.white {
		color = 0xffffff
	}
	m.Fill(0, 0, m.Width, rows, color)
}

// key steers the wolf.
func (s *scenes) key(sym keysym.Sym, down bool) {
	switch sym {
	case keysym.Left, 'a', 'A':
		s.fun.Steer(scene.Left, down)
	case keysym.Right, 'd', 'D':
		s.fun.Steer(scene.Right, down)
	case keysym.Up, 'w', 'W', ' ':
		s.fun.Steer(scene.Jump, down)
	}
}

// button makes the wolf pounce.
func (s *scenes) button(x, y, button int) {
	if button <= 3 {
		s.fun.Click(x, y)
	}
}
