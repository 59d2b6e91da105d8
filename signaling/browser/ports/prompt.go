package ports

import (
	"net"

	"golang.org/x/sys/unix"
)

// maxUnsent is how many bytes the kernel takes of a TCP connection that the path
// has not taken yet. Otherwise it takes megabytes, and what a player sees is
// seconds old before anyone notices.
const maxUnsent = 32 << 10

// promptListener bounds what waits in the connections that it accepts.
type promptListener struct{ net.Listener }

func (l promptListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok {
		if raw, err := t.SyscallConn(); err == nil {
			// Best effort: without it the connection works, and its queue is longer.
			_ = raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
			})
		}
	}
	return c, nil
}
