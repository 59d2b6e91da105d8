package pairing

import (
	"fmt"
	"net/netip"
	"time"
)

// How wrong PINs are answered. A PIN has 10,000 values and each attempt needs a
// person who types it, so that the first few are free: fingers slip.
const (
	freeOfAddress = 3
	freeOfAll     = 20
	firstPause    = 5 * time.Second
	longestPause  = 10 * time.Minute
	forgiveAfter  = 30 * time.Minute // without another failure
	maxStrikes    = 1024             // addresses remembered; then the one longest quiet is forgotten
)

// RateError refuses an attempt because too many failed before it.
type RateError struct {
	RetryAfter time.Duration
}

// Error implements error.
func (e *RateError) Error() string {
	return fmt.Sprintf("too many failed attempts to pair; again in %s", max(e.RetryAfter.Round(time.Second), time.Second))
}

// strikes are failed attempts. The zero value is none.
type strikes struct {
	count int
	last  time.Time
	until time.Time
}

func (s *strikes) add(now time.Time, free int) {
	if now.Sub(s.last) > forgiveAfter {
		s.count = 0
	}
	s.count++
	s.last = now
	if over := s.count - free; over > 0 {
		s.until = now.Add(min(firstPause<<min(over-1, 10), longestPause))
	}
}

// limiter counts failed attempts per address and in all. It is guarded by
// Pending.mu.
type limiter struct {
	all strikes
	of  map[netip.Prefix]*strikes
}

// allow tells when there is an attempt again, if there is none now.
func (l *limiter) allow(a netip.Addr, now time.Time) error {
	until := l.all.until
	if s := l.of[Network(a)]; s != nil && s.until.After(until) {
		until = s.until
	}
	if wait := until.Sub(now); wait > 0 {
		return &RateError{RetryAfter: wait}
	}
	return nil
}

func (l *limiter) fail(a netip.Addr, now time.Time) {
	l.all.add(now, freeOfAll)
	key := Network(a)
	s := l.of[key]
	if s == nil {
		if l.of == nil {
			l.of = make(map[netip.Prefix]*strikes)
		}
		if len(l.of) >= maxStrikes {
			l.forgetOne()
		}
		s = new(strikes)
		l.of[key] = s
	}
	s.add(now, freeOfAddress)
}

func (l *limiter) succeed(a netip.Addr) { delete(l.of, Network(a)) }

func (l *limiter) forgetOne() {
	var oldest netip.Prefix
	for k, s := range l.of {
		if o := l.of[oldest]; o == nil || s.last.Before(o.last) {
			oldest = k
		}
	}
	delete(l.of, oldest)
}

// Network is what counts as one address: an IPv4 address, or an IPv6 /64, which
// is what one customer gets.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of them count as one
	}
	return p
}
