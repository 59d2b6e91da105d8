// Package tree is the kernel's process table as a desktop needs it: who descends
// from whom, who belongs to a session, and how to end all of them so that none
// gets away. A process is always named by pid and start time together, so none
// that took over a pid is ever hit. It imports golang.org/x/sys and the standard
// library.
package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Marker is the variable that each process of a session has in its environment.
const Marker = "FENRIR_SESSION"

// ID names a process for good: a pid alone is used again.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks between boot and its start
}

// Process is one row of the process table.
type Process struct {
	ID
	Parent  int    // its pid
	Group   int    // pid of the leader of its process group
	Session int    // pid of the leader of its session of the kernel
	State   byte   // as in proc(5)
	Name    string // of its program, at most 15 bytes
}

func (p Process) String() string { return fmt.Sprintf("%s (pid %d, state %c)", p.Name, p.PID, p.State) }

// Dead tells that only the entry in the table is left.
func (p Process) Dead() bool { return p.State == 'Z' || p.State == 'X' }

// Read reads one row. The error is os.ErrNotExist or ESRCH when there is none.
func Read(pid int) (Process, error) {
	var b [1024]byte
	row, err := ReadFile("/proc/"+strconv.Itoa(pid)+"/stat", b[:])
	if err != nil {
		return Process{}, err
	}
	return parseStat(row)
}

// ReadFile returns what a file of /proc holds, in b where it fits. It takes half of the
// system calls of os.ReadFile: an end reads thousands of rows, and limits are watched all
// the time.
func ReadFile(path string, b []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	for b = b[:0]; ; {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(len(b), page))
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if err != nil {
			return nil, err
		}
		whole := n < cap(b)-len(b) && n < page/2 // the kernel goes on until what comes next does not fit a page
		if b = b[:len(b)+n]; n == 0 || whole {
			return b, nil
		}
	}
}

// page is the least that the kernel fills with rows of a file of /proc before it ends
// a read, if there are as many.
const page = 4096

// parseStat reads /proc/PID/stat, see proc(5). The name is in parentheses and may
// hold any character.
func parseStat(b []byte) (p Process, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return Process{}, errors.New("process table: no name")
	}
	if p.PID, err = strconv.Atoi(string(bytes.TrimSpace(b[:open]))); err != nil {
		return Process{}, fmt.Errorf("process table: %w", err)
	}
	p.Name = string(b[open+1 : end])
	f := bytes.Fields(b[end+1:])
	if len(f) < 20 { // field 3 of proc(5) is the first here
		return Process{}, errors.New("process table: too few fields")
	}
	p.State = f[0][0]
	var errs [4]error
	p.Parent, errs[0] = strconv.Atoi(string(f[1]))
	p.Group, errs[1] = strconv.Atoi(string(f[2]))
	p.Session, errs[2] = strconv.Atoi(string(f[3]))
	p.Start, errs[3] = strconv.ParseUint(string(f[19]), 10, 64)
	return p, errors.Join(errs[:]...)
}

// Self is the identity of this process.
func Self() (ID, error) {
	p, err := Read(os.Getpid())
	return p.ID, err
}

// Alive tells whether that very process still runs.
func (id ID) Alive() bool {
	p, err := Read(id.PID)
	return err == nil && p.ID == id && !p.Dead()
}

// Signal sends sig to that very process; one that is gone is no error.
func (id ID) Signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	if p, rerr := Read(id.PID); rerr != nil || p.ID != id {
		return nil
	}
	if err == nil {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or a filter of system calls
		err = unix.Kill(id.PID, sig)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Table is the process table, without what is dead.
func Table() ([]Process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := Read(pid); err == nil && !p.Dead() { // else it has just gone
			all = append(all, p)
		}
	}
	return all, nil
}

// Children lists the children of one process, dead ones too. It costs a fraction
// of a Table, but may miss one while another of them ends, see proc(5).
func Children(pid int) ([]int, error) {
	folder := "/proc/" + strconv.Itoa(pid) + "/task/"
	threads, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var pids []int
	room := make([]byte, page)
	for _, t := range threads {
		list, err := ReadFile(folder+t.Name()+"/children", room)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has just ended; or a kernel without such lists
		}
		if err != nil {
			return nil, err
		}
		for word := range bytes.FieldsSeq(list) {
			pid, err := strconv.Atoi(string(word))
			if err != nil {
				return nil, fmt.Errorf("children of %d: %w", pid, err)
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Below returns the processes of all that descend from one of roots, without the
// roots themselves.
func Below(all []Process, roots ...int) []Process {
	children := make(map[int][]Process, len(all))
	for _, p := range all {
		children[p.Parent] = append(children[p.Parent], p)
	}
	var found []Process
	seen := map[int]bool{}
	for queue := slices.Clone(roots); len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			if !seen[p.PID] {
				seen[p.PID] = true
				found = append(found, p)
				queue = append(queue, p.PID)
			}
		}
	}
	return found
}

// Marked finds the processes that belong to a session by their environment, those
// that are known to belong to it, all that descend from these, and all that share
// a session of the kernel with these. It never returns this process nor an
// ancestor of it.
func Marked(all []Process, session string, known []ID) []Process {
	needle := []byte(Marker + "=" + session)
	parents := make(map[int]int, len(all))
	for _, p := range all {
		parents[p.PID] = p.Parent
	}
	spared := map[int]bool{0: true, 1: true}
	for pid := os.Getpid(); pid > 1 && !spared[pid]; pid = parents[pid] {
		spared[pid] = true
	}
	mine, _ := unix.Getsid(0) // cannot fail for the caller itself
	in := map[int]bool{}
	sids := map[int]bool{}
	for _, id := range known { // each was started as leader of a session of its own
		if leader, err := Read(id.PID); err != nil || leader.ID == id {
			sids[id.PID] = true
		} // else all of its session are gone, and the number is another's
	}
	for _, p := range all {
		if slices.Contains(known, p.ID) {
			in[p.PID] = true
			continue
		}
		env, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/environ")
		if err != nil { // another user's, or gone
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(v, needle) {
				in[p.PID] = true
			}
		}
	}
	for before := -1; len(in) > before; {
		before = len(in)
		roots := make([]int, 0, len(in))
		for _, p := range all {
			if in[p.PID] {
				roots = append(roots, p.PID)
				sids[p.Session] = true
			}
		}
		for _, p := range Below(all, roots...) {
			in[p.PID] = true
		}
		for _, p := range all {
			if p.Session > 1 && p.Session != mine && sids[p.Session] {
				in[p.PID] = true
			}
		}
		for pid := range spared {
			delete(in, pid)
		}
	}
	return slices.DeleteFunc(all, func(p Process) bool { return !in[p.PID] })
}

// crowd is from how many processes on they are taken for ones that fork faster than
// they can be stopped one by one.
const crowd = 64

// freezeGroups stops whole process groups, each with one system call, during
// which none of the group can fork.
func freezeGroups(all []Process) {
	mine := unix.Getpgrp()
	done := map[int]bool{0: true, 1: true, mine: true}
	for _, p := range all {
		if !done[p.Group] {
			done[p.Group] = true
			_ = unix.Kill(-p.Group, unix.SIGSTOP) // each of them is looked at again
		}
	}
}

// KillAll kills what find returns until it returns nothing, and gives up when ctx
// ends. It stops the processes before it kills them, so that none forks away. It
// returns whom it killed and what is left.
//
// It looks again every 5 ms as long as there is somebody new. Who is killed but not gone
// has a kernel to wait for, which is not helped by looks at its table: they get
// rarer then.
func KillAll(ctx context.Context, find func() ([]Process, error)) (killed []ID, left []Process, err error) {
	pause := least
	again := time.NewTimer(pause)
	defer again.Stop()
	dying := map[ID]bool{}
	for {
		if left, err = find(); err != nil || len(left) == 0 {
			return killed, left, err
		}
		if slices.ContainsFunc(left, func(p Process) bool { return !dying[p.ID] }) {
			pause = least
			if left, err = freeze(ctx, left, find); err != nil {
				return killed, left, err
			}
			for _, p := range left {
				if p.Signal(unix.SIGKILL) == nil && !dying[p.ID] {
					dying[p.ID] = true
					killed = append(killed, p.ID)
				}
			}
		} else {
			pause = min(2*pause, most)
		}
		again.Reset(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			left, err = find()
			return killed, left, err
		}
	}
}

// Pauses between two looks of KillAll.
const (
	least = 5 * time.Millisecond
	most  = 40 * time.Millisecond
)

// freeze stops processes until find finds no others. It returns what it found last.
func freeze(ctx context.Context, left []Process, find func() ([]Process, error)) ([]Process, error) {
	if len(left) > crowd {
		freezeGroups(left)
	}
	for frozen := map[ID]bool{}; ; {
		fresh := false
		for _, p := range left {
			if !frozen[p.ID] {
				fresh, frozen[p.ID] = true, true
				_ = p.Signal(unix.SIGSTOP) // the kill tells what cannot be done
			}
		}
		if !fresh || ctx.Err() != nil {
			return left, nil
		}
		var err error
		if left, err = find(); err != nil {
			return left, err
		}
	}
}

// Reap takes the exit status of those of ids that became children of this
// process when their parent died: that happens when this process is the first of
// a container. It gives up when ctx ends.
func Reap(ctx context.Context, ids []ID) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ids = slices.DeleteFunc(ids, func(id ID) bool {
			p, err := Read(id.PID)
			if err != nil || p.ID != id || p.Parent != os.Getpid() {
				return true
			}
			var ws unix.WaitStatus
			pid, err := unix.Wait4(id.PID, &ws, unix.WNOHANG, nil)
			return pid == id.PID || errors.Is(err, unix.ECHILD)
		})
		if len(ids) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ErrLeft is in the chain of errors that name processes which could not be ended.
var ErrLeft = errors.New("processes are left")

// Left makes an error of processes that could not be ended, nil of none.
func Left(left []Process) error {
	if len(left) == 0 {
		return nil
	}
	names := make([]string, len(left))
	for i, p := range left {
		names[i] = p.String()
	}
	slices.Sort(names)
	return fmt.Errorf("%w: %v", ErrLeft, names)
}
