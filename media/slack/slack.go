// Package slack lets the processes of ours sleep a little less exactly, which costs them
// less of a CPU, and keeps that from everybody else's.
//
// The runtime of Go has a thread (sysmon) that looks every 20 µs for what is stuck as long as
// anything runs: at 60 frames a second, each of which a process handles in a few
// hundred µs, that is eight to twelve wake-ups a frame of each process, a third of all
// wake-ups, and on virtual machines where each costs several µs 4 to 7 % of what a
// session takes. With the kernel's timer slack,
// see prctl(2), a sleep may end that much later, together with other work. What Go programs
// wait for by timers is a millisecond coarse anyhow. What comes from descriptors
// and other threads wakes as promptly as before.
//
// A thread inherits its slack from the one that started it, also over execve(2), and sysmon
// starts before any code of ours. So the process has to be executed once more.
// The package imports golang.org/x/sys and the standard library.
package slack

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	coarse = time.Millisecond      // of the processes of ours
	usual  = 50 * time.Microsecond // what the kernel gives to all processes
)

// mark tells the process that it has been executed once more already, so that this
// happens once even where the slack does not last.
const mark = "FENRIR_LOOSENED"

// Loosen gives this process, with all its threads and those of what it starts, a
// slack of a millisecond. It executes the process once more, with the same arguments,
// environment, descriptors and pid, and does not return then; call it before
// anything is opened or started. It returns nil where the slack is so long already. An error
// leaves everything as it was, but dearer: threads of a realtime policy have no slack.
func Loosen() error {
	runtime.LockOSThread() // the thread that calls execve stays, with its slack
	defer runtime.UnlockOSThread()
	done := os.Getenv(mark) != ""
	if err := os.Unsetenv(mark); err != nil {
		return err
	}
	now, err := get()
	switch {
	case err != nil: // a kernel without
		return fmt.Errorf("timer slack: %w", err)
	case now >= coarse:
		return nil
	case done:
		return fmt.Errorf("timer slack is %v after the execution", now)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := set(coarse); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if got, err := get(); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	} else if got != coarse { // a realtime policy
		return fmt.Errorf("timer slack stays %v", got)
	}
	err = syscall.Exec(exe, os.Args, append(os.Environ(), mark+"=1"))
	_ = set(now) // it could be set a moment ago
	return fmt.Errorf("execute %s once more: %w", exe, err)
}

// Exact calls start on a thread whose slack is the usual one. The processes that
// start starts, which are not ours, sleep as they are used to. It takes as long
// as start.
func Exact(start func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now, err := get(); err == nil && now > usual && set(usual) == nil {
		defer func() { _ = set(now) }() // as the thread had it
	}
	start()
}

// get is the slack of the calling thread.
func get() (time.Duration, error) {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return time.Duration(ns), err
}

// set sets the slack of the calling thread.
func set(d time.Duration) error { return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(d), 0, 0, 0) }
