package worker

import (
	"slices"
	"sync"
)

// unreaped are the workers of this process that survived SIGKILL, until the kernel
// lets them go.
var unreaped register

// register is a set of process ids.
type register struct {
	mu   sync.Mutex // guards pids
	pids []int
}

func (r *register) add(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pids = append(r.pids, pid)
}

func (r *register) remove(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pids = slices.DeleteFunc(r.pids, func(p int) bool { return p == pid })
}

// Unreaped lists the processes of media workers that survived SIGKILL and are
// still there: what they hold, such as an encoder session, is lost until they go.
func Unreaped() []int {
	unreaped.mu.Lock()
	defer unreaped.mu.Unlock()
	return slices.Clone(unreaped.pids)
}
