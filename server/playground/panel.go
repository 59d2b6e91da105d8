package playground

import (
	"fmt"
	"strings"

	"fenrir/server/playground/canvas"
)

// panel writes what the playground sees over the scene.
type panel struct {
	hidden        bool
	width, height int // picture that it was laid out for
	mono          *canvas.Font
	bold          *canvas.Font
	x, y, w, pad  int
}

const (
	inkBright canvas.Color = 0xf2f6ff
	inkDim    canvas.Color = 0x93a4c4
	inkLit    canvas.Color = 0x7dffb2
	paper     canvas.Color = 0x0b1020
	paperLit  canvas.Color = 0x1d5c45
	paperKey  canvas.Color = 0x243050
)

// fit lays the panel out for a picture's size.
func (p *panel) fit(width, height int) (err error) {
	if p.width == width && p.height == height {
		return nil
	}
	size := min(max(min(height/34, width/60), 11), 48)
	if p.mono, err = canvas.NewFont(canvas.Mono, size); err != nil {
		return err
	}
	if p.bold, err = canvas.NewFont(canvas.Medium, size); err != nil {
		return err
	}
	p.width, p.height = width, height
	p.pad = size / 2
	p.x, p.y = p.pad, StripHeight+p.pad
	p.w = min(width-2*p.pad, 52*p.mono.Width("0"))
	return nil
}

// draw writes the panel. In latency mode it is one line, so that nearly all of the
// window flips.
func (p *panel) draw(m canvas.Image, s *player) {
	line := p.mono.Line
	head := fmt.Sprintf("%s  frame %d  %d fps  %d×%d", s.mode, s.frame, len(s.shown), m.Width, m.Height)
	if s.skipped > 0 {
		head += fmt.Sprintf("  skipped %d", s.skipped)
	}
	if p.hidden || s.mode == Latency {
		p.box(m, p.x, p.y, p.w, line+p.pad)
		p.mono.Draw(m, p.x+p.pad, p.y+p.pad/2, inkDim, head)
		return
	}
	e := s.echo
	rows := 6
	p.box(m, p.x, p.y, p.w, rows*(line+p.pad/2)+p.pad)
	x, y := p.x+p.pad, p.y+p.pad/2
	next := func() { y += line + p.pad/2 }
	p.mono.Draw(m, x, y, inkDim, head)
	next()
	p.keys(m, x, y, e)
	next()
	last := "press a key"
	if n := len(e.keys); n > 0 {
		k := e.keys[n-1]
		last = fmt.Sprintf("keycode %d  %s", k.code, k.sym)
		if strings.TrimSpace(k.char) != "" {
			last += "  " + k.char
		}
	}
	p.label(m, x, y, "key ", last)
	next()
	p.label(m, x, y, "pointer ", fmt.Sprintf("%d,%d  Σ %+.0f,%+.0f", e.x, e.y, e.sumX, e.sumY))
	next()
	at := p.mono.Draw(m, x, y, inkDim, "buttons ")
	for i, b := range []int{1, 2, 3, 8, 9} {
		at = p.chip(m, at, y, fmt.Sprintf("%d", i+1), e.down[b], e.buttons[b] > 0)
	}
	p.label(m, at+p.pad, y, "wheel ", fmt.Sprintf("↕%+d ↔%+d", e.wheelV, e.wheelH))
	next()
	at = p.mono.Draw(m, x, y, inkDim, "text ")
	p.text(m, at, y, e.text+"_")
	p.help(m, s)
}

// help tells at the bottom what there is to do.
func (p *panel) help(m canvas.Image, s *player) {
	hints := []string{"F8 wolf", "F9 latency", "F10 busy", "F7 pointer", "F1 hide", "Ctrl+Q quit"}
	if s.mode == Fun {
		hints = append([]string{"← → run", "Space jump", "click pounce"}, hints...)
		if n := s.scenes.fun.Caught(); n > 0 {
			hints = append([]string{fmt.Sprintf("%d caught", n)}, hints...)
		}
	}
	line := ""
	for _, h := range hints { // as many as there is room for
		if p.mono.Width(line+"   "+h) > m.Width-4*p.pad {
			break
		}
		line += "   " + h
	}
	y := m.Height - p.mono.Line - p.pad
	p.mono.Draw(m, p.pad, y, inkDim, line)
}

// bottom is the first row below the one line that latency mode has.
func (p *panel) bottom() int { return p.y + p.mono.Line + p.pad }

// keys shows the last keys as caps, lit while they are down.
func (p *panel) keys(m canvas.Image, x, y int, e *echo) {
	for _, k := range e.keys {
		name := k.sym
		if strings.TrimSpace(k.char) != "" {
			name = k.char
		}
		if x+p.mono.Width(name)+2*p.pad > p.x+p.w {
			return
		}
		x = p.chip(m, x, y, name, k.down, true)
	}
}

// chip draws a little cap and returns the x behind it.
func (p *panel) chip(m canvas.Image, x, y int, text string, lit, used bool) int {
	back, ink := paperKey, inkDim
	if used {
		ink = inkBright
	}
	if lit {
		back, ink = paperLit, inkLit
	}
	w := p.bold.Width(text) + p.pad
	m.Fill(x, y, w, p.mono.Line, back)
	p.bold.Draw(m, x+p.pad/2, y, ink, text)
	return x + w + p.pad/2
}

func (p *panel) label(m canvas.Image, x, y int, label, value string) {
	p.mono.Draw(m, p.mono.Draw(m, x, y, inkDim, label), y, inkBright, value)
}

// text writes as much of the end of a text as there is room for.
func (p *panel) text(m canvas.Image, x, y int, text string) {
	r := []rune(text)
	for len(r) > 1 && x+p.mono.Width(string(r)) > p.x+p.w-p.pad {
		r = r[1:]
	}
	p.mono.Draw(m, x, y, inkBright, string(r))
}

// box is the panel's ground.
func (p *panel) box(m canvas.Image, x, y, w, h int) {
	m.Veil(x, y, w, h, paper)
}
