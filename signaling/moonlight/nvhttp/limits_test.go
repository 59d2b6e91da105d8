package nvhttp

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// dial opens a connection that is closed in the end.
func dial(t *testing.T, c *client, secure bool) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	if secure {
		conn, err = tls.Dial("tcp", c.to.HTTPSAddr().String(), c.tls())
	} else {
		conn, err = net.Dial("tcp", c.to.HTTPAddr().String())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestTLSIsAsClientsNeedIt(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	conf := tv.tls()
	for range 2 {
		conn, err := tls.Dial("tcp", d.HTTPSAddr().String(), conf)
		if err != nil {
			t.Fatal(err)
		}
		if s := conn.ConnectionState(); s.NegotiatedProtocol != "http/1.1" || s.DidResume {
			t.Errorf("protocol %q, resumed %v", s.NegotiatedProtocol, s.DidResume)
		}
		// A session ticket comes with the first bytes that are read.
		if _, err := io.WriteString(conn, "GET /serverinfo HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
	conf = tv.tls()
	conf.MaxVersion = tls.VersionTLS12
	if conn, err := tls.Dial("tcp", d.HTTPSAddr().String(), conf); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	} else {
		conn.Close()
	}
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", d.HTTPSAddr().String(), conf); err == nil {
		conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
	conf = tv.tls()
	conf.Certificates, conf.MaxVersion = nil, tls.VersionTLS12 // with 1.3 a client learns of it later
	if conn, err := tls.Dial("tcp", d.HTTPSAddr().String(), conf); err == nil {
		conn.Close()
		t.Error("no certificate was accepted")
	}
}

func TestOnlyPlainQuestionsAreUnderstood(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	for _, request := range []string{
		"POST /cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"GET /cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"GET /cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\nabc", // and no more
		"GET /cancel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
	} {
		began := time.Now()
		all := tv.raw(t, true, request)
		if !strings.HasPrefix(all, "HTTP/1.1 200 OK") || !strings.Contains(all, `status_code="400"`) || time.Since(began) > 3*time.Second {
			t.Errorf("%q after %v: %q", request, time.Since(began), all)
		}
	}
	if all := tv.raw(t, true, "GET /serverinfo HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)); !strings.HasPrefix(all, "HTTP/1.1 431") {
		t.Errorf("an endless header: %q", all)
	}
	if all := tv.raw(t, false, "HEAD /serverinfo HTTP/1.0\r\n\r\n"); !strings.HasPrefix(all, "HTTP/1.0 200") || strings.Contains(all, "<root") {
		t.Errorf("HEAD: %q", all)
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	began := time.Now()
	silent, slow, handshake := dial(t, tv, false), dial(t, tv, true), dial(t, tv, false)
	handshake.Close()
	var err error
	if handshake, err = net.Dial("tcp", d.HTTPSAddr().String()); err != nil {
		t.Fatal(err)
	}
	defer handshake.Close()
	if err := handshake.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{silent, slow, handshake} {
		if c != handshake {
			if _, err := io.WriteString(c, "GET /serverinfo HTTP/1.1\r\nX: "); err != nil {
				t.Error(err)
			}
		}
	}
	drip := time.NewTicker(100 * time.Millisecond)
	defer drip.Stop()
	for range drip.C { // a byte now and then does not help
		if _, err := io.WriteString(slow, "x"); err != nil || time.Since(began) > 2*headerTimeout {
			break
		}
	}
	for i, c := range []net.Conn{silent, slow, handshake} {
		if b, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%d: %q, %v", i, b, err)
		}
	}
	if took := time.Since(began); took > 2*headerTimeout {
		t.Errorf("they lasted %v", took)
	}
}

// ask sends a client's first request of pairing and waits until it is listed.
func ask(t *testing.T, c *client) net.Conn {
	t.Helper()
	before := len(c.to.Pairings.List())
	conn := dial(t, c, false)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
	if _, err := fmt.Fprintf(conn, "GET /pair?phrase=getservercert&salt=%032x&clientcert=%x&%s HTTP/1.1\r\nHost: x\r\n\r\n", 1, text, common); err != nil {
		t.Fatal(err)
	}
	until(t, "it is listed", func() bool { return len(c.to.Pairings.List()) == before+1 })
	return conn
}

// until waits for what another goroutine does.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestWhoHangsUpWaitsNoMore(t *testing.T) {
	t.Parallel()
	d := open(t)
	conn := ask(t, newClient(t, d, keys()[0]))
	conn.Close()
	until(t, "it is forgotten", func() bool { return len(d.Pairings.List()) == 0 })
}

func TestTheEndIsQuick(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := newClient(t, d, keys()[0])
	waits, idle := ask(t, c), dial(t, c, true)
	began := time.Now()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 300*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	for _, conn := range []net.Conn{waits, idle} {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			if r, err := read(b); err != nil || r.status == 200 {
				t.Errorf("the one that waited was told %v, %v", r, err)
			}
			resp.Body.Close()
		}
	}
	if len(d.Pairings.List()) != 0 {
		t.Error("it still waits")
	}
}

func TestAConnectionWithoutAWordIsNoMatter(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	for range 20 {
		for _, a := range []netip.AddrPort{d.HTTPAddr(), d.HTTPSAddr()} {
			conn, err := net.Dial("tcp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	}
	if r := tv.xml(t, true, "/serverinfo"); r.status != 200 {
		t.Errorf("then: %v", r)
	}
}

func TestPortsThatAreTakenAreAnError(t *testing.T) {
	t.Parallel()
	d := open(t)
	s := &Server{Host: d.Host, Identity: d.Identity}
	if err := s.Listen("127.0.0.1:0", d.HTTPSAddr().String()); err == nil {
		t.Error("a port was opened twice")
	}
	if err := s.Listen(d.HTTPAddr().String(), "127.0.0.1:0"); err == nil {
		t.Error("a port was opened twice")
	}
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	n := id(t, tv.xml(t, true, "/applist"), "Chess")
	local := netip.MustParseAddr("2001:db8::1")
	q := map[string][]string{"rikey": {"000102030405060708090a0b0c0d0e0f"}, "rikeyid": {"1"}, "appid": {fmt.Sprint(n)}, "localAudioPlayMode": {"0"}, "corever": {"1"}}
	a := d.answer(t.Context(), "/launch", &request{query: q, from: local, local: local, secure: true, cert: tv.cert})
	if r, err := read(a.body); err != nil || r.text["sessionUrl0"] != "rtspenc://[2001:db8::1]:48010" {
		t.Errorf("%v, %v", r, err)
	}
	a = d.answer(t.Context(), "/serverinfo", &request{local: local})
	if r, err := read(a.body); err != nil || r.text["LocalIP"] != "127.0.0.1" {
		t.Errorf("%v, %v", r, err)
	}
}

func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	var idle []net.Conn
	for range maxOfAddress {
		idle = append(idle, dial(t, tv, false))
	}
	more := dial(t, tv, false)
	if b, err := io.ReadAll(more); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("one more got %q, %v", b, err)
	}
	for _, c := range idle[:10] {
		c.Close()
	}
	until(t, "there is room again", func() bool {
		conn, err := net.Dial("tcp", d.HTTPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /serverinfo HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return false
		}
		b, _ := io.ReadAll(conn)
		return strings.HasPrefix(string(b), "HTTP/1.1 200")
	})
}

// files are the open files of this process.
func files(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	return len(all)
}

// It does not run in parallel: others open files, too.
func TestAbortedConnectionsLeaveNothing(t *testing.T) {
	d := open(t)
	before := files(t)
	for i := range 600 {
		conn, err := net.Dial("tcp", []netip.AddrPort{d.HTTPAddr(), d.HTTPSAddr()}[i%2].String())
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*net.TCPConn)
		if _, err := c.Write([]byte{22, 3, 1, 0, 200, 1, 0}); err != nil { // the beginning of a TLS handshake
			t.Fatal(err)
		}
		switch i % 3 {
		case 0: // reset
			if err := c.SetLinger(0); err != nil {
				t.Fatal(err)
			}
		case 1: // half closed, until the server has closed it
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(2 * headerTimeout)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("half closed: %v", err)
			}
		default:
		}
		c.Close()
	}
	until(t, "all files are closed", func() bool { return files(t) <= before })
}
