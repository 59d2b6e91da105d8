package desktop

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

// marker is the variable that each process of a session has in its environment.
const marker = "FENRIR_SESSION"

// identity names a process for good: a pid alone is used again.
type identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks between boot and its start
}

// process is one row of the process table.
type process struct {
	identity
	parent  int
	session int
	state   byte
	name    string
}

func (p process) String() string { return fmt.Sprintf("%s (pid %d, state %c)", p.name, p.PID, p.state) }

// dead tells that only the entry in the table is left.
func (p process) dead() bool { return p.state == 'Z' || p.state == 'X' }

// readProcess reads one row. The error is os.ErrNotExist or ESRCH when there is none.
func readProcess(pid int) (process, error) {
	// As os.ReadFile with half of its system calls: an end reads thousands of rows.
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return process{}, err
	}
	var b [1024]byte
	n, err := unix.Read(fd, b[:])
	_ = unix.Close(fd) // nothing was written
	if err != nil {
		return process{}, err
	}
	return parseStat(b[:n])
}

// parseStat reads /proc/PID/stat, see proc(5). The name is in parentheses and may
// hold any character.
func parseStat(b []byte) (p process, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return process{}, errors.New("process table: no name")
	}
	if p.PID, err = strconv.Atoi(string(bytes.TrimSpace(b[:open]))); err != nil {
		return process{}, fmt.Errorf("process table: %w", err)
	}
	p.name = string(b[open+1 : end])
	f := bytes.Fields(b[end+1:])
	if len(f) < 20 { // field 3 of proc(5) is the first here
		return process{}, errors.New("process table: too few fields")
	}
	p.state = f[0][0]
	var errs [3]error
	p.parent, errs[0] = strconv.Atoi(string(f[1]))
	p.session, errs[1] = strconv.Atoi(string(f[3]))
	p.Start, errs[2] = strconv.ParseUint(string(f[19]), 10, 64)
	return p, errors.Join(errs[:]...)
}

// self is the identity of this process.
func self() (identity, error) {
	p, err := readProcess(os.Getpid())
	return p.identity, err
}

// alive tells whether that very process still runs.
func (id identity) alive() bool {
	p, err := readProcess(id.PID)
	return err == nil && p.identity == id && !p.dead()
}

// signal sends sig to that very process; one that is gone is no error.
func (id identity) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	if p, rerr := readProcess(id.PID); rerr != nil || p.identity != id {
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

// table is the process table, without what is dead.
func table() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil && !p.dead() { // else it has just gone
			all = append(all, p)
		}
	}
	return all, nil
}

// below returns the processes of all that descend from one of roots, without the
// roots themselves.
func below(all []process, roots ...int) []process {
	children := make(map[int][]process, len(all))
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
	}
	var found []process
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

// marked finds the processes that belong to a session by their environment, those
// that are known to belong to it, all that descend from these, and all that share
// a session of the kernel with these. It never returns this process nor an
// ancestor of it.
func marked(all []process, session string, known []identity) []process {
	needle := []byte(marker + "=" + session)
	parents := make(map[int]int, len(all))
	for _, p := range all {
		parents[p.PID] = p.parent
	}
	spared := map[int]bool{0: true, 1: true}
	for pid := os.Getpid(); pid > 1 && !spared[pid]; pid = parents[pid] {
		spared[pid] = true
	}
	mine, _ := unix.Getsid(0) // cannot fail for the caller itself
	in := map[int]bool{}
	sids := map[int]bool{}
	for _, id := range known { // each was started as leader of a session of its own
		if leader, err := readProcess(id.PID); err != nil || leader.identity == id {
			sids[id.PID] = true
		} // else all of its session are gone, and the number is another's
	}
	for _, p := range all {
		if slices.Contains(known, p.identity) {
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
				sids[p.session] = true
			}
		}
		for _, p := range below(all, roots...) {
			in[p.PID] = true
		}
		for _, p := range all {
			if p.session > 1 && p.session != mine && sids[p.session] {
				in[p.PID] = true
			}
		}
		for pid := range spared {
			delete(in, pid)
		}
	}
	return slices.DeleteFunc(all, func(p process) bool { return !in[p.PID] })
}

// killAll kills what find returns until it returns nothing, and gives up when ctx
// ends. It stops the processes before it kills them, so that none forks away. It
// returns whom it killed and what is left.
func killAll(ctx context.Context, find func() ([]process, error)) (killed []identity, left []process, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if left, err = find(); err != nil || len(left) == 0 {
			return killed, left, err
		}
		for frozen := map[identity]bool{}; ; {
			fresh := false
			for _, p := range left {
				if !frozen[p.identity] {
					fresh, frozen[p.identity] = true, true
					_ = p.signal(unix.SIGSTOP) // the kill below tells what cannot be done
				}
			}
			if !fresh || ctx.Err() != nil {
				break
			}
			if left, err = find(); err != nil {
				return killed, left, err
			}
		}
		for _, p := range left {
			if p.signal(unix.SIGKILL) == nil {
				killed = append(killed, p.identity)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			left, err = find()
			return killed, left, err
		}
	}
}

// reap takes the exit status of those of ids that became children of this
// process when their parent died: that happens when this process is the first of
// a container. It gives up when ctx ends.
func reap(ctx context.Context, ids []identity) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ids = slices.DeleteFunc(ids, func(id identity) bool {
			p, err := readProcess(id.PID)
			if err != nil || p.identity != id || p.parent != os.Getpid() {
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

// leftError names processes that could not be ended.
func leftError(left []process) error {
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
