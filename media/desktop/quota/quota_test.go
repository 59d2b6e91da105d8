package quota

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenrir/media"
)

func TestLocate(t *testing.T) {
	const hybrid = `30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
`
	for name, c := range map[string]struct {
		mounts, own string
		want        Roots
	}{
		"hybrid":             {hybrid, "9:pids:/box/1\n1:cpu,cpuacct:/\n0::/box\n", Roots{Unified: "/sys/fs/cgroup/unified/box", Pids: "/sys/fs/cgroup/pids/box/1"}},
		"v2 alone":           {"31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/system.slice/fenrir.service\n", Roots{Unified: "/sys/fs/cgroup/system.slice/fenrir.service"}},
		"a part is mounted":  {"31 30 0:27 /box /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/box/inner\n", Roots{Unified: "/sys/fs/cgroup/inner"}},
		"another part is":    {"31 30 0:27 /other /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/box/inner\n", Roots{}},
		"out of a namespace": {"31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/../..\n", Roots{}},
		"nothing":            {"", "", Roots{}},
		"nonsense":           {"a - b\n - \n1 2 3 4 5 - cgroup2 x\n", ":\n::\n0:\n", Roots{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := locate(strings.NewReader(c.mounts), strings.NewReader(c.own))
			if got.Unified != c.want.Unified || got.Pids != c.want.Pids {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func FuzzLocate(f *testing.F) {
	f.Add("31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/box\n")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		if r := locate(strings.NewReader(mounts), strings.NewReader(own)); strings.Contains(own, "..") && !strings.Contains(mounts, "..") && strings.Contains(r.Unified+r.Pids, "..") {
			t.Fatalf("left the mount: %+v", r)
		}
	})
}

// controllers is a made-up folder of cgroup v2: the kernel's files are plain ones.
func controllers(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSettle(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	dir := controllers(t, map[string]string{
		"cgroup.type": "domain\n", "cgroup.procs": me + "\n", "cgroup.controllers": "cpuset cpu memory pids\n", "cgroup.subtree_control": "",
	})
	got, err := settle(dir, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "server", "cgroup.procs")); string(b) != me {
		t.Errorf("the server did not move: %q %v", b, err)
	}
	if !slices.Equal(got, []string{"+cpu"}) { // the last that was written: the kernel would have all
		t.Errorf("got controllers %v", got)
	}
	shared := controllers(t, map[string]string{"cgroup.type": "domain\n", "cgroup.procs": "1\n" + me + "\n", "cgroup.controllers": "pids\n"})
	if _, err := settle(shared, os.Getpid()); err == nil {
		t.Error("moved within a group that others are in")
	}
	if _, err := os.Stat(filepath.Join(shared, "server")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made a group there: %v", err)
	}
}

func TestMakeWritesLimits(t *testing.T) {
	l := media.Limits{Tasks: 100, MemoryMiB: 512, CPUWeight: 50}
	r := Roots{Unified: t.TempDir(), Controllers: []string{"pids", "memory", "cpu"}, Pids: t.TempDir()}
	g, err := r.Make("s1", l)
	if err != nil {
		t.Fatal(err)
	}
	if !g.Of("s1") || g.Of("s2") {
		t.Errorf("whose is %+v?", g)
	}
	for file, want := range map[string]string{"pids.max": "164", "memory.max": "536870912", "memory.oom.group": "1", "cpu.weight": "50"} {
		if b, err := os.ReadFile(filepath.Join(g.Unified, file)); string(b) != want {
			t.Errorf("%s is %q (%v), want %s", file, b, err, want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(g.Pids, "pids.max")); string(b) != "164" {
		t.Errorf("v1 pids.max is %q (%v)", b, err)
	}
	if c := g.Exceeded(l); c != nil {
		t.Errorf("exceeded before anything ran: %v", c)
	}
	if err := write(g.Unified, "memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 4\noom_group_kill 1\n"); err != nil {
		t.Fatal(err)
	}
	if c := g.Exceeded(l); c == nil || c.Code != media.CauseLimit || !strings.Contains(c.Detail, "512 MiB") {
		t.Errorf("got %v, want limit-exceeded", c)
	}
	for _, dir := range []string{g.Unified, g.Pids} {
		alone := Group{Pids: dir}
		for n, want := range map[string]bool{"0": false, "3": true} {
			if err := write(dir, "pids.events", "max "+n+"\n"); err != nil {
				t.Fatal(err)
			}
			if c := alone.Exceeded(l); (c != nil) != want {
				t.Errorf("refused %s times: %v", n, c)
			}
		}
		// What a group above refuses is counted below as well, on v1 and on older kernels.
		for peak, want := range map[string]bool{"163": false, "164": true} {
			if err := write(dir, "pids.peak", peak+"\n"); err != nil {
				t.Fatal(err)
			}
			if err := write(dir, "pids.events", "max 3\n"); err != nil {
				t.Fatal(err)
			}
			if c := alone.Exceeded(l); (c != nil) != want {
				t.Errorf("of 164, %s were there at most: %v", peak, c)
			}
		}
	}
	if _, err := r.Make("s1", l); err == nil {
		t.Error("the same group was made twice")
	}
	g, err = Roots{Unified: t.TempDir(), Controllers: []string{"pids", "memory"}}.Make("s2", media.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"pids.max", "memory.max"} {
		if b, err := os.ReadFile(filepath.Join(g.Unified, file)); string(b) != "max" {
			t.Errorf("without a limit, %s is %q (%v)", file, b, err)
		}
	}
	if g, err := (Roots{}).Make("s3", l); g != nil || err != nil {
		t.Errorf("without roots: got %v, %v", g, err)
	}
	var none *Group
	if none.Kill() || none.Remove() != nil || none.Enter() != nil || none.Exceeded(l) != nil || !none.Of("x") {
		t.Error("no group does something")
	}
}

// TestRealGroups uses the control groups of this machine, as far as it lets us.
func TestRealGroups(t *testing.T) {
	r := Settle()
	if r.Unified == "" && r.Pids == "" {
		t.Skip("no control groups can be made here")
	}
	t.Logf("roots: %+v", r)
	g, err := r.Make("quota-test-"+strconv.Itoa(os.Getpid()), media.Limits{Tasks: 64})
	if err != nil {
		t.Fatal(err)
	}
	removed := false
	defer func() {
		if !removed {
			t.Log(g.Remove())
		}
	}()
	if g.Unified == "" {
		return
	}
	dir, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "setsid sleep 1000 & sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for range 500 { // both sleepers are there
		if u := Measure(cmd.Process.Pid, 0); u.Tasks == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	if !g.Kill() {
		t.Skip("this kernel cannot kill a group")
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended well")
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	removed = true
	t.Logf("killed and removed after %v", time.Since(began).Round(time.Microsecond))
}

func TestMeasure(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000 & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() }()
	var u Usage
	for range 2000 {
		if u = Measure(cmd.Process.Pid, 0); u.Tasks == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if u.Tasks != 3 || u.Memory < 100<<10 || u.Memory > 64<<20 {
		t.Errorf("got %+v, want three sleepers", u)
	}
	if p := proportional(cmd.Process.Pid); p <= 0 || p > u.Memory {
		t.Errorf("proportional memory %d, resident %d", p, u.Memory)
	}
	if me := Measure(os.Getpid(), 0); me.Tasks < 4 {
		t.Errorf("below this process: %+v, want the shell and three sleepers", me)
	}
	if c := exceeded(cmd.Process.Pid, media.Limits{Tasks: 3, MemoryMiB: 64}); c != nil {
		t.Errorf("within the limits: %v", c)
	}
	if c := exceeded(cmd.Process.Pid, media.Limits{Tasks: 2}); c == nil || c.Code != media.CauseLimit {
		t.Errorf("got %v, want limit-exceeded", c)
	}
	if u := Measure(1<<30, 0); u != (Usage{}) {
		t.Errorf("of nobody: %+v", u)
	}
}

func FuzzField(f *testing.F) {
	f.Add([]byte("Name:\tx\nVmRSS:\t  12 kB\n"))
	f.Fuzz(func(t *testing.T, b []byte) { field(b, "VmRSS:") })
}
