//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// TestFirstFrame measures what a player waits for: from the click on Play, and
// from the click on Resume, to the first frame that the page paints.
func TestFirstFrame(t *testing.T) {
	s := start(t, options{config: "[sessions]\nmax_per_person = 3\n"})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	var fresh, resumed []float64
	const runs = 20
	for range runs {
		sid := play(t, p, "playground")
		fresh = append(fresh, firstFrame(t, p))
		tool(t, p, "leave")
		do(t, "library", id(p, "library").WaitFor())
		card := p.Locator(fmt.Sprintf("[data-testid=session-card][data-session=%q]", sid))
		do(t, "card", card.WaitFor())
		do(t, "resume", card.Locator("[data-testid=resume]").Click())
		resumed = append(resumed, firstFrame(t, p))
		s.must("DELETE", "/api/sessions/"+sid, nil, 0, nil)
		_, err := p.Goto(s.url + "/#library")
		do(t, "library", err)
		do(t, "library", id(p, "library").WaitFor())
		until(t, 8*time.Second, "the session is gone", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
	}
	slices.Sort(fresh)
	slices.Sort(resumed)
	t.Logf("first painted frame after Play: median %.0f ms (%.0f…%.0f), after Resume: median %.0f ms (%.0f…%.0f), %d runs",
		fresh[runs/2], fresh[0], fresh[runs-1], resumed[runs/2], resumed[0], resumed[runs-1], runs)
	if fresh[runs/2] > 1000 {
		t.Errorf("median after Play is %.0f ms, want at most 1000", fresh[runs/2])
	}
	if resumed[runs/2] > 500 {
		t.Errorf("median after Resume is %.0f ms, want at most 500", resumed[runs/2])
	}
}

// firstFrame waits for the page's own measure: milliseconds from the click to
// the first painted frame.
func firstFrame(t *testing.T, p playwright.Page) float64 {
	t.Helper()
	var ms float64
	ok := func() bool {
		eval(t, p, &ms, "() => globalThis.fenrir && fenrir.firstFrameMs || 0")
		return ms > 0
	}
	if !became(10*time.Second, ok) {
		var text string
		eval(t, p, &text, "() => JSON.stringify([globalThis.fenrir && fenrir.state, document.body.innerText.slice(0, 500)])")
		t.Fatalf("no first frame: %s", text)
	}
	return ms
}
