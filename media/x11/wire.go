package x11

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jezek/xgb"
)

const (
	ringSize = 1024     // events kept for a slow reader
	maxReply = 64 << 20 // bytes of one answer; a 3840×2160 image is 33 MB
)

// wire stands between xgb and the socket. It bounds writes, answers xgb's
// handshake from the one that has already been made, takes the events out of
// what the server sends, and gives xgb answers and errors that are well-formed
// only: xgb can deadlock or panic on others.
type wire struct {
	net.Conn
	in *bufio.Reader

	// Used by xgb's reader only.
	replay []byte // the server's side of the handshake, still to be read by xgb
	head   []byte // rest of a packet's first 32 bytes, still to be read by xgb
	body   int64  // bytes after head that pass through
	acked  uint64 // sequence number of the newest answer

	sent      atomic.Uint64 // requests written, which is the newest sequence number
	shaken    atomic.Bool   // xgb has written its handshake
	unchecked atomic.Uint64 // see Conn.UncheckedErrors
	codes     atomic.Pointer[codes]

	mu   sync.Mutex  // guards ring, lost, why
	ring []xgb.Event // oldest first
	lost bool
	why  error

	ready chan struct{} // capacity 1: ring or lost changed
	done  chan struct{} // closed when the connection is over
}

// codes translates the numbers that one X server gave to events and errors.
type codes struct {
	events [128]xgb.NewEventFun
	errors [256]byte // to the numbers in xgb.NewErrorFuncs
}

// unknownCode stands for errors of extensions that nobody asked for.
const unknownCode = 255

// base is the codes of a server without extensions, and errors the numbers under
// which the errors of all extensions that the program imports were put into
// xgb.NewErrorFuncs: once, before any connection reads it.
var base = sync.OnceValue(func() (b struct {
	codes
	errors map[string]map[int]byte
}) {
	for code, f := range xgb.NewEventFuncs {
		if code < 64 {
			b.events[code] = f
		}
	}
	for code := range b.codes.errors {
		b.codes.errors[code] = unknownCode
		if xgb.NewErrorFuncs[code] != nil {
			b.codes.errors[code] = byte(code)
		}
	}
	b.errors = map[string]map[int]byte{}
	free := 128
	for name, funcs := range maps.All(xgb.NewExtErrorFuncs) {
		b.errors[name] = map[int]byte{}
		for n, f := range funcs {
			if free == unknownCode {
				panic("x11: more extension errors than numbers")
			}
			xgb.NewErrorFuncs[free] = f
			b.errors[name][n] = byte(free)
			free++
		}
	}
	for code := 128; code < 256; code++ {
		b.codes.errors[code] = unknownCode
	}
	xgb.NewErrorFuncs[unknownCode] = newUnknownError
	return b
})

func newWire(conn net.Conn, setup []byte) *wire {
	w := &wire{
		Conn:   conn,
		in:     bufio.NewReaderSize(conn, 16<<10),
		replay: setup,
		ready:  make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	c := base().codes
	w.codes.Store(&c)
	return w
}

// register makes the events and errors of an extension known. Only one call at
// a time.
func (w *wire) register(extension string, firstEvent, firstError byte) {
	c := *w.codes.Load()
	for n, f := range xgb.NewExtEventFuncs[extension] {
		if code := int(firstEvent) + n; code < len(c.events) {
			c.events[code] = f
		}
	}
	for n, to := range base().errors[extension] {
		if code := int(firstError) + n; code < len(c.errors) {
			c.errors[code] = to
		}
	}
	w.codes.Store(&c)
}

// fail ends the connection; the first reason wins.
func (w *wire) fail(why error) {
	w.mu.Lock()
	first := w.why == nil
	if first {
		w.why = why
	}
	w.mu.Unlock()
	if first {
		close(w.done)
		_ = w.Conn.Close() // the reason is kept; a second one is of no use
	}
}

func (w *wire) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// Close is called by xgb when it gives up; why is known by then, unless the
// server hung up.
func (w *wire) Close() error {
	w.fail(ErrClosed)
	return nil
}

// Write sends one request: xgb writes each with one call.
func (w *wire) Write(p []byte) (int, error) {
	if !w.shaken.Swap(true) {
		return len(p), nil // xgb's handshake, made already
	}
	if err := w.SetWriteDeadline(time.Now().Add(WriteBound)); err != nil {
		w.fail(fmt.Errorf("write to display: %w", err))
		return 0, err
	}
	w.sent.Add(1)
	n, err := w.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.fail(ErrHung)
	} else if err != nil {
		w.fail(fmt.Errorf("write to display: %w", err))
	}
	return n, err
}

// Read gives xgb's reader the next bytes of answers and errors, and puts events
// into the ring on the way.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.replay) > 0 {
		n := copy(p, w.replay)
		w.replay = w.replay[n:]
		return n, nil
	}
	for len(w.head) == 0 && w.body == 0 {
		if err := w.packet(); err != nil {
			w.fail(err)
			return 0, err
		}
	}
	if len(w.head) > 0 {
		n := copy(p, w.head)
		w.head = w.head[n:]
		return n, nil
	}
	n, err := w.in.Read(p[:min(int64(len(p)), w.body)])
	w.body -= int64(n)
	if err != nil {
		err = fmt.Errorf("read from display: %w", err)
		w.fail(err)
	}
	return n, err
}

// packet reads the first 32 bytes of the next thing that the server sent.
func (w *wire) packet() error {
	buf := make([]byte, 32)
	if _, err := io.ReadFull(w.in, buf); err != nil {
		return fmt.Errorf("read from display: %w", err)
	}
	codes := w.codes.Load()
	switch buf[0] {
	case 0:
		buf[1] = codes.errors[buf[1]]
		w.head = buf
		return w.answers(binary.LittleEndian.Uint16(buf[2:]))
	case 1:
		w.body = 4 * int64(binary.LittleEndian.Uint32(buf[4:]))
		if w.body > maxReply {
			return fmt.Errorf("%w: answer of %d bytes", ErrProtocol, w.body)
		}
		w.head = buf
		return w.answers(binary.LittleEndian.Uint16(buf[2:]))
	}
	const generic = 35
	code := buf[0] & 127
	if code == generic { // the only event with a tail; no package of xgb knows one
		tail := 4 * int64(binary.LittleEndian.Uint32(buf[4:]))
		if tail > maxReply {
			return fmt.Errorf("%w: event of %d bytes", ErrProtocol, tail)
		}
		if _, err := io.CopyN(io.Discard, w.in, tail); err != nil {
			return fmt.Errorf("read from display: %w", err)
		}
		return nil
	}
	if f := codes.events[code]; f != nil {
		w.push(f(buf))
	}
	return nil
}

// answers checks that seq belongs to a request that has no answer yet: xgb
// waits for ever for the request of any other.
func (w *wire) answers(seq uint16) error {
	full := w.acked&^0xffff | uint64(seq)
	if full <= w.acked {
		full += 1 << 16
	}
	if full > w.sent.Load() {
		return fmt.Errorf("%w: answer to a request that was not made", ErrProtocol)
	}
	w.acked = full
	return nil
}

func (w *wire) push(ev xgb.Event) {
	w.mu.Lock()
	if len(w.ring) == ringSize {
		w.ring = w.ring[:0] // what is left would be a past with a hole in it
		w.lost = true
	}
	w.ring = append(w.ring, ev)
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// next takes the oldest event out of the ring.
func (w *wire) next() (xgb.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost {
		w.lost = false
		return nil, ErrEventsLost
	}
	if len(w.ring) == 0 {
		return nil, nil
	}
	ev := w.ring[0]
	w.ring[0] = nil
	if w.ring = w.ring[1:]; len(w.ring) == 0 {
		w.ring = nil
	}
	return ev, nil
}
