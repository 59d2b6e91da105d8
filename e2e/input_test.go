//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// echoed is a line of the playground's log (see its documentation).
type echoed struct {
	Seq     int
	At      int64 `json:"t_ns"`
	Frame   int
	Kind    string
	Keycode int
	Keysym  string
	Char    string
	Text    string
	DX, DY  float64
	Width   int
	Height  int
}

// echoes reads the playground's log.
func echoes(t *testing.T, path string) (out []echoed) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		return nil // not started yet
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		var e echoed
		if json.Unmarshal(sc.Bytes(), &e) == nil { // the last line may be half written
			out = append(out, e)
		}
	}
	return out
}

// logged is a configuration with a playground that logs what reaches it.
func logged(path string) string {
	return fmt.Sprintf("[[apps]]\nid = \"logged\"\ntitle = \"Logged playground\"\ncommand = [%q, \"playground\"]\nenv = { FENRIR_PLAYGROUND_LOG = %q }\n", binary, path)
}

// TestRelativeMotion locks the pointer and moves it: the program gets the motion
// as it was, also past the edges of the screen.
func TestRelativeMotion(t *testing.T) {
	log := filepath.Join(t.TempDir(), "echo.jsonl")
	s := start(t, options{config: logged(log)})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	play(t, p, "logged")
	awaitPicture(t, p, 20, 20*time.Second)
	focus(t, p)
	tool(t, p, "pointer-lock")
	var locked bool
	until(t, 5*time.Second, "the pointer is locked", func() bool {
		eval(t, p, &locked, "() => document.pointerLockElement !== null")
		return locked
	})
	sum := func() (x, y float64) {
		for _, e := range echoes(t, log) {
			if e.Kind == "raw" {
				x, y = x+e.DX, y+e.DY
			}
		}
		return x, y
	}
	// movementX is the difference to the mouse's last place, as the browser saw it.
	eval(t, p, nil, `() => { globalThis.moved = [0, 0]; addEventListener('mousemove', e => { moved[0] += e.movementX; moved[1] += e.movementY; }, true); }`)
	x0, y0 := sum()
	for i := range 60 {
		do(t, "move", p.Mouse().Move(float64(300+i*9), float64(600-i*5)))
	}
	var want [2]float64
	eval(t, p, &want, "() => moved")
	if math.Abs(want[0]) < 100 {
		t.Fatalf("the browser saw a motion of %v only", want)
	}
	until(t, 5*time.Second, fmt.Sprintf("the program saw a motion of %v", want), func() bool {
		x, y := sum()
		return x-x0 == want[0] && y-y0 == want[1]
	})
}

// TestGermanKeyboard plays with a German layout: the physical key right of P
// types ü, AltGr and E type €, a dead accent and E type é.
func TestGermanKeyboard(t *testing.T) {
	log := filepath.Join(t.TempDir(), "echo.jsonl")
	s := start(t, options{config: logged(log) + "[display]\nlayout = \"de\"\n"})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	s.must("GET", "/api/me", nil, 200, nil)
	play(t, p, "logged")
	awaitPicture(t, p, 20, 20*time.Second)
	var layout string
	eval(t, p, &layout, "() => fenrir.session.layout")
	if layout != "de" {
		status := s.must("PATCH", "/api/sessions/"+sessionOf(t, p), map[string]string{"layout": "de"}, 200, nil)
		t.Logf("the page asked for %q; set to German: %.60s", layout, status)
	}
	focus(t, p)
	press := func(codes ...string) {
		t.Helper()
		for _, c := range codes {
			do(t, c, p.Keyboard().Down(c))
		}
		for i := range codes {
			do(t, "up", p.Keyboard().Up(codes[len(codes)-1-i]))
		}
	}
	press("BracketLeft")
	press("KeyY")
	press("AltRight", "KeyE")
	press("Equal") // dead acute
	press("KeyE")
	typed := func() (last string) {
		for _, e := range echoes(t, log) {
			if e.Kind == "text" {
				last = e.Text
			}
		}
		return last
	}
	until(t, 5*time.Second, "üz€é", func() bool { return strings.HasSuffix(typed(), "üz€é") })
}

// TestHeldKeysAreReleased: a key that is down when the tab loses its focus, or
// is killed, does not stay down.
func TestHeldKeysAreReleased(t *testing.T) {
	log := filepath.Join(t.TempDir(), "echo.jsonl")
	s := start(t, options{config: logged(log)})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	play(t, p, "logged")
	awaitPicture(t, p, 20, 20*time.Second)
	focus(t, p)
	saw := func(kind string, code int) bool {
		for _, e := range echoes(t, log) {
			if e.Kind == kind && e.Keycode == code {
				return true
			}
		}
		return false
	}
	do(t, "hold W", p.Keyboard().Down("KeyW"))
	until(t, 5*time.Second, "W is down", func() bool { return saw("key-down", 25) })
	eval(t, p, nil, "() => dispatchEvent(new Event('blur'))")
	until(t, 2*time.Second, "W is up after blur", func() bool { return saw("key-up", 25) })

	do(t, "W", p.Keyboard().Up("KeyW"))
	do(t, "hold D", p.Keyboard().Down("KeyD"))
	until(t, 5*time.Second, "D is down", func() bool { return saw("key-down", 40) })
	do(t, "kill the tab", p.Close())
	until(t, 5*time.Second, "D is up after the tab is gone", func() bool { return saw("key-up", 40) })
}

// TestResize changes the size of a running session: the program and the picture
// follow, nothing restarts.
func TestResize(t *testing.T) {
	log := filepath.Join(t.TempDir(), "echo.jsonl")
	s := start(t, options{config: logged(log)})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sid := play(t, p, "logged")
	awaitPicture(t, p, 20, 20*time.Second)
	before := s.session(sid)
	for _, size := range [][2]int{{1600, 900}, {640, 360}, {1920, 1080}} {
		s.must("PATCH", "/api/sessions/"+sid, map[string]int{"width": size[0], "height": size[1]}, 200, nil)
		until(t, 5*time.Second, fmt.Sprint("the picture has the size ", size), func() bool {
			var got [2]int
			eval(t, p, &got, "() => { const v = document.querySelector('video'); return [v.videoWidth, v.videoHeight] }")
			return got == size
		})
		until(t, 5*time.Second, fmt.Sprint("the program has the size ", size), func() bool {
			es := echoes(t, log)
			for i := len(es) - 1; i >= 0; i-- {
				if es[i].Kind == "resize" || es[i].Kind == "ready" {
					return es[i].Width == size[0] && es[i].Height == size[1]
				}
			}
			return false
		})
	}
	reset(t, p)
	awaitPicture(t, p, 10, 5*time.Second)
	after := s.session(sid)
	if after.Program.PID != before.Program.PID || after.Restarts != 0 {
		t.Errorf("before %+v, after %+v: want the same program and no worker restart", before.Program, after)
	}
}
