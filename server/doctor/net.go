package doctor

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// TCPPort checks that a TCP address can be listened on, or that this configuration's
// own server does: ours tells whether one answers on HTTPS.
func TCPPort(addr string, ours func(context.Context) bool) func(context.Context) Result {
	return func(ctx context.Context) Result {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err == nil {
			if err := l.Close(); err != nil {
				return Failf("", "TCP %s could be opened and not closed: %v.", addr, err)
			}
			return Good("TCP %s is free.", addr)
		}
		return refused("TCP", addr, err, ours(ctx))
	}
}

func refused(proto, addr string, err error, ours bool) Result {
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && ours:
		return Good("%s %s is in use while a Fenrir with this configuration is running.", proto, addr)
	case errors.Is(err, syscall.EADDRINUSE):
		return Failf("End the other program (ss -lntup shows it), or choose another port in the configuration.", "%s %s is in use by another program.", proto, addr)
	case errors.Is(err, syscall.EACCES):
		return Failf("Choose a port from 1024, or give the service CAP_NET_BIND_SERVICE.", "%s %s may not be opened by this user.", proto, addr)
	}
	return Failf("Check the address in the configuration: it has to be one of this machine's.", "%s %s cannot be opened: %v.", proto, addr, err)
}

// UDP checks that the UDP address can be bound, and that a datagram to each of the
// machine's addresses arrives there.
func UDP(addr string, ours func(context.Context) bool) func(context.Context) Result {
	return func(ctx context.Context) Result {
		conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
		if err != nil {
			r := refused("UDP", addr, err, ours(ctx))
			if r.Status == OK {
				r.Found += " Whether datagrams arrive cannot be tried then."
			}
			return r
		}
		defer conn.Close()
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return Failf("", "UDP %s is no address: %v.", addr, err)
		}
		port := conn.LocalAddr().(*net.UDPAddr).Port
		targets := []string{host}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			targets = addresses()
		}
		var lost []string
		for _, to := range targets {
			if err := roundTrip(ctx, conn, net.JoinHostPort(to, fmt.Sprint(port))); err != nil {
				lost = append(lost, fmt.Sprintf("%s (%v)", to, err))
			}
		}
		if len(lost) > 0 {
			return Failf("Look for a local firewall (nft list ruleset, iptables -S) that drops UDP.", "UDP %s is free, but datagrams do not arrive on %s.", addr, strings.Join(lost, ", "))
		}
		return Good("UDP %s is free, and datagrams arrive on %s. Whether they do from outside only a player can tell.", addr, strings.Join(targets, ", "))
	}
}

// addresses are those of this machine that are worth trying.
func addresses() []string {
	out := []string{"127.0.0.1"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() && n.IP.To4() != nil {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// roundTrip sends a datagram to one of conn's own addresses and waits for it.
func roundTrip(ctx context.Context, conn net.PacketConn, to string) error {
	from, err := (&net.Dialer{}).DialContext(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer from.Close()
	deadline := time.Now().Add(time.Second)
	if err := errors.Join(from.SetDeadline(deadline), conn.SetReadDeadline(deadline)); err != nil {
		return err
	}
	word := rand.Text()
	if _, err := from.Write([]byte(word)); err != nil {
		return err
	}
	buf := make([]byte, 64)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return errors.New("nothing came within a second")
		}
		if string(buf[:n]) == word {
			return nil
		}
	}
}

// Certificate checks the file that will be served: its term, and whether it is good
// for the names under which players come.
func Certificate(file string, selfSigned bool, names []string, now func() time.Time) func(context.Context) Result {
	return func(context.Context) Result {
		raw, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && selfSigned {
			return Warnf("Set http.cert_file and http.key_file to a certificate that browsers trust.", "There is none yet: a self-signed one is made at the first start, of which browsers warn.")
		}
		if err != nil {
			return Failf("Check http.cert_file, and that the service's user may read it.", "The certificate cannot be read: %v.", err)
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			return Failf("http.cert_file has to be a PEM chain, the server's own certificate first.", "%s holds no PEM.", file)
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Failf("Get the certificate anew.", "%s cannot be read: %v.", file, err)
		}
		until := leaf.NotAfter.Format(time.DateOnly)
		switch left := leaf.NotAfter.Sub(now()); {
		case now().Before(leaf.NotBefore):
			return Failf("Check the machine's clock first.", "The certificate is not good before %s.", leaf.NotBefore.Format(time.DateOnly))
		case left <= 0 && !selfSigned:
			return Failf("Renew it; the server takes up changed files by itself.", "The certificate ended on %s.", until)
		case left < 14*24*time.Hour && !selfSigned:
			return Warnf("Renew it; the server takes up changed files by itself.", "The certificate ends on %s.", until)
		}
		var wrong []string
		for _, n := range names {
			if err := leaf.VerifyHostname(n); err != nil {
				wrong = append(wrong, n)
			}
		}
		switch {
		case selfSigned:
			return Warnf("Set http.cert_file and http.key_file to a certificate that browsers trust.", "It is self-signed, good until %s: browsers warn of it once.", until)
		case len(wrong) > 0:
			return Warnf("Get one that names them, or send players to a name that it has.", "The certificate is good until %s, but not for %s.", until, strings.Join(wrong, ", "))
		}
		return Good("The certificate is good until %s, for %s.", until, strings.Join(leaf.DNSNames, ", "))
	}
}
