package enet

import (
	"bytes"
	"context"
	"net/netip"
	"time"
)

// Bounds of a peer.
const (
	maxChannels   = 64
	mostWindow    = 65536
	maxAhead      = 256      // reliable commands that wait for one before them, of one channel
	maxWaiting    = 1024     // messages that wait to be received
	maxUnanswered = 256      // reliable commands that wait to be acknowledged
	maxMessage    = 64 << 10 // bytes of one that came in fragments
	firstRTT      = 500 * time.Millisecond
	leastRetry    = 30 * time.Millisecond
	mostRetry     = 2 * time.Second
	maxBackoff    = 2     // times the first wait
	perMessage    = 6 + 4 // bytes that a message needs besides itself
)

// Message is one that a client sent. Data belongs to whoever receives it.
type Message struct {
	Channel uint8
	Data    []byte
}

// channel is one order of messages.
type channel struct {
	in, out uint16            // the last reliable one that was delivered, or sent
	lossy   uint16            // the last unreliable one since
	ahead   map[uint16]parsed // reliable commands that came too early; copies
	whole   []byte            // fragments so far
	missing uint32            // fragments to come
}

// unanswered is a reliable command of ours.
type unanswered struct {
	channel  uint8
	seq      uint16
	bytes    []byte // the command
	first    time.Time
	last     time.Time
	attempts int
}

// Peer is one client. It ends by itself; Done says when.
type Peer struct {
	host *Host
	data uint32
	done chan struct{}
	wake chan struct{} // 1 slot: a message
	free chan struct{} // 1 slot: something was acknowledged

	// Everything below is guarded by Host.mu; what connect sets does not change.
	addr          netip.AddrPort
	id, remoteID  uint16
	session       uint8 // of what comes
	remoteSession uint8 // of what is sent
	connectID     [4]byte
	throttle      [12]byte
	mtu           int
	window        uint32
	channels      []channel
	control       uint16 // the last sequence number of the connection itself
	connected     bool
	leaving       time.Time
	began, heard  time.Time
	spoke         time.Time
	sent          []unanswered
	rtt, variance time.Duration
	messages      []Message
	err           error // why it is over
}

func newPeer(h *Host, from netip.AddrPort, data uint32, connectID [4]byte) *Peer {
	now := time.Now()
	return &Peer{
		host: h, addr: from, data: data, connectID: connectID, began: now, heard: now, spoke: now, rtt: firstRTT,
		done: make(chan struct{}), wake: make(chan struct{}, 1), free: make(chan struct{}, 1), control: 1,
	}
}

// Data is the number that the client connected with.
func (p *Peer) Data() uint32 { return p.data }

// Done is closed when the peer is over; Err says why.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Err is why the peer is over, nil while it is not.
func (p *Peer) Err() error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return p.err
}

// Addr is where the client is now.
func (p *Peer) Addr() netip.AddrPort {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return p.addr
}

// RTT is the round-trip time, smoothed; half a second until it was measured.
func (p *Peer) RTT() time.Duration {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return p.rtt
}

// Receive blocks until there is a message, ctx ends, or the peer is over and
// everything that came before was received.
func (p *Peer) Receive(ctx context.Context) (Message, error) {
	for {
		p.host.mu.Lock()
		if len(p.messages) > 0 {
			m := p.messages[0]
			p.messages = append(p.messages[:0], p.messages[1:]...)
			p.host.mu.Unlock()
			return m, nil
		}
		err := p.err
		p.host.mu.Unlock()
		if err != nil {
			return Message{}, err
		}
		select {
		case <-p.wake:
		case <-p.done:
		case <-ctx.Done():
			return Message{}, context.Cause(ctx)
		}
	}
}

// Send sends a message reliably. It does not block: ErrFull when the client does
// not acknowledge, ErrTooLong, or why the peer is over.
func (p *Peer) Send(on uint8, message []byte) error {
	h := p.host
	h.mu.Lock()
	if p.err != nil {
		defer h.mu.Unlock()
		return p.err
	}
	if int(on) >= len(p.channels) {
		on = 0 // as clients do
	}
	if len(message) > p.mtu-4-perMessage {
		h.mu.Unlock()
		return ErrTooLong
	}
	if len(p.sent) >= maxUnanswered {
		h.mu.Unlock()
		return ErrFull
	}
	c := &p.channels[on]
	c.out++
	b := appendCommand(nil, cmdReliable, flagAcknowledge, on, c.out)
	out := p.transmit(on, c.out, append(be.AppendUint16(b, uint16(len(message))), message...))
	h.mu.Unlock()
	h.send(out)
	return nil
}

// Acknowledged blocks until the client has acknowledged everything that was sent,
// ctx ends, or the peer is over.
func (p *Peer) Acknowledged(ctx context.Context) error {
	for {
		p.host.mu.Lock()
		n, err := len(p.sent), p.err
		p.host.mu.Unlock()
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		select {
		case <-p.free:
		case <-p.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Disconnect tells the client that it is over and does not block; the peer is over
// when the client has acknowledged that, or after a second.
func (p *Peer) Disconnect() {
	h := p.host
	h.mu.Lock()
	var out []packet
	if p.err == nil && p.leaving.IsZero() {
		p.leaving = time.Now()
		p.control++
		out = p.transmit(wholeConnection, p.control, be.AppendUint32(appendCommand(nil, cmdDisconnect, flagAcknowledge, wholeConnection, p.control), 0))
	}
	h.mu.Unlock()
	h.send(out)
}

// farewell is a disconnect that wants no answer.
func (p *Peer) farewell() packet {
	b := appendHeader(nil, p.remoteID, p.remoteSession, false, 0)
	return packet{p.addr, be.AppendUint32(appendCommand(b, cmdDisconnect, flagUnsequenced, wholeConnection, 0), 0)}
}

// verify answers a connect.
func (p *Peer) verify() []packet {
	b := appendHeader(nil, p.remoteID, p.remoteSession, true, p.host.now())
	b = appendCommand(b, cmdVerifyConnect, flagAcknowledge, wholeConnection, 1)
	b = append(be.AppendUint16(b, p.id), p.remoteSession, p.session)
	for _, n := range [...]uint32{uint32(p.mtu), p.window, uint32(len(p.channels)), 0, 0} {
		b = be.AppendUint32(b, n)
	}
	b = append(append(b, p.throttle[:]...), p.connectID[:]...)
	return []packet{{p.addr, b}}
}

// transmit sends a reliable command for the first time.
func (p *Peer) transmit(on uint8, seq uint16, command []byte) []packet {
	now := time.Now()
	p.sent = append(p.sent, unanswered{on, seq, command, now, now, 1})
	p.spoke = now
	return []packet{p.timed(command)}
}

func (p *Peer) timed(command []byte) packet {
	return packet{p.addr, append(appendHeader(nil, p.remoteID, p.remoteSession, true, p.host.now()), command...)}
}

// due does what has become due.
func (p *Peer) due(now time.Time, out []packet) []packet {
	switch {
	case !p.connected && now.Sub(p.began) > verifyTimeout, now.Sub(p.heard) > p.host.Patience:
		p.host.drop(p, ErrLost)
		return out
	case !p.leaving.IsZero() && now.Sub(p.leaving) > leaveTimeout:
		p.host.drop(p, ErrClosed)
		return append(out, p.farewell())
	}
	wait := min(max(p.rtt+4*p.variance, leastRetry), mostRetry)
	for i := range p.sent {
		u := &p.sent[i]
		if now.Sub(u.first) > p.host.Patience {
			p.host.drop(p, ErrLost)
			return out
		}
		if now.Sub(u.last) > wait*time.Duration(min(u.attempts, maxBackoff)) {
			u.last = now
			u.attempts++
			out = append(out, p.timed(u.bytes))
			p.spoke = now
		}
	}
	if p.connected && len(p.sent) == 0 && now.Sub(p.spoke) > pingAfter {
		p.control++
		out = append(out, p.transmit(wholeConnection, p.control, appendCommand(nil, cmdPing, flagAcknowledge, wholeConnection, p.control))...)
	}
	return out
}

// take does what a datagram says, and returns what is to be sent: acknowledgements.
func (p *Peer) take(d *datagram) []packet {
	p.heard = time.Now()
	var acks []byte
	for i := range d.commands {
		c := &d.commands[i]
		took := p.obey(c, d)
		if took && c.flags&flagAcknowledge != 0 {
			if acks == nil {
				acks = appendHeader(nil, p.remoteID, p.remoteSession, false, 0)
			}
			acks = appendAck(acks, c, d.sent)
		}
		if p.err != nil {
			break
		}
	}
	if acks == nil {
		return nil
	}
	return []packet{{p.addr, acks}}
}

// obey does what one command says and tells whether it is to be acknowledged.
func (p *Peer) obey(c *parsed, d *datagram) bool {
	switch c.kind {
	case cmdAcknowledge:
		p.acknowledged(c)
		return false
	case cmdConnect, cmdVerifyConnect, cmdUnreliableFragment:
		return false // no client sends these here
	}
	p.connected = true // it knows what we answered
	switch c.kind {
	case cmdDisconnect:
		p.host.drop(p, ErrLeft)
		return true
	case cmdReliable, cmdFragment:
		return p.reliable(c)
	case cmdUnreliable, cmdUnsequenced:
		p.unreliable(c)
	}
	return true
}

func (p *Peer) acknowledged(c *parsed) {
	seq, sent := be.Uint16(c.body[4:]), be.Uint16(c.body[6:])
	if c.channel == wholeConnection && seq == 1 {
		p.connected = true // of the answer to its connect, which is not sent again by itself
		p.measure(sent)
		return
	}
	for i, u := range p.sent {
		if u.channel != c.channel || u.seq != seq {
			continue
		}
		p.measure(sent)
		left := !p.leaving.IsZero() && command(u.bytes[0]&commandMask) == cmdDisconnect
		p.sent = append(p.sent[:i], p.sent[i+1:]...)
		if left {
			p.host.drop(p, ErrClosed)
		}
		select {
		case p.free <- struct{}{}:
		default:
		}
		return
	}
}

// measure smooths the round-trip time as TCP does (RFC 6298).
func (p *Peer) measure(sent uint16) {
	took := time.Duration(p.host.now()-sent) * time.Millisecond
	if took > mostRetry*maxBackoff {
		return // not a time that we sent
	}
	took = max(took, time.Millisecond)
	if p.rtt == firstRTT && p.variance == 0 {
		p.rtt, p.variance = took, took/2
		return
	}
	p.variance += ((took - p.rtt).Abs() - p.variance) / 4
	p.rtt += (took - p.rtt) / 8
}

// reliable takes a command that has its place in a channel's order. It tells whether
// it was taken, or was before.
func (p *Peer) reliable(c *parsed) bool {
	if int(c.channel) >= len(p.channels) {
		return false
	}
	ch := &p.channels[c.channel]
	distance := c.seq - ch.in
	switch {
	case distance == 0 || distance > 0x8000:
		return true // once more
	case len(p.messages) >= maxWaiting:
		return false // it will come again
	case distance > 1:
		if distance > maxAhead {
			return false
		}
		if ch.ahead == nil {
			ch.ahead = make(map[uint16]parsed)
		}
		if _, there := ch.ahead[c.seq]; !there {
			early := *c
			early.body, early.data = bytes.Clone(c.body), bytes.Clone(c.data)
			ch.ahead[c.seq] = early
		}
		return true
	}
	p.inOrder(ch, c)
	for {
		early, there := ch.ahead[ch.in+1]
		if !there {
			return true
		}
		delete(ch.ahead, ch.in+1)
		p.inOrder(ch, &early)
	}
}

// inOrder takes the next reliable command of a channel.
func (p *Peer) inOrder(ch *channel, c *parsed) {
	ch.in, ch.lossy = c.seq, 0
	if c.kind == cmdReliable {
		ch.whole, ch.missing = nil, 0
		p.deliver(c.channel, c.data)
		return
	}
	count, number, total := be.Uint32(c.body[8:]), be.Uint32(c.body[12:]), be.Uint32(c.body[16:])
	if number == 0 {
		ch.whole, ch.missing = nil, count
	}
	if ch.missing == 0 || number != count-ch.missing || total > maxMessage || len(ch.whole)+len(c.data) > int(total) {
		ch.whole, ch.missing = nil, 0 // not fragments of one message
		return
	}
	ch.whole = append(ch.whole, c.data...)
	if ch.missing--; ch.missing == 0 {
		if len(ch.whole) == int(total) {
			p.deliver(c.channel, ch.whole)
		}
		ch.whole = nil
	}
}

// unreliable takes a message if nothing newer came, and drops it where it would have
// to wait.
func (p *Peer) unreliable(c *parsed) {
	if int(c.channel) >= len(p.channels) || len(p.messages) >= maxWaiting {
		return
	}
	if c.kind == cmdUnreliable {
		ch := &p.channels[c.channel]
		n := be.Uint16(c.body[4:])
		if c.seq != ch.in || n == ch.lossy || n-ch.lossy > 0x8000 {
			return
		}
		ch.lossy = n
	}
	p.deliver(c.channel, c.data)
}

func (p *Peer) deliver(on uint8, data []byte) {
	p.messages = append(p.messages, Message{on, bytes.Clone(data)})
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
