package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func options(t *testing.T, c *clock) Options {
	return Options{
		Path: filepath.Join(t.TempDir(), "state", "users.db"), CookieLifetime: time.Hour, MaxLogins: 3, MaxTokens: 3,
		Argon2: Params{MemoryMiB: 1, Passes: 1, Lanes: 1}, Hashing: 2, PerMinute: 6, Burst: 5, Log: slog.New(slog.DiscardHandler), Now: c.now,
	}
}

func open(t *testing.T, opt Options) *Store {
	t.Helper()
	s, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newStore(t *testing.T) (*Store, *clock) {
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	return open(t, options(t, c)), c
}

func add(t *testing.T, s *Store, name, password string, role Role) Person {
	t.Helper()
	p, err := s.AddPerson(t.Context(), name, password, role)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func enter(t *testing.T, s *Store, name, password string) string {
	t.Helper()
	_, cookie, err := s.Login(t.Context(), "192.0.2.1", name, password)
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

func whose(t *testing.T, s *Store, cookie string) Identity {
	t.Helper()
	id, _, err := s.FromCookie(cookie)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestSetupTokenMakesOneAdminOnce(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	need, err := s.NeedsSetup()
	if err != nil || !need {
		t.Fatalf("an empty database: needs setup = %t, %v", need, err)
	}
	_, _, err = s.Setup(ctx, "a", "", "anna", "correct horse")
	wantErr(t, "before a token was issued", err, ErrBadSetupToken)
	old, err := s.IssueSetupToken()
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.IssueSetupToken()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Setup(ctx, "a", old, "anna", "correct horse")
	wantErr(t, "an earlier token", err, ErrBadSetupToken)
	_, _, err = s.Setup(ctx, "a", token, "anna", "short")
	wantErr(t, "a bad password", err, ErrBadPassword)
	p, cookie, err := s.Setup(ctx, "a", token, "anna", "correct horse")
	if err != nil || p.Role != Admin {
		t.Fatalf("got %+v, %v; want an admin", p, err)
	}
	if id := whose(t, s, cookie); id.Person.ID != p.ID {
		t.Errorf("the cookie is %+v's, want %s's", id, p.ID)
	}
	_, _, err = s.Setup(ctx, "b", token, "eve", "correct horse")
	wantErr(t, "a second time", err, ErrSetupDone)
	_, err = s.IssueSetupToken()
	wantErr(t, "a token although there is an admin", err, ErrSetupDone)
}

func TestConcurrentSetupsMakeOneAdmin(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	token, err := s.IssueSetupToken()
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for i := range 8 {
		go func() {
			_, _, err := s.Setup(t.Context(), fmt.Sprintf("192.0.2.%d", i), token, fmt.Sprintf("admin%d", i), "correct horse")
			errs <- err
		}()
	}
	made := 0
	for range 8 {
		switch err := <-errs; {
		case err == nil:
			made++
		case !errors.Is(err, ErrSetupDone) && !errors.Is(err, ErrBadSetupToken):
			t.Error(err)
		}
	}
	people, err := s.Persons()
	if err != nil || made != 1 || len(people) != 1 {
		t.Errorf("made %d admins, stored %v, %v; want one", made, people, err)
	}
}

func TestGuessesOfTheSetupTokenAreLimited(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	if _, err := s.IssueSetupToken(); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 6 {
		_, _, err = s.Setup(t.Context(), "a", "guess", "eve", "correct horse")
	}
	var rate *RateError
	if !errors.As(err, &rate) {
		t.Errorf("the sixth guess: got %v, want a RateError", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	add(t, s, "Zo\u00eb", "correct horse", Player) // ë as one rune
	_, err := s.AddPerson(t.Context(), "ZOE\u0308", "correct horse", Player)
	wantErr(t, "the same name decomposed and in capitals", err, ErrNameTaken)
	if _, _, err := s.Login(t.Context(), "a", "zoe\u0308", "correct horse"); err != nil {
		t.Errorf("another spelling logs in: %v", err)
	}
	if p, err := s.PersonNamed("ZO\u00cb"); err != nil || p.Name != "Zo\u00eb" {
		t.Errorf("got %+v, %v", p, err)
	}
	_, err = s.PersonNamed("nobody")
	wantErr(t, "an unknown name", err, ErrNotFound)
	for _, bad := range []string{"", "   ", "a\x00b", "a\nb", "\u202eevil", "a\xff", strings.Repeat("x", 65), strings.Repeat("x", 1<<16)} {
		_, err := s.AddPerson(t.Context(), bad, "correct horse", Player)
		wantErr(t, fmt.Sprintf("%.20q", bad), err, ErrBadName)
	}
}

func TestPasswordRules(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for _, bad := range []string{"", "1234567", strings.Repeat("x", 1025), "Benedikta", "\xff\xff\xff\xff\xff\xff\xff\xff"} {
		_, err := s.AddPerson(t.Context(), "benedikta", bad, Player)
		wantErr(t, fmt.Sprintf("%.20q", bad), err, ErrBadPassword)
	}
	_, err := s.AddPerson(t.Context(), "anna", "correct horse", "owner")
	wantErr(t, "an unknown role", err, ErrBadRole)
	// Eight characters, not bytes; and the two ways to write ü are one.
	add(t, s, "anna", "pässwört", Player)
	enter(t, s, "anna", "pa\u0308sswo\u0308rt")
	_, _, err = s.Login(t.Context(), "a", "anna", strings.Repeat("x", 1<<16))
	wantErr(t, "a password beyond the limit", err, ErrBadCredentials)
}

func TestAnUnknownNameCostsAsMuchAsAWrongPassword(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	opt := options(t, c)
	opt.Argon2 = Params{MemoryMiB: 16, Passes: 2, Lanes: 1}
	opt.Burst = 100
	s := open(t, opt)
	add(t, s, "anna", "correct horse", Player)
	median := func(name string) time.Duration {
		var took []time.Duration
		for range 7 {
			start := time.Now()
			_, _, err := s.Login(t.Context(), "192.0.2.1", name, "wrong horse")
			took = append(took, time.Since(start))
			wantErr(t, name, err, ErrBadCredentials)
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	wrong, unknown := median("anna"), median("nobody")
	// Without the decoy it would be a thousandth; a busy machine makes a factor.
	if unknown < wrong/4 {
		t.Errorf("an unknown name takes %s, a wrong password %s", unknown, wrong)
	}
}

func TestNothingSecretIsInTheFile(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	opt := options(t, c)
	s := open(t, opt)
	setup, err := s.IssueSetupToken()
	if err != nil {
		t.Fatal(err)
	}
	p, cookie, err := s.Setup(t.Context(), "a", setup, "anna", "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	_, bearer, err := s.NewToken(p.ID, "script")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(opt.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"correct horse battery", cookie, bearer, strings.TrimPrefix(bearer, bearerPrefix), setup} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the database contains %q", secret)
		}
	}
	if !bytes.Contains(b, []byte("$argon2id$v=19$m=1024,t=1,p=1$")) {
		t.Error("the database has no argon2id hash with its parameters")
	}
	st, err := os.Stat(opt.Path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the database's mode is %v, %v; want 0600", st.Mode(), err)
	}
}

func TestLoginsSlideAndExpire(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	add(t, s, "anna", "correct horse", Player)
	cookie := enter(t, s, "anna", "correct horse")
	_, renewed, err := s.FromCookie(cookie)
	if err != nil || renewed {
		t.Errorf("at once: renewed = %t, %v; want false", renewed, err)
	}
	for range 3 { // three times 50 minutes: longer than the lifetime of an hour
		c.add(50 * time.Minute)
		_, renewed, err := s.FromCookie(cookie)
		if err != nil || !renewed {
			t.Fatalf("after 50 minutes: renewed = %t, %v; want true", renewed, err)
		}
	}
	c.add(61 * time.Minute)
	_, _, err = s.FromCookie(cookie)
	wantErr(t, "after an hour without use", err, ErrUnauthenticated)
	enter(t, s, "anna", "correct horse")
	if n := s.count(t, bucketLogins); n != 1 {
		t.Errorf("%d logins are stored after a sweep, want 1", n)
	}
	_, _, err = s.FromCookie("made up")
	wantErr(t, "an unknown cookie", err, ErrUnauthenticated)
}

func TestOnlySoManyLogins(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	add(t, s, "anna", "correct horse", Player)
	var gone []Revocation
	s.OnRevoked(func(r Revocation) { gone = append(gone, r) })
	first := enter(t, s, "anna", "correct horse")
	id := whose(t, s, first)
	for range 3 {
		c.add(time.Second)
		enter(t, s, "anna", "correct horse")
	}
	_, _, err := s.FromCookie(first)
	wantErr(t, "the oldest of four", err, ErrUnauthenticated)
	if len(gone) != 1 || !gone[0].Matches(id) {
		t.Errorf("revoked %+v, want the first login", gone)
	}
	if n := s.count(t, bucketLogins); n != 3 {
		t.Errorf("%d logins, want 3", n)
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	add(t, s, "anna", "correct horse", Player)
	a, b := enter(t, s, "anna", "correct horse"), enter(t, s, "anna", "correct horse")
	ida, idb := whose(t, s, a), whose(t, s, b)
	var gone []Revocation
	s.OnRevoked(func(r Revocation) { gone = append(gone, r) })
	if err := s.Logout(a); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.FromCookie(a)
	wantErr(t, "after logout", err, ErrUnauthenticated)
	if len(gone) != 1 || !gone[0].Matches(ida) || gone[0].Matches(idb) {
		t.Errorf("revoked %+v", gone)
	}
	if err := s.Logout("made up"); err != nil || len(gone) != 1 {
		t.Errorf("an unknown cookie: %v, revoked %+v", err, gone)
	}
}

func TestBearerTokens(t *testing.T) {
	t.Parallel()
	s, c := newStore(t)
	anna, ben := add(t, s, "anna", "correct horse", Player), add(t, s, "ben", "correct horse", Player)
	tok, secret, err := s.NewToken(anna.ID, "script")
	if err != nil || !strings.HasPrefix(secret, "fnr_") {
		t.Fatalf("got %q, %v", secret, err)
	}
	c.add(time.Minute)
	id, err := s.FromBearer(secret)
	if err != nil || id.Person.ID != anna.ID || !id.Bearer {
		t.Fatalf("got %+v, %v", id, err)
	}
	list, err := s.Tokens(anna.ID)
	if err != nil || len(list) != 1 || list[0].ID != tok.ID || !list[0].LastUsed.Equal(c.now()) {
		t.Errorf("got %+v, %v; want it used now", list, err)
	}
	wantErr(t, "another one's token", s.DeleteToken(ben.ID, tok.ID), ErrNotFound)
	var gone []Revocation
	s.OnRevoked(func(r Revocation) { gone = append(gone, r) })
	if err := s.DeleteToken(anna.ID, tok.ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.FromBearer(secret)
	wantErr(t, "a deleted token", err, ErrUnauthenticated)
	if len(gone) != 1 || !gone[0].Matches(id) {
		t.Errorf("revoked %+v, want the token", gone)
	}
	for _, bad := range []string{"", "fnr_", "fnr_x", strings.TrimPrefix(secret, "fnr_")} {
		_, err := s.FromBearer(bad)
		wantErr(t, bad, err, ErrUnauthenticated)
	}
	for i := range 4 {
		_, _, err = s.NewToken(anna.ID, fmt.Sprint("t", i))
	}
	wantErr(t, "a fourth token", err, ErrTooMany)
	_, _, err = s.NewToken("nobody", "x")
	wantErr(t, "a token for nobody", err, ErrNotFound)
}

func TestChangingThePasswordEndsOtherLogins(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	p := add(t, s, "anna", "correct horse", Player)
	here, there := enter(t, s, "anna", "correct horse"), enter(t, s, "anna", "correct horse")
	idHere, idThere := whose(t, s, here), whose(t, s, there)
	_, secret, err := s.NewToken(p.ID, "script")
	if err != nil {
		t.Fatal(err)
	}
	idToken, err := s.FromBearer(secret)
	if err != nil {
		t.Fatal(err)
	}
	var gone []Revocation
	s.OnRevoked(func(r Revocation) { gone = append(gone, r) })
	wantErr(t, "a wrong present password", s.ChangePassword(t.Context(), "a", idHere, "wrong horse", "battery staple"), ErrBadCredentials)
	wantErr(t, "a bad new one", s.ChangePassword(t.Context(), "a", idHere, "correct horse", "x"), ErrBadPassword)
	if err := s.ChangePassword(t.Context(), "a", idHere, "correct horse", "battery staple"); err != nil {
		t.Fatal(err)
	}
	whose(t, s, here)
	_, _, err = s.FromCookie(there)
	wantErr(t, "the other login", err, ErrUnauthenticated)
	if _, err := s.FromBearer(secret); err != nil {
		t.Errorf("the bearer token: %v", err)
	}
	if len(gone) != 1 || gone[0].Matches(idHere) || !gone[0].Matches(idThere) || gone[0].Matches(idToken) {
		t.Errorf("revoked %+v", gone)
	}
	_, _, err = s.Login(t.Context(), "a", "anna", "correct horse")
	wantErr(t, "the old password", err, ErrBadCredentials)
	enter(t, s, "anna", "battery staple")

	// An admin's reset ends everything.
	gone = nil
	if err := s.SetPassword(t.Context(), p.ID, "something else", ""); err != nil {
		t.Fatal(err)
	}
	_, err = s.FromBearer(secret)
	wantErr(t, "the token after a reset", err, ErrUnauthenticated)
	_, _, err = s.FromCookie(here)
	wantErr(t, "the login after a reset", err, ErrUnauthenticated)
	if len(gone) != 1 || !gone[0].Matches(idHere) || !gone[0].Matches(idToken) {
		t.Errorf("revoked %+v", gone)
	}
}

func TestDeletingAPerson(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	boss, p := add(t, s, "boss", "correct horse", Admin), add(t, s, "anna", "correct horse", Player)
	cookie := enter(t, s, "anna", "correct horse")
	id := whose(t, s, cookie)
	_, secret, err := s.NewToken(p.ID, "script")
	if err != nil {
		t.Fatal(err)
	}
	bossID := whose(t, s, enter(t, s, "boss", "correct horse"))
	var gone []Revocation
	s.OnRevoked(func(r Revocation) { gone = append(gone, r) })
	if err := s.DeletePerson(p.ID); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.FromCookie(cookie)
	wantErr(t, "the cookie", err, ErrUnauthenticated)
	_, err = s.FromBearer(secret)
	wantErr(t, "the token", err, ErrUnauthenticated)
	_, err = s.Person(p.ID)
	wantErr(t, "the person", err, ErrNotFound)
	wantErr(t, "again", s.DeletePerson(p.ID), ErrNotFound)
	if len(gone) != 1 || !gone[0].Deleted || !gone[0].Matches(id) || gone[0].Matches(bossID) {
		t.Errorf("revoked %+v", gone)
	}
	add(t, s, "Anna", "correct horse", Player) // the name is free again
	wantErr(t, "the last admin", s.DeletePerson(boss.ID), ErrLastAdmin)
}

func TestTheLastAdminStays(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := add(t, s, "a", "correct horse", Admin)
	_, err := s.SetRole(a.ID, Player)
	wantErr(t, "the only one", err, ErrLastAdmin)
	b := add(t, s, "b", "correct horse", Admin)
	if p, err := s.SetRole(a.ID, Player); err != nil || p.Role != Player {
		t.Errorf("one of two: got %+v, %v", p, err)
	}
	wantErr(t, "the one left", s.DeletePerson(b.ID), ErrLastAdmin)
	_, err = s.SetRole("nobody", Admin)
	wantErr(t, "nobody", err, ErrNotFound)
	_, err = s.SetRole(a.ID, "boss")
	wantErr(t, "no role", err, ErrBadRole)
}

func TestANewCostIsAppliedAtTheNextLogin(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	opt := options(t, c)
	s, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	add(t, s, "anna", "correct horse", Player)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	opt.Argon2 = Params{MemoryMiB: 2, Passes: 2, Lanes: 2}
	s = open(t, opt)
	enter(t, s, "anna", "correct horse")
	b, err := os.ReadFile(opt.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("m=2048,t=2,p=2")) {
		t.Error("the hash was not made anew")
	}
	enter(t, s, "anna", "correct horse")
}

func TestASecondProcessIsTold(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Now()}
	opt := options(t, c)
	open(t, opt)
	start := time.Now()
	_, err := Open(opt)
	wantErr(t, "a second open", err, ErrLocked)
	if took := time.Since(start); took > openTimeout+time.Second {
		t.Errorf("it took %s to say so", took)
	}
}

func TestHashingWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	add(t, s, "anna", "correct horse", Player)
	var back []func()
	for range s.opt.Hashing {
		done, err := s.turn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, done)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client left")
	cancel(gone)
	_, _, err := s.Login(ctx, "a", "anna", "correct horse")
	wantErr(t, "a client that leaves while it waits", err, gone)
	result := make(chan error)
	go func() {
		_, _, err := s.Login(t.Context(), "a", "anna", "correct horse")
		result <- err
	}()
	back[0]()
	if err := <-result; err != nil {
		t.Errorf("with a free place: %v", err)
	}
	back[1]()
}

func TestDamagedHashesAreErrorsAndCostNothing(t *testing.T) {
	t.Parallel()
	p := Params{MemoryMiB: 1, Passes: 1, Lanes: 1}
	good := p.hash("correct horse")
	if ok, stale, err := p.verify(good, "correct horse"); !ok || stale || err != nil {
		t.Fatalf("a good hash: %t, %t, %v", ok, stale, err)
	}
	for _, bad := range []string{"", "$", good[:20], strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=1024", "m=99999999", 1), strings.Replace(good, "t=1", "t=100000", 1), strings.Replace(good, "p=1", "p=0", 1), good + "$x", good[:len(good)-3]} {
		if ok, _, err := p.verify(bad, "correct horse"); ok || err == nil {
			t.Errorf("%q: got %t, %v; want an error", bad, ok, err)
		}
	}
}
