package nvhttp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// The files of an identity, readable for their owner only.
const (
	certFile = "moonlight-cert.pem"
	keyFile  = "moonlight-key.pem"
)

// lifetime is as long as clients keep a host: they pin its certificate, and with
// another one each of them has to pair anew.
const lifetime = 20 * 365 * 24 * time.Hour

// Identity is what clients know this server by.
type Identity struct {
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey
	// PEM is the certificate's text, which clients are given when they pair.
	PEM []byte
	// UniqueID is a UUID under which clients store this server. It is made of the
	// certificate, so that both last equally long.
	UniqueID string
}

// LoadIdentity reads the identity in folder dir, and makes it when there is no
// certificate yet: a self-signed one, RSA of 2048 bits because clients verify
// such signatures, for 20 years. Whatever else is wrong is an error: a new
// identity would cut off every device.
func LoadIdentity(dir string) (*Identity, error) {
	_, err := os.Stat(filepath.Join(dir, certFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = makeIdentity(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("moonlight identity: %w", err)
	}
	id, err := readIdentity(dir)
	if err != nil {
		return nil, fmt.Errorf("moonlight identity: %w", err)
	}
	return id, nil
}

func readIdentity(dir string) (*Identity, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no RSA key", keyFile)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	return &Identity{
		Certificate: cert, Key: key,
		PEM:      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		UniqueID: uuidOf(cert.Raw),
	}, nil
}

// uuidOf makes a UUID of the eighth version (RFC 9562), which is anybody's own way.
func uuidOf(of []byte) string {
	sum := sha256.Sum256(of)
	u := sum[:16]
	u[6] = u[6]&0x0F | 0x80
	u[8] = u[8]&0x3F | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func makeIdentity(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Fenrir"},
		NotBefore:    now.Add(-24 * time.Hour), // clocks differ
		NotAfter:     now.Add(lifetime),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// The key first: without a certificate nobody has seen it, and both are made again.
	if err := replace(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return err
	}
	return replace(filepath.Join(dir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// replace writes a file as a whole or not at all.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	_, werr := f.Write(data)
	err = errors.Join(werr, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// tlsConfig takes any client that shows a certificate: who it is, if anybody, is
// decided per request, because clients take a failed handshake for a dead host.
func (id *Identity) tlsConfig() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{id.Certificate.Raw}, PrivateKey: id.Key, Leaf: id.Certificate}},
		ClientAuth:   tls.RequireAnyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
		// Each connection shows its certificate itself.
		SessionTicketsDisabled: true,
	}
}
