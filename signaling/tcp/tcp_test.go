package tcp

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, most int) net.Listener {
	t.Helper()
	l, err := Listen("127.0.0.1:0", most, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConnectionsBeyondTheLimitAreClosed(t *testing.T) {
	t.Parallel()
	l := listen(t, 2)
	accepted := make(chan net.Conn, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial(t, l)
	dial(t, l)
	first, second := <-accepted, <-accepted
	defer second.Close()
	beyond := dial(t, l)
	if err := beyond.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := beyond.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the third connection: %v, want its end", err)
	}
	first.Close()
	first.Close() // counts once
	dial(t, l)
	select {
	case c := <-accepted:
		c.Close()
	case <-time.After(5 * time.Second):
		t.Error("no connection after one has ended")
	}
	l.Close()
	<-done
}

// poor has no files left for some attempts.
type poor struct {
	net.Listener
	failures int
}

func (p *poor) Accept() (net.Conn, error) {
	if p.failures--; p.failures >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return p.Listener.Accept()
}

func TestItGoesOnWhenFilesRunOut(t *testing.T) {
	t.Parallel()
	inner := listen(t, 8)
	l := outlive(&poor{inner, 5}, 8, slog.New(slog.DiscardHandler))
	dial(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestTheEndComesWhileWaitingForFiles(t *testing.T) {
	t.Parallel()
	l := outlive(&poor{listen(t, 8), 1 << 30}, 8, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	l.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v, want net.ErrClosed", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Accept goes on")
	}
}

func TestConnectionsHaveTheirBounds(t *testing.T) {
	t.Parallel()
	l := listen(t, 8)
	dial(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*conn).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for name, want := range map[int]int{unix.TCP_USER_TIMEOUT: 12_000, unix.TCP_KEEPIDLE: 6, unix.TCP_KEEPINTVL: 3, unix.TCP_KEEPCNT: 3} {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name); err != nil || got != want {
				t.Errorf("socket option %d is %d, %v; want %d", name, got, err, want)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}
