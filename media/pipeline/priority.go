//go:build cgo

package pipeline

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// urgency is the nice value that a worker asks for. It uses a fraction of a core,
// and every millisecond that it waits for a program that uses all of them is
// seen by the player.
const urgency = -10

// hurry asks the kernel for that, which needs a privilege; without it nothing
// changes. Threads that start later inherit it.
func hurry() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, urgency) // EACCES: no privilege
		}
	}
}
