package desktop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/desktop/quota"
)

// bombs are programs that never have enough. Each is bounded by itself, lest a
// failure of what is tested here takes the machine along.
var bombs = map[string]string{
	"processes": `n=0; while [ $n -lt 3000 ]; do sleep 30 & n=$((n+1)); done; wait`,
	// Each one starts two and ends.
	"forks": `cat >$HOME/b <<'END'
[ $1 -gt 0 ] || exec sleep 5
sh $HOME/b $(($1-1)) &
sh $HOME/b $(($1-1)) &
END
sh $HOME/b 12; sleep 30`,
	"sessions": `n=0; while [ $n -lt 3000 ]; do (trap '' TERM; env -i setsid sleep 30 &) ; n=$((n+1)); done; sleep 30`,
}

func TestTooManyProcesses(t *testing.T) {
	for name, script := range bombs {
		for held, roots := range map[string]quota.Roots{"measured": {}, "held by the kernel": quota.Settle()} {
			t.Run(name+" "+held, func(t *testing.T) {
				if held != "measured" && roots.Pids == "" && roots.Unified == "" {
					t.Skip("no control groups here")
				}
				spec := program(t, script)
				spec.Limits = media.Limits{Tasks: 200}
				r := launchIn(t, spec, roots)
				r.until(media.DesktopProgram)
				began := time.Now()
				c := causeOf(t, r.wait(15*time.Second), media.CauseLimit)
				t.Logf("%v after %v", c, time.Since(began).Round(time.Millisecond))
				if !strings.Contains(c.Detail, "200 processes") {
					t.Errorf("got %v, want which limit", c)
				}
			})
		}
	}
}

func TestTooMuchMemory(t *testing.T) {
	// Nobody reads what tail keeps, so that it keeps it until somebody has looked.
	spec := program(t, `head -c 400000000 /dev/zero | tail -c 400000000 | sleep 30`)
	spec.Limits = media.Limits{MemoryMiB: 256}
	r := launch(t, spec)
	r.until(media.DesktopProgram)
	c := causeOf(t, r.wait(15*time.Second), media.CauseLimit)
	if !strings.Contains(c.Detail, "256 MiB") {
		t.Errorf("got %v, want which limit", c)
	}
}

func TestWithinTheLimits(t *testing.T) {
	spec := program(t, `ulimit -n; ulimit -Hn; nice; n=0; while [ $n -lt 20 ]; do sleep 1 & n=$((n+1)); done; wait`)
	spec.Limits = media.Limits{Tasks: 200, MemoryMiB: 2048, Files: 512, CPUWeight: 50}
	ev := launchIn(t, spec, quota.Settle()).until(media.DesktopFinished)
	if ev.Cause.Code != media.CauseAppExited || ev.Cause.Output != "512\n512\n3" {
		t.Errorf("got %v %q, want 512 files, a nice value of 3, and its own end", ev.Cause, ev.Cause.Output)
	}
}

func TestDisplayHangs(t *testing.T) {
	r := launch(t, program(t, "exec sleep 1000"))
	r.until(media.DesktopProgram)
	if err := r.service(xvfb).Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c := causeOf(t, r.wait(10*time.Second), media.CauseDesktop)
	if !strings.Contains(c.Detail, "does not answer") {
		t.Errorf("got %v, want that it hangs", c)
	}
	t.Logf("told after %v", time.Since(began).Round(time.Millisecond))
}

// TestSoundServerComesBack kills and stops the sound server again and again.
func TestSoundServerComesBack(t *testing.T) {
	r := launch(t, program(t, "exec sleep 1000"))
	r.until(media.DesktopProgram)
	for i, sig := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGKILL, unix.SIGKILL, unix.SIGKILL, unix.SIGKILL, unix.SIGSTOP} {
		if err := r.service("pulseaudio").Signal(sig); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r.until(media.DesktopSilent)
		r.until(media.DesktopSound)
		took := time.Since(began)
		t.Logf("%d: back %v after %v", i, took.Round(time.Millisecond), sig)
		if took > 3*time.Second {
			t.Errorf("the sound server came back after %v, want at most 3 s", took)
		}
	}
	r.stop()
}

// TestSupervisorDiesWithGroup: what a killed supervisor leaves in control groups is
// ended, and the groups are removed.
func TestSupervisorDiesWithGroup(t *testing.T) {
	roots := quota.Settle()
	if roots.Pids == "" && roots.Unified == "" {
		t.Skip("no control groups here")
	}
	spec := program(t, "")
	file := filepath.Join(filepath.Dir(spec.Home), "up")
	spec.Program.Command[2] = "(setsid " + sleeper(t, file) + " &); sleep 1000"
	spec.Limits = media.Limits{Tasks: 200}
	r := launchIn(t, spec, roots)
	r.until(media.DesktopProgram)
	appears(t, file)
	groups := func() (found []string) {
		for _, root := range []string{roots.Unified, roots.Pids} {
			if dir := filepath.Join(root, "fenrir-"+spec.Session); root != "" {
				if _, err := os.Stat(dir); err == nil {
					found = append(found, dir)
				}
			}
		}
		return found
	}
	if len(groups()) == 0 {
		t.Fatal("there is no control group")
	}
	if err := r.supervisor().Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	causeOf(t, r.wait(3*time.Second), media.CauseDesktop)
	if left := groups(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
