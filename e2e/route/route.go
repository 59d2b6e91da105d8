// Package route is a network path for tests: two network namespaces joined by
// TUN devices and a relay, which delays, loses, holds and queues packets as it
// is told, while it runs. What runs in the namespaces are real programs with
// real sockets: nothing of them knows.
//
// It needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN), /dev/net/tun and iproute2; where
// one is missing, New says so with ErrUnavailable. It imports nothing of ours.
package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnavailable is wrapped by New's error on a machine that cannot do this.
var ErrUnavailable = errors.New("no network namespaces with TUN devices here")

// End is one side of a Route, a network namespace.
type End struct {
	Name string     // of the namespace, for `ip netns exec`
	Addr netip.Addr // its address on the link
	tun  *os.File
}

// Route joins two ends. Close takes it away.
type Route struct {
	A, B End
	// ToB and ToA are the two directions.
	ToB, ToA *Way

	ctx  context.Context // for commands that take it away again
	stop context.CancelFunc
	done sync.WaitGroup
}

// New makes the namespaces and starts the relay, with no shape at all. name
// tells links of one machine apart; it is at most 8 letters and digits. ctx bounds
// the relay's life.
func New(ctx context.Context, name string) (l *Route, err error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: not root", ErrUnavailable)
	}
	l = &Route{
		ctx: context.WithoutCancel(ctx),
		A:   End{Name: "fen" + name + "a", Addr: netip.MustParseAddr("10.213.0.1")},
		B:   End{Name: "fen" + name + "b", Addr: netip.MustParseAddr("10.213.0.2")},
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	for i, e := range []*End{&l.A, &l.B} {
		if err := e.make(ctx, []netip.Addr{l.B.Addr, l.A.Addr}[i]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.ToB, l.ToA = newWay(1), newWay(2)
	l.done.Add(2)
	go func() { defer l.done.Done(); l.ToB.run(ctx, l.A.tun, l.B.tun) }()
	go func() { defer l.done.Done(); l.ToA.run(ctx, l.B.tun, l.A.tun) }()
	return l, nil
}

// Set gives both directions one shape.
func (l *Route) Set(s Shape) {
	l.ToB.Set(s)
	l.ToA.Set(s)
}

// Close ends the relay and takes the namespaces away. Programs in them lose
// their network; ending them is the caller's.
func (l *Route) Close() {
	if l.stop != nil {
		l.stop()
	}
	for _, e := range []*End{&l.A, &l.B} {
		if e.tun != nil {
			e.tun.Close() // read only from here on
		}
	}
	l.done.Wait()
	for _, e := range []*End{&l.A, &l.B} {
		_ = ip(l.ctx, "netns", "delete", e.Name) // may never have been made
	}
}

// make creates the namespace with its TUN device.
func (e *End) make(ctx context.Context, peer netip.Addr) error {
	_ = ip(ctx, "netns", "delete", e.Name) // what a killed test left
	if err := ip(ctx, "netns", "add", e.Name); err != nil {
		return err
	}
	tun, dev, err := openTUN()
	if err != nil {
		return err
	}
	e.tun = tun
	in := func(args ...string) error { return ip(ctx, append([]string{"-n", e.Name}, args...)...) }
	for _, f := range []func() error{
		func() error { return ip(ctx, "link", "set", dev, "netns", e.Name) },
		func() error { return in("link", "set", "lo", "up") },
		func() error { return in("addr", "add", e.Addr.String(), "peer", peer.String(), "dev", dev) },
		func() error { return in("link", "set", dev, "mtu", "1500", "txqueuelen", "1000", "up") },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// Wrap is the command line that runs a program in the namespace.
func (e *End) Wrap(command ...string) []string {
	return append([]string{"ip", "netns", "exec", e.Name}, command...)
}

// DialContext connects from within the namespace; the connection can be used
// from anywhere. The address must be a literal one.
func (e *End) DialContext(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	e.in(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	}, &err)
	return conn, err
}

// ListenPacket opens a socket within the namespace.
func (e *End) ListenPacket(network, addr string) (conn net.PacketConn, err error) {
	e.in(func() error {
		conn, err = net.ListenPacket(network, addr)
		return err
	}, &err)
	return conn, err
}

// in runs f on a thread that is in the namespace. The thread is not used for
// anything else afterwards: it ends with its goroutine.
func (e *End) in(f func() error, err *error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		ns, oerr := os.Open("/run/netns/" + e.Name)
		if oerr != nil {
			*err = oerr
			return
		}
		defer ns.Close()
		if serr := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); serr != nil {
			*err = fmt.Errorf("enter namespace %s: %w", e.Name, serr)
			return
		}
		*err = f()
	}()
	<-done
}

// openTUN makes a TUN device in the namespace of this process.
func openTUN() (f *os.File, name string, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq("fentun%d")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, "", fmt.Errorf("make a TUN device: %w", err)
	}
	name = req.Name()
	return os.NewFile(uintptr(fd), name), name, nil
}

func ip(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
