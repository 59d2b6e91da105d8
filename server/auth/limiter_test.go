package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// count is how many keys a bucket has.
func (s *Store) count(t *testing.T, bucket []byte) (n int) {
	t.Helper()
	err := s.db.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket(bucket).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func limited(err error) (time.Duration, bool) {
	var rate *RateError
	if !errors.As(err, &rate) {
		return 0, false
	}
	return rate.RetryAfter, true
}

func TestLoginsAreLimitedPerAddressAndName(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	add(t, s, "anna", "correct horse", Player)
	try := func(addr, name, password string) error {
		_, _, err := s.Login(t.Context(), addr, name, password)
		return err
	}
	for range s.opt.Burst {
		wantErr(t, "a guess", try("192.0.2.1", "anna", "wrong horse"), ErrBadCredentials)
	}
	wait, ok := limited(try("192.0.2.1", "ANNA", "correct horse"))
	if !ok || wait <= 0 || wait > 10*time.Second {
		t.Errorf("the sixth attempt: wait %s, limited %t; want up to 10 s", wait, ok)
	}
	if err := try("192.0.2.2", "anna", "correct horse"); err != nil {
		t.Errorf("from another address: %v", err)
	}
	wantErr(t, "another name", try("192.0.2.1", "ben", "wrong horse"), ErrBadCredentials)
	c.add(wait)
	if err := try("192.0.2.1", "anna", "correct horse"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	// A success gives the attempts back.
	for range s.opt.Burst {
		wantErr(t, "a guess after a success", try("192.0.2.1", "anna", "wrong horse"), ErrBadCredentials)
	}
}

func TestAnAddressCannotTryEveryName(t *testing.T) {
	t.Parallel()
	at := time.Now()
	l := newLimiter(6, 5, func() time.Time { return at })
	n := 0
	for i := range 1000 {
		// Addresses of one /64 are one customer's.
		if l.attempt(fmt.Sprintf("2001:db8::%x", i+1), fmt.Sprint("name", i)) == nil {
			n++
		}
	}
	if n != 50 {
		t.Errorf("%d attempts went through, want 50", n)
	}
	if err := l.attempt("2001:db8:0:1::1", "name"); err != nil {
		t.Errorf("another network: %v", err)
	}
}

func TestARefusedAttemptCostsNothing(t *testing.T) {
	t.Parallel()
	at := time.Now()
	l := newLimiter(6, 1, func() time.Time { return at })
	if err := l.attempt("a", "x"); err != nil {
		t.Fatal(err)
	}
	first, _ := limited(l.attempt("a", "x"))
	for range 20 {
		l.attempt("a", "x")
	}
	if again, ok := limited(l.attempt("a", "x")); !ok || again != first {
		t.Errorf("the wait grew from %s to %s", first, again)
	}
}

func TestManyClientsAreForgotten(t *testing.T) {
	t.Parallel()
	at := time.Now()
	l := newLimiter(6, 5, func() time.Time { return at })
	for i := range 100_000 {
		if err := l.attempt(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), "anna"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.byKey); n > 2*limiterSize || n != l.order.Len() {
		t.Errorf("%d entries (%d in order), want at most %d", n, l.order.Len(), 2*limiterSize)
	}
}
