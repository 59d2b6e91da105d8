// Package priority says who comes first when processors are short: what a player
// waits for before what a program computes. It imports golang.org/x/sys and the
// standard library.
package priority

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The nice values that Fenrir's own processes ask for. Programs have 0.
const (
	Worker  = -10 // a fraction of a core, and each late millisecond is seen
	Server  = -5  // passes frames and inputs on, and answers
	Service = -5  // display and sound server: each program draws through one
)

// Ask asks the kernel for a nice value for every thread of this process; threads
// that start later inherit it. Below the present value that needs a privilege,
// without which nothing changes.
func Ask(nice int) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice) // EACCES: no privilege
		}
	}
}

// Yield gives up a preference that this process inherited from the one that
// started it: a program must not have it.
func Yield() {
	// The system call returns 20 minus the nice value, see getpriority(2).
	if v, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && v > 20 {
		Ask(0)
	}
}
