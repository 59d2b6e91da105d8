package discovery

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freePort is a port that nobody has; multicast DNS needs the same one on all sides.
func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// listener hears what all on the loopback interface are told.
type listener struct {
	*sockets
	lo *link
}

func listen(t *testing.T, port int) *listener {
	t.Helper()
	s, err := openSockets(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	links, err := (&Advertiser{Loopback: true, Interfaces: func(n string) bool { return n == "lo" }}).interfaces()
	if err != nil || len(links) != 1 {
		t.Fatalf("%v, %v", links, err)
	}
	if err := s.join(links[0]); err != nil {
		t.Fatal(err)
	}
	return &listener{s, links[0]}
}

// hear waits for a message that is as wanted.
func (l *listener) hear(t *testing.T, what string, wanted func(*message) bool) *message {
	t.Helper()
	for end := time.After(10 * time.Second); ; {
		select {
		case p := <-l.packets:
			if m, err := parse(p.data); err == nil && wanted(m) {
				return m
			}
		case <-end:
			t.Fatal("not heard: " + what)
		}
	}
}

// ask sends a question to all.
func (l *listener) ask(t *testing.T, q dnsmessage.Question) {
	t.Helper()
	m := dnsmessage.Message{Questions: []dnsmessage.Question{q}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.sendAll(l.lo, b); err != nil {
		t.Fatal(err)
	}
}

// run makes a server known on loopback.
func run(t *testing.T, port int, name, id, http string) (stop func()) {
	t.Helper()
	a := &Advertiser{
		Name: name, UniqueID: id, HTTP: netip.MustParseAddrPort(http), Loopback: true,
		Interfaces: func(n string) bool { return n == "lo" }, Log: slog.New(slog.DiscardHandler), port: port,
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		began := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(began) > 300*time.Millisecond {
			t.Errorf("it ended with %v after %v", err, time.Since(began))
		}
	})
	t.Cleanup(stop)
	return stop
}

func announces(instance string, ttl bool) func(*message) bool {
	return func(m *message) bool {
		return m.response && slices.ContainsFunc(m.answers, func(r dnsmessage.Resource) bool {
			ptr, ok := r.Body.(*dnsmessage.PTRResource)
			return ok && ptr.PTR.String() == instance+"."+serviceName && (r.Header.TTL > 0) == ttl
		})
	}
}

func TestAServerIsProbedAnnouncedFoundAndTakenBack(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	l := listen(t, port)
	stop := run(t, port, "Ada's PC", "11111111-2222-8333-8444-555555555555", "0.0.0.0:47989")
	for range 3 {
		m := l.hear(t, "a probe", func(m *message) bool { return !m.response })
		if len(m.questions) != 2 || m.questions[0].Class&unicastBit == 0 || !strings.Contains(brief(m.authorities), "A>127.0.0.1") {
			t.Errorf("probed with %+v", m)
		}
	}
	for range 2 {
		m := l.hear(t, "an announcement", announces("Adas-PC", true))
		if got := brief(m.answers); !strings.HasPrefix(got, "PTR>Adas-PC._nvstream._tcp.local. SRV>fenrir-111111112222.local.! TXT! A>127.0.0.1!") {
			t.Errorf("announced: %s", got)
		}
	}
	q := dnsmessage.Question{Name: name(serviceName), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}
	began := time.Now()
	l.ask(t, q)
	l.hear(t, "an answer to all", announces("Adas-PC", true))
	if took := time.Since(began); took < 20*time.Millisecond || took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	l.ask(t, dnsmessage.Question{Name: name(servicesName), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET})
	l.hear(t, "the sorts of services", func(m *message) bool { return m.response && brief(m.answers) == "PTR>"+serviceName })

	// A simple resolver asks from a port of its own, and is answered there.
	simple, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer simple.Close()
	b, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 77}, Questions: []dnsmessage.Question{q}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	multicast := &sockets{port: port, v4: ipv4.NewPacketConn(simple)}
	if err := multicast.send(l.lo, netip.AddrPortFrom(group4(), uint16(port)), b); err != nil {
		t.Fatal(err)
	}
	if err := simple.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxPacket)
	n, err := simple.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := parse(buf[:n]); err != nil || m.id != 77 || len(m.questions) != 1 || !strings.HasPrefix(brief(m.answers), "PTR>Adas-PC.") {
		t.Errorf("it is told %+v, %v", m, err)
	}
	stop()
	l.hear(t, "goodbye", announces("Adas-PC", false))
}

func TestTwoServersOfOneNameGetTwo(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	l := listen(t, port)
	run(t, port, "pc", "aaaaaaaa-2222-8333-8444-555555555555", "0.0.0.0:47989")
	l.hear(t, "the first", announces("pc", true))
	run(t, port, "pc", "bbbbbbbb-2222-8333-8444-555555555555", "0.0.0.0:47990")
	// The first defends its name by answering the second's probe.
	l.hear(t, "the second", announces("pc-2", true))
}

func TestAServerOnLoopbackOnlyIsNotMadeKnown(t *testing.T) {
	t.Parallel()
	a := &Advertiser{Name: "pc", HTTP: netip.MustParseAddrPort("127.0.0.1:47989"), port: -1} // such a port cannot be opened
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
	a.Loopback = true
	if err := a.Run(ctx); err == nil {
		t.Error("no port is no error")
	}
}

func TestOnlyAddressesThatAreListenedOnAreTold(t *testing.T) {
	t.Parallel()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for http, want := range map[string]string{
		"0.0.0.0:1": "[127.0.0.1]", "127.0.0.1:1": "[127.0.0.1]", "192.0.2.200:1": "[]",
	} {
		l := (&Advertiser{HTTP: netip.MustParseAddrPort(http)}).linkOf(*lo)
		got := "["
		for i, a := range l.addrs {
			if i > 0 {
				got += " "
			}
			got += a.String()
		}
		if got += "]"; got != want {
			t.Errorf("%s: got %s, want %s", http, got, want)
		}
	}
}

func TestStrangersFromFurtherAwayAreNotAnswered(t *testing.T) {
	t.Parallel()
	l := &link{nets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}}
	for a, want := range map[string]bool{"192.0.2.9": true, "198.51.100.1": false, "2001:db8::9": true, "2001:db8:1::9": false, "fe80::1": true} {
		if got := l.near(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}
