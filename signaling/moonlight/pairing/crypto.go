package pairing

import (
	"crypto"
	"crypto/aes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
)

// Sizes that the protocol fixes, bytes.
const (
	blockSize = aes.BlockSize // of salt, key, challenges and secrets
	hashSize  = sha256.Size
)

// Bounds of a client's certificate. Clients make RSA-2048 ones of 700 bytes.
const (
	maxPEM     = 16 << 10
	minRSABits = 2048
	maxRSABits = 4096
)

// keyOf makes the key that both sides share once the user has typed the PIN.
func keyOf(salt [blockSize]byte, pin string) (key [blockSize]byte) {
	material := append(salt[:], pin...)
	sum := sha256.Sum256(material)
	copy(key[:], sum[:])
	clear(material)
	clear(sum[:])
	return key
}

// encrypt and decrypt are AES-128 block by block, as the protocol wants it. The
// length of in is a multiple of the block size.
func encrypt(key [blockSize]byte, in []byte) []byte {
	return eachBlock(in, func(out, in []byte) { cipherOf(key).Encrypt(out, in) })
}

func decrypt(key [blockSize]byte, in []byte) []byte {
	return eachBlock(in, func(out, in []byte) { cipherOf(key).Decrypt(out, in) })
}

type block interface {
	Encrypt(dst, src []byte)
	Decrypt(dst, src []byte)
}

func cipherOf(key [blockSize]byte) block {
	c, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 16 bytes are always a key
	}
	return c
}

func eachBlock(in []byte, f func(out, in []byte)) []byte {
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += blockSize {
		f(out[i:i+blockSize], in[i:i+blockSize])
	}
	return out
}

// hash is SHA-256 over the parts, one after the other.
func hash(parts ...[]byte) (sum [hashSize]byte) {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write(p) // a hash never fails
	}
	h.Sum(sum[:0])
	return sum
}

// sign signs a secret with the server's key.
func sign(key *rsa.PrivateKey, secret []byte) ([]byte, error) {
	sum := sha256.Sum256(secret)
	return rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
}

// signed tells whether signature over secret is by the certificate's key.
func signed(c *x509.Certificate, secret, signature []byte) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return false
	}
	sum := sha256.Sum256(secret)
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
}

// ParseCertificate reads a client's certificate from its PEM text. No chain, no
// date and no name is looked at: clients make their own, their clocks are wrong,
// and what counts is the key. Its error has ErrProtocol in its chain.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%w: a certificate of %d bytes", ErrProtocol, len(text))
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%w: no certificate in PEM", ErrProtocol)
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: read certificate: %w", ErrProtocol, err)
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: a certificate with an %s key", ErrProtocol, c.PublicKeyAlgorithm)
	}
	if n := key.N.BitLen(); n < minRSABits || n > maxRSABits {
		return nil, fmt.Errorf("%w: a certificate with an RSA key of %d bits", ErrProtocol, n)
	}
	return c, nil
}

// KeyID identifies a client by the key that its certificate is for: the SHA-256
// of its SubjectPublicKeyInfo, 64 lower-case hex digits. Names, serial numbers,
// unique ids and addresses are the same for many clients and identify nobody.
func KeyID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
