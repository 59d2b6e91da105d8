//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is what /proc tells of one.
type process struct {
	pid, ppid int
	state     byte
	name      string
	args      string
}

// processes reads the table of all that are there.
func processes() map[int]process {
	out := map[int]process{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return out
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile
		}
		// pid (comm) state ppid …; comm may hold anything but ends with the last ')'.
		open, shut := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
		if open < 0 || shut < 0 {
			continue
		}
		rest := strings.Fields(string(b[shut+1:]))
		if len(rest) < 2 {
			continue
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:open])))
		ppid, _ := strconv.Atoi(rest[1])
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline")) // may be gone meanwhile
		out[pid] = process{pid, ppid, rest[0][0], string(b[open+1 : shut]), strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")}
	}
	return out
}

// descendants are all processes below pid, living or not yet reaped.
func descendants(pid int) []process {
	all := processes()
	var out []process
	for frontier := []int{pid}; len(frontier) > 0; {
		var next []int
		for _, p := range all {
			for _, f := range frontier {
				if p.ppid == f {
					out = append(out, p)
					next = append(next, p.pid)
				}
			}
		}
		frontier = next
	}
	return out
}

// children are the processes below pid whose arguments contain all of parts.
func children(pid int, parts ...string) []process {
	var out []process
	for _, p := range descendants(pid) {
		ok := true
		for _, part := range parts {
			ok = ok && strings.Contains(p.args, part)
		}
		if ok {
			out = append(out, p)
		}
	}
	return out
}

// usage is what a process takes.
type usage struct{ fds, threads, rssKiB int }

func (u usage) String() string {
	return fmt.Sprintf("%d fds, %d threads, %d KiB", u.fds, u.threads, u.rssKiB)
}

func usageOf(pid int) (u usage) {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)) // 0 shows in the figures
	u.fds = len(fds)
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "Threads:":
			u.threads, _ = strconv.Atoi(f[1])
		case len(f) > 1 && f[0] == "VmRSS:":
			u.rssKiB, _ = strconv.Atoi(f[1])
		}
	}
	return u
}
