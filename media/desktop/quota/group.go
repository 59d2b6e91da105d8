package quota

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media"
)

// spare is how many tasks the kernel allows beyond the limit, so that the limit is
// seen to be exceeded, and those in it fail to fork soon after.
const spare = 64

// prefix of a group's name, before the session's id.
const prefix = "fenrir-"

// Roots are the control groups below which a server may make its own. The zero
// value has none: then trees are only measured.
type Roots struct {
	Unified     string   // folder of cgroup v2
	Controllers []string // that work in groups below it
	Pids        string   // folder of cgroup v1's pids
}

// Settle finds out where this process may make control groups. In a group of
// cgroup v2 that was delegated to it and holds nobody else, it moves itself into
// a group "server" below, as the kernel wants it of who has groups for others.
func Settle() Roots {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Roots{}
	}
	defer mounts.Close()
	own, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return Roots{}
	}
	defer own.Close()
	at := locate(mounts, own)
	var r Roots
	if at.Unified != "" {
		if c, err := settle(at.Unified, os.Getpid()); err == nil {
			r.Unified, r.Controllers = at.Unified, c
		}
	}
	if at.Pids != "" && !slices.Contains(r.Controllers, "pids") && probe(at.Pids) == nil {
		r.Pids = at.Pids
	}
	return r
}

// locate finds the folders of a process's own groups, by mountinfo and cgroup as
// in proc(5) and cgroups(7).
func locate(mountinfo, cgroup io.Reader) (r Roots) {
	paths := map[string]string{} // by controller, "" for v2
	for s := bufio.NewScanner(cgroup); s.Scan(); {
		f := strings.SplitN(s.Text(), ":", 3)
		if len(f) == 3 {
			for c := range strings.SplitSeq(f[1], ",") {
				paths[c] = f[2]
			}
		}
	}
	// within is the folder of path in a mount that shows the hierarchy from root on.
	within := func(mount, root, path string) string {
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
		if !ok || strings.Contains(rest, "..") {
			return ""
		}
		return filepath.Join(mount, rest)
	}
	for s := bufio.NewScanner(mountinfo); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		if p, ok := paths[""]; ok && kind[0] == "cgroup2" && r.Unified == "" {
			r.Unified = within(f[4], f[3], p)
		}
		if p, ok := paths["pids"]; ok && kind[0] == "cgroup" && r.Pids == "" && slices.Contains(strings.Split(kind[2], ","), "pids") {
			r.Pids = within(f[4], f[3], p)
		}
	}
	return r
}

// settle makes a group of v2 ready to have groups below, and tells which
// controllers these have.
func settle(dir string, pid int) ([]string, error) {
	if err := probe(dir); err != nil {
		return nil, err
	}
	words := func(name string) []string {
		b, _ := os.ReadFile(filepath.Join(dir, name)) // nothing there says nothing
		return strings.Fields(string(b))
	}
	if _, err := os.Stat(filepath.Join(dir, "cgroup.type")); err == nil { // all but the root of all have it
		server := filepath.Join(dir, "server")
		if members := words("cgroup.procs"); len(members) > 1 || len(members) == 1 && members[0] != strconv.Itoa(pid) {
			return nil, errors.New("the control group is not ours alone")
		}
		if err := os.Mkdir(server, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := write(server, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return nil, err
		}
	}
	there := words("cgroup.controllers")
	for _, c := range [...]string{"pids", "memory", "cpu"} {
		if slices.Contains(there, c) {
			_ = write(dir, "cgroup.subtree_control", "+"+c) // what is on then, is read below
		}
	}
	return words("cgroup.subtree_control"), nil
}

// probe tries to make a group.
func probe(dir string) error {
	try, err := os.MkdirTemp(dir, "fenrir-try-")
	if err != nil {
		return err
	}
	return os.Remove(try)
}

func write(dir, name, value string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644)
}

// Group is the control groups of one desktop. A nil Group has none and does
// nothing.
type Group struct {
	Unified string   `json:"unified,omitempty"`
	Pids    string   `json:"pids,omitempty"`
	Has     []string `json:"has,omitempty"` // controllers of Unified
}

// Make makes the groups of a session with its limits. A Group without an error may
// be nil.
func (r Roots) Make(session string, l media.Limits) (_ *Group, err error) {
	g := &Group{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make control group: %w", err), g.Remove())
		}
	}()
	if r.Pids != "" {
		dir := filepath.Join(r.Pids, prefix+session)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		g.Pids = dir
		if err := write(dir, "pids.max", atMost(l.Tasks, spare)); err != nil {
			return g, err
		}
	}
	if r.Unified == "" {
		if g.Pids == "" {
			return nil, nil
		}
		return g, nil
	}
	dir := filepath.Join(r.Unified, prefix+session)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return g, err
	}
	g.Unified, g.Has = dir, r.Controllers
	for _, s := range []struct{ controller, file, value string }{
		{"pids", "pids.max", atMost(l.Tasks, spare)},
		{"memory", "memory.max", atMost(l.MemoryMiB<<20, 0)},
		{"memory", "memory.oom.group", "1"},
		{"cpu", "cpu.weight", strconv.Itoa(min(max(l.CPUWeight, 1), 10000))},
	} {
		if g.has(s.controller) {
			if err := write(dir, s.file, s.value); err != nil {
				return g, err
			}
		}
	}
	return g, nil
}

// Of tells whether the groups bear the name of a session's; those of no group do.
func (g *Group) Of(session string) bool {
	if g == nil {
		return true
	}
	for _, dir := range []string{g.Unified, g.Pids} {
		if dir != "" && (filepath.Base(dir) != prefix+session || !filepath.IsAbs(dir)) {
			return false
		}
	}
	return true
}

func atMost(n, more int) string {
	if n <= 0 || n > math.MaxInt-more {
		return "max"
	}
	return strconv.Itoa(n + more)
}

func (g *Group) has(controller string) bool { return g != nil && slices.Contains(g.Has, controller) }

// Enter puts the calling thread, and by that every process that it starts, into the
// pids group of v1.
func (g *Group) Enter() error {
	if g == nil || g.Pids == "" {
		return nil
	}
	return write(g.Pids, "tasks", strconv.Itoa(unix.Gettid()))
}

// Open opens the group of v2, for processes to be started in. The file is nil
// when there is none.
func (g *Group) Open() (*os.File, error) {
	if g == nil || g.Unified == "" {
		return nil, nil
	}
	return os.Open(g.Unified)
}

// Kill ends all processes of the group of v2 at once, and tells whether there is one
// that can do that.
func (g *Group) Kill() bool {
	return g != nil && g.Unified != "" && write(g.Unified, "cgroup.kill", "1") == nil
}

// Exceeded says what the kernel found to be too much, and refused or put an end to, or nil.
func (g *Group) Exceeded(l media.Limits) *media.Cause {
	if g.refused(l) {
		return tooManyTasks(l)
	}
	if !g.has("memory") || l.MemoryMiB <= 0 {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(g.Unified, "memory.events"))
	if err == nil && field(b, "oom_kill ") > 0 {
		return tooMuchMemory(l, "the kernel ended it")
	}
	return nil
}

// refused tells that the kernel has refused a process or a thread for the session's own
// limit: on a busy machine a tree of them may be gone again before anybody counts it. A
// group may count what a limit above it refused as well, as v1 does and v2 before Linux
// 6.11; then it never held as many as it may.
func (g *Group) refused(l media.Limits) bool {
	if g == nil || l.Tasks <= 0 {
		return false
	}
	for _, dir := range []string{g.Unified, g.Pids} {
		if dir == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "pids.events"))
		if err != nil || field(b, "max ") == 0 {
			continue
		}
		if peak, ok := most(dir); !ok || peak >= l.Tasks+spare {
			return true
		}
	}
	return false
}

// most is how many processes and threads a group has held at most; the kernel tells since Linux 6.6.
func most(dir string) (n int, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, "pids.peak"))
	if err != nil {
		return 0, false
	}
	n, err = strconv.Atoi(string(bytes.TrimSpace(b)))
	return n, err == nil
}

// Leave takes the threads of this process that entered out of the group.
func (g *Group) Leave() error {
	if g == nil || g.Pids == "" {
		return nil
	}
	return write(filepath.Dir(g.Pids), "cgroup.procs", strconv.Itoa(os.Getpid()))
}

// Remove removes the groups, whose processes are gone; one that was reaped a
// moment ago may still count, so it tries for half a second.
func (g *Group) Remove() error {
	if g == nil {
		return nil
	}
	var errs []error
	for _, dir := range []string{g.Unified, g.Pids} {
		if dir == "" {
			continue
		}
		if err := remove(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove control group: %w", err))
		}
	}
	return errors.Join(errs...)
}

func remove(dir string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s: %w", dir, err)
		}
		<-tick.C
	}
	return fmt.Errorf("%s: %w", dir, unix.EBUSY)
}
