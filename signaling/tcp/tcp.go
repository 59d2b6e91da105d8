// Package tcp opens TCP ports that outlive whatever clients do to them. It
// imports nothing of ours.
package tcp

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// DeadAfter is how long a client may be unreachable, or take nothing of what it
// is sent, until the kernel ends its connection.
const DeadAfter = 12 * time.Second

// probes find out about connections on which nothing is said.
var probes = net.KeepAliveConfig{Enable: true, Idle: DeadAfter / 2, Interval: DeadAfter / 4, Count: 3}

// Waits between attempts to accept when there are no files left.
const (
	firstWait = 5 * time.Millisecond
	maxWait   = time.Second
)

// Listen opens a port for at most most connections at a time; those beyond are
// closed at once, so that the files of the process are not all spent on
// strangers. Accept fails only after Close: what is short today, files or
// memory, is there again tomorrow.
func Listen(addr string, most int, log *slog.Logger) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return outlive(l, most, log), nil
}

// boundSilence makes the kernel end c when its client is silent. That is best
// effort: a client that has gone is told by the next read, and one that speaks
// multipath TCP knows no such bound.
func boundSilence(c net.Conn) {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tc.SetKeepAliveConfig(probes)
	if raw, err := tc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(DeadAfter.Milliseconds()))
		})
	}
}

func outlive(l net.Listener, most int, log *slog.Logger) *listener {
	return &listener{Listener: l, most: int64(most), closed: make(chan struct{}), log: log.With("listener", l.Addr().String())}
}

type listener struct {
	net.Listener
	most int64
	log  *slog.Logger

	open   atomic.Int64
	once   sync.Once
	closed chan struct{}

	// Accept's own; it is called by one goroutine at a time.
	shed uint64
	told time.Time
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	wait := firstWait
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			if l.open.Add(1) <= l.most {
				boundSilence(c)
				return &conn{Conn: c, of: l}, nil
			}
			l.open.Add(-1)
			_ = c.Close() // it was told nothing and sent nothing
			l.tell("too many connections, closing new ones", "most", l.most)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		l.tell("accept a connection, trying again", "err", err)
		select {
		case <-time.After(wait):
		case <-l.closed:
			return nil, net.ErrClosed
		}
		wait = min(2*wait, maxWait)
	}
}

// tell logs at most once a second.
func (l *listener) tell(msg string, args ...any) {
	l.shed++
	if now := time.Now(); now.Sub(l.told) >= time.Second {
		l.log.Warn(msg, append(args, "times", l.shed)...)
		l.shed, l.told = 0, now
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn counts itself out once.
type conn struct {
	net.Conn
	of   *listener
	once sync.Once
}

// CloseWrite tells the client that nothing more comes; what it says can still be
// read.
func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { c.of.open.Add(-1) })
	return c.Conn.Close()
}
