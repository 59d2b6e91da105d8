package enet

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const number = 0xC0DE1234 // that clients connect with

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve runs a host until the test is over.
func serve(t *testing.T, h *Host) (addr netip.AddrPort, peers chan *Peer, stop func()) {
	t.Helper()
	peers = make(chan *Peer, 64)
	h.Conn = listen(t)
	if h.Accept == nil {
		h.Accept = func(data uint32, _ netip.AddrPort) bool { return data == number }
	}
	h.Peers = func(p *Peer) { peers <- p }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	addr = h.Conn.LocalAddr().(*net.UDPAddr).AddrPort()
	go func() { done <- h.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		began := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("the host ended after %v", took)
		}
	})
	t.Cleanup(stop)
	return addr, peers, stop
}

// dial connects a client: when the handshake is over, both ends are the same.
func dial(t *testing.T, to netip.AddrPort, data uint32) *Peer {
	t.Helper()
	conn := listen(t)
	c := &Host{Conn: conn, Peers: func(*Peer) {}, Accept: func(uint32, netip.AddrPort) bool { return false }}
	c.init()
	b := appendHeader(nil, noID, 0, true, 1)
	b = appendCommand(b, cmdConnect, flagAcknowledge, wholeConnection, 1)
	b = append(be.AppendUint16(b, 0), 0xFF, 0xFF)
	for _, n := range [...]uint32{900, 65536, 48, 0, 0, 5000, 2, 2} {
		b = be.AppendUint32(b, n)
	}
	id := rand.Uint32()
	b = be.AppendUint32(be.AppendUint32(b, id), data)
	answer := make([]byte, maxDatagram)
	var d datagram
	for d.commands == nil {
		if _, err := conn.WriteToUDPAddrPort(b, to); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, _, err := conn.ReadFromUDPAddrPort(answer)
		if err != nil {
			if t.Context().Err() != nil {
				t.Fatal("no answer")
			}
			continue
		}
		if d, err = parse(answer[:n], nil); err != nil || d.commands[0].kind != cmdVerifyConnect {
			d = datagram{}
		}
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	f := d.commands[0].body[commandHeader:]
	p := newPeer(c, to, data, [4]byte(be.AppendUint32(nil, id)))
	p.remoteID, p.session, p.remoteSession, p.mtu, p.connected = be.Uint16(f), f[2], f[3], 900, true
	p.channels = make([]channel, be.Uint32(f[12:]))
	c.peers[0] = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	c.send([]packet{{to, appendAck(appendHeader(nil, p.remoteID, p.remoteSession, false, 0), &d.commands[0], d.sent)}})
	return p
}

func one(t *testing.T, peers chan *Peer) *Peer {
	t.Helper()
	select {
	case p := <-peers:
		return p
	case <-time.After(5 * time.Second):
		t.Fatal("nobody connected")
		return nil
	}
}

func receive(t *testing.T, p *Peer) Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := p.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBothWays(t *testing.T) {
	addr, peers, _ := serve(t, &Host{})
	client := dial(t, addr, number)
	host := one(t, peers)
	if host.Data() != number {
		t.Errorf("it connected with %#x", host.Data())
	}
	for i := range 20 {
		if err := client.Send(uint8(i%3), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, host); m.Channel != uint8(i%3) || m.Data[0] != byte(i) {
			t.Errorf("message %d is %v", i, m)
		}
		if err := host.Send(0, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, client); m.Data[0] != byte(i) {
			t.Errorf("answer %d is %v", i, m)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := host.Acknowledged(ctx); err != nil {
		t.Error(err)
	}
	if host.RTT() >= firstRTT {
		t.Errorf("round trip %v", host.RTT())
	}
	if err := host.Send(0, make([]byte, 900)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long message: %v", err)
	}
	host.Disconnect()
	<-host.Done()
	<-client.Done()
	if !errors.Is(host.Err(), ErrClosed) || !errors.Is(client.Err(), ErrLeft) {
		t.Errorf("it ended as %v and %v", host.Err(), client.Err())
	}
	if _, err := client.Receive(t.Context()); !errors.Is(err, ErrLeft) {
		t.Errorf("nothing is left to receive: %v", err)
	}
	if err := host.Send(0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("sent to nobody: %v", err)
	}
}

// lossy relays datagrams of one client and loses, repeats and reorders them.
func lossy(t *testing.T, to netip.AddrPort, lose, again, late float64) netip.AddrPort {
	t.Helper()
	front, back := listen(t), listen(t)
	var mu sync.Mutex // guards client
	var client netip.AddrPort
	var wg sync.WaitGroup
	pass := func(in, out *net.UDPConn, seed uint64, target func(netip.AddrPort) netip.AddrPort) {
		random := rand.New(rand.NewPCG(seed, 7))
		var held []byte
		b := make([]byte, maxDatagram)
		for {
			n, from, err := in.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			dst := target(from)
			if random.Float64() < lose || !dst.IsValid() {
				continue
			}
			if held == nil && random.Float64() < late {
				held = bytes.Clone(b[:n])
				continue
			}
			for range 1 + int(again+random.Float64()) {
				_, _ = out.WriteToUDPAddrPort(b[:n], dst)
			}
			if held != nil {
				_, _ = out.WriteToUDPAddrPort(held, dst)
				held = nil
			}
		}
	}
	wg.Go(func() {
		pass(front, back, 1, func(from netip.AddrPort) netip.AddrPort { mu.Lock(); client = from; mu.Unlock(); return to })
	})
	wg.Go(func() {
		pass(back, front, 2, func(netip.AddrPort) netip.AddrPort { mu.Lock(); defer mu.Unlock(); return client })
	})
	t.Cleanup(func() { front.Close(); back.Close(); wg.Wait() })
	return front.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestLossDoesNotShow sends on several channels over a bad path, both ways.
func TestLossDoesNotShow(t *testing.T) {
	addr, peers, _ := serve(t, &Host{})
	client := dial(t, lossy(t, addr, 0.2, 0.1, 0.2), number)
	host := one(t, peers)
	const count = 300
	var wg sync.WaitGroup
	for _, way := range [][2]*Peer{{client, host}, {host, client}} {
		wg.Go(func() {
			for i := range count {
				for {
					err := way[0].Send(uint8(i%2), fmt.Appendf(nil, "%d", i))
					if err == nil {
						break
					}
					if !errors.Is(err, ErrFull) || way[0].Acknowledged(t.Context()) != nil {
						t.Errorf("message %d: %v", i, err)
						return
					}
				}
			}
		})
		wg.Go(func() {
			var got [2][]string
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for range count {
				m, err := way[1].Receive(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				got[m.Channel] = append(got[m.Channel], string(m.Data))
			}
			for c := range got {
				for i, s := range got[c] {
					if s != fmt.Sprint(2*i+c) {
						t.Errorf("channel %d: message %d is %s", c, i, s)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestWhoIsLostIsGivenUp(t *testing.T) {
	addr, peers, _ := serve(t, &Host{Patience: 300 * time.Millisecond})
	client := dial(t, addr, number)
	host := one(t, peers)
	client.host.mu.Lock()
	client.host.Conn.Close()
	client.host.mu.Unlock()
	<-host.Done()
	if !errors.Is(host.Err(), ErrLost) {
		t.Errorf("it ended as %v", host.Err())
	}
}

func TestHostGoesDown(t *testing.T) {
	addr, peers, stop := serve(t, &Host{})
	client := dial(t, addr, number)
	host := one(t, peers)
	stop()
	<-host.Done()
	<-client.Done()
	if !errors.Is(client.Err(), ErrLeft) {
		t.Errorf("the client sees %v", client.Err())
	}
}

// TestAnotherAddress: what comes from elsewhere counts when it is authentic.
func TestAnotherAddress(t *testing.T) {
	h := &Host{Authentic: func(data uint32, m []byte) bool { return data == number && string(m) == "it is me" }}
	addr, peers, _ := serve(t, h)
	client := dial(t, addr, number)
	host := one(t, peers)
	before := host.Addr()
	elsewhere := listen(t)
	defer elsewhere.Close()
	say := func(seq uint16, text string) {
		b := appendHeader(nil, host.id, host.session, true, 1)
		b = be.AppendUint16(appendCommand(b, cmdReliable, flagAcknowledge, 0, seq), uint16(len(text)))
		if _, err := elsewhere.WriteToUDPAddrPort(append(b, text...), addr); err != nil {
			t.Fatal(err)
		}
	}
	say(1, "it is not")
	bare := be.AppendUint32(appendCommand(appendHeader(nil, host.id, host.session, true, 1), cmdDisconnect, flagAcknowledge, wholeConnection, 9), 0)
	if _, err := elsewhere.WriteToUDPAddrPort(bare, addr); err != nil {
		t.Fatal(err)
	}
	if err := client.Send(0, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, host); string(m.Data) != "first" || host.Addr() != before {
		t.Errorf("got %q from %v", m.Data, host.Addr())
	}
	say(2, "it is me")
	if m := receive(t, host); string(m.Data) != "it is me" || host.Addr() == before {
		t.Errorf("got %q from %v", m.Data, host.Addr())
	}
}

func TestWhoMayNotConnect(t *testing.T) {
	h := &Host{Most: 2}
	addr, peers, _ := serve(t, h)
	dial(t, addr, number)
	dial(t, addr, number)
	one(t, peers)
	one(t, peers)
	stranger := listen(t)
	defer stranger.Close()
	for _, hexed := range []string{
		"8fff39ee82ff00010000ffff000003840001000000000030000000000000000000001388000000020000000232e1c756c0de1234", // a third one
		"8fff39ee82ff00010000ffff000003840001000000000030000000000000000000001388000000020000000232e1c75600000000", // another number
	} {
		b, err := hex.DecodeString(hexed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stranger.WriteToUDPAddrPort(b, addr); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing tells that it was refused but silence, until somebody else is answered.
	client := dialled(t, h)
	if err := client.Send(0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := client.Acknowledged(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := h.Connected(); n != 2 {
		t.Errorf("%d peers", n)
	}
	if err := stranger.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := stranger.ReadFromUDPAddrPort(make([]byte, 100)); err == nil {
		t.Errorf("a stranger was told %d bytes", n)
	}
}

// dialled is one of a host's peers.
func dialled(t *testing.T, h *Host) *Peer {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.peers {
		return p
	}
	t.Fatal("there is none")
	return nil
}

// TestExchangeOfARealClient replays what a client sent, and compares our answers with
// those that it had then.
func TestExchangeOfARealClient(t *testing.T) {
	raw, err := os.ReadFile("testdata/exchange.json")
	if err != nil {
		t.Fatal(err)
	}
	var x struct{ Datagrams []struct{ Dir, Hex string } }
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	var peer *Peer
	h := &Host{Accept: func(data uint32, _ netip.AddrPort) bool { return data == number }, Peers: func(p *Peer) { peer = p }}
	h.init()
	from := netip.MustParseAddrPort("192.0.2.1:1")
	var answers [][]byte // commands
	for i, d := range x.Datagrams {
		b, err := hex.DecodeString(d.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if d.Dir == "client->host" {
			for _, p := range h.handle(b, from, nil) {
				answers = append(answers, commandsOf(t, p.bytes)...)
			}
			continue
		}
		for _, want := range commandsOf(t, b) {
			if k := command(want[0] & commandMask); k == cmdReliable || k == cmdPing || k == cmdBandwidth {
				continue // its own idea, not an answer
			}
			if len(answers) == 0 || !bytes.Equal(answers[0], want) {
				t.Fatalf("datagram %d: the next answers are %x, want %x", i, answers, want)
			}
			answers = answers[1:]
		}
	}
	if peer == nil || !errors.Is(peer.err, ErrLeft) {
		t.Fatalf("the peer is %+v", peer)
	}
	var said []string
	for _, m := range peer.messages {
		said = append(said, fmt.Sprintf("%d:%d:%.13s", m.Channel, len(m.Data), m.Data))
	}
	want := []string{"0:10:reliable-1", "3:5:mouse", "3:6:mouse2", "32:17:sensor-unreli", "0:22:fec-status-un"}
	if len(said) != len(want)+1 || !slices.Equal(said[:5], want) || len(peer.messages[5].Data) != 2000 {
		t.Errorf("it said %q", said)
	}
}

func commandsOf(t *testing.T, b []byte) (all [][]byte) {
	t.Helper()
	d, err := parse(b, nil)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	for _, c := range d.commands {
		all = append(all, c.body)
	}
	return all
}

func FuzzHandle(f *testing.F) {
	raw, err := os.ReadFile("testdata/exchange.json")
	if err != nil {
		f.Fatal(err)
	}
	var x struct{ Datagrams []struct{ Dir, Hex string } }
	if err := json.Unmarshal(raw, &x); err != nil {
		f.Fatal(err)
	}
	for _, d := range x.Datagrams {
		b, _ := hex.DecodeString(d.Hex)
		f.Add(b, b)
	}
	connect, _ := hex.DecodeString(x.Datagrams[0].Hex)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		h := &Host{Accept: func(uint32, netip.AddrPort) bool { return true }, Peers: func(*Peer) {}}
		h.init()
		from := netip.MustParseAddrPort("192.0.2.1:1")
		h.handle(connect, from, nil)
		for range 3 {
			for _, d := range [][]byte{a, b} {
				sent := 0
				for _, p := range h.handle(d, from, nil) {
					sent += len(p.bytes)
				}
				if sent > 2*len(d)+8 {
					t.Fatalf("%d bytes are answered with %d", len(d), sent)
				}
			}
		}
		for _, p := range h.peers {
			held := 0
			for _, c := range p.channels {
				held += len(c.ahead) + len(c.whole)/maxMessage
			}
			if len(p.messages) > maxWaiting+maxAhead || held > len(p.channels)*(maxAhead+1) {
				t.Fatal("it remembers too much")
			}
		}
	})
}
