package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter counts attempts per (address, name) and per address. It remembers at
// most limiterSize of each; beyond that the one not seen for longest is
// forgotten, which costs an attacker that many addresses.
type limiter struct {
	now       func() time.Time
	perMinute int
	burst     int

	mu    sync.Mutex
	byKey map[limitKey]*list.Element // guarded by mu
	order *list.List                 // of *limitEntry, newest first, guarded by mu
}

const limiterSize = 8192

type limitKey struct{ addr, name string }

type limitEntry struct {
	key limitKey
	lim *rate.Limiter
}

func newLimiter(perMinute, burst int, now func() time.Time) *limiter {
	return &limiter{now: now, perMinute: perMinute, burst: burst, byKey: map[limitKey]*list.Element{}, order: list.New()}
}

// attempt takes one attempt of name from addr, or says when there is one again.
func (l *limiter) attempt(addr, name string) error {
	addr = network(addr)
	name = fold(name)
	if len(name) > 4*maxName {
		name = name[:4*maxName] // a longer one exists in no database
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	// An address gets ten times what a name does: a household shares one.
	var taken []*rate.Reservation
	for _, c := range []struct {
		key    limitKey
		factor int
	}{{limitKey{addr, name}, 1}, {limitKey{addr, ""}, 10}} {
		r := l.get(c.key, c.factor).ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			for _, t := range taken {
				t.CancelAt(now)
			}
			return &RateError{RetryAfter: wait}
		}
		taken = append(taken, r)
	}
	return nil
}

// get finds or makes a bucket. l.mu is held.
func (l *limiter) get(key limitKey, factor int) *rate.Limiter {
	if e, ok := l.byKey[key]; ok {
		l.order.MoveToFront(e)
		return e.Value.(*limitEntry).lim
	}
	if l.order.Len() >= 2*limiterSize {
		last := l.order.Back()
		delete(l.byKey, last.Value.(*limitEntry).key)
		l.order.Remove(last)
	}
	every := rate.Every(time.Minute / time.Duration(l.perMinute*factor))
	entry := &limitEntry{key, rate.NewLimiter(every, l.burst*factor)}
	l.byKey[key] = l.order.PushFront(entry)
	return entry.lim
}

// forget gives a name's attempts back after a success.
func (l *limiter) forget(addr, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := limitKey{network(addr), fold(name)}
	if e, ok := l.byKey[key]; ok {
		delete(l.byKey, key)
		l.order.Remove(e)
	}
}

// network is what counts as one address: an IPv4 address, or an IPv6 /64, which
// is what one customer gets.
func network(addr string) string {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	a = a.Unmap()
	if a.Is4() {
		return a.String()
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return p.String()
}
