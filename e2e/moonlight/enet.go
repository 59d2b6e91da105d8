package moonlight

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// enet is the client's end of a connection: as little as a test needs.
type enet struct {
	conn  *net.UDPConn
	began time.Time
	id    uint16 // that the server gave us, and the session
	left  chan struct{}
	once  sync.Once

	mu    sync.Mutex // guards what follows
	out   map[uint8]uint16
	in    map[uint8]uint16
	early map[uint8]map[uint16][]byte
	sent  map[uint32]waiting // by channel and number
}

// waiting is a command that was not acknowledged.
type waiting struct {
	bytes []byte
	last  time.Time
}

func (e *enet) header(id uint16, timed bool) []byte {
	if !timed {
		return be.AppendUint16(nil, id)
	}
	return be.AppendUint16(be.AppendUint16(nil, id|0x8000), uint16(time.Since(e.began).Milliseconds()))
}

func dialENet(ctx context.Context, addr string, data uint32) (*enet, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return nil, err
	}
	e := &enet{conn: conn, began: time.Now(), left: make(chan struct{}), out: map[uint8]uint16{0xFF: 1}, in: map[uint8]uint16{}, early: map[uint8]map[uint16][]byte{}, sent: map[uint32]waiting{}}
	b := append(e.header(0xFFF, true), 0x82, 0xFF, 0, 1, 0, 0, 0xFF, 0xFF)
	for _, n := range [...]uint32{900, 65536, 48, 0, 0, 5000, 2, 2, 0x11223344, data} {
		b = be.AppendUint32(b, n)
	}
	answer := make([]byte, 2048)
	for range 20 {
		if _, err := conn.Write(b); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		n, err := conn.Read(answer)
		if err != nil || n < 48 || answer[4]&0xF != 3 {
			if ctx.Err() != nil {
				break
			}
			continue
		}
		f := answer[8:n]
		if be.Uint32(f[24:]) != 5000 || be.Uint32(f[36:]) != 0x11223344 {
			return nil, errors.Join(errors.New("the server echoes something else"), conn.Close())
		}
		e.id = be.Uint16(f) | uint16(f[3])<<12
		_, err = conn.Write(append(e.header(e.id, false), 1, 0xFF, 0, 1, 0, 1, answer[2], answer[3]))
		return e, errors.Join(err, conn.SetReadDeadline(time.Time{}))
	}
	return nil, errors.Join(errors.New("no answer on the control port"), conn.Close())
}

// command sends a reliable command and remembers it.
func (e *enet) command(kind, channel uint8, rest []byte) error {
	e.mu.Lock()
	e.out[channel]++
	seq := e.out[channel]
	b := append([]byte{kind | 0x80, channel, byte(seq >> 8), byte(seq)}, rest...)
	e.sent[uint32(channel)<<16|uint32(seq)] = waiting{b, time.Now()}
	e.mu.Unlock()
	_, err := e.conn.Write(append(e.header(e.id, true), b...))
	return err
}

func (e *enet) send(channel uint8, m []byte) error {
	return e.command(6, channel, append(be.AppendUint16(nil, uint16(len(m))), m...))
}

// leave disconnects and waits a little for the answer.
func (e *enet) leave() {
	if e.command(4, 0xFF, []byte{0, 0, 0, 0}) != nil {
		return
	}
	for range 20 {
		e.mu.Lock()
		n := len(e.sent)
		e.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-e.left:
			return
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// run hears messages until the server leaves or ctx ends.
func (e *enet) run(ctx context.Context, hear func([]byte)) {
	defer e.conn.Close()
	defer e.once.Do(func() { close(e.left) })
	b := make([]byte, 4096)
	heard := time.Now()
	for ctx.Err() == nil && time.Since(heard) < 10*time.Second {
		if e.conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)) != nil {
			return
		}
		n, err := e.conn.Read(b)
		e.again()
		if err != nil || n < 4 {
			continue
		}
		heard = time.Now()
		if e.take(b[:n], hear) {
			return
		}
	}
}

// again repeats what was not acknowledged.
func (e *enet) again() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, w := range e.sent {
		if time.Since(w.last) > 200*time.Millisecond {
			e.sent[k] = waiting{w.bytes, time.Now()}
			_, _ = e.conn.Write(append(e.header(e.id, true), w.bytes...)) // it comes again
		}
	}
}

// take does what a datagram says; over tells that the server left.
func (e *enet) take(b []byte, hear func([]byte)) (over bool) {
	first := be.Uint16(b)
	b = b[2:]
	var stamp []byte
	if first&0x8000 != 0 {
		stamp, b = b[:2], b[2:]
	}
	sizes := map[uint8]int{1: 8, 3: 44, 4: 8, 5: 4, 6: 6, 7: 8, 9: 8, 10: 12, 11: 16}
	for len(b) >= 4 {
		kind, channel, seq := b[0]&0xF, b[1], be.Uint16(b[2:])
		size := sizes[kind]
		if size == 0 || len(b) < size {
			return false
		}
		c := b[:size]
		b = b[size:]
		if kind == 6 {
			n := int(be.Uint16(c[4:]))
			if n > len(b) {
				return false
			}
			e.deliver(channel, seq, b[:n:n], hear)
			b = b[n:]
		}
		if kind == 1 {
			e.mu.Lock()
			delete(e.sent, uint32(channel)<<16|uint32(be.Uint16(c[4:])))
			e.mu.Unlock()
		}
		if c[0]&0x80 != 0 && stamp != nil {
			_, _ = e.conn.Write(append(e.header(e.id, false), 1, channel, c[2], c[3], c[2], c[3], stamp[0], stamp[1])) // it comes again
		}
		if kind == 4 {
			return true
		}
	}
	return false
}

// deliver hands messages on in order.
func (e *enet) deliver(channel uint8, seq uint16, m []byte, hear func([]byte)) {
	if e.early[channel] == nil {
		e.early[channel] = map[uint16][]byte{}
	}
	if seq-e.in[channel]-1 > 0x8000 {
		return
	}
	e.early[channel][seq] = append([]byte(nil), m...)
	for {
		m, ok := e.early[channel][e.in[channel]+1]
		if !ok {
			return
		}
		e.in[channel]++
		delete(e.early[channel], e.in[channel])
		hear(m)
	}
}
