package udp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func socket(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T) *Port {
	t.Helper()
	p := New(socket(t))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

const payload = "0123456789abcdef"

func ping(t *testing.T, from *net.UDPConn, to *Port, what string) {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort([]byte(what), to.Addr()); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, from *net.UDPConn) []byte {
	t.Helper()
	if err := from.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, err := from.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestPicturesGoWherePingsComeFrom(t *testing.T) {
	p := open(t)
	target, err := p.Enter(payload, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Leave()
	if _, err := p.Enter(payload, netip.Addr{}); !errors.Is(err, ErrTaken) {
		t.Errorf("a second one: %v", err)
	}
	if err := target.Send(t.Context(), [][]byte{{1}}); err != nil {
		t.Errorf("while nobody knows where: %v", err)
	}
	client, moved := socket(t), socket(t)
	defer client.Close()
	defer moved.Close()
	for _, nothing := range []string{"PING", "fedcba98765432100001", payload, payload + "00001", ""} {
		ping(t, moved, p, nothing)
	}
	ping(t, client, p, payload+"0001")
	<-target.Found()
	if target.Addr() != client.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Errorf("it is at %v", target.Addr())
	}
	var sent [][]byte
	for i := range 40 {
		sent = append(sent, bytes.Repeat([]byte{byte(i)}, 1000))
	}
	if err := target.Send(t.Context(), sent); err != nil {
		t.Fatal(err)
	}
	for i := range sent {
		if got := read(t, client); !bytes.Equal(got, sent[i]) {
			t.Fatalf("datagram %d is %d bytes of %d", i, len(got), got[0])
		}
	}
	for target.Addr() != moved.LocalAddr().(*net.UDPAddr).AddrPort() {
		ping(t, moved, p, payload+"0002")
		if err := target.Send(t.Context(), sent[:1]); err != nil {
			t.Fatal(err)
		}
		if t.Context().Err() != nil {
			t.Fatal("it did not follow")
		}
	}
}

func TestOldClientsAreFoundByAddress(t *testing.T) {
	p := open(t)
	target, err := p.Enter(payload, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	client := socket(t)
	defer client.Close()
	ping(t, client, p, "PING")
	<-target.Found()
	target.Leave()
	if _, err := p.Enter(payload, netip.Addr{}); err != nil {
		t.Errorf("after it left: %v", err)
	}
}

func TestOldClientsBehindOneAddressAreNotMixed(t *testing.T) {
	p := &Port{targets: map[string]*Target{}}
	home := netip.MustParseAddr("192.0.2.7")
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(home, port) }
	enter := func(payload string) *Target {
		target, err := p.Enter(payload, home)
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	first := enter(payload)
	p.hear([]byte(legacyPing), at(1))
	p.hear([]byte(legacyPing), at(2)) // the only one has moved
	if first.Addr() != at(2) {
		t.Fatalf("the only one is at %v", first.Addr())
	}
	second := enter("another payload.")
	for range 20 { // in whatever order the targets are looked at
		p.hear([]byte(legacyPing), at(3))
		p.hear([]byte(legacyPing), at(2))
		p.hear([]byte(legacyPing), at(4)) // somebody of the two, or a stranger
		if first.Addr() != at(2) || second.Addr() != at(3) {
			t.Fatalf("they are at %v and %v", first.Addr(), second.Addr())
		}
	}
}

func TestPace(t *testing.T) {
	p := open(t)
	target, err := p.Enter(payload, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	client := socket(t)
	defer client.Close()
	ping(t, client, p, payload+"0001")
	<-target.Found()
	frame := func(n int) [][]byte { return make([][]byte, n) }
	fill := func(f [][]byte) [][]byte {
		for i := range f {
			f[i] = make([]byte, 1000)
		}
		return f
	}
	took := func(bps, datagrams int) time.Duration {
		target.SetPace(bps)
		began := time.Now()
		if err := target.Send(t.Context(), fill(frame(datagrams))); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	// 64 kB at 100 Mbit/s take 5 ms; the last burst does not wait for itself.
	if d := took(100_000_000, 64); d < 3*time.Millisecond {
		t.Errorf("a large frame took %v", d)
	}
	if d := took(1_000_000, 64); d < mostPaced {
		t.Errorf("at a low rate it took %v, want %v", d, mostPaced)
	}
	ended := errors.New("ended")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	target.SetPace(1_000_000)
	if err := target.Send(ctx, fill(frame(64))); !errors.Is(err, ended) {
		t.Errorf("after the end: %v", err)
	}
}

func FuzzHear(f *testing.F) {
	f.Add([]byte(payload + "0001"))
	f.Add([]byte("PING"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &Port{targets: map[string]*Target{}}
		target, err := p.Enter(payload, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		from := netip.MustParseAddrPort("192.0.2.1:1")
		p.hear(b, from)
		if is := len(b) == pingSize && bytes.HasPrefix(b, []byte(payload)); is != target.Addr().IsValid() {
			t.Fatalf("%q: found is %v", b, target.Addr())
		}
	})
}

func BenchmarkSend(b *testing.B) {
	for _, n := range []int{4, 48} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			p := New(conn)
			target, err := p.Enter(payload, netip.Addr{})
			if err != nil {
				b.Fatal(err)
			}
			p.hear([]byte(payload+"0001"), p.Addr())
			f := make([][]byte, n)
			for i := range f {
				f[i] = make([]byte, 1040)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := target.Send(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
