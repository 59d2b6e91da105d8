// Package auth knows who is asking: persons with argon2id passwords, cookie
// logins, bearer tokens and the first-run setup token, in one embedded database.
// It promises that no secret is stored or logged in the clear, that a wrong name
// costs as much time as a wrong password, and that the memory for hashing and
// for rate limits is bounded. It imports nothing of Fenrir.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Errors that callers decide on.
var (
	ErrUnauthenticated = errors.New("not logged in")
	ErrBadCredentials  = errors.New("wrong name or password")
	ErrBadSetupToken   = errors.New("wrong setup token")
	ErrSetupDone       = errors.New("an admin exists already")
	ErrNotFound        = errors.New("no such user, token or device")
	ErrNameTaken       = errors.New("the name is taken")
	ErrBadName         = errors.New("the name cannot be used")
	ErrBadPassword     = errors.New("the password cannot be used")
	ErrBadRole         = errors.New("the role is admin or player")
	ErrLastAdmin       = errors.New("the last admin must stay one")
	ErrTooMany         = errors.New("too many of them")
	ErrBusy            = errors.New("too many passwords are being checked")
	ErrLocked          = errors.New("the database is in use by another process")
)

// RateError says that somebody has tried too often.
type RateError struct{ RetryAfter time.Duration }

func (e *RateError) Error() string {
	return fmt.Sprintf("too many attempts, try again in %s", e.RetryAfter.Round(time.Second))
}

// PersonID names a person for ever; names may change, ids do not.
type PersonID string

// Role is what a person may do.
type Role string

// The roles.
const (
	Admin  Role = "admin"
	Player Role = "player"
)

// Person is somebody with a login.
type Person struct {
	ID      PersonID
	Name    string
	Role    Role
	Created time.Time
}

// Credential names the cookie login, bearer token or device that a request came with.
// It is no secret: it identifies, it does not open anything.
type Credential string

// Identity is who a request comes from.
type Identity struct {
	Person     Person
	Credential Credential
	Bearer     bool // came with a bearer token, not with a cookie
}

// Revocation tells that something no longer opens the door.
type Revocation struct {
	Person     PersonID
	Credential Credential // empty: everything of the person
	Keep       Credential // with an empty Credential: this one stays good, and bearer tokens do
	Deleted    bool       // the person is gone
}

// Matches reports whether an identity has lost its right by r.
func (r Revocation) Matches(id Identity) bool {
	if id.Person.ID != r.Person {
		return false
	}
	if r.Credential != "" {
		return id.Credential == r.Credential
	}
	return r.Keep == "" || id.Credential != r.Keep && !id.Bearer
}

// Options are what a Store needs.
type Options struct {
	Path           string        // database file; its folder is made when missing
	CookieLifetime time.Duration // of a login without use
	MaxLogins      int           // logins of one person; one more ends the oldest
	MaxTokens      int           // bearer tokens of one person; 0: 50
	Argon2         Params
	Hashing        int // hashes computed at a time
	PerMinute      int // attempts per address and name, and ten times that per address
	Burst          int
	Log            *slog.Logger
	Now            func() time.Time // nil: time.Now
}

// Store is the database of who may come in. Its methods may be called from many
// goroutines; those that write wait for the disk.
type Store struct {
	opt     Options
	db      *bbolt.DB
	hashing chan struct{} // one token per hash that may be computed now
	decoy   string        // hash that an unknown name is checked against
	limits  *limiter

	mu      sync.Mutex
	setup   [sha256.Size]byte // hash of the setup token, guarded by mu
	pending bool              // a setup token is out, guarded by mu
	revoked []func(Revocation)
}

var (
	bucketPersons = []byte("persons") // id → person
	bucketNames   = []byte("names")   // folded name → id
	bucketLogins  = []byte("logins")  // SHA-256 of the cookie's token → login
	bucketTokens  = []byte("tokens")  // SHA-256 of the bearer token → token
	bucketDevices = []byte("devices") // SHA-256 of the public key → device
)

// openTimeout bounds the wait for the database's lock.
const openTimeout = 2 * time.Second

// Open opens or makes the database. The error wraps ErrLocked when another
// process has it open. The caller closes the Store.
func Open(opt Options) (*Store, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.MaxTokens == 0 {
		opt.MaxTokens = 50
	}
	if err := opt.Argon2.validate(); err != nil {
		return nil, err
	}
	if opt.Hashing < 1 || opt.PerMinute < 1 || opt.Burst < 1 || opt.MaxLogins < 1 || opt.CookieLifetime <= 0 {
		return nil, errors.New("auth: Hashing, PerMinute, Burst, MaxLogins and CookieLifetime must be positive")
	}
	if err := os.MkdirAll(filepath.Dir(opt.Path), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of the user database: %w", err)
	}
	db, err := bbolt.Open(opt.Path, 0o600, &bbolt.Options{Timeout: openTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open user database %s: %w (is another fenrir running?)", opt.Path, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("open user database %s: %w", opt.Path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketPersons, bucketNames, bucketLogins, bucketTokens, bucketDevices} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare user database: %w", err), db.Close())
	}
	s := &Store{opt: opt, db: db, hashing: make(chan struct{}, opt.Hashing), limits: newLimiter(opt.PerMinute, opt.Burst, opt.Now)}
	// Any hash with the present cost does: nobody knows its password.
	s.decoy = opt.Argon2.hash(rand.Text())
	return s, nil
}

// Close releases the database file.
func (s *Store) Close() error { return s.db.Close() }

// OnRevoked registers f, to be called after a person, password or token has
// stopped being good. f must not block. Call it before requests are served.
func (s *Store) OnRevoked(f func(Revocation)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = append(s.revoked, f)
}

func (s *Store) revoke(r Revocation) {
	s.mu.Lock()
	hooks := s.revoked
	s.mu.Unlock()
	for _, f := range hooks {
		f(r)
	}
}

// NeedsSetup reports whether there is no admin yet.
func (s *Store) NeedsSetup() (bool, error) {
	var n int
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		n, err = countAdmins(tx)
		return err
	})
	return n == 0, err
}

// IssueSetupToken makes the token that creates the first admin, and forgets an
// earlier one. Only its hash is kept, in memory. It fails with ErrSetupDone when
// there is an admin.
func (s *Store) IssueSetupToken() (string, error) {
	need, err := s.NeedsSetup()
	if err != nil {
		return "", err
	}
	if !need {
		return "", ErrSetupDone
	}
	token := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setup, s.pending = sha256.Sum256([]byte(token)), true
	return token, nil
}

// Setup makes the first admin and logs them in. The token is used up by success
// only. Errors: ErrBadSetupToken, ErrSetupDone, ErrBadName, ErrBadPassword,
// *RateError, ErrBusy.
func (s *Store) Setup(ctx context.Context, addr, token, name, password string) (Person, string, error) {
	if err := s.limits.attempt(addr, "\x00setup"); err != nil {
		return Person{}, "", err
	}
	if need, err := s.NeedsSetup(); err != nil || !need {
		return Person{}, "", errors.Join(err, errIf(!need, ErrSetupDone))
	}
	if !s.setupMatches(token) {
		return Person{}, "", ErrBadSetupToken
	}
	p, err := s.addPerson(ctx, name, password, Admin, true)
	if err != nil {
		return Person{}, "", err
	}
	s.mu.Lock()
	s.setup, s.pending = [sha256.Size]byte{}, false
	s.mu.Unlock()
	cookie, err := s.newLogin(p.ID)
	return p, cookie, err
}

func (s *Store) setupMatches(token string) bool {
	sum := sha256.Sum256([]byte(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending && equal(sum[:], s.setup[:])
}

func errIf(cond bool, err error) error {
	if cond {
		return err
	}
	return nil
}

// newID makes a random id of 96 bits.
func newID() string {
	b := make([]byte, 12)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// newSecret makes a random string of 256 bits.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}
