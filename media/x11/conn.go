package x11

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"fenrir/media"
)

// The bounds of everything that waits for an X server.
const (
	DialBound  = 3 * time.Second // connect and handshake together
	WriteBound = 2 * time.Second // one request into the socket
	ReplyBound = 2 * time.Second // one answer, for Do, Reply and Check

	closeBound = time.Second // goroutines of a closed connection, which need microseconds
)

var (
	// ErrClosed is why calls fail after Close or after the end of Dial's context.
	ErrClosed = errors.New("x11: connection closed")
	// ErrHung is why calls fail after the X server did not read or answer within
	// the bounds. The connection is closed then.
	ErrHung = errors.New("x11: server does not answer")
	// ErrProtocol is why calls fail after the X server sent what X11 forbids.
	ErrProtocol = errors.New("x11: server breaks the protocol")
	// ErrEventsLost is returned once by Next or Poll after events had to be
	// dropped because the reader was too slow: look at the display's state anew.
	// The connection still works.
	ErrEventsLost = errors.New("x11: events lost")
)

// Conn is a connection to an X server. Its methods may be called from several
// goroutines at once.
type Conn struct {
	// X is for the request functions of xgb's packages. Each of them blocks at
	// most WriteBound. A cookie's own Reply or Check blocks until the answer,
	// Close, or the end of the context given to Dial: prefer Do, Reply and
	// Check of this package, which are bounded. Don't call X's event functions
	// nor an extension's Init.
	X *xgb.Conn
	// Setup is what the server told in the handshake.
	Setup *xproto.SetupInfo

	wire    *wire
	drained chan struct{} // closed when xgb's reader is gone
	release func() bool   // detaches from Dial's context

	use  sync.Mutex      // held while an extension is looked up, one at a time
	used map[string]bool // guarded by use: extensions that are ready
}

// xgb prints to stderr what callers get as errors anyway.
func init() { xgb.Logger = log.New(io.Discard, "", 0) }

// Dial connects to a display and shakes hands with it, within DialBound. ctx is
// the life of the connection: when it ends, the connection is closed and every
// pending call returns. The caller closes the Conn.
//
// Names are as in DISPLAY: ":7", ":7.0", "unix:7", "host:7", "[::1]:7", or the
// path of a unix socket. Without a Cookie, one is looked for in the file
// Authority, or, when that is empty too, in $XAUTHORITY or ~/.Xauthority; a
// display without any is tried without.
func Dial(ctx context.Context, display media.Display) (*Conn, error) {
	c, err := dial(ctx, display)
	if err != nil {
		return nil, fmt.Errorf("dial display %q: %w", display.Name, err)
	}
	return c, nil
}

func dial(ctx context.Context, display media.Display) (*Conn, error) {
	addr, err := parseName(display.Name)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, DialBound, ErrHung)
	defer cancel()

	conn, err := addr.connect(bounded)
	if err != nil {
		return nil, errors.Join(err, context.Cause(bounded))
	}
	proto, secret, err := authorization(display, addr, conn)
	if err != nil {
		_ = conn.Close() // nothing was sent yet, nothing can be lost
		return nil, err
	}
	stop := context.AfterFunc(bounded, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	setup, err := shake(conn, proto, secret)
	if !stop() && err == nil {
		err = context.Cause(bounded)
	}
	if err != nil {
		_ = conn.Close() // the handshake's error says it all
		if cause := context.Cause(bounded); cause != nil {
			err = cause
		}
		return nil, err
	}
	return wrap(ctx, conn, setup)
}

// wrap puts xgb on a connection whose handshake is over.
func wrap(ctx context.Context, conn net.Conn, setup []byte) (*Conn, error) {
	w := newWire(conn, setup)
	x, err := xgb.NewConnNet(w)
	if err != nil {
		_ = conn.Close() // never used
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	c := &Conn{X: x, wire: w, drained: make(chan struct{}), used: map[string]bool{}}
	go c.drain()
	c.Setup, err = parseSetup(x)
	if err != nil {
		c.Close()
		return nil, err
	}
	c.release = context.AfterFunc(ctx, func() { w.fail(fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx))) })
	return c, nil
}

// parseSetup reads the server's setup. xgb's parser indexes without checking,
// so a malformed setup is a panic there.
func parseSetup(x *xgb.Conn) (info *xproto.SetupInfo, err error) {
	defer func() {
		if r := recover(); r != nil {
			info, err = nil, fmt.Errorf("%w: malformed setup", ErrProtocol)
		}
	}()
	info = xproto.Setup(x)
	if len(info.Roots) == 0 {
		return nil, fmt.Errorf("%w: no screen", ErrProtocol)
	}
	return info, nil
}

// Screen is the first screen of the display, as the handshake told it: its size
// is that of the moment of the handshake.
func (c *Conn) Screen() *xproto.ScreenInfo { return &c.Setup.Roots[0] }

// Root is the root window of the first screen.
func (c *Conn) Root() xproto.Window { return c.Setup.Roots[0].Root }

// Close ends the connection, every call that waits on it and its goroutines. It
// waits for the latter, which have nothing left to wait for, and may be called
// again.
func (c *Conn) Close() {
	if c.release != nil {
		c.release()
	}
	c.wire.fail(ErrClosed)
	bound := time.NewTimer(closeBound)
	defer bound.Stop()
	select {
	case <-c.drained:
	case <-bound.C: // xgb waits for ever after an answer to a request that has none
	}
}

// Done is closed when the connection is over, for whatever reason.
func (c *Conn) Done() <-chan struct{} { return c.wire.done }

// Err says why the connection is over, nil while it is not: ErrClosed, ErrHung,
// ErrProtocol, or the error of the socket.
func (c *Conn) Err() error { return c.wire.err() }

// drain takes the errors of unchecked requests, which nobody waits for, and ends
// with xgb's goroutines. Events never come here: wire keeps them.
func (c *Conn) drain() {
	defer close(c.drained)
	for {
		ev, err := c.X.WaitForEvent()
		if ev == nil && err == nil {
			break
		}
		c.wire.unchecked.Add(1)
	}
	for { // xgb closes its id channel when its writer is gone
		if _, err := c.X.NewId(); errors.Is(err, io.EOF) {
			return
		}
	}
}

// UncheckedErrors counts the X errors that unchecked requests caused.
func (c *Conn) UncheckedErrors() uint64 { return c.wire.unchecked.Load() }

// Use looks extensions up by their X11 names ("RANDR", "DAMAGE", "XFIXES",
// "MIT-SHM", "XTEST", …) and makes their requests, events and errors usable on
// this connection. It stands in place of an extension package's Init, which must
// not be called. The package has to be imported. It blocks at most ReplyBound
// for each extension.
func (c *Conn) Use(ctx context.Context, extensions ...string) error {
	c.use.Lock()
	defer c.use.Unlock()
	for _, name := range extensions {
		if c.used[name] {
			continue
		}
		reply, err := Do(ctx, c, func(x *xgb.Conn) (*xproto.QueryExtensionReply, error) {
			return xproto.QueryExtension(x, uint16(len(name)), name).Reply()
		})
		if err != nil {
			return fmt.Errorf("look up X extension %s: %w", name, err)
		}
		if !reply.Present {
			return fmt.Errorf("no X extension %s: %w", name, errors.ErrUnsupported)
		}
		c.wire.register(name, reply.FirstEvent, reply.FirstError)
		c.X.ExtLock.Lock()
		c.X.Extensions[name] = reply.MajorOpcode
		c.X.ExtLock.Unlock()
		c.used[name] = true
	}
	return nil
}

// Next returns the next event. It blocks until there is one, ctx ends, or the
// connection is over. ErrEventsLost is returned once after events were dropped;
// every other error is final.
func (c *Conn) Next(ctx context.Context) (xgb.Event, error) {
	for {
		ev, err := c.Poll()
		if ev != nil || err != nil {
			return ev, err
		}
		select {
		case <-c.wire.ready:
		case <-c.wire.done: // Poll says why, after the last event
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Poll returns the next event, or nil when none waits. It does not block.
// Errors are as those of Next.
func (c *Conn) Poll() (xgb.Event, error) {
	if ev, err := c.wire.next(); ev != nil || err != nil {
		return ev, err
	}
	select {
	case <-c.wire.done:
		return nil, c.Err()
	default:
		return nil, nil
	}
}

// Ready receives a value when there may be events for Poll: take all of them
// before waiting on it again. One goroutine at a time may wait on Ready or Next.
func (c *Conn) Ready() <-chan struct{} { return c.wire.ready }

// Do runs f, which sends requests and waits for their answers, and returns its
// result, within ReplyBound. When ctx ends first, Do returns its cause at once,
// and f is left to end by itself (within the bound) with its result thrown away.
// When the bound passes, the connection is closed and the error is ErrHung.
func Do[T any](ctx context.Context, c *Conn, f func(x *xgb.Conn) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var zero T
	if err := c.Err(); err != nil {
		return zero, err
	}
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	out := make(chan result, 1)
	bound := time.AfterFunc(ReplyBound, func() { c.wire.fail(ErrHung) })
	go func() {
		v, err := f(c.X)
		bound.Stop()
		out <- result{v, err}
	}()
	select {
	case r := <-out:
		if r.err != nil {
			if why := c.Err(); why != nil {
				return zero, why
			}
		}
		return r.value, r.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}

// Reply waits for the answer of a request that was sent already. It behaves as Do.
func Reply[T any](ctx context.Context, c *Conn, cookie interface{ Reply() (T, error) }) (T, error) {
	return Do(ctx, c, func(*xgb.Conn) (T, error) { return cookie.Reply() })
}

// Check waits until a checked request without an answer has succeeded or failed.
// It behaves as Do.
func Check(ctx context.Context, c *Conn, cookie interface{ Check() error }) error {
	_, err := Do(ctx, c, func(*xgb.Conn) (struct{}, error) { return struct{}{}, cookie.Check() })
	return err
}
