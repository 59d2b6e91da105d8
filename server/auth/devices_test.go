package auth

import (
	"strings"
	"testing"
	"time"
)

func pair(t *testing.T, s *Store, person PersonID, name, key, certificate string) Device {
	t.Helper()
	d, err := s.PairDevice(person, name, key, []byte(certificate))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDevices(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	anna, bert := add(t, s, "anna", "correct horse", Player), add(t, s, "bert", "battery staple", Player)
	c.add(time.Second)
	tv := pair(t, s, anna.ID, "television", "k1", "certificate 1")
	c.add(time.Second)
	phone := pair(t, s, bert.ID, "phone", "k2", "certificate 2")

	got, err := s.DeviceByKey("k1", []byte("certificate 1"))
	if err != nil || got.ID != tv.ID || got.Person.ID != anna.ID || got.Seen.IsZero() {
		t.Errorf("found %+v: %v", got, err)
	}
	_, err = s.DeviceByKey("k1", []byte("certificate 2"))
	wantErr(t, "the key with another certificate", err, ErrUnauthenticated)
	_, err = s.DeviceByKey("k3", []byte("certificate 1"))
	wantErr(t, "an unknown key", err, ErrUnauthenticated)

	if all, err := s.Devices(""); err != nil || len(all) != 2 || all[0].ID != tv.ID {
		t.Errorf("all are %+v: %v", all, err)
	}
	if hers, err := s.Devices(anna.ID); err != nil || len(hers) != 1 {
		t.Errorf("anna has %+v: %v", hers, err)
	}

	_, err = s.RenameDevice(bert.ID, tv.ID, "mine")
	wantErr(t, "renaming another one's", err, ErrNotFound)
	_, err = s.RenameDevice(anna.ID, tv.ID, " ")
	wantErr(t, "no name", err, ErrBadName)
	if d, err := s.RenameDevice(anna.ID, tv.ID, "big television"); err != nil || d.Name != "big television" {
		t.Errorf("renamed to %+v: %v", d, err)
	}
	if d, err := s.RenameDevice("", phone.ID, "by an admin"); err != nil || d.Person.ID != bert.ID {
		t.Errorf("renamed to %+v: %v", d, err)
	}

	var gone []Revocation
	s.OnRevoked(func(r Revocation) { gone = append(gone, r) })
	wantErr(t, "forgetting another one's", s.ForgetDevice(bert.ID, tv.ID), ErrNotFound)
	if err := s.ForgetDevice(anna.ID, tv.ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.DeviceByKey("k1", []byte("certificate 1"))
	wantErr(t, "a forgotten one", err, ErrUnauthenticated)
	id := Identity{Person: anna, Credential: tv.Credential(), Bearer: true}
	if len(gone) != 1 || !gone[0].Matches(id) || gone[0].Matches(Identity{Person: anna, Credential: "login:1"}) {
		t.Errorf("revoked %+v, want the device", gone)
	}
}

func TestADeviceIsPairedAnew(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	anna, bert := add(t, s, "anna", "correct horse", Player), add(t, s, "bert", "battery staple", Player)
	before := pair(t, s, anna.ID, "television", "k1", "certificate 1")
	var gone []Revocation
	s.OnRevoked(func(r Revocation) { gone = append(gone, r) })
	pair(t, s, bert.ID, "television", "k1", "certificate 1")
	if len(gone) != 1 || !gone[0].Matches(Identity{Person: anna, Credential: before.Credential(), Bearer: true}) {
		t.Errorf("revoked %+v, want anna's device", gone)
	}
	if d, err := s.DeviceByKey("k1", []byte("certificate 1")); err != nil || d.Person.ID != bert.ID {
		t.Errorf("it is %+v: %v", d, err)
	}
}

func TestDevicesGoWithTheirPerson(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	anna := add(t, s, "anna", "correct horse", Player)
	pair(t, s, anna.ID, "television", "k1", "c")
	if err := s.SetPassword(t.Context(), anna.ID, "a new password", "login:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeviceByKey("k1", []byte("c")); err != nil {
		t.Errorf("after her own change of password: %v", err)
	}
	if err := s.SetPassword(t.Context(), anna.ID, "yet another password", ""); err != nil {
		t.Fatal(err)
	}
	_, err := s.DeviceByKey("k1", []byte("c"))
	wantErr(t, "after a reset", err, ErrUnauthenticated)
	pair(t, s, anna.ID, "television", "k1", "c")
	if err := s.DeletePerson(anna.ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.DeviceByKey("k1", []byte("c"))
	wantErr(t, "without its person", err, ErrUnauthenticated)
	_, err = s.PairDevice(anna.ID, "television", "k1", []byte("c"))
	wantErr(t, "for somebody who is gone", err, ErrNotFound)
}

func TestOnlySoManyDevices(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	anna := add(t, s, "anna", "correct horse", Player)
	for i := range maxDevices {
		pair(t, s, anna.ID, "device", strings.Repeat("k", i+1), "c")
	}
	_, err := s.PairDevice(anna.ID, "device", "another", []byte("c"))
	wantErr(t, "one more", err, ErrTooManyDevices)
	pair(t, s, anna.ID, "again", "k", "c")
}
