package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// record is how a person is stored.
type record struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Hash    string    `json:"hash"` // PHC string
	Created time.Time `json:"created"`
}

func (r record) person(id PersonID) Person {
	return Person{ID: id, Name: r.Name, Role: r.Role, Created: r.Created}
}

func getPerson(tx *bbolt.Tx, id PersonID) (record, error) {
	var r record
	b := tx.Bucket(bucketPersons).Get([]byte(id))
	if b == nil {
		return r, ErrNotFound
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("stored person %s: %w", id, err)
	}
	return r, nil
}

func put(tx *bbolt.Tx, bucket, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(key, b)
}

func countAdmins(tx *bbolt.Tx) (int, error) {
	n := 0
	err := tx.Bucket(bucketPersons).ForEach(func(k, v []byte) error {
		var r record
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("stored person %s: %w", k, err)
		}
		if r.Role == Admin {
			n++
		}
		return nil
	})
	return n, err
}

// AddPerson makes a person. Errors: ErrBadName, ErrBadPassword, ErrBadRole,
// ErrNameTaken, ErrBusy.
func (s *Store) AddPerson(ctx context.Context, name, password string, role Role) (Person, error) {
	return s.addPerson(ctx, name, password, role, false)
}

// addPerson makes a person; first demands that there is no admin yet.
func (s *Store) addPerson(ctx context.Context, name, password string, role Role, first bool) (Person, error) {
	if role != Admin && role != Player {
		return Person{}, ErrBadRole
	}
	name, err := checkName(name)
	if err != nil {
		return Person{}, err
	}
	if err := checkPassword(name, password); err != nil {
		return Person{}, err
	}
	done, err := s.turn(ctx)
	if err != nil {
		return Person{}, err
	}
	hash := s.opt.Argon2.hash(password)
	done()
	id := PersonID(newID())
	rec := record{Name: name, Role: role, Hash: hash, Created: s.opt.Now().UTC()}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		if first {
			if n, err := countAdmins(tx); err != nil || n > 0 {
				return errors.Join(err, errIf(n > 0, ErrSetupDone))
			}
		}
		names := tx.Bucket(bucketNames)
		if names.Get([]byte(fold(name))) != nil {
			return ErrNameTaken
		}
		if err := names.Put([]byte(fold(name)), []byte(id)); err != nil {
			return err
		}
		return put(tx, bucketPersons, []byte(id), rec)
	})
	if err != nil {
		return Person{}, err
	}
	return rec.person(id), nil
}

// Persons lists everybody by name.
func (s *Store) Persons() ([]Person, error) {
	list := []Person{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketPersons).ForEach(func(k, v []byte) error {
			var r record
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("stored person %s: %w", k, err)
			}
			list = append(list, r.person(PersonID(k)))
			return nil
		})
	})
	slices.SortFunc(list, func(a, b Person) int { return cmp.Or(cmp.Compare(fold(a.Name), fold(b.Name)), cmp.Compare(a.ID, b.ID)) })
	return list, err
}

// Person finds one by id, or fails with ErrNotFound.
func (s *Store) Person(id PersonID) (Person, error) {
	var p Person
	err := s.db.View(func(tx *bbolt.Tx) error {
		r, err := getPerson(tx, id)
		p = r.person(id)
		return err
	})
	return p, err
}

// PersonNamed finds one by name in any spelling, or fails with ErrNotFound.
func (s *Store) PersonNamed(name string) (Person, error) {
	var p Person
	err := s.db.View(func(tx *bbolt.Tx) error {
		id := PersonID(tx.Bucket(bucketNames).Get([]byte(fold(name))))
		r, err := getPerson(tx, id)
		p = r.person(id)
		return err
	})
	return p, err
}

// SetRole changes a role. Errors: ErrBadRole, ErrNotFound, ErrLastAdmin.
func (s *Store) SetRole(id PersonID, role Role) (Person, error) {
	if role != Admin && role != Player {
		return Person{}, ErrBadRole
	}
	var p Person
	demoted := false
	err := s.db.Update(func(tx *bbolt.Tx) error {
		r, err := getPerson(tx, id)
		if err != nil {
			return err
		}
		if r.Role == Admin && role != Admin {
			if err := keepAdmin(tx); err != nil {
				return err
			}
			demoted = true
		}
		r.Role = role
		p = r.person(id)
		return put(tx, bucketPersons, []byte(id), r)
	})
	if err == nil && demoted {
		// What an admin had open may be more than a player may see.
		s.revoke(Revocation{Person: id})
	}
	return p, err
}

func keepAdmin(tx *bbolt.Tx) error {
	n, err := countAdmins(tx)
	if err != nil {
		return err
	}
	if n <= 1 {
		return ErrLastAdmin
	}
	return nil
}

// SetPassword gives a person a new password and ends their logins, but for keep
// (which may be empty), and every bearer token and device when keep is empty. Errors:
// ErrBadPassword, ErrNotFound, ErrBusy.
func (s *Store) SetPassword(ctx context.Context, id PersonID, password string, keep Credential) error {
	p, err := s.Person(id)
	if err != nil {
		return err
	}
	if err := checkPassword(p.Name, password); err != nil {
		return err
	}
	done, err := s.turn(ctx)
	if err != nil {
		return err
	}
	hash := s.opt.Argon2.hash(password)
	done()
	err = s.db.Update(func(tx *bbolt.Tx) error {
		r, err := getPerson(tx, id)
		if err != nil {
			return err
		}
		r.Hash = hash
		if err := put(tx, bucketPersons, []byte(id), r); err != nil {
			return err
		}
		return dropCredentials(tx, id, keep)
	})
	if err == nil {
		s.revoke(Revocation{Person: id, Keep: keep})
	}
	return err
}

// ChangePassword is SetPassword for somebody who knows the present one. Errors:
// also ErrBadCredentials and *RateError.
func (s *Store) ChangePassword(ctx context.Context, addr string, who Identity, current, next string) error {
	if err := s.limits.attempt(addr, who.Person.Name); err != nil {
		return err
	}
	if _, err := s.check(ctx, who.Person.Name, current); err != nil {
		return err
	}
	s.limits.forget(addr, who.Person.Name)
	return s.SetPassword(ctx, who.Person.ID, next, who.Credential)
}

// DeletePerson removes a person with all logins, tokens and devices. Errors: ErrNotFound,
// ErrLastAdmin.
func (s *Store) DeletePerson(id PersonID) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		r, err := getPerson(tx, id)
		if err != nil {
			return err
		}
		if r.Role == Admin {
			if err := keepAdmin(tx); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketNames).Delete([]byte(fold(r.Name))); err != nil {
			return err
		}
		if err := tx.Bucket(bucketPersons).Delete([]byte(id)); err != nil {
			return err
		}
		return dropCredentials(tx, id, "")
	})
	if err == nil {
		s.revoke(Revocation{Person: id, Deleted: true})
	}
	return err
}

// check finds the person with that name and password. An unknown name takes as
// long as a wrong password.
func (s *Store) check(ctx context.Context, name, password string) (Person, error) {
	var id PersonID
	var rec record
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		id = PersonID(tx.Bucket(bucketNames).Get([]byte(fold(name))))
		if id == "" {
			return nil
		}
		rec, err = getPerson(tx, id)
		return err
	})
	if err != nil {
		return Person{}, err
	}
	if len(password) > maxPassword {
		password = "" // no stored password is that long, none is empty
	}
	phc := rec.Hash
	if id == "" {
		phc = s.decoy
	}
	done, err := s.turn(ctx)
	if err != nil {
		return Person{}, err
	}
	defer done()
	ok, stale, err := s.opt.Argon2.verify(phc, password)
	if err != nil {
		return Person{}, err
	}
	if !ok || id == "" {
		return Person{}, ErrBadCredentials
	}
	if stale {
		// The configured cost changed: now is the one moment to apply it.
		hash := s.opt.Argon2.hash(password)
		err := s.db.Update(func(tx *bbolt.Tx) error {
			r, err := getPerson(tx, id)
			if err != nil || r.Hash != rec.Hash {
				return err
			}
			r.Hash = hash
			return put(tx, bucketPersons, []byte(id), r)
		})
		if err != nil {
			return Person{}, err
		}
	}
	return rec.person(id), nil
}
