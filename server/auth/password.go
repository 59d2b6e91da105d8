package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Params are the cost of an argon2id hash (RFC 9106).
type Params struct {
	MemoryMiB int
	Passes    int
	Lanes     int
}

func (p Params) validate() error {
	if p.MemoryMiB < 1 || p.MemoryMiB > 4096 || p.Passes < 1 || p.Passes > 100 || p.Lanes < 1 || p.Lanes > 64 {
		return fmt.Errorf("auth: argon2 parameters %+v are out of range", p)
	}
	return nil
}

const (
	saltLen = 16
	keyLen  = 32
)

// hash makes the PHC string of a password, "$argon2id$v=19$m=65536,t=3,p=4$salt$key".
func (p Params) hash(password string) string {
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails (crypto/rand)
	key := argon2.IDKey(canonical(password), salt, uint32(p.Passes), uint32(p.MemoryMiB)*1024, uint8(p.Lanes), keyLen)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.MemoryMiB*1024, p.Passes, p.Lanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// verify checks a password against a PHC string and says whether that was made
// with other parameters than p.
func (p Params) verify(phc, password string) (ok, stale bool, err error) {
	parts := strings.Split(phc, "$")
	var version, mem, passes, lanes int
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, false, errors.New("stored password hash has an unknown form")
	}
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false, false, errors.New("stored password hash has an unknown version")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &mem, &passes, &lanes); err != nil {
		return false, false, errors.New("stored password hash has unknown parameters")
	}
	stored := Params{MemoryMiB: mem / 1024, Passes: passes, Lanes: lanes}
	if err := stored.validate(); err != nil {
		return false, false, err
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil || len(key) != keyLen {
		return false, false, errors.New("stored password hash is damaged")
	}
	got := argon2.IDKey(canonical(password), salt, uint32(passes), uint32(mem), uint8(lanes), keyLen)
	return equal(got, key), stored != p, nil
}

// canonical makes the two ways to type an accented letter the same password.
func canonical(password string) []byte { return norm.NFC.Bytes([]byte(password)) }

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// hashWait bounds the wait for a turn at hashing.
const hashWait = 10 * time.Second

// turn waits for one of the places for hashing, so that many logins at once
// cannot take all memory. The returned function gives it back.
func (s *Store) turn(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeoutCause(ctx, hashWait, ErrBusy)
	defer cancel()
	select {
	case s.hashing <- struct{}{}:
		return func() { <-s.hashing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

const (
	minPassword = 8    // runes
	maxPassword = 1024 // bytes
	maxName     = 64   // runes
)

// checkPassword applies the rules for new passwords.
func checkPassword(name, password string) error {
	switch {
	case !utf8.ValidString(password):
		return fmt.Errorf("%w: it is not valid UTF-8", ErrBadPassword)
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Errorf("%w: it must have at least %d characters", ErrBadPassword, minPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("%w: it must have at most %d bytes", ErrBadPassword, maxPassword)
	case fold(password) == fold(name):
		return fmt.Errorf("%w: it is the name", ErrBadPassword)
	}
	return nil
}

// checkName makes a name's one form, and says what is wrong with it.
func checkName(name string) (string, error) {
	if !utf8.ValidString(name) || len(name) > 4*maxName {
		return "", fmt.Errorf("%w: it must be text of at most %d characters", ErrBadName, maxName)
	}
	name = strings.TrimSpace(norm.NFC.String(name))
	if n := utf8.RuneCountInString(name); n == 0 || n > maxName {
		return "", fmt.Errorf("%w: it must have 1 to %d characters", ErrBadName, maxName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return "", fmt.Errorf("%w: it contains an invisible character", ErrBadName)
		}
	}
	return name, nil
}

// fold is the form in which names are compared.
func fold(name string) string {
	// A Caser has state: each use gets its own.
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(name)))
}
