package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	maxStacks  = 64 << 10               // bytes kept
	maxThreads = 64                     // of these told
	stackGrace = 150 * time.Millisecond // for a silent child to print its goroutines
)

// askStacks notes what the silent child's threads wait for, and makes it print
// what its goroutines do, which ends it. It blocks for stackGrace at most, and not
// at all when the child is stopped and could not print.
func (r *run) askStacks() {
	pid := r.child.cmd.Process.Pid
	threads, able := threadsOf(pid)
	r.child.words.startStacks(threads)
	if !able || syscall.Kill(pid, syscall.SIGQUIT) != nil {
		return
	}
	bound := time.NewTimer(stackGrace)
	defer bound.Stop()
	select {
	case err := <-r.read:
		r.read <- err // for await
	case <-bound.C:
	}
}

// threadsOf tells what the threads of a process wait for in the kernel, and
// whether one of them could answer a signal: none can that is stopped, or all
// that sleep in a driver.
func threadsOf(pid int) (text string, able bool) {
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return "", false // a bad pattern, which it is not
	}
	var b strings.Builder
	fmt.Fprintf(&b, "threads of process %d (name, state, wait channel):\n", pid)
	for i, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // gone meanwhile
		}
		// The name is in parentheses and may hold any character; the state follows.
		_, rest, _ := strings.Cut(string(stat), "(")
		end := strings.LastIndex(rest, ") ")
		if end < 0 || end+2 >= len(rest) {
			continue
		}
		state := rest[end+2]
		able = able || !strings.ContainsRune("TtDZX", rune(state))
		if i >= maxThreads {
			continue
		}
		where, _ := os.ReadFile(filepath.Join(dir, "wchan")) // empty where the kernel does not tell
		fmt.Fprintf(&b, "%s %-16s %c %s\n", filepath.Base(dir), rest[:end], state, where)
	}
	return b.String(), able
}

// startStacks makes all that is printed from now on part of the stacks, after head.
func (w *words) startStacks(head string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dumping = true
	w.dump = append(w.dump, head[:min(len(head), maxStacks)]...)
}

// stacks is what was printed since startStacks.
func (w *words) stacks() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(w.dump)), "?")
}
