package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// What multicast DNS fixes.
const (
	multicastPort = 5353
	hops          = 255
)

const (
	maxWaiting  = 64 // packets that are not read yet; more are lost, which is what packets are for
	sendTimeout = 200 * time.Millisecond
	readAgain   = 100 * time.Millisecond
)

// group4 and group6 are whom questions and answers go to.
func group4() netip.Addr { return netip.AddrFrom4([4]byte{224, 0, 0, 251}) }
func group6() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xFF, 1: 0x02, 15: 0xFB}) }

// packet is one from the network.
type packet struct {
	data []byte
	from netip.AddrPort
	link int // index of the interface
}

// sockets are one for each family that this machine has.
type sockets struct {
	port    int
	v4      *ipv4.PacketConn // nil for none
	v6      *ipv6.PacketConn // nil for none
	packets chan packet
	closed  chan struct{}
	readers sync.WaitGroup
}

// openSockets opens the port, which others on this machine may have open too. Who
// gets them calls close.
func openSockets(ctx context.Context, port int) (*sockets, error) {
	s := &sockets{port: port, packets: make(chan packet, maxWaiting), closed: make(chan struct{})}
	lc := net.ListenConfig{Control: share}
	at := strconv.Itoa(port)
	c4, err4 := lc.ListenPacket(ctx, "udp4", net.JoinHostPort("0.0.0.0", at))
	if err4 == nil {
		v4 := ipv4.NewPacketConn(c4)
		err4 = errors.Join(v4.SetControlMessage(ipv4.FlagInterface, true), v4.SetMulticastTTL(hops), v4.SetMulticastLoopback(true))
		s.v4 = v4
	}
	c6, err6 := lc.ListenPacket(ctx, "udp6", net.JoinHostPort("::", at))
	if err6 == nil {
		v6 := ipv6.NewPacketConn(c6)
		err6 = errors.Join(v6.SetControlMessage(ipv6.FlagInterface, true), v6.SetMulticastHopLimit(hops), v6.SetMulticastLoopback(true))
		s.v6 = v6
	}
	if err4 != nil && err6 != nil { // most machines have IPv4, some IPv6
		s.close()
		return nil, errors.Join(err4, err6)
	}
	if s.v4 != nil {
		s.readers.Go(func() {
			s.read(func(b []byte) (int, int, net.Addr, error) {
				n, cm, from, err := s.v4.ReadFrom(b)
				if cm == nil {
					return n, 0, from, err
				}
				return n, cm.IfIndex, from, err
			})
		})
	}
	if s.v6 != nil {
		s.readers.Go(func() {
			s.read(func(b []byte) (int, int, net.Addr, error) {
				n, cm, from, err := s.v6.ReadFrom(b)
				if cm == nil {
					return n, 0, from, err
				}
				return n, cm.IfIndex, from, err
			})
		})
	}
	return s, nil
}

// share lets other programs have the port as well.
func share(_, _ string, c syscall.RawConn) error {
	var err error
	failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(failed, err)
}

// read reads until the sockets are closed.
func (s *sockets) read(from func([]byte) (n, link int, from net.Addr, err error)) {
	b := make([]byte, maxPacket)
	for {
		n, link, addr, err := from(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an interface is down, say
			select {
			case <-s.closed:
				return
			case <-time.After(readAgain):
				continue
			}
		}
		u, ok := addr.(*net.UDPAddr)
		if !ok {
			continue
		}
		a := u.AddrPort()
		p := packet{append([]byte(nil), b[:n]...), netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), link}
		select {
		case s.packets <- p:
		default:
		}
	}
}

// close closes the sockets and waits for their readers, which return at once.
func (s *sockets) close() {
	close(s.closed)
	if s.v4 != nil {
		_ = s.v4.Close() // nothing is to be kept
	}
	if s.v6 != nil {
		_ = s.v6.Close()
	}
	s.readers.Wait()
}

// families tells which a link has.
func (l *link) families() (four, six bool) {
	for _, p := range l.nets {
		if p.Addr().Is4() {
			four = true
		} else {
			six = true
		}
	}
	return four, six
}

// join listens to the group on a link, in the families that it has. The error is
// nil if one of them works, now or before.
func (s *sockets) join(l *link) error {
	four, six := l.families()
	err := errors.New("no address family in common")
	if four && s.v4 != nil {
		err = joined(s.v4.JoinGroup(&l.iface, &net.UDPAddr{IP: group4().AsSlice()}))
	}
	if six && s.v6 != nil {
		if err6 := joined(s.v6.JoinGroup(&l.iface, &net.UDPAddr{IP: group6().AsSlice()})); err6 == nil || !four {
			err = err6
		}
	}
	return err
}

func joined(err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return nil // it was before
	}
	return err
}

// sendAll sends to the group on a link, in both families if it has them. The error
// is nil if one of them works.
func (s *sockets) sendAll(l *link, b []byte) error {
	four, six := l.families()
	var sent bool
	var errs error
	if four && s.v4 != nil {
		err := s.send(l, netip.AddrPortFrom(group4(), uint16(s.port)), b)
		sent, errs = err == nil, err
	}
	if six && s.v6 != nil {
		err := s.send(l, netip.AddrPortFrom(group6(), uint16(s.port)), b)
		sent, errs = sent || err == nil, errors.Join(errs, err)
	}
	if sent {
		return nil
	}
	return errs
}

// send sends to one address on a link.
func (s *sockets) send(l *link, to netip.AddrPort, b []byte) error {
	u := net.UDPAddrFromAddrPort(to)
	deadline := time.Now().Add(sendTimeout)
	if to.Addr().Is4() {
		_ = s.v4.SetWriteDeadline(deadline) // sockets have one
		_, err := s.v4.WriteTo(b, &ipv4.ControlMessage{IfIndex: l.iface.Index, Src: l.from4.AsSlice()}, u)
		return err
	}
	_ = s.v6.SetWriteDeadline(deadline)
	u.Zone = l.iface.Name
	_, err := s.v6.WriteTo(b, &ipv6.ControlMessage{IfIndex: l.iface.Index}, u)
	return err
}
