package enet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Why a peer ended.
var (
	ErrLeft    = errors.New("the client disconnected")
	ErrLost    = errors.New("the client does not answer")
	ErrClosed  = errors.New("disconnected by the host")
	ErrFull    = errors.New("too much waits to be acknowledged")
	ErrTooLong = errors.New("the message does not fit into one datagram")
)

// What zero values of Host stand for, and times.
const (
	defaultMost    = 256
	defaultPatient = 10 * time.Second

	maxErrors = 100 // of reading, one after the other, until the port is given up

	verifyTimeout = 5 * time.Second        // from a connect to the first sign that our answer came
	pingAfter     = 500 * time.Millisecond // without anything sent
	leaveTimeout  = time.Second            // from a disconnect to its acknowledgement
	tick          = 10 * time.Millisecond  // how exact all this is
)

// Host is one UDP port. Fill the exported fields, which do not change afterwards,
// then call Serve.
type Host struct {
	Conn *net.UDPConn // closed when Serve returns
	// Accept tells whether a client that connects with this number may. It does not
	// block, and may call nothing of this package.
	Accept func(data uint32, from netip.AddrPort) bool
	// Peers is called with each client as soon as it is connected. It does not block.
	Peers func(*Peer)
	// Authentic tells whether a message is from the client that connected with this
	// number, and no copy of an earlier one, for what comes from another address than
	// the client's. As Accept.
	Authentic func(data uint32, message []byte) bool
	Most      int           // clients at a time; 0: 256
	Patience  time.Duration // without any sign of a client; 0: 10 s

	mu     sync.Mutex // guards what follows, and the peers; never held while something is sent
	peers  map[uint16]*Peer
	nextID uint16
	began  time.Time
	wake   chan struct{} // there is a peer
	once   sync.Once
}

// packet is a datagram to be sent.
type packet struct {
	to    netip.AddrPort
	bytes []byte
}

func (h *Host) init() {
	h.once.Do(func() {
		h.peers, h.wake, h.began = make(map[uint16]*Peer), make(chan struct{}, 1), time.Now()
		if h.Most == 0 {
			h.Most = defaultMost
		}
		if h.Patience == 0 {
			h.Patience = defaultPatient
		}
	})
}

// now is the clock of datagrams, ms.
func (h *Host) now() uint16 { return uint16(time.Since(h.began).Milliseconds()) }

// Serve answers clients until ctx ends; then it tells all of them and returns. The
// error is nil then, else why the port cannot be read.
func (h *Host) Serve(ctx context.Context) error {
	h.init()
	stop := context.AfterFunc(ctx, func() { _ = h.Conn.SetReadDeadline(time.Unix(1, 0)) }) // only a closed one refuses
	defer stop()
	ticking, end := context.WithCancel(ctx)
	var timers sync.WaitGroup
	timers.Go(func() { h.keepTime(ticking) })
	err := h.read(ctx)
	end()
	timers.Wait()
	h.mu.Lock()
	var out []packet
	for _, p := range h.peers {
		out = append(out, p.farewell())
		h.drop(p, ErrClosed)
	}
	h.mu.Unlock()
	h.send(out)
	return errors.Join(err, h.Conn.Close())
}

// read takes what comes until ctx ends.
func (h *Host) read(ctx context.Context) error {
	buf := make([]byte, maxDatagram+1)
	var commands [maxCommands]parsed
	for bad := 0; ; {
		n, from, err := h.Conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// One may be what an earlier datagram of ours met on its way.
			if bad++; bad > maxErrors || errors.Is(err, net.ErrClosed) {
				return err
			}
			continue
		}
		bad = 0
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		h.send(h.handle(buf[:n], from, commands[:0]))
	}
}

// send sends datagrams. What cannot be sent is lost, as on any path.
func (h *Host) send(out []packet) {
	for _, p := range out {
		_, _ = h.Conn.WriteToUDPAddrPort(p.bytes, p.to)
	}
}

// keepTime sends again, pings and gives up, as long as there are peers.
func (h *Host) keepTime(ctx context.Context) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		h.mu.Lock()
		var out []packet
		now := time.Now()
		for _, p := range h.peers {
			out = p.due(now, out)
		}
		idle := len(h.peers) == 0
		h.mu.Unlock()
		h.send(out)
		if idle {
			select {
			case <-h.wake:
			case <-ctx.Done():
				return
			}
		}
		timer.Reset(tick)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// handle takes one datagram and returns what is to be sent for it.
func (h *Host) handle(b []byte, from netip.AddrPort, commands []parsed) (out []packet) {
	d, err := parse(b, commands)
	if err != nil || len(d.commands) == 0 {
		return nil
	}
	if d.id == noID {
		if c := &d.commands[0]; len(d.commands) == 1 && c.kind == cmdConnect && d.timed {
			return h.connect(c, from)
		}
		return nil
	}
	h.mu.Lock()
	p := h.peers[d.id]
	if p == nil || p.session != d.session {
		h.mu.Unlock()
		return nil
	}
	if p.addr != from {
		h.mu.Unlock()
		if !h.authentic(p.data, &d) {
			return nil
		}
		h.mu.Lock()
		if h.peers[d.id] != p {
			h.mu.Unlock()
			return nil
		}
		p.addr = from
	}
	fresh := !p.connected
	out = p.take(&d)
	fresh = fresh && p.connected && p.err == nil
	h.mu.Unlock()
	if fresh {
		h.Peers(p)
	}
	return out
}

// authentic tells whether one of a datagram's messages is.
func (h *Host) authentic(data uint32, d *datagram) bool {
	for _, c := range d.commands {
		switch c.kind {
		case cmdReliable, cmdUnreliable, cmdUnsequenced:
			if h.Authentic != nil && h.Authentic(data, c.data) {
				return true
			}
		}
	}
	return false
}

// connect answers one who wants to connect. A repeated wish makes no second peer.
func (h *Host) connect(c *parsed, from netip.AddrPort) []packet {
	f := c.body[commandHeader:]
	id, data := be.Uint16(f), be.Uint32(f[40:])
	connectID := [4]byte(f[36:40])
	h.mu.Lock()
	for _, p := range h.peers {
		if p.addr == from && p.connectID == connectID {
			defer h.mu.Unlock()
			return p.verify()
		}
	}
	room := len(h.peers) < h.Most
	h.mu.Unlock()
	mtu, window, channels := be.Uint32(f[4:]), be.Uint32(f[8:]), be.Uint32(f[12:])
	if !room || id >= noID || channels < 1 || channels > 255 || mtu < leastMTU || !h.Accept(data, from) {
		return nil // as if nobody were here
	}
	p := newPeer(h, from, data, connectID)
	p.remoteID, p.channels = id, make([]channel, min(channels, maxChannels))
	p.mtu = int(min(mtu, mostMTU))
	p.window, p.throttle = min(window, mostWindow), [12]byte(f[24:36])
	session := func(asked uint8) uint8 { return (asked + 1) & sessionMask }
	p.session, p.remoteSession = session(f[3]), session(f[2])
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.peers) >= h.Most {
		return nil
	}
	for h.peers[h.nextID] != nil {
		h.nextID = (h.nextID + 1) % noID
	}
	p.id = h.nextID
	h.nextID = (h.nextID + 1) % noID
	h.peers[p.id] = p
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return p.verify()
}

// drop ends a peer. Called with mu held.
func (h *Host) drop(p *Peer, err error) {
	if p.err != nil {
		return
	}
	p.err = err
	delete(h.peers, p.id)
	close(p.done)
}

// Connected is how many clients there are, those that are connecting included.
func (h *Host) Connected() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.peers)
}
