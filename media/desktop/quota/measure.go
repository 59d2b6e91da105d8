package quota

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/desktop/tree"
)

// interval between two measurements. A shell that does nothing but fork starts
// some two thousand processes in it.
const interval = 250 * time.Millisecond

// Usage is what a tree of processes takes.
type Usage struct {
	Tasks  int   // processes and threads
	Memory int64 // bytes, resident or swapped out
}

// Measure sums up the processes below root, without root itself. Memory that
// processes share counts for each of them: the sum is never too small. It stops
// counting once enough tasks were seen.
func Measure(root, enough int) Usage {
	var u Usage
	for _, pid := range below(root, enough) {
		threads, memory := status(pid)
		u.Tasks += threads
		u.Memory += memory
		if enough > 0 && u.Tasks > enough {
			break
		}
	}
	return u
}

// proportional is the memory of the processes below root, what they share divided
// among those who do. It reads the page tables of all.
func proportional(root int) (sum int64) {
	for _, pid := range below(root, 0) {
		sum += share(pid)
	}
	return sum
}

// below lists the processes that descend from root, at least enough of them, all if
// that is 0. A kernel that keeps no lists of children is asked for the whole table.
func below(root, enough int) []int {
	var found []int
	if list, err := tree.Children(root); err != nil || len(list) == 0 {
		all, err := tree.Table()
		if err != nil {
			return nil
		}
		for _, p := range tree.Below(all, root) {
			found = append(found, p.PID)
		}
		return found
	}
	for queue := []int{root}; len(queue) > 0 && (enough == 0 || len(found) <= enough); queue = queue[1:] {
		children, err := tree.Children(queue[0])
		if err != nil {
			continue // gone
		}
		found, queue = append(found, children...), append(queue, children...)
	}
	return found
}

// status reads threads and memory of a process, zeros of one that is gone.
func status(pid int) (threads int, memory int64) {
	var room [4096]byte
	b, err := tree.ReadFile("/proc/"+strconv.Itoa(pid)+"/status", room[:])
	if err != nil {
		return 0, 0
	}
	return int(field(b, "Threads:")), 1024 * (field(b, "VmRSS:") + field(b, "VmSwap:"))
}

// share is the proportional memory of a process. What cannot be read, as of a
// process that raised its rights, counts in full.
func share(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		_, memory := status(pid)
		return memory
	}
	return 1024 * (field(b, "Pss:") + field(b, "SwapPss:"))
}

// field is the number behind a name at the beginning of a line, 0 when there is none.
func field(b []byte, name string) int64 {
	at := 0
	if !bytes.HasPrefix(b, []byte(name)) {
		if at = bytes.Index(b, []byte("\n"+name)); at < 0 {
			return 0
		}
		at++
	}
	line, _, _ := bytes.Cut(b[at+len(name):], []byte{'\n'})
	words := bytes.Fields(line)
	if len(words) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(words[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// MachineMiB is the memory of this machine, 0 if that cannot be told.
func MachineMiB() int {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return int(field(b, "MemTotal:") >> 10)
}

// Watch measures the processes below root until ctx ends, which makes it return
// nil, or until they take more than they may: it returns the cause. It has to be
// heard among thousands of runnable processes, as has who puts an end to these:
// it locks the calling goroutine to its thread and gives that priority, for as long as
// the goroutine lives.
func Watch(ctx context.Context, root int, l media.Limits, g *Group) *media.Cause {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if cause := g.Exceeded(l); cause != nil {
			return cause
		}
		if cause := exceeded(root, l); cause != nil {
			return cause
		}
	}
}

// exceeded says what the processes below root take too much of.
func exceeded(root int, l media.Limits) *media.Cause {
	u := Measure(root, l.Tasks)
	if l.Tasks > 0 && u.Tasks > l.Tasks {
		return tooManyTasks(l)
	}
	if most := int64(l.MemoryMiB) << 20; most > 0 && u.Memory > most {
		if took := proportional(root); took > most {
			return tooMuchMemory(l, fmt.Sprintf("it took %d MiB", took>>20))
		}
	}
	return nil
}

func tooManyTasks(l media.Limits) *media.Cause {
	return media.NewCause(media.CauseLimit, "more than %d processes and threads, which is as many as a session may have", l.Tasks)
}

func tooMuchMemory(l media.Limits, how string) *media.Cause {
	return media.NewCause(media.CauseLimit, "more than %d MiB of memory, which is as much as a session may have: %s", l.MemoryMiB, how)
}
