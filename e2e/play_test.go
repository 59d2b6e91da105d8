//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// enter goes through the first-run form with the setup token, as the printed
// URL invites to, and ends in the library.
func enter(t *testing.T, s *server, p playwright.Page) {
	t.Helper()
	do(t, "eyes", p.AddInitScript(playwright.Script{Content: playwright.String(eyes)}))
	_, err := p.Goto(s.url + "/#setup=" + s.token)
	do(t, "open the page", err)
	do(t, "name", id(p, "name").Fill(adminName))
	for _, box := range must(id(p, "setup-form").Locator("input[type=password]").All())(t) {
		do(t, "password", box.Fill(adminPassword))
	}
	do(t, "submit", id(p, "submit").Click())
	do(t, "library", id(p, "library").WaitFor())
	// The API client of the test is the same person.
	s.must("POST", "/api/login", map[string]string{"name": adminName, "password": adminPassword}, 200, nil)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// play clicks Play on a tile and returns the id of the session that started.
func play(t *testing.T, p playwright.Page, app string) string {
	t.Helper()
	tile := p.Locator(fmt.Sprintf("[data-testid=app-tile][data-app=%q]", app))
	do(t, "tile", tile.WaitFor())
	do(t, "play", tile.Locator("[data-testid=play-button]").Click())
	do(t, "play view", id(p, "player").WaitFor())
	return sessionOf(t, p)
}

var inHash = regexp.MustCompile(`#play/(s_[a-z0-9]+)`)

func sessionOf(t *testing.T, p playwright.Page) string {
	t.Helper()
	var hash string
	do(t, "address", p.WaitForURL(inHash, playwright.PageWaitForURLOptions{Timeout: playwright.Float(5000)}))
	eval(t, p, &hash, "() => location.hash")
	m := inHash.FindStringSubmatch(hash)
	if m == nil {
		t.Fatalf("address %q names no session", hash)
	}
	return m[1]
}

// keycodes are X keycodes (evdev + 8) of positions by KeyboardEvent.code.
var keycodes = []struct {
	code string
	x    int
}{
	{"KeyA", 38}, {"KeyZ", 52}, {"Digit7", 16}, {"ArrowLeft", 113}, {"Space", 65},
	{"ShiftLeft", 50}, {"ControlRight", 105}, {"Comma", 59}, {"F5", 71}, {"NumpadAdd", 86},
}

// TestPlay is a newcomer's whole way: from the printed URL to a session that is
// gone again.
func TestPlay(t *testing.T) {
	s := start(t, options{})
	before := xSockets()
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 30, 20*time.Second)

	var size struct{ W, H int }
	eval(t, p, &size, "() => { const v = document.querySelector('video'); return { W: v.videoWidth, H: v.videoHeight } }")
	if size.W != 1280 || size.H != 720 {
		t.Errorf("the picture is %d×%d, want 1280×720", size.W, size.H)
	}

	t.Run("60 fps", func(t *testing.T) {
		reset(t, p)
		first := look(t, p).Last
		began := time.Now()
		time.Sleep(10 * time.Second) // the measuring time
		got, took := look(t, p), time.Since(began).Seconds()
		slices.Sort(got.Gaps)
		t.Logf("over %.1f s: counter %.1f/s, %.1f distinct painted frames/s, frame gap p50 %.1f p99 %.1f ms", took,
			float64(got.Last-first)/took, float64(got.Distinct)/took, got.Gaps[len(got.Gaps)/2], got.Gaps[len(got.Gaps)*99/100])
		if rate := float64(got.Last-first) / took; rate < 55 {
			t.Errorf("the frame counter advanced by %.1f a second, want at least 55", rate)
		}
		if got.Backwards > 0 || got.Unreadable > got.Painted/20 {
			t.Errorf("%d frames went backwards, %d of %d were unreadable", got.Backwards, got.Unreadable, got.Painted)
		}
	})

	focus(t, p)
	t.Run("keys", func(t *testing.T) {
		for _, k := range keycodes {
			reset(t, p)
			do(t, k.code, p.Keyboard().Down(k.code))
			do(t, k.code, p.Keyboard().Up(k.code))
			awaitEvent(t, p, 2, k.x)
		}
	})
	t.Run("buttons", func(t *testing.T) {
		cdp := must(p.Context().NewCDPSession(p))(t)
		for _, b := range []struct {
			name string
			mask int
			x    int
		}{{"left", 1, 1}, {"middle", 4, 2}, {"right", 2, 3}, {"back", 8, 8}, {"forward", 16, 9}} {
			reset(t, p)
			for _, event := range []string{"mousePressed", "mouseReleased"} {
				_, err := cdp.Send("Input.dispatchMouseEvent", map[string]any{
					"type": event, "x": 640, "y": 500, "button": b.name, "buttons": b.mask, "clickCount": 1,
				})
				do(t, b.name, err)
				awaitEvent(t, p, map[string]int{"mousePressed": 3, "mouseReleased": 4}[event], b.x)
			}
		}
	})
	t.Run("wheels", func(t *testing.T) {
		for _, w := range []struct {
			dx, dy float64
			x      int
		}{{0, -120, 4}, {0, 120, 5}, {-120, 0, 6}, {120, 0, 7}} {
			reset(t, p)
			do(t, "wheel", p.Mouse().Wheel(w.dx, w.dy))
			awaitEvent(t, p, 5, w.x)
		}
	})
	t.Run("text", func(t *testing.T) {
		tool(t, p, "text-toggle")
		reset(t, p)
		do(t, "type", id(p, "text-input").PressSequentially("ä€"))
		awaitEvent(t, p, 6, 'ä')
		awaitEvent(t, p, 6, '€')
		tool(t, p, "text-toggle")
		focus(t, p)
	})
	t.Run("tone", func(t *testing.T) { hear(t, p) })

	pid := s.session(sid).Program.PID
	t.Run("reload", func(t *testing.T) {
		_, err := p.Reload()
		do(t, "reload", err)
		awaitPicture(t, p, 10, 10*time.Second)
		if got := sessionOf(t, p); got != sid {
			t.Errorf("after a reload the session is %s, want %s", got, sid)
		}
		if got := s.session(sid); got.Program.PID != pid || pid == 0 {
			t.Errorf("after a reload the program's pid is %d, want %d", got.Program.PID, pid)
		}
		focus(t, p)
		reset(t, p)
		do(t, "key", p.Keyboard().Press("KeyA"))
		awaitEvent(t, p, 2, 38)
	})
	t.Run("second tab", func(t *testing.T) {
		second := page(t, p.Context())
		do(t, "eyes", second.AddInitScript(playwright.Script{Content: playwright.String(eyes)}))
		_, err := second.Goto(s.url + "/#play/" + sid)
		do(t, "open", err)
		awaitPicture(t, second, 10, 10*time.Second)
		do(t, "back to the first tab", p.BringToFront())
		reset(t, p)
		awaitPicture(t, p, 10, 5*time.Second)
		st := s.session(sid)
		if len(st.Peers) != 2 || len(st.Video) != 1 {
			t.Errorf("%d peers and %d encoders, want 2 and 1", len(st.Peers), len(st.Video))
		}
		do(t, "close", second.Close())
		until(t, 10*time.Second, "the closed tab's peer is gone", func() bool { return len(s.session(sid).Peers) == 1 })
	})
	t.Run("end", func(t *testing.T) {
		tool(t, p, "end")
		do(t, "confirm", p.Locator("[data-testid=confirm] .danger").Click())
		until(t, 6*time.Second, "no process of the session is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
		until(t, 6*time.Second, "no file of the session is left", func() bool { return len(leftFiles(t, s, sid)) == 0 })
		if after := xSockets(); !slices.Equal(before, after) {
			t.Errorf("X sockets before %v, after %v", before, after)
		}
	})
}

// tool presses a button of the toolbar, which comes out when the pointer is near.
func tool(t *testing.T, p playwright.Page, name string) {
	t.Helper()
	do(t, "find the toolbar", id(p, "toolbar-handle").Hover())
	do(t, name, id(p, name).First().Click())
}

// focus puts the keyboard into the picture.
func focus(t *testing.T, p playwright.Page) {
	t.Helper()
	do(t, "click into the picture", p.Mouse().Click(640, 400))
}

// hear presses keys until the analyser finds the tone.
func hear(t *testing.T, p playwright.Page) {
	t.Helper()
	var best struct{ Hz, DB float64 }
	until(t, 10*time.Second, "a tone after a key press", func() bool {
		do(t, "key", p.Keyboard().Press("KeyG"))
		var heard *struct{ Hz, DB float64 }
		eval(t, p, &heard, "() => eyes.listen()")
		if heard != nil && heard.DB > best.DB || best.Hz == 0 && heard != nil {
			best = *heard
		}
		return heard != nil && heard.DB > -60 && heard.Hz > 100 && heard.Hz < 4000
	})
	t.Logf("heard %.0f Hz at %.0f dB", best.Hz, best.DB)
}

// xSockets are the displays of the machine.
func xSockets() []string {
	found, _ := filepath.Glob("/tmp/.X11-unix/X*")
	locks, _ := filepath.Glob("/tmp/.X*-lock")
	found = append(found, locks...)
	slices.Sort(found)
	return found
}

// leftFiles are the files and sockets that carry the session's name, and all
// that is in the runtime folder.
func leftFiles(t *testing.T, s *server, sid string) (left []string) {
	t.Helper()
	for _, root := range []string{filepath.Join(s.dir, "run"), "/dev/shm"} {
		filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.Contains(path, sid) {
				left = append(left, path)
			}
			return nil
		})
	}
	return left
}
