//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// part is what a process below the server is, by its command line.
func part(p process) string {
	args := strings.Fields(p.args)
	switch {
	case len(args) > 1 && args[1] == "media-worker":
		return "worker"
	case len(args) > 1 && args[1] == "desktop":
		return "supervisor"
	case p.name == "Xvfb":
		return "x"
	case p.name == "pulseaudio":
		return "sound"
	}
	return "program"
}

// clockTick is the unit of /proc/PID/stat on Linux, whatever the kernel's own is.
const clockTick = 10 * time.Millisecond

// cpuTime is what a process has used, 0 when it is gone.
func cpuTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * clockTick
}

// heldBy is the memory of a process, 0 when it is gone.
func heldBy(pid int) (h Held) {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup")) // gone: shows in the figures
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "Rss:":
			h.RSS = kib / 1024
		case "Pss:":
			h.PSS = kib / 1024
		}
	}
	return h
}

// treeMeter measures a server's process tree between two moments.
type treeMeter struct {
	server int
	began  time.Time
	parts  map[int]string
	used   map[int]time.Duration
}

// watchTree begins to measure.
func watchTree(s *server) *treeMeter {
	m := &treeMeter{server: s.cmd.Process.Pid, parts: map[int]string{s.cmd.Process.Pid: "server"}, used: map[int]time.Duration{}}
	for _, p := range descendants(m.server) {
		m.parts[p.pid] = part(p)
	}
	for pid := range m.parts {
		m.used[pid] = cpuTime(pid)
	}
	m.began = time.Now()
	return m
}

// stop tells what was used since. Processes that came or went meanwhile do not count.
func (m *treeMeter) stop() (CPU, Memory) {
	cpu, memory := map[string]float64{}, Memory{Parts: map[string]Held{}}
	took := time.Since(m.began).Seconds()
	for pid, part := range m.parts {
		if now := cpuTime(pid); now >= m.used[pid] {
			cpu[part] += (now - m.used[pid]).Seconds() / took
		}
	}
	for pid, part := range m.parts {
		h := heldBy(pid)
		if part == "server" {
			memory.Server = h
			continue
		}
		sum := memory.Parts[part]
		memory.Parts[part] = Held{sum.RSS + h.RSS, sum.PSS + h.PSS}
		memory.Session = Held{memory.Session.RSS + h.RSS, memory.Session.PSS + h.PSS}
	}
	return CPU{cpu["server"], cpu["worker"], cpu["x"], cpu["sound"], cpu["supervisor"], cpu["program"]}, memory
}
