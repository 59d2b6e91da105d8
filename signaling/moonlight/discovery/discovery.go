// Package discovery lets Moonlight clients of the same network find this server:
// it answers for the service _nvstream._tcp by multicast DNS (RFC 6762, RFC 6763)
// on all interfaces. Names are probed, announced, defended, and taken back at the
// end. Facts about the service are from "moonlight protocol", section 2.2.
//
// It imports golang.org/x/net and golang.org/x/time.
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/time/rate"
)

// Times of the RFC, and how often interfaces are looked at.
const (
	probeEvery    = 250 * time.Millisecond
	announceEvery = time.Second
	yieldFor      = time.Second
	patience      = 5 * time.Second // before another name is tried, once many were taken
	manyNames     = 15
	scanEvery     = 10 * time.Second
	restFor       = time.Second // between two answers to all
	aloneEvery    = 50 * time.Millisecond
	aloneBurst    = 40
	maxLinks      = 64
)

// The stages of a link: three probes, two announcements, then it answers.
const (
	announcing = 3
	settled    = 5
)

// Advertiser makes one server known. Fill the fields, then Run.
type Advertiser struct {
	Name     string         // of this host, for people
	UniqueID string         // of this server; two with one name are told apart by it
	HTTP     netip.AddrPort // where the server's HTTP port listens
	// Loopback makes it known on the loopback interface as well. Without it a server
	// that listens on loopback only is not made known at all.
	Loopback   bool
	Interfaces func(name string) bool // which to use; nil: all
	Log        *slog.Logger           // nil: slog.Default()

	port int // 0: 5353
}

// Run makes the server known until ctx ends, and then says goodbye. The error
// tells that it cannot be done, or what went wrong.
func (a *Advertiser) Run(ctx context.Context) error {
	if a.HTTP.Addr().IsLoopback() && !a.Loopback {
		<-ctx.Done()
		return nil
	}
	if a.Log == nil {
		a.Log = slog.Default()
	}
	port := a.port
	if port == 0 {
		port = multicastPort
	}
	s, err := openSockets(ctx, port)
	if err != nil {
		return fmt.Errorf("multicast DNS: %w", err)
	}
	defer s.close()
	r := &responder{a: a, sockets: s, try: 1, links: map[int]*link{}, alone: rate.NewLimiter(rate.Every(aloneEvery), aloneBurst)}
	r.rename(0)
	for {
		wake := time.NewTimer(time.Until(r.tick(time.Now())))
		select {
		case <-ctx.Done():
			wake.Stop()
			r.goodbye()
			return nil
		case p := <-s.packets:
			r.hear(p, time.Now())
		case <-wake.C:
		}
		wake.Stop()
	}
}

// link is one interface that the server is known on.
type link struct {
	iface net.Interface
	addrs []netip.Addr   // to be told on it
	nets  []netip.Prefix // on it
	from4 netip.Addr     // an IPv4 address of it, to send from
	stage int            // messages sent of those before it is settled
	next  time.Time      // of the next of those
	due   time.Time      // of an answer to all, zero for none
	last  time.Time      // of such an answer
	quiet bool           // sending failed; said once
}

// near tells whether an address is on the link: nobody further away is answered.
func (l *link) near(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.ContainsFunc(l.nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// responder is what Run has. One goroutine owns it.
type responder struct {
	a       *Advertiser
	sockets *sockets
	zone    zone
	try     int
	links   map[int]*link // by the interface's index
	own     []netip.Addr  // of all links
	scan    time.Time     // when interfaces are looked at again
	alone   *rate.Limiter // of answers to one
}

// rename makes the names of the present try, and probes them everywhere after wait.
func (r *responder) rename(wait time.Duration) {
	id := strings.ToLower(strings.ReplaceAll(r.a.UniqueID, "-", ""))
	r.zone = newZone(r.a.Name, "fenrir-"+id[:min(len(id), 12)], r.a.HTTP.Port(), r.try)
	r.probe(wait)
}

func (r *responder) probe(wait time.Duration) {
	for _, l := range r.links {
		l.stage, l.due = 0, time.Time{}
		l.next = time.Now().Add(wait + rand.N(probeEvery))
	}
}

// tick does what is due and returns when something will be next.
func (r *responder) tick(now time.Time) time.Time {
	if !now.Before(r.scan) {
		r.look(now)
		r.scan = now.Add(scanEvery)
	}
	next := r.scan
	for _, l := range r.links {
		if l.stage < settled && !now.Before(l.next) {
			r.advance(l, now)
		}
		if !l.due.IsZero() && !now.Before(l.due) {
			l.due, l.last = time.Time{}, now
			r.tell(l, r.zone.announcement(l.addrs))
		}
		for _, t := range []time.Time{l.next, l.due} {
			if !t.IsZero() && t.Before(next) {
				next = t
			}
		}
	}
	return next
}

// advance sends the next message of a link that is not settled.
func (r *responder) advance(l *link, now time.Time) {
	l.next = now.Add(probeEvery)
	if l.stage < announcing {
		r.tell(l, r.zone.probe(l.addrs))
		l.stage++
		return
	}
	r.tell(l, r.zone.announcement(l.addrs))
	l.last = now
	l.next = now.Add(announceEvery)
	if l.stage++; l.stage == settled {
		l.next = time.Time{}
		r.a.Log.Info("known to moonlight clients", "interface", l.iface.Name, "name", r.zone.instance.String(), "addresses", l.addrs)
	}
}

// hear takes a message of somebody, or of ourselves.
func (r *responder) hear(p packet, now time.Time) {
	l := r.links[p.link]
	if l == nil || !l.near(p.from.Addr()) {
		return
	}
	m, err := parse(p.data)
	if err != nil {
		return
	}
	switch {
	case p.from.Port() == uint16(r.sockets.port) && r.zone.conflict(m, r.own):
		r.a.Log.Warn("another host has the name of this one", "name", r.zone.instance.String(), "from", p.from.Addr())
		wait := time.Duration(0)
		if r.try++; r.try > manyNames {
			wait = patience
		}
		r.rename(wait)
	case l.stage < announcing && r.zone.yields(m, l.addrs, r.own):
		r.probe(yieldFor)
	case !m.response && l.stage > announcing:
		r.answer(l, m, p.from, now)
	}
}

// answer answers a question: to the one who asked if that is wanted, else soon to
// all, who may be about to ask the same.
func (r *responder) answer(l *link, m *message, from netip.AddrPort, now time.Time) {
	out, ok := r.zone.answer(m, l.addrs)
	if !ok {
		return
	}
	if len(m.authorities) > 0 {
		// Somebody probes for our name. An answer to one can go astray when several
		// on a machine share the port.
		if r.alone.AllowN(now, 1) {
			r.tell(l, r.zone.announcement(l.addrs))
		}
		return
	}
	simple := from.Port() != uint16(r.sockets.port)
	if simple || m.unicast() {
		if !r.alone.AllowN(now, 1) {
			return
		}
		if simple {
			out = legacy(out, m)
		}
		if b, err := out.Pack(); err == nil {
			r.sent(l, r.sockets.send(l, from, b))
		}
		return
	}
	if !l.due.IsZero() {
		return
	}
	if len(out.Answers) == 1 && strings.EqualFold(out.Answers[0].Header.Name.String(), servicesName) {
		if r.alone.AllowN(now, 1) {
			r.tell(l, out) // it is not in what all are told
		}
		return
	}
	l.due = now.Add(20*time.Millisecond + rand.N(100*time.Millisecond))
	if rested := l.last.Add(restFor); l.due.Before(rested) {
		l.due = rested
	}
}

// goodbye takes everything back that was told.
func (r *responder) goodbye() {
	for _, l := range r.links {
		if l.stage > announcing {
			r.tell(l, r.zone.goodbye(l.addrs))
		}
	}
}

// tell sends m to all on a link.
func (r *responder) tell(l *link, m dnsmessage.Message) {
	b, err := m.Pack()
	if err == nil {
		err = r.sockets.sendAll(l, b)
	}
	r.sent(l, err)
}

func (r *responder) sent(l *link, err error) {
	if err != nil && !l.quiet {
		r.a.Log.Warn("multicast DNS on an interface", "interface", l.iface.Name, "err", err)
	}
	l.quiet = err != nil
}

// look finds out which interfaces there are. New ones are probed, those with other
// addresses announce them.
func (r *responder) look(now time.Time) {
	found, err := r.a.interfaces()
	if err != nil {
		r.a.Log.Warn("multicast DNS: list interfaces", "err", err)
		return
	}
	for i := range r.links {
		if !slices.ContainsFunc(found, func(l *link) bool { return l.iface.Index == i }) {
			delete(r.links, i)
		}
	}
	for _, l := range found {
		old := r.links[l.iface.Index]
		switch {
		case old == nil && len(r.links) < maxLinks:
			if err := r.sockets.join(l); err != nil {
				r.a.Log.Debug("multicast DNS: join an interface", "interface", l.iface.Name, "err", err)
				continue
			}
			l.next = now.Add(rand.N(probeEvery))
			r.links[l.iface.Index] = l
		case old != nil && !slices.Equal(old.addrs, l.addrs):
			old.addrs, old.nets, old.from4 = l.addrs, l.nets, l.from4
			_ = r.sockets.join(old) // of a family that is new to it
			if old.stage > announcing {
				old.stage, old.next = announcing, now
			}
		}
	}
	r.own = nil
	for l := range maps.Values(r.links) {
		r.own = append(r.own, l.addrs...)
	}
}

// interfaces are those to be used, with what is to be told on them.
func (a *Advertiser) interfaces() ([]*link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []*link
	for _, i := range all {
		loop := i.Flags&net.FlagLoopback != 0
		if i.Flags&net.FlagUp == 0 || loop && !a.Loopback || !loop && i.Flags&net.FlagMulticast == 0 || a.Interfaces != nil && !a.Interfaces(i.Name) {
			continue
		}
		if l := a.linkOf(i); len(l.addrs) > 0 {
			out = append(out, l)
		}
	}
	return out, nil
}

// linkOf is an interface with its addresses, in order. Those that the server does
// not listen on are not told, nor are link-local IPv6 ones, which say nothing
// without an interface.
func (a *Advertiser) linkOf(i net.Interface) *link {
	l := &link{iface: i}
	addrs, err := i.Addrs()
	if err != nil {
		return l // it has gone meanwhile
	}
	only := a.HTTP.Addr().Unmap().WithZone("")
	for _, x := range addrs {
		n, ok := x.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		ones, _ := n.Mask.Size()
		if p, err := ip.Prefix(ones); err == nil {
			l.nets = append(l.nets, p)
		}
		if ip.Is4() && !l.from4.IsValid() {
			l.from4 = ip
		}
		told := only.IsUnspecified() && (ip.Is4() || only.Is6()) || !only.IsValid() || ip == only
		if told && (ip.Is4() || !ip.IsLinkLocalUnicast()) {
			l.addrs = append(l.addrs, ip)
		}
	}
	slices.SortFunc(l.addrs, netip.Addr.Compare)
	return l
}
