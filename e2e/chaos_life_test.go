//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// staleDisplays are the numbers of displays whose lock names a process that is gone.
func staleDisplays() (numbers []string) {
	locks, _ := filepath.Glob("/tmp/.X*-lock")
	for _, lock := range locks {
		b, err := os.ReadFile(lock)
		if err != nil {
			continue // gone meanwhile
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || syscall.Kill(pid, 0) == syscall.ESRCH {
			numbers = append(numbers, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(lock), ".X"), "-lock"))
		}
	}
	return numbers
}

// TestRow08Row15StartCancelStart is one player who cannot make up his mind.
func TestRow08Row15StartCancelStart(t *testing.T) {
	s := start(t, options{})
	s.setup()
	warm := s.running("playground")
	s.must("DELETE", "/api/sessions/"+warm.ID, nil, 0, nil)
	until(t, 6*time.Second, "no child is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
	base, stale := s.toll(), staleDisplays()
	noise := s.noise()
	seen := map[string]bool{}
	var took []time.Duration
	for range often(200, 12) {
		sess := s.create("playground")
		if seen[sess.ID] {
			t.Fatalf("the id %s was given twice", sess.ID)
		}
		seen[sess.ID] = true
		time.Sleep(time.Duration(min(rand.IntN(500), rand.IntN(500))) * time.Millisecond) // the gap that is tested
		began := time.Now()
		s.must("DELETE", "/api/sessions/"+sess.ID, nil, 0, nil)
		took = append(took, time.Since(began))
	}
	began := time.Now()
	last := s.running("playground")
	t.Logf("the session after them ran within %v", time.Since(began).Round(time.Millisecond))
	if st := s.session(last.ID); st.Restarts != 0 {
		t.Errorf("its worker was replaced %d times", st.Restarts)
	}
	s.must("DELETE", "/api/sessions/"+last.ID, nil, 0, nil)
	slices.Sort(took)
	t.Logf("%d cycles, cancels p50 %v, most %v", len(took), percentile(took, 50), took[len(took)-1])
	if most := took[len(took)-1]; most > 300*time.Millisecond+noise {
		t.Errorf("a cancel took %v, want at most 300 ms", most)
	}
	until(t, 6*time.Second, "no child is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
	if now := slices.DeleteFunc(staleDisplays(), func(d string) bool { return slices.Contains(stale, d) }); len(now) > 0 {
		t.Errorf("displays without a server: %v", now)
	}
	if files, _ := filepath.Glob(filepath.Join(s.dir, "run", "s_*")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
	s.atBaseline(base, 6*time.Second)
}

// fakes makes a folder with an Xvfb and a pulseaudio that do what the files "xvfb" and
// "pulseaudio" beside them say: fail, hang, or nothing out of the ordinary.
func fakes(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"Xvfb", "pulseaudio"} {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\ncase \"$(cat %s/%s-does)\" in\nfail) echo no such luck >&2; exit 1;;\nhang) exec sleep 600;;\nhalf) kill -SEGV $$;;\nesac\nexec %s \"$@\"\n", dir, name, real)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		set(t, dir, name, "well")
	}
	return dir
}

func set(t *testing.T, dir, name, does string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+"-does"), []byte(does), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRow29StartsThatFail lets starts fail at every stage: nothing is left of them.
func TestRow29StartsThatFail(t *testing.T) {
	bin, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	dir := fakes(t)
	s := start(t, options{bin: bin, config: rogues + `
[[apps]]
id = "missing"
title = "Is not installed"
command = ["/no/such/program"]
[[apps]]
id = "brief"
title = "Ends at once"
command = ["sh", "-c", "(sleep 100 &); exit 3"]
[[apps]]
id = "badly"
title = "Its worker cannot start"
command = ["sleep", "600"]
[[apps]]
id = "nowhere"
title = "Its folder is missing"
command = ["sleep", "600"]
dir = "/no/such/folder"
`, env: []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "FENRIR_FAULTS=badly=exit,deaf=mute,blocked=block-start"}})
	s.setup()
	warm := s.running("still")
	s.must("DELETE", "/api/sessions/"+warm.ID, nil, 0, nil)
	until(t, 6*time.Second, "no child is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
	base, stale := s.toll(), staleDisplays()

	stages := []struct {
		name, app, xvfb, sound string
		cause                  string // "": it is ended by hand
	}{
		{"display fails", "still", "fail", "well", "desktop-failed"},
		{"display dies half-way", "still", "half", "well", "desktop-failed"},
		{"display hangs", "still", "hang", "well", ""},
		{"sound server fails", "still", "well", "fail", ""}, // it plays in silence
		{"sound server hangs", "still", "well", "hang", ""},
		{"program is missing", "missing", "well", "well", "app-failed"},
		{"folder is missing", "nowhere", "well", "well", "app-failed"},
		{"program ends", "brief", "well", "well", ""}, // its child goes on
		{"worker dies", "badly", "well", "well", ""},
		{"worker says nothing", "deaf", "well", "well", ""},
		{"worker hangs in a state change", "blocked", "well", "well", ""},
	}
	each := often(18, 1)
	for _, c := range stages {
		set(t, dir, "Xvfb", c.xvfb)
		set(t, dir, "pulseaudio", c.sound)
		began := time.Now()
		var wg sync.WaitGroup
		jobs := make(chan struct{})
		for range 3 {
			wg.Go(func() {
				for range jobs {
					var sess session
					if status, raw, err := s.call("POST", "/api/sessions", map[string]any{"app": c.app, "width": 1280, "height": 720, "fps": 60}, &sess); err != nil || status != http.StatusCreated {
						t.Errorf("%s: create: %d %s %v", c.name, status, raw, err)
						continue
					}
					if c.cause == "" {
						time.Sleep(time.Duration(rand.IntN(600)) * time.Millisecond) // some stage or other
						if status, raw, err := s.call("DELETE", "/api/sessions/"+sess.ID, nil, nil); err != nil || status >= 500 {
							t.Errorf("%s: DELETE: %d %s %v", c.name, status, raw, err)
						}
						continue
					}
					var st session
					if !became(15*time.Second, func() bool {
						status, _, err := s.call("GET", "/api/sessions/"+sess.ID, nil, &st)
						return err != nil || status != http.StatusOK || st.Cause != nil
					}) {
						t.Errorf("%s: the start did not fail", c.name)
					}
					if st.Cause != nil && st.Cause.Code != c.cause {
						t.Errorf("%s: %+v, want %s", c.name, st.Cause, c.cause)
					}
				}
			})
		}
		for range each {
			jobs <- struct{}{}
		}
		close(jobs)
		wg.Wait()
		until(t, 8*time.Second, c.name+": no child is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
		t.Logf("%-30s %d starts within %v", c.name, each, time.Since(began).Round(time.Millisecond))
	}
	if files, _ := filepath.Glob(filepath.Join(s.dir, "run", "s_*")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
	if now := slices.DeleteFunc(staleDisplays(), func(d string) bool { return slices.Contains(stale, d) }); len(now) > 0 {
		t.Errorf("displays without a server: %v", now)
	}
	s.atBaseline(base, 6*time.Second)
	set(t, dir, "Xvfb", "well")
	set(t, dir, "pulseaudio", "well")
	s.running("playground")
}

// TestRow10ServerKilledInPlay kills the server under a page: the next one on the
// same folders ends what is left, and the page finds it by itself.
func TestRow10ServerKilledInPlay(t *testing.T) {
	s := start(t, options{config: stubborn})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 30, 20*time.Second)
	other := s.create("stubborn")
	until(t, 10*time.Second, "program runs", func() bool { return s.session(other.ID).Program.PID != 0 })
	old := descendants(s.cmd.Process.Pid)
	s.cmd.Process.Kill()
	<-s.exit
	began := time.Now()
	again := start(t, options{dir: s.dir, config: stubborn, env: []string{"FENRIR_HTTP_LISTEN=" + strings.TrimPrefix(s.url, "https://")}})
	if again.url != s.url {
		t.Fatalf("the new server is at %s, want %s", again.url, s.url)
	}
	until(t, 6*time.Second, "nothing of the killed server runs", func() bool {
		now := processes()
		return !slices.ContainsFunc(old, func(p process) bool { q, ok := now[p.pid]; return ok && q.args == p.args && q.state != 'Z' })
	})
	t.Logf("everything of the killed server was gone %v after its death", time.Since(began).Round(time.Millisecond))
	for _, id := range []string{sid, other.ID} {
		if left := leftFiles(t, again, id); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	panel := p.Locator("[data-testid=error-panel][data-code=session-not-found]")
	until(t, 20*time.Second, "the page has spoken to the new server", func() bool { n, err := panel.Count(); return err == nil && n == 1 })
	t.Logf("the page knew %v after the server's death", time.Since(began).Round(time.Millisecond))
	do(t, "start again", panel.GetByText("Start it again").Click())
	reset(t, p)
	awaitPicture(t, p, 30, 20*time.Second)
	if now := sessionOf(t, p); now == sid {
		t.Errorf("the page is still at the dead session %s", now)
	}
}

// TestRow62Row63DisplayHangsOrDies: the session ends visibly, and soon.
func TestRow62Row63DisplayHangsOrDies(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		bound  time.Duration
	}{{"dies", syscall.SIGKILL, time.Second}, {"hangs", syscall.SIGSTOP, 8 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, options{})
			s.setup()
			sess := s.running("playground")
			g := gamers(t, s, sess.ID, "player", 1)[0]
			until(t, 10*time.Second, "a picture", func() bool { return g.frames.Load() > 30 })
			servers := children(s.cmd.Process.Pid, "Xvfb")
			if len(servers) != 1 {
				t.Fatalf("%d displays", len(servers))
			}
			began := time.Now()
			if err := syscall.Kill(servers[0].pid, c.signal); err != nil {
				t.Fatal(err)
			}
			until(t, c.bound+time.Second, "the player is told", func() bool { return g.bye.Load() != nil })
			took := time.Since(began)
			t.Logf("%v after %v", g.bye.Load(), took.Round(time.Millisecond))
			if g.bye.Load() != "desktop-failed" || took > c.bound {
				t.Errorf("told %v after %v, want desktop-failed within %v", g.bye.Load(), took, c.bound)
			}
			until(t, 6*time.Second, "nothing is left", func() bool {
				return len(descendants(s.cmd.Process.Pid)) == 0 && len(leftFiles(t, s, sess.ID)) == 0
			})
		})
	}
}

// TestRow50Limits: a fork bomb and a program that eats memory are ended with a
// cause of their own, and whoever plays beside them goes on.
func TestRow50Limits(t *testing.T) {
	s := start(t, options{config: `
[limits]
tasks = 200
memory_mib = 400
[[apps]]
id = "bomb"
title = "Forks without end"
command = ["sh", "-c", "n=0; while [ $n -lt 3000 ]; do (setsid sleep 60 &); n=$((n+1)); done; sleep 60"]
[[apps]]
id = "glutton"
title = "Eats memory"
command = ["sh", "-c", "head -c 900000000 /dev/zero | tail -c 900000000 >/dev/null; sleep 60"]
`})
	s.setup()
	neighbour := s.running("playground")
	g := gamers(t, s, neighbour.ID, "neighbour", 1)[0]
	until(t, 10*time.Second, "a picture", func() bool { return g.frames.Load() > 60 })
	processes := len(descendants(s.cmd.Process.Pid))
	for _, app := range []string{"bomb", "glutton"} {
		frames, began := g.frames.Load(), time.Now()
		sess := s.create(app)
		var st session
		until(t, 15*time.Second, app+" is ended", func() bool {
			st = s.session(sess.ID)
			return st.Cause != nil
		})
		until(t, 6*time.Second, "nothing of "+app+" is left", func() bool { return len(descendants(s.cmd.Process.Pid)) <= processes })
		took := time.Since(began)
		fps := float64(g.frames.Load()-frames) / took.Seconds()
		t.Logf("%s: %s: %s, all gone after %v; the neighbour got %.0f fps", app, st.Cause.Code, st.Cause.Detail, took.Round(time.Millisecond), fps)
		if st.Cause.Code != "limit-exceeded" {
			t.Errorf("%s: %+v, want limit-exceeded", app, st.Cause)
		}
		if fps < 30 {
			t.Errorf("%s: the neighbour got %.0f fps", app, fps)
		}
	}
	if st := s.session(neighbour.ID); st.Phase != "running" || st.Restarts != 0 {
		t.Errorf("the neighbour: %+v", st)
	}
}
