package pairing

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestAWrongPINEndsTheAttempt(t *testing.T) {
	t.Parallel()
	p, trusted := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	client, person := pair(t, p, d, "1111", "2222")
	if !errors.Is(client, errNoPeer) || !errors.Is(person, ErrWrongPIN) {
		t.Errorf("the client saw %v, the person %v", client, person)
	}
	// The right one is worth nothing now.
	if err := d.steps(p, "2222"); !errors.Is(err, ErrNone) {
		t.Errorf("it goes on: %v", err)
	}
	if len(p.List()) != 0 || len(trusted.devices()) != 0 {
		t.Error("something is left of it")
	}
	if client, person = pair(t, p, d, "1111", "1111"); client != nil || person != nil {
		t.Errorf("the next attempt: the client saw %v, the person %v", client, person)
	}
}

func TestAClientThatChecksNothingIsToldOfAWrongPIN(t *testing.T) {
	t.Parallel()
	p, trusted := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	id, begun := d.begin(t, t.Context(), p)
	w, err := p.enter(id, "2222", ada)
	if err != nil || <-begun != nil {
		t.Fatal(err)
	}
	key, secret := keyOf(d.salt, "1111"), make([]byte, 16)
	out, err := p.Challenge(d.Client, encrypt(key, make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	h := hash(decrypt(key, out)[32:], d.cert.Signature, secret)
	if _, err = p.Respond(d.Client, encrypt(key, h[:])); err != nil {
		t.Fatal(err)
	}
	signature, err := sign(d.key, secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Finish(t.Context(), d.Client, append(secret, signature...)); !errors.Is(err, ErrWrongPIN) || !errors.Is(w.err, ErrWrongPIN) {
		t.Errorf("the client is told %v, the person %v", err, w.err)
	}
	if len(trusted.devices()) != 0 {
		t.Error("it is trusted")
	}
}

func TestWhoDoesNotHoldTheKeyIsNotPaired(t *testing.T) {
	t.Parallel()
	p, trusted := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	d.key = keys()[1] // it shows another's certificate
	client, person := pair(t, p, d, "1111", "1111")
	if !errors.Is(client, ErrWrongPIN) || !errors.Is(person, ErrWrongPIN) || len(trusted.devices()) != 0 {
		t.Errorf("the client saw %v, the person %v", client, person)
	}
}

func TestADeviceThatCannotBeRememberedIsNotPaired(t *testing.T) {
	t.Parallel()
	p, trusted := newPending(t)
	trusted.fail = errors.New("disk full")
	client, person := pair(t, p, newDevice(t, keys()[0], "192.0.2.1"), "1111", "1111")
	if !errors.Is(client, trusted.fail) || !errors.Is(person, trusted.fail) {
		t.Errorf("the client saw %v, the person %v", client, person)
	}
}

func TestStepsHaveAnOrder(t *testing.T) {
	t.Parallel()
	block, secret := make([]byte, 16), make([]byte, 272)
	steps := []func(*Pending, Client) error{
		func(p *Pending, c Client) error { _, err := p.Challenge(c, block); return err },
		func(p *Pending, c Client) error { _, err := p.Respond(c, secret[:32]); return err },
		func(p *Pending, c Client) error { return p.Finish(context.Background(), c, secret) },
	}
	for at := range steps {
		for next := range steps {
			if next == at {
				continue
			}
			p, _ := newPending(t)
			d := newDevice(t, keys()[0], "192.0.2.1")
			id, begun := d.begin(t, t.Context(), p)
			if err := steps[next](p, d.Client); !errors.Is(err, ErrNone) || len(p.List()) != 1 {
				t.Fatalf("before the PIN: %v", err)
			}
			w, err := p.enter(id, "1234", ada)
			if err != nil || <-begun != nil {
				t.Fatal(err)
			}
			for i := range at {
				if err := steps[i](p, d.Client); err != nil {
					t.Fatal(err)
				}
			}
			if err := steps[next](p, d.Client); !errors.Is(err, ErrOrder) || !errors.Is(w.err, ErrOrder) {
				t.Errorf("step %d when %d was due: %v, %v", next, at, err, w.err)
			}
			if err := steps[at](p, d.Client); !errors.Is(err, ErrNone) {
				t.Errorf("and then: %v", err)
			}
		}
	}
}

func TestNoSecretOutlivesAPairing(t *testing.T) {
	t.Parallel()
	p, _ := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	id, begun := d.begin(t, t.Context(), p)
	w, err := p.enter(id, "1234", ada)
	if err != nil || <-begun != nil {
		t.Fatal(err)
	}
	if _, err := p.Challenge(d.Client, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Respond(d.Client, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	zero := [16]byte{}
	if w.salt == zero || w.key == zero || w.secret == zero || w.challenge == zero || w.response == [32]byte{} {
		t.Fatal("a secret is not there yet: this test sees nothing")
	}
	p.Cancel(d.Client)
	if w.salt != zero || w.key != zero || w.secret != zero || w.challenge != zero || w.response != [32]byte{} {
		t.Error("a secret is still there")
	}
}

func TestARequestWaitsForALimitedTime(t *testing.T) {
	d := newDevice(t, keys()[0], "192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPending(t)
		id, begun := d.begin(t, t.Context(), p)
		time.Sleep(Patience - time.Second)
		if len(p.List()) != 1 {
			t.Error("it does not wait")
		}
		if err := <-begun; !errors.Is(err, ErrExpired) {
			t.Errorf("it was told %v", err)
		}
		if err := p.Enter(t.Context(), id, "1234", ada); !errors.Is(err, ErrNotFound) {
			t.Errorf("the PIN came too late: %v", err)
		}
		// One that gets its PIN in the last second has time for the rest.
		id, begun = d.begin(t, t.Context(), p)
		time.Sleep(Patience - time.Second)
		began := time.Now()
		err := p.Enter(t.Context(), id, "1234", ada)
		if took := time.Since(began); !errors.Is(err, ErrGone) || took != stepTimeout {
			t.Errorf("a device that does not go on: %v after %v", err, took)
		}
		if err := <-begun; err != nil {
			t.Errorf("it was told %v", err)
		}
	})
}

func TestWhoseClientHangsUpIsForgotten(t *testing.T) {
	t.Parallel()
	p, _ := newPending(t)
	ctx, hangUp := context.WithCancel(t.Context())
	id, begun := newDevice(t, keys()[0], "192.0.2.1").begin(t, ctx, p)
	hangUp()
	if err := <-begun; !errors.Is(err, ErrGone) || len(p.List()) != 0 {
		t.Errorf("it was told %v; listed: %v", err, p.List())
	}
	if err := p.Enter(t.Context(), id, "1234", ada); !errors.Is(err, ErrNotFound) {
		t.Errorf("then the PIN came: %v", err)
	}
}

func TestEnterEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p, trusted := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	id, begun := d.begin(t, t.Context(), p)
	ctx, leave := context.WithCancelCause(t.Context())
	why := errors.New("the page was closed")
	leave(why)
	if err := p.Enter(ctx, id, "1234", ada); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	if err := d.steps(p, "1234"); err != nil || len(trusted.devices()) != 1 {
		t.Errorf("the attempt did not go on: %v", err)
	}
}

func TestADeviceThatBeginsAgainReplacesItself(t *testing.T) {
	t.Parallel()
	p, _ := newPending(t)
	d, other := newDevice(t, keys()[0], "192.0.2.1"), newDevice(t, keys()[1], "192.0.2.1")
	_, first := d.begin(t, t.Context(), p)
	otherID, second := other.begin(t, t.Context(), p)
	id, third := d.begin(t, t.Context(), p)
	if err := <-first; !errors.Is(err, ErrReplaced) {
		t.Errorf("the old attempt: %v", err)
	}
	if l := p.List(); len(l) != 2 || l[0].ID != otherID || l[1].ID != id {
		t.Errorf("listed: %v", l)
	}
	p.Cancel(d.Client) // whose is it? Nobody's.
	p.Cancel(Client{d.UniqueID, netip.MustParseAddr("192.0.2.2")})
	if len(p.List()) != 2 {
		t.Error("a request was dropped that may be another's")
	}
	p.Close()
	p.Close()
	for _, c := range []chan error{second, third} {
		if err := <-c; !errors.Is(err, ErrClosed) {
			t.Errorf("at the end: %v", err)
		}
	}
	if err := p.Begin(t.Context(), d.ask()); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestTheOnlyOneThatWaitsCanBeCancelled(t *testing.T) {
	t.Parallel()
	p, _ := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	_, begun := d.begin(t, t.Context(), p)
	p.Cancel(d.Client)
	if err := <-begun; !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	p, _ := newPending(t)
	p.Most = 3
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 3 {
		if id, _ := newDevice(t, keys()[0], fmt.Sprint("192.0.2.", i)).begin(t, ctx, p); id == "" {
			t.Fatal("refused")
		}
	}
	if err := p.Begin(t.Context(), newDevice(t, keys()[0], "192.0.2.9").ask()); !errors.Is(err, ErrTooMany) {
		t.Errorf("the fourth: %v", err)
	}
	for _, a := range []Ask{
		{Client: Client{Address: netip.IPv6Loopback()}, Salt: make([]byte, 15), Certificate: []byte(known().ClientCert)},
		{Client: Client{UniqueID: string(make([]byte, 65))}, Salt: make([]byte, 16), Certificate: []byte(known().ClientCert)},
		{Salt: make([]byte, 16)},
	} {
		if err := p.Begin(t.Context(), a); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v: %v", a.Client, err)
		}
	}
}

// guess is one attempt to guess a PIN, with the help of a person who types it.
func guess(t *testing.T, p *Pending, d *device) error {
	t.Helper()
	id, begun := d.begin(t, t.Context(), p)
	if id == "" {
		return <-begun
	}
	w, err := p.enter(id, "1234", ada)
	if err != nil || <-begun != nil {
		t.Fatal(err)
	}
	p.Cancel(d.Client)
	return w.err
}

func TestGuessingIsShutOff(t *testing.T) {
	d := newDevice(t, keys()[0], "2001:db8::1")
	neighbour := newDevice(t, keys()[0], "2001:db8::2")
	stranger := newDevice(t, keys()[0], "192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPending(t)
		began, guesses := time.Now(), 0
		for range 100 {
			err := guess(t, p, d)
			var limited *RateError
			if errors.As(err, &limited) {
				if guesses < freeOfAddress {
					t.Fatalf("refused after %d", guesses)
				}
				if err := guess(t, p, neighbour); !errors.As(err, &limited) {
					t.Fatalf("its neighbour in one network: %v", err)
				}
				time.Sleep(limited.RetryAfter)
				continue
			}
			if !errors.Is(err, ErrWrongPIN) {
				t.Fatal(err)
			}
			guesses++
		}
		if day := time.Duration(guesses) * 24 * time.Hour / time.Since(began); guesses > 60 || time.Since(began) < 5*time.Hour {
			t.Errorf("%d guesses in %v, %d a day", guesses, time.Since(began), day)
		}
		time.Sleep(forgiveAfter)
		if err := guess(t, p, stranger); !errors.Is(err, ErrWrongPIN) {
			t.Errorf("a stranger: %v", err)
		}
	})
}

func TestGuessingFromManyAddressesIsShutOff(t *testing.T) {
	t.Parallel()
	p, _ := newPending(t)
	var limited *RateError
	for i := range 1000 {
		err := guess(t, p, newDevice(t, keys()[0], fmt.Sprintf("192.0.%d.%d", i/250, i%250)))
		if errors.As(err, &limited) {
			if i < freeOfAll {
				t.Errorf("refused after %d", i)
			}
			return
		}
	}
	t.Error("1,000 guesses were taken")
}

func TestASuccessForgivesAnAddress(t *testing.T) {
	t.Parallel()
	p, _ := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	for range 4 {
		for range freeOfAddress {
			if err := guess(t, p, d); !errors.Is(err, ErrWrongPIN) {
				t.Fatal(err)
			}
		}
		if client, person := pair(t, p, d, "1111", "1111"); client != nil || person != nil {
			t.Fatal(client, person)
		}
	}
}

func TestTheLimiterIsBounded(t *testing.T) {
	t.Parallel()
	var l limiter
	now := time.Now()
	for i := range 2 * maxStrikes {
		l.fail(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now.Add(time.Duration(i)*time.Second))
	}
	if len(l.of) != maxStrikes || l.of[Network(netip.MustParseAddr("10.0.0.0"))] != nil {
		t.Errorf("%d addresses are remembered", len(l.of))
	}
	l.fail(netip.Addr{}, now) // none at all is one like others
	if l.of[netip.Prefix{}] == nil {
		t.Error("no address is no address")
	}
}
