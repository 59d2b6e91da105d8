package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// login is a cookie's login as stored.
type login struct {
	Person  PersonID  `json:"person"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"` // to about touchEvery
}

// bearer is a bearer token as stored.
type bearer struct {
	ID      string    `json:"id"`
	Person  PersonID  `json:"person"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"` // zero: never used
}

// Token is a bearer token as its owner may see it.
type Token struct {
	ID       string
	Name     string
	Created  time.Time
	LastUsed time.Time // zero: never; to about a minute
}

// bearerPrefix lets secret scanners find a token that leaked.
const bearerPrefix = "fnr_"

// touchEvery is how exactly the last use is stored: a write per request would
// be a disk write per request.
const touchEvery = time.Minute

// Login checks name and password and returns a new cookie token. Errors:
// ErrBadCredentials, *RateError, ErrBusy.
func (s *Store) Login(ctx context.Context, addr, name, password string) (Person, string, error) {
	if err := s.limits.attempt(addr, name); err != nil {
		return Person{}, "", err
	}
	p, err := s.check(ctx, name, password)
	if err != nil {
		return Person{}, "", err
	}
	s.limits.forget(addr, name)
	token, err := s.newLogin(p.ID)
	return p, token, err
}

// newLogin stores a login and returns its token. Logins that have expired, of
// anybody, are swept on the way, and the person's oldest ones beyond the limit.
func (s *Store) newLogin(id PersonID) (string, error) {
	token := newSecret()
	key := sha256.Sum256([]byte(token))
	now := s.opt.Now().UTC()
	var gone []Revocation
	err := s.db.Update(func(tx *bbolt.Tx) error {
		type own struct {
			key  []byte
			seen time.Time
		}
		var owned []own
		var drop [][]byte
		b := tx.Bucket(bucketLogins)
		err := b.ForEach(func(k, v []byte) error {
			var l login
			if err := json.Unmarshal(v, &l); err != nil || s.expired(l, now) {
				drop = append(drop, bytes.Clone(k))
			} else if l.Person == id {
				owned = append(owned, own{bytes.Clone(k), l.Seen})
			}
			return nil
		})
		if err != nil {
			return err
		}
		if excess := len(owned) - (s.opt.MaxLogins - 1); excess > 0 {
			slices.SortFunc(owned, func(a, b own) int { return a.seen.Compare(b.seen) })
			for _, o := range owned[:excess] {
				drop = append(drop, o.key)
				gone = append(gone, Revocation{Person: id, Credential: loginCredential(o.key)})
			}
		}
		for _, k := range drop {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return put(tx, bucketLogins, key[:], login{Person: id, Created: now, Seen: now})
	})
	if err != nil {
		return "", err
	}
	for _, r := range gone {
		s.revoke(r)
	}
	return token, nil
}

func (s *Store) expired(l login, now time.Time) bool {
	return now.Sub(l.Seen) > s.opt.CookieLifetime
}

func loginCredential(key []byte) Credential {
	return Credential("login:" + hex.EncodeToString(key[:8]))
}
func tokenCredential(id string) Credential { return Credential("token:" + id) }

// FromCookie says who a cookie's token belongs to. renewed tells that its
// expiry has moved, so that the browser should be told as well. It fails with
// ErrUnauthenticated.
func (s *Store) FromCookie(token string) (id Identity, renewed bool, err error) {
	key := sha256.Sum256([]byte(token))
	now := s.opt.Now().UTC()
	var l login
	err = s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketLogins).Get(key[:])
		if v == nil {
			return ErrUnauthenticated
		}
		if err := json.Unmarshal(v, &l); err != nil {
			return err
		}
		if s.expired(l, now) {
			return ErrUnauthenticated
		}
		r, err := getPerson(tx, l.Person)
		id = Identity{Person: r.person(l.Person), Credential: loginCredential(key[:])}
		return err
	})
	if err != nil {
		return Identity{}, false, unauthenticated(err)
	}
	if now.Sub(l.Seen) < touchEvery {
		return id, false, nil
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketLogins).Get(key[:])
		if v == nil {
			return ErrUnauthenticated // logged out between the two transactions
		}
		l.Seen = now
		return put(tx, bucketLogins, key[:], l)
	})
	if err != nil {
		return Identity{}, false, unauthenticated(err)
	}
	return id, true, nil
}

func unauthenticated(err error) error {
	if errors.Is(err, ErrNotFound) {
		return ErrUnauthenticated
	}
	return err
}

// Logout ends the login of a cookie's token; an unknown one is no error.
func (s *Store) Logout(token string) error {
	key := sha256.Sum256([]byte(token))
	var l login
	found := false
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketLogins)
		if v := b.Get(key[:]); v != nil {
			found = json.Unmarshal(v, &l) == nil
		}
		return b.Delete(key[:])
	})
	if err == nil && found {
		s.revoke(Revocation{Person: l.Person, Credential: loginCredential(key[:])})
	}
	return err
}

// FromBearer says who a bearer token belongs to, or fails with ErrUnauthenticated.
func (s *Store) FromBearer(token string) (Identity, error) {
	if !strings.HasPrefix(token, bearerPrefix) {
		return Identity{}, ErrUnauthenticated
	}
	key := sha256.Sum256([]byte(token))
	now := s.opt.Now().UTC()
	var id Identity
	var t bearer
	err := s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketTokens).Get(key[:])
		if v == nil {
			return ErrUnauthenticated
		}
		if err := json.Unmarshal(v, &t); err != nil {
			return err
		}
		r, err := getPerson(tx, t.Person)
		id = Identity{Person: r.person(t.Person), Credential: tokenCredential(t.ID), Bearer: true}
		return err
	})
	if err == nil && now.Sub(t.Seen) >= touchEvery {
		err = s.db.Update(func(tx *bbolt.Tx) error {
			if tx.Bucket(bucketTokens).Get(key[:]) == nil {
				return ErrUnauthenticated // deleted between the two transactions
			}
			t.Seen = now
			return put(tx, bucketTokens, key[:], t)
		})
	}
	if err != nil {
		return Identity{}, unauthenticated(err)
	}
	return id, nil
}

// NewToken makes a bearer token; the string is shown this once. Errors:
// ErrBadName, ErrTooMany, ErrNotFound.
func (s *Store) NewToken(id PersonID, name string) (Token, string, error) {
	name, err := checkName(name)
	if err != nil {
		return Token{}, "", err
	}
	secret := bearerPrefix + newSecret()
	key := sha256.Sum256([]byte(secret))
	t := bearer{ID: newID(), Person: id, Name: name, Created: s.opt.Now().UTC()}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		if _, err := getPerson(tx, id); err != nil {
			return err
		}
		n := 0
		err := eachToken(tx, func(_ []byte, b bearer) error {
			if b.Person == id {
				n++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if n >= s.opt.MaxTokens {
			return ErrTooMany
		}
		return put(tx, bucketTokens, key[:], t)
	})
	if err != nil {
		return Token{}, "", err
	}
	return t.public(), secret, nil
}

func (b bearer) public() Token {
	return Token{ID: b.ID, Name: b.Name, Created: b.Created, LastUsed: b.Seen}
}

func eachToken(tx *bbolt.Tx, f func(key []byte, b bearer) error) error {
	return tx.Bucket(bucketTokens).ForEach(func(k, v []byte) error {
		var b bearer
		if err := json.Unmarshal(v, &b); err != nil {
			return err
		}
		return f(k, b)
	})
}

// Tokens lists a person's bearer tokens, oldest first.
func (s *Store) Tokens(id PersonID) ([]Token, error) {
	list := []Token{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return eachToken(tx, func(_ []byte, b bearer) error {
			if b.Person == id {
				list = append(list, b.public())
			}
			return nil
		})
	})
	slices.SortFunc(list, func(a, b Token) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return list, err
}

// DeleteToken ends a bearer token of a person, or fails with ErrNotFound.
func (s *Store) DeleteToken(id PersonID, token string) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		var key []byte
		err := eachToken(tx, func(k []byte, b bearer) error {
			if b.Person == id && b.ID == token {
				key = bytes.Clone(k)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if key == nil {
			return ErrNotFound
		}
		return tx.Bucket(bucketTokens).Delete(key)
	})
	if err == nil {
		s.revoke(Revocation{Person: id, Credential: tokenCredential(token)})
	}
	return err
}

// dropCredentials deletes a person's logins but keep's. Bearer tokens and devices
// outlive a change of password made by their owner (keep is set then) and nothing
// else.
func dropCredentials(tx *bbolt.Tx, id PersonID, keep Credential) error {
	var logins, tokens [][]byte
	err := tx.Bucket(bucketLogins).ForEach(func(k, v []byte) error {
		var l login
		if err := json.Unmarshal(v, &l); err != nil {
			return err
		}
		if l.Person == id && loginCredential(k) != keep {
			logins = append(logins, bytes.Clone(k))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if keep == "" {
		err = errors.Join(dropDevices(tx, id), eachToken(tx, func(k []byte, b bearer) error {
			if b.Person == id {
				tokens = append(tokens, bytes.Clone(k))
			}
			return nil
		}))
	}
	if err != nil {
		return err
	}
	for _, k := range logins {
		if err := tx.Bucket(bucketLogins).Delete(k); err != nil {
			return err
		}
	}
	for _, k := range tokens {
		if err := tx.Bucket(bucketTokens).Delete(k); err != nil {
			return err
		}
	}
	return nil
}
