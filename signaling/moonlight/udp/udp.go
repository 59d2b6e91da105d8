// Package udp is the ports of pictures and sound of all Moonlight clients. A client
// shows where it is by sending pings with the payload that it was told; what is for
// it goes there, from the same port.
//
// Facts are from "moonlight protocol", sections 13.1 and 13.7. It imports the
// standard library and golang.org/x/net.
package udp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// Sizes of pings: the payload and a number; old clients send four letters.
const (
	payloadSize = 16
	pingSize    = payloadSize + 4
	legacyPing  = "PING"
)

// Bounds.
const (
	maxTargets = 1024
	maxErrors  = 100     // of reading, one after the other, until the port is given up
	sendBuffer = 4 << 20 // bytes, as far as the kernel allows
)

// ErrTaken is returned by Enter for a payload that somebody else has.
var ErrTaken = errors.New("two streams with one ping payload")

// Port is one UDP port. Fill the exported fields, which do not change afterwards.
type Port struct {
	Conn *net.UDPConn // closed when Run returns

	out *ipv4.PacketConn

	mu      sync.Mutex // guards what follows; taken before a target's
	targets map[string]*Target
}

// Target is one client's end of a stream. The client may be unknown yet, and move.
type Target struct {
	port    *Port
	payload string
	legacy  netip.Addr // of a client that pings without a payload; invalid for others
	found   chan struct{}

	mu   sync.Mutex // guards what follows
	addr netip.AddrPort
	dst  *net.UDPAddr

	messages []ipv4.Message // Send's own
	pace     pace
}

// New makes a port of an open socket.
func New(conn *net.UDPConn) *Port {
	_ = conn.SetWriteBuffer(sendBuffer) // the kernel gives what it allows
	return &Port{Conn: conn, out: ipv4.NewPacketConn(conn), targets: make(map[string]*Target)}
}

// Addr is the address of the port.
func (p *Port) Addr() netip.AddrPort { return p.Conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Enter makes a target: pings with that payload tell where it is from now on. legacy
// is the address of a client that knows no payload, or invalid. The caller calls
// Leave.
func (p *Port) Enter(payload string, legacy netip.Addr) (*Target, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(payload) != payloadSize || p.targets[payload] != nil || len(p.targets) >= maxTargets {
		return nil, ErrTaken
	}
	t := &Target{port: p, payload: payload, legacy: legacy.Unmap(), found: make(chan struct{})}
	p.targets[payload] = t
	return t, nil
}

// Leave ends a target; nothing more is sent there by new calls of Send.
func (t *Target) Leave() {
	t.port.mu.Lock()
	delete(t.port.targets, t.payload)
	t.port.mu.Unlock()
}

// Run listens to pings until ctx ends, and closes the port.
func (p *Port) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.Conn.SetReadDeadline(time.Unix(1, 0)) }) // only a closed one refuses
	defer stop()
	b := make([]byte, pingSize+1)
	for bad := 0; ; {
		n, from, err := p.Conn.ReadFromUDPAddrPort(b)
		if ctx.Err() != nil {
			return p.Conn.Close()
		}
		if err != nil {
			// One may be what an earlier datagram of ours met on its way.
			if bad++; bad > maxErrors || errors.Is(err, net.ErrClosed) {
				return errors.Join(err, p.Conn.Close())
			}
			continue
		}
		bad = 0
		p.hear(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
}

// hear takes a datagram. What is no ping of a client that is here is ignored.
func (p *Port) hear(b []byte, from netip.AddrPort) {
	var t *Target
	p.mu.Lock()
	switch {
	case len(b) == pingSize:
		t = p.targets[string(b[:payloadSize])]
	case string(b) == legacyPing:
		t = p.legacyAt(from)
	}
	p.mu.Unlock()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addr == from {
		return
	}
	if !t.addr.IsValid() {
		close(t.found)
	}
	t.addr, t.dst = from, net.UDPAddrFromAddrPort(from)
}

// legacyAt is the target of a client without a payload that pings from there, nil for
// none. Of several behind one address each keeps its own source: the next new source
// is of one that was not heard of yet. When all were heard, a lone one has moved; of
// several nobody knows which, and none is sent what is another's. mu is held.
func (p *Port) legacyAt(from netip.AddrPort) (t *Target) {
	var unheard *Target
	n := 0
	for _, other := range p.targets {
		if !other.legacy.IsValid() || other.legacy != from.Addr() {
			continue
		}
		n++
		t = other
		switch addr := other.Addr(); {
		case addr == from:
			return other
		case !addr.IsValid():
			unheard = other
		}
	}
	if unheard != nil || n > 1 {
		return unheard
	}
	return t
}

// Found is closed as soon as it is known where the client is.
func (t *Target) Found() <-chan struct{} { return t.found }

// Addr is where the client is, invalid while that is not known.
func (t *Target) Addr() netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addr
}

// SetPace bounds how fast the datagrams of one call follow each other, bit/s; 0, as
// it begins, is not at all.
func (t *Target) SetPace(bps int) { t.pace.rate.Store(int64(bps)) }

// Send sends datagrams in order, in few system calls; one call at a time. It blocks
// as long as the socket and the pace do, the latter until ctx ends. While it is not
// known where the client is they go nowhere. A datagram that cannot be sent is lost, as on
// any path; the error tells that no path is there.
func (t *Target) Send(ctx context.Context, datagrams [][]byte) error {
	t.mu.Lock()
	dst := t.dst
	t.mu.Unlock()
	if dst == nil {
		return nil
	}
	t.pace.begin()
	for len(datagrams) > 0 {
		n := min(len(datagrams), burst)
		if err := t.pace.wait(ctx, datagrams[:n]); err != nil {
			return err
		}
		if err := t.write(datagrams[:n], dst); err != nil {
			return err
		}
		datagrams = datagrams[n:]
	}
	return nil
}

func (t *Target) write(datagrams [][]byte, dst *net.UDPAddr) error {
	t.messages = t.messages[:0]
	for i := range datagrams {
		t.messages = append(t.messages, ipv4.Message{Buffers: datagrams[i : i+1], Addr: dst})
	}
	left := t.messages
	for len(left) > 0 {
		n, err := t.port.out.WriteBatch(left, 0)
		if err != nil {
			return err
		}
		left = left[n:]
	}
	return nil
}
