package gpu

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrFull is what Acquire's error wraps when every slot is taken.
var ErrFull = errors.New("every encoder slot is taken")

// ErrNoNVENC is what Acquire's error wraps for a GPU without a video encoder.
var ErrNoNVENC = errors.New("the GPU has no video encoder")

// FullError tells why a slot could not be had. It wraps ErrFull.
type FullError struct {
	GPU         string // as it was asked for
	Limit       int
	Quarantined int // of Limit, lost until their workers are gone
	Shared      bool
}

func (e *FullError) Error() string {
	where := "GPU " + e.GPU
	if e.Shared {
		where = "this machine's GeForce cards together"
	}
	text := fmt.Sprintf("all %d encoder slots of %s are taken", e.Limit, where)
	if e.Quarantined > 0 {
		text += fmt.Sprintf(", %d of them by workers that could not be ended", e.Quarantined)
	}
	return text
}

// Unwrap makes errors.Is(err, ErrFull) true.
func (e *FullError) Unwrap() error { return ErrFull }

// Slots hands out encoder slots. The zero value is ready and knows no GPU yet:
// until Learn has told their limits, slots are counted and not limited, and the
// driver has the last word. Its methods never block and may be called from any
// goroutine.
type Slots struct {
	// PerGPU is how many slots each GPU has, by configuration; 0 takes what the
	// driver allows (NVENC.Limit). Set it before the first call.
	PerGPU int

	mu    sync.Mutex // guards what follows
	gpus  map[string]GPU
	alias map[string]string // index, UUID and PCI bus id → UUID
	held  []*Lease          // taken and quarantined ones
}

// sharedPool is the pool of all GPUs whose limit holds for them together.
const sharedPool = "geforce"

// Learn takes the limits of GPUs from an inventory, and gives back quarantined
// slots of each GPU on which, by an inventory begun after their quarantine, no
// encoder session is open: then the process that held them is gone. A report
// that is not OK changes nothing.
func (s *Slots) Learn(r Report) {
	if r.State != OK {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	gpus, alias := map[string]GPU{}, map[string]string{}
	for _, g := range r.GPUs {
		key := g.UUID
		if key == "" {
			key = fmt.Sprint(g.Index)
		}
		gpus[key] = g
		alias[fmt.Sprint(g.Index)], alias[key] = key, key
		if g.PCI != "" {
			alias[g.PCI] = key
		}
	}
	s.gpus, s.alias = gpus, alias
	s.held = slices.DeleteFunc(s.held, func(l *Lease) bool {
		g := s.gpus[s.key(l.gpu)]
		if l.quarantine == nil || !r.Began.After(l.quarantine.Since) || g.Sessions == nil || g.Sessions.Count > 0 {
			return false
		}
		l.over = true
		return true
	})
}

// key is the name under which a GPU is counted.
func (s *Slots) key(gpu string) string {
	if k, ok := s.alias[gpu]; ok {
		return k
	}
	return gpu
}

// pool is what a GPU's slots are counted in, and how many there are, 0 meaning
// no limit.
func (s *Slots) pool(gpu string) (name string, limit int) {
	k := s.key(gpu)
	g, learned := s.gpus[k]
	switch {
	case s.PerGPU > 0:
		return k, s.PerGPU
	case !learned:
		return k, 0
	case g.NVENC.Shared:
		return sharedPool, g.NVENC.Limit
	}
	return k, g.NVENC.Limit
}

// Acquire takes a slot of the GPU with that index, UUID or PCI bus id. It never
// blocks: when all are taken the error is a *FullError, and for a GPU that has
// no encoder it wraps ErrNoNVENC. The holder ends the lease with Release.
func (s *Slots) Acquire(gpu string) (*Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.gpus[s.key(gpu)]; g.NVENC.Present == No {
		return nil, fmt.Errorf("GPU %s: %w: %s", gpu, ErrNoNVENC, g.NVENC.Reason)
	}
	pool, limit := s.pool(gpu)
	used, lost := 0, 0
	for _, l := range s.held {
		if p, _ := s.pool(l.gpu); p != pool {
			continue
		}
		used++
		if l.quarantine != nil {
			lost++
		}
	}
	if limit > 0 && used >= limit {
		return nil, &FullError{GPU: gpu, Limit: limit, Quarantined: lost, Shared: pool == sharedPool}
	}
	l := &Lease{slots: s, gpu: gpu, since: time.Now()}
	s.held = append(s.held, l)
	return l, nil
}

// Lease is one encoder slot. Its methods never block, may be called from any
// goroutine, and do nothing once the slot was given back.
type Lease struct {
	slots *Slots
	gpu   string
	since time.Time

	// guarded by slots.mu
	over       bool
	quarantine *Quarantine
}

// GPU is the GPU as it was asked for.
func (l *Lease) GPU() string { return l.gpu }

// Release gives the slot back. Call it when the process that encoded is reaped;
// it ends a quarantine too.
func (l *Lease) Release() {
	s := l.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	s.held = slices.DeleteFunc(s.held, func(o *Lease) bool { return o == l })
}

// Quarantine keeps the slot taken because the process that encodes could not be
// ended, and with it its encoder session. The slot comes back when the holder
// calls Release after all, when Learn sees that no encoder session is open on
// the GPU, or when the server starts again. The first reason stays.
func (l *Lease) Quarantine(reason string) {
	s := l.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.over || l.quarantine != nil {
		return
	}
	l.quarantine = &Quarantine{GPU: l.gpu, Since: time.Now(), Reason: reason}
}

// Quarantine is a slot that is lost for now.
type Quarantine struct {
	GPU    string    `json:"gpu"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// Pool is a set of slots that are counted together: those of one GPU, or of all
// GeForce cards of the machine.
type Pool struct {
	GPUs        []string     `json:"gpus"`        // UUIDs, or what they were asked for by before anything was learned
	Limit       int          `json:"limit"`       // 0: no limit but the hardware's
	Held        int          `json:"held"`        // without the quarantined ones
	Quarantined []Quarantine `json:"quarantined"` // oldest first
}

// Pools lists the slots: of every GPU that has an encoder or may have one, and
// of every GPU that somebody holds a slot of.
func (s *Slots) Pools() []Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	pools := map[string]*Pool{}
	at := func(gpu string) *Pool {
		name, limit := s.pool(gpu)
		p := pools[name]
		if p == nil {
			p = &Pool{Limit: limit, Quarantined: []Quarantine{}}
			pools[name] = p
			names = append(names, name)
		}
		if k := s.key(gpu); !slices.Contains(p.GPUs, k) {
			p.GPUs = append(p.GPUs, k)
		}
		return p
	}
	for k, g := range s.gpus {
		if g.NVENC.Present != No {
			at(k)
		}
	}
	for _, l := range s.held {
		p := at(l.gpu)
		if l.quarantine != nil {
			p.Quarantined = append(p.Quarantined, *l.quarantine)
		} else {
			p.Held++
		}
	}
	slices.Sort(names)
	out := make([]Pool, 0, len(names))
	for _, n := range names {
		slices.Sort(pools[n].GPUs)
		out = append(out, *pools[n])
	}
	return out
}
