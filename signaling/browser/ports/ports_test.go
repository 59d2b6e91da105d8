package ports

import (
	"log/slog"
	"net"
	"testing"

	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestListenTellsWhatIsWrong(t *testing.T) {
	for name, n := range map[string]Config{
		"nothing":      {},
		"no port":      {UDP: "127.0.0.1"},
		"no such port": {UDP: "127.0.0.1:99999"},
		"no such host": {UDP: "host.invalid:1"},
		"bad tcp":      {UDP: "127.0.0.1:0", TCP: "127.0.0.1:x"},
		"no address":   {UDP: "127.0.0.1:0", NAT1To1: []string{"example.org"}},
		"not our host": {UDP: "192.0.2.1:0"},
	} {
		if p, err := Listen(n, slog.New(slog.DiscardHandler)); err == nil {
			p.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAllInterfacesShareThePort(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		p, err := Listen(Config{UDP: addr, Loopback: true}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		port := p.UDPAddr().(*net.UDPAddr).Port
		addrs := p.udp.GetListenAddresses()
		for _, a := range addrs {
			u := a.(*net.UDPAddr)
			if u.Port != port || port == 0 {
				t.Errorf("%s: %v is not on port %d", addr, a, port)
			}
			if addr == "0.0.0.0:0" && u.IP.To4() == nil {
				t.Errorf("%s: %v", addr, a)
			}
		}
		if len(addrs) == 0 {
			t.Errorf("%s: no addresses", addr)
		}
		p.Close()
		// Closed means closed: the port can be had again.
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			t.Errorf("%s: the port is still taken: %v", addr, err)
			continue
		}
		c.Close()
	}
}

func TestInterfacesAreFiltered(t *testing.T) {
	p, err := Listen(Config{UDP: ":0", Loopback: true, Interfaces: func(name string) bool { return name == "lo" }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, a := range p.udp.GetListenAddresses() {
		if !a.(*net.UDPAddr).IP.IsLoopback() {
			t.Errorf("%v is not on lo", a)
		}
	}
	if _, err := Listen(Config{UDP: ":0", Interfaces: func(string) bool { return false }}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no interface is no error")
	}
}

func TestPublicAddressesAreOfferedBesidesLocalOnes(t *testing.T) {
	p, err := Listen(Config{UDP: "127.0.0.1:0", NAT1To1: []string{"203.0.113.7", "2001:db8::7", "198.51.100.1"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	local := &webrtc.ICECandidate{Foundation: "1", Priority: 2130706431, Address: "10.0.0.5", Protocol: webrtc.ICEProtocolUDP, Port: 8443, Typ: webrtc.ICECandidateTypeHost, Component: 1}
	got := p.External(local)
	if len(got) != 2 || got[0].Address != "203.0.113.7" || got[1].Address != "198.51.100.1" || got[0].Port != 8443 || got[0].Priority >= local.Priority || got[1].Priority >= got[0].Priority || got[0].Foundation == got[1].Foundation {
		t.Errorf("got %v", got)
	}
	local.Address = "fd00::1"
	if got := p.External(local); len(got) != 1 || got[0].Address != "2001:db8::7" {
		t.Errorf("got %v", got)
	}
	local.Typ = webrtc.ICECandidateTypeSrflx
	if got := p.External(local); got != nil {
		t.Errorf("got %v", got)
	}
}
