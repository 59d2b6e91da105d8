package https

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/server/cert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves h on loopback; stop ends it and returns what Serve returned.
func start(t *testing.T, h http.HandlerFunc, grace time.Duration) (addr string, conf *tls.Config, stop func() error) {
	t.Helper()
	dir := t.TempDir()
	src, err := cert.SelfSigned(dir, []string{"127.0.0.1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- (&Server{Handler: h, Certificate: src.GetCertificate, Grace: grace}).Serve(ctx, l)
	}()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-served
	}
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return l.Addr().String(), &tls.Config{RootCAs: pool}, stop
}

func client(t *testing.T, conf *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func TestItSpeaksHTTP2AndNoOldTLS(t *testing.T) {
	t.Parallel()
	addr, conf, _ := start(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }, 0)
	resp, err := client(t, conf).Get("https://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(b) != "HTTP/2.0" {
		t.Errorf("got %q, %v", b, err)
	}
	old := conf.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if c, err := tls.Dial("tcp", addr, old); err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestRequestsUnderWayAreToldAndFinish(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	addr, conf, stop := start(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		fmt.Fprint(w, context.Cause(r.Context()))
	}, 0)
	type result struct {
		body string
		err  error
	}
	got := make(chan result, 1)
	c := client(t, conf)
	go func() {
		resp, err := c.Get("https://" + addr)
		if err != nil {
			got <- result{"", err}
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		got <- result{string(b), err}
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	r := <-got
	if r.err != nil || !strings.HasPrefix(r.body, media.CauseShutdown) {
		t.Errorf("got %q, %v; want the cause %s", r.body, r.err, media.CauseShutdown)
	}
	if _, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		t.Error("the listener is still open")
	}
}

func TestAHungHandlerDoesNotHoldTheEndUp(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	left := make(chan struct{})
	addr, conf, stop := start(t, func(http.ResponseWriter, *http.Request) {
		defer close(left)
		close(entered)
		<-release // whatever the context says
	}, 200*time.Millisecond)
	gone := make(chan struct{})
	c := client(t, conf)
	go func() {
		defer close(gone)
		resp, err := c.Get("https://" + addr)
		if err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	began := time.Now()
	err := stop()
	if took := time.Since(began); err == nil || took > 3*time.Second {
		t.Errorf("Serve returned %v after %s; want an error after about 200 ms", err, took)
	}
	<-gone // its connection was cut
	close(release)
	<-left
}

func TestAFailedListenerIsAnError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := &Server{Handler: http.NotFoundHandler(), Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}
	if err := s.Serve(t.Context(), l); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}

func TestAnEndlessHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	addr, conf, _ := start(t, func(http.ResponseWriter, *http.Request) {}, 0)
	conf.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", addr, conf)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 256<<10)) // cut off on the way
	}()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.Contains(line, "431") {
		t.Errorf("got %q, want status 431 or a closed connection", line)
	}
	c.Close()
	<-written
}
