package auth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// maxDevices bounds the paired devices of one person.
const maxDevices = 50

// ErrTooManyDevices is returned by PairDevice for one more than a person may have.
var ErrTooManyDevices = errors.New("too many devices")

// device is a paired device as stored, under its key's hash.
type device struct {
	ID          string    `json:"id"`
	Person      PersonID  `json:"person"`
	Name        string    `json:"name"`
	Certificate []byte    `json:"certificate"` // DER
	Created     time.Time `json:"created"`
	Seen        time.Time `json:"seen"` // to about touchEvery; zero: never
}

// Device is a client that identifies itself by a certificate, a Moonlight client.
// It acts for the person who paired it.
type Device struct {
	ID      string
	Name    string // unique to nobody
	Person  Person
	Created time.Time
	Seen    time.Time // zero: never; to about a minute
}

// Credential is what revocations of a device name.
func (d Device) Credential() Credential { return deviceCredential(d.ID) }

func deviceCredential(id string) Credential { return Credential("device:" + id) }

func (d device) public(r record) Device {
	return Device{ID: d.ID, Name: d.Name, Person: r.person(d.Person), Created: d.Created, Seen: d.Seen}
}

// PairDevice remembers a device by the hash of its public key (64 hex digits) and
// its certificate (DER), in place of one with the same key, whoever that belonged
// to. Errors: ErrBadName, ErrNotFound for the person, ErrTooManyDevices.
func (s *Store) PairDevice(person PersonID, name, key string, certificate []byte) (Device, error) {
	name, err := checkName(name)
	if err != nil {
		return Device{}, err
	}
	d := device{ID: newID(), Person: person, Name: name, Certificate: certificate, Created: s.opt.Now().UTC()}
	var owner record
	var before *device
	err = s.db.Update(func(tx *bbolt.Tx) (err error) {
		if owner, err = getPerson(tx, person); err != nil {
			return err
		}
		n := 0
		err = eachDevice(tx, func(k []byte, other device) error {
			if string(k) == key {
				before = &other
			} else if other.Person == person {
				n++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if n >= maxDevices {
			return ErrTooManyDevices
		}
		return put(tx, bucketDevices, []byte(key), d)
	})
	if err != nil {
		return Device{}, err
	}
	if before != nil {
		s.revoke(Revocation{Person: before.Person, Credential: deviceCredential(before.ID)})
	}
	return d.public(owner), nil
}

// DeviceByKey finds a device by the hash of its public key, if its certificate is
// the one that was remembered. It notes that the device was seen. It fails with
// ErrUnauthenticated.
func (s *Store) DeviceByKey(key string, certificate []byte) (Device, error) {
	var d device
	var owner record
	now := s.opt.Now().UTC()
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		v := tx.Bucket(bucketDevices).Get([]byte(key))
		if v == nil {
			return ErrUnauthenticated
		}
		if err := json.Unmarshal(v, &d); err != nil {
			return fmt.Errorf("stored device: %w", err)
		}
		if !bytes.Equal(d.Certificate, certificate) {
			return ErrUnauthenticated
		}
		owner, err = getPerson(tx, d.Person)
		return err
	})
	if err == nil && now.Sub(d.Seen) >= touchEvery {
		err = s.db.Update(func(tx *bbolt.Tx) error {
			id := d.ID
			v := tx.Bucket(bucketDevices).Get([]byte(key))
			if v == nil {
				return ErrUnauthenticated // forgotten between the two transactions
			}
			if err := json.Unmarshal(v, &d); err != nil {
				return fmt.Errorf("stored device: %w", err)
			}
			if d.ID != id {
				return ErrUnauthenticated // paired anew between the two transactions
			}
			d.Seen = now
			return put(tx, bucketDevices, []byte(key), d)
		})
	}
	if err != nil {
		return Device{}, unauthenticated(err)
	}
	return d.public(owner), nil
}

// Devices lists a person's devices, or with an empty id everybody's, oldest first.
func (s *Store) Devices(person PersonID) ([]Device, error) {
	list := []Device{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return eachDevice(tx, func(_ []byte, d device) error {
			if person != "" && d.Person != person {
				return nil
			}
			r, err := getPerson(tx, d.Person)
			if err != nil {
				return err
			}
			list = append(list, d.public(r))
			return nil
		})
	})
	slices.SortFunc(list, func(a, b Device) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return list, err
}

// RenameDevice gives a device another name. With a person it must be theirs.
// Errors: ErrBadName, ErrNotFound.
func (s *Store) RenameDevice(person PersonID, id, name string) (Device, error) {
	name, err := checkName(name)
	if err != nil {
		return Device{}, err
	}
	var out Device
	err = s.changeDevice(person, id, func(tx *bbolt.Tx, key []byte, d device) error {
		d.Name = name
		r, err := getPerson(tx, d.Person)
		if err != nil {
			return err
		}
		out = d.public(r)
		return put(tx, bucketDevices, key, d)
	})
	return out, err
}

// ForgetDevice ends the trust in a device. With a person it must be theirs. It
// fails with ErrNotFound.
func (s *Store) ForgetDevice(person PersonID, id string) error {
	var owner PersonID
	err := s.changeDevice(person, id, func(tx *bbolt.Tx, key []byte, d device) error {
		owner = d.Person
		return tx.Bucket(bucketDevices).Delete(key)
	})
	if err == nil {
		s.revoke(Revocation{Person: owner, Credential: deviceCredential(id)})
	}
	return err
}

// changeDevice calls f with a device in a transaction that writes.
func (s *Store) changeDevice(person PersonID, id string, f func(tx *bbolt.Tx, key []byte, d device) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		var key []byte
		var found device
		err := eachDevice(tx, func(k []byte, d device) error {
			if d.ID == id && (person == "" || d.Person == person) {
				key, found = bytes.Clone(k), d
			}
			return nil
		})
		if err != nil {
			return err
		}
		if key == nil {
			return ErrNotFound
		}
		return f(tx, key, found)
	})
}

func eachDevice(tx *bbolt.Tx, f func(key []byte, d device) error) error {
	return tx.Bucket(bucketDevices).ForEach(func(k, v []byte) error {
		var d device
		if err := json.Unmarshal(v, &d); err != nil {
			return fmt.Errorf("stored device: %w", err)
		}
		return f(k, d)
	})
}

// dropDevices deletes a person's devices.
func dropDevices(tx *bbolt.Tx, id PersonID) error {
	var keys [][]byte
	err := eachDevice(tx, func(k []byte, d device) error {
		if d.Person == id {
			keys = append(keys, bytes.Clone(k))
		}
		return nil
	})
	for _, k := range keys {
		err = errors.Join(err, tx.Bucket(bucketDevices).Delete(k))
	}
	return err
}
