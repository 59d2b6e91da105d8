// Package cert gives the HTTPS listener its certificate: one from files, read
// again when they change, or a self-signed one that is made at the first start
// and renewed in time. It imports the standard library only.
package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Lifetime of a self-signed certificate: browsers refuse longer ones (398 days),
// and a month before its end a new one is made.
const (
	lifetime = 397 * 24 * time.Hour
	renewAt  = 30 * 24 * time.Hour // before the end
)

// checkEvery bounds how often files are looked at.
const checkEvery = 30 * time.Second

// Source answers TLS handshakes. Its methods may be called from many goroutines.
type Source struct {
	certFile, keyFile string
	dir               string   // of a self-signed certificate, else ""
	hosts             []string // of a self-signed certificate
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	cert    *tls.Certificate // guarded by mu
	stamp   string           // of the files that cert was read from, guarded by mu
	checked time.Time        // guarded by mu
}

// Files uses a PEM chain and key. Changed files are taken up within half a
// minute; while they cannot be read the last good ones stay in use.
func Files(certFile, keyFile string, log *slog.Logger) (*Source, error) {
	s := &Source{certFile: certFile, keyFile: keyFile, log: log, now: time.Now}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// SelfSigned uses dir/cert.pem and dir/key.pem, which it makes for hosts (names
// and addresses) when they are missing, near their end, or for other hosts. The
// key's file is readable for its owner only.
func SelfSigned(dir string, hosts []string, log *slog.Logger) (*Source, error) {
	return selfSigned(dir, hosts, log, time.Now)
}

func selfSigned(dir string, hosts []string, log *slog.Logger, now func() time.Time) (*Source, error) {
	s := &Source{certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"), dir: dir, hosts: hosts, log: log, now: now}
	if err := s.refresh(); err != nil {
		return nil, err
	}
	return s, nil
}

// Hosts are the names and addresses of this machine, for SelfSigned.
func Hosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "" && name != "localhost" {
		hosts = append(hosts, name)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return hosts // the names must do
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			hosts = append(hosts, n.IP.String())
		}
	}
	return hosts
}

// GetCertificate is for tls.Config.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(s.checked) >= checkEvery {
		s.checked = s.now()
		if err := s.update(); err != nil {
			s.log.Warn("certificate could not be renewed; the last one stays in use", "file", s.certFile, "err", err)
		}
	}
	return s.cert, nil
}

// Fingerprint is the SHA-256 of the certificate in use, "ab:cd:…", as browsers
// show it.
func (s *Source) Fingerprint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sha256.Sum256(s.cert.Certificate[0])
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}

func (s *Source) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read()
}

func (s *Source) refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.update()
}

// update brings the certificate up to date. s.mu is held: the handshakes that
// wait need the result, and the files are small and local.
func (s *Source) update() error {
	if s.dir != "" {
		err := s.read()
		if err == nil && s.fits() == nil {
			return nil
		}
		why := err
		if err == nil {
			why = s.fits()
		}
		if err := s.make(); err != nil {
			return err
		}
		if !errors.Is(why, fs.ErrNotExist) {
			s.log.Info("self-signed certificate made anew", "file", s.certFile, "why", why)
		}
	}
	return s.read()
}

// fits says why the certificate in use should be made anew. s.mu is held.
func (s *Source) fits() error {
	leaf := s.cert.Leaf
	if now := s.now(); now.Before(leaf.NotBefore) || now.Add(renewAt).After(leaf.NotAfter) {
		return fmt.Errorf("it is good from %s to %s", leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	}
	for _, h := range s.hosts {
		if err := leaf.VerifyHostname(h); err != nil {
			return err
		}
	}
	return nil
}

// read takes the files if they changed. s.mu is held.
func (s *Source) read() error {
	stamp, err := fileStamp(s.certFile, s.keyFile)
	if err != nil {
		return err
	}
	if s.cert != nil && stamp == s.stamp {
		return nil
	}
	c, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
	}
	s.cert, s.stamp = &c, stamp
	return nil
}

func fileStamp(paths ...string) (string, error) {
	var b strings.Builder
	for _, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return "", fmt.Errorf("read certificate: %w", err)
		}
		fmt.Fprintf(&b, "%d %d\n", st.ModTime().UnixNano(), st.Size())
	}
	return b.String(), nil
}

// make writes a new certificate. s.mu is held.
func (s *Source) make() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	now := s.now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Fenrir", Organization: []string{"Fenrir (self-signed)"}},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(lifetime - time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// No CA: whoever trusts it by hand trusts this server and nothing else.
		BasicConstraintsValid: true,
	}
	for _, h := range s.hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if !slices.Contains(t.DNSNames, h) {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	// The key first: a new key with an old certificate fails to load and is
	// made again, and so is a certificate without a key.
	if err := replace(s.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	return replace(s.certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// replace writes a file as a whole or not at all.
func replace(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	_, werr := f.Write(data)
	err = errors.Join(werr, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write certificate: %w", err), os.Remove(f.Name()))
	}
	return nil
}
