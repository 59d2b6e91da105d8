//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// glance is the painted video as 32×18 brightnesses, 0…255.
func glance(t *testing.T, p playwright.Page) (g []float64) {
	t.Helper()
	eval(t, p, &g, `() => {
		const v = document.querySelector('video');
		const c = new OffscreenCanvas(32, 18), g = c.getContext('2d');
		g.drawImage(v, 0, 0, 32, 18);
		const d = g.getImageData(0, 0, 32, 18).data, out = [];
		for (let i = 0; i < d.length; i += 4) out.push((d[i] + d[i + 1] + d[i + 2]) / 3);
		return out;
	}`)
	return g
}

// apart is the mean difference of two glances, 0…255.
func apart(a, b []float64) (sum float64) {
	for i := range a {
		sum += math.Abs(a[i] - b[i])
	}
	return sum / float64(len(a))
}

// detail is how much a glance differs from its own mean, 0…255.
func detail(g []float64) float64 {
	mean := 0.0
	for _, v := range g {
		mean += v
	}
	mean /= float64(len(g))
	flat := make([]float64, len(g))
	for i := range flat {
		flat[i] = mean
	}
	return apart(g, flat)
}

// TestGame plays a real game of Debian's, Pingus: it draws, it sounds, and a
// click on "Story" turns its page.
func TestGame(t *testing.T) {
	s := start(t, options{config: `
[[apps]]
id = "penguins"
title = "Pingus, full size"
icon = "pingus-icon"
command = ["/usr/games/pingus", "-g", "1280x720"]
`})
	p := tab(t, 1280, 720)
	enter(t, s, p)

	// The catalogue finds the game by itself too, with its icon.
	var list struct {
		Apps []struct {
			ID, Title, Source, Icon string
			Game                    bool
		}
	}
	s.must("GET", "/api/apps", nil, 200, &list)
	found := false
	for _, a := range list.Apps {
		if a.Source == "desktop" && strings.Contains(strings.ToLower(a.Title), "pingus") {
			found = a.Game && a.Icon != ""
		}
	}
	if !found {
		t.Errorf("the catalogue has no Pingus of Debian's with an icon: %+v", list.Apps)
	}

	sid := play(t, p, "penguins")
	var menu []float64
	until(t, 20*time.Second, "the game draws", func() bool {
		var width int
		eval(t, p, &width, "() => document.querySelector('video')?.videoWidth || 0")
		if width == 0 {
			return false
		}
		menu = glance(t, p)
		return detail(menu) > 10
	})
	until(t, 20*time.Second, "the game plays music", func() bool {
		var heard *struct{ Hz, DB float64 }
		eval(t, p, &heard, "() => eyes.listen()")
		return heard != nil && heard.DB > -70
	})
	changed := 0.0
	until(t, 20*time.Second, "a click on Story turns the page", func() bool {
		do(t, "click", p.Mouse().Click(515, 340))
		changed = apart(menu, glance(t, p))
		return changed > 20
	})
	t.Logf("menu detail %.0f, difference after the click %.0f", detail(menu), changed)

	server := s.cmd.Process.Pid
	if len(children(server, "pingus")) == 0 {
		t.Error("no process of the game is found")
	}
	tool(t, p, "end")
	do(t, "confirm", p.Locator("[data-testid=confirm] .danger").Click())
	until(t, 6*time.Second, "nothing of the game is left", func() bool { return len(descendants(server)) == 0 && len(leftFiles(t, s, sid)) == 0 })
}

// TestProgramThatFails: the page names the cause and shows what the program
// said last.
func TestProgramThatFails(t *testing.T) {
	s := start(t, options{config: fmt.Sprintf(`
[[apps]]
id = "crash"
title = "Crashes"
command = ["sh", "-c", "echo the dragon ate it >&2; sleep 2; exit 3"]

[[apps]]
id = "nothing"
title = "Is not installed"
command = [%q]
`, "no-such-program-anywhere")})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	for _, c := range []struct{ app, code, says string }{
		{"crash", "app-exited", "the dragon ate it"},
		{"nothing", "app-failed", "no-such-program-anywhere"},
	} {
		_, err := p.Goto(s.url + "/#library")
		do(t, "library", err)
		tile := p.Locator(fmt.Sprintf("[data-testid=app-tile][data-app=%q]", c.app))
		do(t, "play", tile.Locator("[data-testid=play-button]").Click())
		panel := p.Locator(fmt.Sprintf("[data-testid=error-panel][data-code=%q]", c.code))
		do(t, c.code, panel.WaitFor(playwright.LocatorWaitForOptions{Timeout: playwright.Float(15000)}))
		if text := must(panel.InnerText())(t); !strings.Contains(text, c.says) {
			t.Errorf("%s: the page says %q, want %q in it", c.code, text, c.says)
		}
	}
}
