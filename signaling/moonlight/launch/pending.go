package launch

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Why a launch cannot wait.
var (
	ErrTooMany = errors.New("too many launches wait for their clients")
	ErrClosed  = errors.New("no more launches are taken")
)

// What zero values of Pending stand for.
const (
	defaultFor  = 20 * time.Second
	defaultMost = 64
)

// Pending is the set of launches whose clients have not connected their control
// stream yet. Each waits for a limited time, then it is ended. The zero value
// is ready. No method blocks.
type Pending struct {
	For  time.Duration // how long a launch waits, 10…30 s; 0: 20 s
	Most int           // how many may wait; 0: 64

	mu      sync.Mutex // guards what follows
	closed  bool
	waiting map[*Launch]*time.Timer
}

// Add lets l wait for its client. A launch of the same device that still waits
// is replaced: it is ended. The error is ErrTooMany or ErrClosed; l is then the
// caller's to end.
func (p *Pending) Add(l *Launch) error {
	var old []*Launch
	defer func() {
		for _, o := range old {
			o.End()
		}
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	for o := range p.waiting {
		if o.ended() || o.Device == l.Device {
			p.forget(o)
			old = append(old, o)
		}
	}
	most := p.Most
	if most == 0 {
		most = defaultMost
	}
	if len(p.waiting) >= most {
		return ErrTooMany
	}
	if p.waiting == nil {
		p.waiting = make(map[*Launch]*time.Timer)
	}
	p.waiting[l] = time.AfterFunc(p.wait(), func() { p.expire(l) })
	return nil
}

func (p *Pending) wait() time.Duration {
	if p.For == 0 {
		return defaultFor
	}
	return p.For
}

// forget takes l out. mu is held.
func (p *Pending) forget(l *Launch) bool {
	timer, ok := p.waiting[l]
	if ok {
		timer.Stop()
		delete(p.waiting, l)
	}
	return ok
}

// expire ends l if it still waits.
func (p *Pending) expire(l *Launch) {
	if p.Take(l) {
		l.End()
	}
}

// Renew lets l wait for the whole time once more, because its client has got
// further. It tells whether l waits.
func (p *Pending) Renew(l *Launch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	timer, ok := p.waiting[l]
	// A timer that has fired already ends it, and nobody can have seen it since.
	return ok && !l.ended() && timer.Reset(p.wait())
}

// Take hands l over to the caller, who ends it from now on. It tells whether l
// waited: of two callers one gets it.
func (p *Pending) Take(l *Launch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forget(l)
}

// All is who waits, in no order, for those who find out by trying keys.
func (p *Pending) All() []*Launch {
	return p.find(func(*Launch) bool { return true })
}

// ByConnectData is the launch that a control stream belongs to, nil for none.
func (p *Pending) ByConnectData(data uint32) *Launch {
	return newest(p.find(func(l *Launch) bool { return l.ConnectData == data }))
}

// ByPing is the launch that a ping belongs to, nil for none.
func (p *Pending) ByPing(payload string) *Launch {
	return newest(p.find(func(l *Launch) bool { return l.PingPayload == payload }))
}

// BySource is the newest launch from addr of a client that can prove itself in
// no way (CoreVer 0), nil for none. Others are not found: an address names a
// household, not a device.
func (p *Pending) BySource(addr netip.Addr) *Launch {
	addr = addr.Unmap().WithZone("")
	return newest(p.find(func(l *Launch) bool { return l.CoreVer == 0 && l.From.IsValid() && l.From == addr }))
}

func (p *Pending) find(is func(*Launch) bool) (all []*Launch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.waiting {
		if !l.ended() && is(l) {
			all = append(all, l)
		}
	}
	return all
}

func newest(of []*Launch) (l *Launch) {
	for _, o := range of {
		if l == nil || o.Created.After(l.Created) {
			l = o
		}
	}
	return l
}

// Close ends all that wait; none is taken afterwards. It is idempotent.
func (p *Pending) Close() {
	p.mu.Lock()
	p.closed = true
	var all []*Launch
	for l := range p.waiting {
		p.forget(l)
		all = append(all, l)
	}
	p.mu.Unlock()
	for _, l := range all {
		l.End()
	}
}
