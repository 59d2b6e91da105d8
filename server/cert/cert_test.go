package cert

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var quiet = slog.New(slog.DiscardHandler)

func leaf(t *testing.T, s *Source) *x509.Certificate {
	t.Helper()
	c, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func TestSelfSigned(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	dir := filepath.Join(t.TempDir(), "tls")
	hosts := []string{"localhost", "127.0.0.1", "::1", "box.example"}
	s, err := selfSigned(dir, hosts, quiet, c.now)
	if err != nil {
		t.Fatal(err)
	}
	l := leaf(t, s)
	for _, h := range hosts {
		if err := l.VerifyHostname(h); err != nil {
			t.Error(err)
		}
	}
	if l.VerifyHostname("evil.example") == nil || l.IsCA {
		t.Error("it is good for more than it should be")
	}
	if days := l.NotAfter.Sub(l.NotBefore).Hours() / 24; days > 398 || days < 390 {
		t.Errorf("it is good for %f days, want 397", days)
	}
	st, err := os.Stat(filepath.Join(dir, "key.pem"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", st.Mode(), err)
	}
	if f := s.Fingerprint(); strings.Count(f, ":") != 31 {
		t.Errorf("fingerprint %q", f)
	}

	// A second start takes the same one; for other hosts it is made anew.
	again, err := selfSigned(dir, hosts, quiet, c.now)
	if err != nil || leaf(t, again).SerialNumber.Cmp(l.SerialNumber) != 0 {
		t.Errorf("a restart made another certificate, %v", err)
	}
	fewer, err := selfSigned(dir, hosts[:2], quiet, c.now)
	if err != nil || leaf(t, fewer).SerialNumber.Cmp(l.SerialNumber) != 0 {
		t.Errorf("fewer hosts made another certificate, %v", err)
	}
	more, err := selfSigned(dir, append(slices.Clone(hosts), "192.0.2.7"), quiet, c.now)
	if err != nil || leaf(t, more).SerialNumber.Cmp(l.SerialNumber) == 0 || leaf(t, more).VerifyHostname("192.0.2.7") != nil {
		t.Errorf("a new address did not make another certificate, %v", err)
	}
}

func TestARunningServerRenews(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	s, err := selfSigned(t.TempDir(), []string{"localhost"}, quiet, c.now)
	if err != nil {
		t.Fatal(err)
	}
	first := leaf(t, s).SerialNumber
	c.add(lifetime - renewAt - 24*time.Hour)
	if leaf(t, s).SerialNumber.Cmp(first) != 0 {
		t.Error("renewed too early")
	}
	c.add(48 * time.Hour)
	l := leaf(t, s)
	if l.SerialNumber.Cmp(first) == 0 || l.NotAfter.Before(c.now().Add(365*24*time.Hour)) {
		t.Errorf("not renewed: good until %s", l.NotAfter)
	}
}

func TestDamagedOrHalfFilesAreMadeAnew(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	for _, broken := range []string{"cert.pem", "key.pem"} {
		for _, content := range []string{"", "rubbish"} {
			dir := t.TempDir()
			if _, err := selfSigned(dir, []string{"localhost"}, quiet, c.now); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, broken)
			if content == "" {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := selfSigned(dir, []string{"localhost"}, quiet, c.now)
			if err != nil || leaf(t, s).VerifyHostname("localhost") != nil {
				t.Errorf("%s = %q: %v", broken, content, err)
			}
		}
	}
}

func TestChangedFilesAreTakenUpAndBadOnesAreNot(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if _, err := selfSigned(d, []string{"localhost"}, quiet, c.now); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	s, err := Files(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.now = c.now
	first := leaf(t, s).SerialNumber
	c.add(time.Minute)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if leaf(t, s).SerialNumber.Cmp(first) != 0 || !strings.Contains(log.String(), "stays in use") {
		t.Errorf("a bad file: serial changed, or nothing was said: %s", log.String())
	}
	for _, f := range []string{"cert.pem", "key.pem"} {
		b, err := os.ReadFile(filepath.Join(other, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.add(time.Minute)
	if leaf(t, s).SerialNumber.Cmp(first) == 0 {
		t.Error("new files were not taken up")
	}
	if _, err := Files(filepath.Join(dir, "nothing"), filepath.Join(dir, "key.pem"), quiet); err == nil {
		t.Error("a missing file is no error")
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"localhost", "127.0.0.1", "::1"} {
		if !slices.Contains(Hosts(), want) {
			t.Errorf("got %v, want %s among them", Hosts(), want)
		}
	}
}
