package pairing

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"fenrir/media"
)

// Times and bounds of pairings.
const (
	// Patience is how long a device waits for its PIN to be typed.
	Patience = 3 * time.Minute

	stepTimeout  = 20 * time.Second // between the steps after that, which clients take within 5 s
	trustTimeout = 5 * time.Second
	maxUniqueID  = 64 // bytes
	maxName      = 64 // runes

	defaultMost           = 128
	defaultMostPerAddress = 64
)

// phase is how far a pairing has got.
type phase int

const (
	waiting    phase = iota // for the PIN
	entered                 // the first request is answered; the second is due
	challenged              // the third is due
	answered                // the fourth is due
	finishing               // it is being checked
)

// pairing is one attempt. What is not written once is guarded by Pending.mu.
type pairing struct {
	id     string
	client Client
	name   string
	cert   *x509.Certificate
	since  time.Time

	typed chan struct{} // closed when the PIN is there
	over  chan struct{} // closed at the end, after err is set
	err   error         // nil: paired

	phase     phase
	person    media.PersonRef
	until     time.Time
	timer     *time.Timer
	salt      [blockSize]byte
	key       [blockSize]byte
	secret    [blockSize]byte // the server's
	challenge [blockSize]byte // the server's
	response  [hashSize]byte  // the client's, to the challenge
}

// forget zeroes all secrets.
func (w *pairing) forget() {
	for _, s := range [][]byte{w.salt[:], w.key[:], w.secret[:], w.challenge[:], w.response[:]} {
		clear(s)
	}
}

// wait gives the next step d to happen.
func (w *pairing) wait(d time.Duration) {
	w.until = time.Now().Add(d)
	w.timer.Reset(d)
}

// Pending is the set of pairings under way. Fill the exported fields, which must
// not change afterwards; Close it in the end. Only Begin, Enter and Finish block.
type Pending struct {
	Certificate *x509.Certificate // of the server
	Key         *rsa.PrivateKey   // its key
	Trust       Trust
	// Changed is called when List has something new to tell. It must not block; nil
	// for nobody.
	Changed func()

	Most           int // pairings at a time; 0: 128
	MostPerAddress int // of them from one address (IPv6: one /64), a household or a school; 0: 64

	mu     sync.Mutex // guards what follows, and the pairings
	closed bool
	limit  limiter
	all    []*pairing // oldest first
}

// Begin is the client's first request. It blocks until a person has typed the
// PIN: then it returns nil, and the client is to be told the server's
// certificate. It is an error if ctx ends first, which is when the client hangs
// up, if Patience is over, or if the device begins again. An attempt of the same
// device, which is the same Client with the same certificate, is replaced.
func (p *Pending) Begin(ctx context.Context, a Ask) error {
	w, err := p.begin(a)
	p.changed()
	if err != nil {
		return err
	}
	select {
	case <-w.typed:
		return nil
	case <-w.over:
		return w.err
	case <-ctx.Done():
		p.end(w, ErrGone)
		return ErrGone
	}
}

func (p *Pending) begin(a Ask) (*pairing, error) {
	if len(a.Salt) != blockSize || len(a.UniqueID) > maxUniqueID {
		return nil, fmt.Errorf("%w: a salt of %d bytes, an id of %d", ErrProtocol, len(a.Salt), len(a.UniqueID))
	}
	cert, err := ParseCertificate(a.Certificate)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	w := &pairing{
		id: strings.ToLower(rand.Text()), client: a.Client, name: clean(a.Name), cert: cert, since: now,
		typed: make(chan struct{}), over: make(chan struct{}), until: now.Add(Patience),
	}
	copy(w.salt[:], a.Salt)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admit(w, now); err != nil {
		return nil, err
	}
	w.timer = time.AfterFunc(Patience, func() { p.expire(w) })
	p.all = append(p.all, w)
	return w, nil
}

// admit makes room for w. p.mu is held.
func (p *Pending) admit(w *pairing, now time.Time) error {
	if p.closed {
		return ErrClosed
	}
	if err := p.limit.allow(w.client.Address, now); err != nil {
		return err
	}
	near := 0
	for _, o := range slices.Clone(p.all) {
		switch {
		case o.client == w.client && o.cert.Equal(w.cert) && o.phase != finishing:
			p.conclude(o, ErrReplaced)
		case Network(o.client.Address) == Network(w.client.Address):
			near++
		}
	}
	if len(p.all) >= orDefault(p.Most, defaultMost) || near >= orDefault(p.MostPerAddress, defaultMostPerAddress) {
		return ErrTooMany
	}
	return nil
}

// Enter gives the PIN that a person read off the device, and blocks until the
// outcome is known: nil when the device is paired and the person its owner. If
// ctx ends first the attempt goes on, and the error is ctx's cause. ErrPIN,
// ErrNotFound, ErrEntered, ErrBusy and a *RateError mean that nothing was
// attempted; after any other error the device has to begin again.
func (p *Pending) Enter(ctx context.Context, id, pin string, person media.PersonRef) error {
	if len(pin) != 4 || strings.Trim(pin, "0123456789") != "" {
		return ErrPIN
	}
	w, err := p.enter(id, pin, person)
	if err != nil {
		return err
	}
	p.changed()
	select {
	case <-w.over:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Pending) enter(id, pin string, person media.PersonRef) (*pairing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.all, func(w *pairing) bool { return w.id == id })
	if i < 0 {
		return nil, ErrNotFound
	}
	w := p.all[i]
	if w.phase != waiting {
		return nil, ErrEntered
	}
	// Nothing in the steps to come tells two devices with one id and one address
	// apart, so that they take them one after the other.
	if slices.ContainsFunc(p.all, func(o *pairing) bool { return o.client == w.client && o.phase != waiting }) {
		return nil, ErrBusy
	}
	if err := p.limit.allow(w.client.Address, time.Now()); err != nil {
		return nil, err
	}
	w.key = keyOf(w.salt, pin)
	w.person = person
	w.phase = entered
	w.wait(stepTimeout)
	close(w.typed)
	return w, nil
}

// Challenge is the client's second request. The answer is the response to its
// challenge of 16 bytes, with one of ours: 48 bytes.
func (p *Pending) Challenge(c Client, in []byte) (out []byte, err error) {
	var secret, challenge [blockSize]byte
	_, _ = rand.Read(secret[:]) // it never fails, it says
	_, _ = rand.Read(challenge[:])
	return p.challenge(c, in, secret, challenge)
}

func (p *Pending) challenge(c Client, in []byte, secret, challenge [blockSize]byte) (out []byte, err error) {
	err = p.step(c, entered, func(w *pairing) error {
		if len(in) != blockSize {
			return fmt.Errorf("%w: a challenge of %d bytes", ErrProtocol, len(in))
		}
		w.secret, w.challenge = secret, challenge
		h := hash(decrypt(w.key, in), p.Certificate.Signature, secret[:])
		out = encrypt(w.key, append(h[:], challenge[:]...))
		return nil
	})
	return out, err
}

// Respond is the client's third request: its response to our challenge, 32
// bytes. The answer is our secret and a signature over it.
func (p *Pending) Respond(c Client, in []byte) ([]byte, error) {
	var w *pairing
	var secret [blockSize]byte
	err := p.step(c, challenged, func(at *pairing) error {
		if len(in) != hashSize {
			return fmt.Errorf("%w: a response of %d bytes", ErrProtocol, len(in))
		}
		w, secret = at, at.secret
		copy(at.response[:], decrypt(at.key, in))
		return nil
	})
	if err != nil {
		return nil, err
	}
	signature, err := sign(p.Key, secret[:])
	if err != nil {
		err = fmt.Errorf("sign the secret: %w", err)
		p.end(w, err)
		return nil, err
	}
	return append(secret[:], signature...), nil
}

// Finish is the client's fourth request: its secret, 16 bytes, and a signature
// over it. It returns nil when the device is paired and remembered. It blocks as
// long as Trust does, at most 5 s.
func (p *Pending) Finish(ctx context.Context, c Client, in []byte) error {
	var w *pairing
	var want [hashSize]byte
	var challenge [blockSize]byte
	err := p.step(c, answered, func(at *pairing) error {
		if len(in) <= blockSize || len(in) > blockSize+maxRSABits/8 {
			return fmt.Errorf("%w: a secret of %d bytes", ErrProtocol, len(in))
		}
		w, want, challenge = at, at.response, at.challenge
		return nil
	})
	if err != nil {
		return err
	}
	secret, signature := in[:blockSize], in[blockSize:]
	got := hash(challenge[:], w.cert.Signature, secret)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || !signed(w.cert, secret, signature) {
		p.end(w, ErrWrongPIN)
		return ErrWrongPIN
	}
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	err = p.Trust.Add(ctx, Device{Certificate: w.cert, Name: w.name, Address: w.client.Address, Person: w.person})
	if err != nil {
		err = fmt.Errorf("remember the device: %w", err)
	}
	p.end(w, err)
	return err
}

// Cancel is what clients send after a pairing that they take for failed: after
// the PIN was typed that means a wrong one, before it the device has given up.
// Anybody can send it, and nothing but pairings under way ends by it. Of those
// that wait it ends none if there are several: it does not say which.
func (p *Pending) Cancel(c Client) {
	var of []*pairing
	p.mu.Lock()
	for _, w := range p.all {
		if w.client == c && w.phase != finishing {
			of = append(of, w)
		}
	}
	if i := slices.IndexFunc(of, func(w *pairing) bool { return w.phase != waiting }); i >= 0 {
		p.conclude(of[i], ErrWrongPIN)
	} else if len(of) == 1 {
		p.conclude(of[0], ErrGone)
	}
	p.mu.Unlock()
	if len(of) > 0 {
		p.changed()
	}
}

// List is who waits, longest first.
func (p *Pending) List() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Request, len(p.all))
	for i, w := range p.all {
		out[i] = Request{ID: w.id, Name: w.name, Address: w.client.Address, Since: w.since, Until: w.until, Entered: w.phase != waiting}
	}
	return out
}

// Close ends all pairings; none begins afterwards. It is idempotent.
func (p *Pending) Close() {
	p.mu.Lock()
	p.closed = true
	for _, w := range slices.Clone(p.all) {
		p.conclude(w, ErrClosed)
	}
	p.mu.Unlock()
	p.changed()
}

// step does f to the pairing of c if want is how far it has got. Whatever goes
// wrong ends it: there is no second attempt with the same PIN.
func (p *Pending) step(c Client, want phase, f func(*pairing) error) error {
	p.mu.Lock()
	w := p.find(c)
	if w == nil {
		p.mu.Unlock()
		return ErrNone
	}
	err := ErrOrder
	if w.phase == want {
		err = f(w)
	}
	switch {
	case err == nil:
		w.phase++
		w.wait(stepTimeout)
	case w.phase == finishing:
		// It is decided already.
	default:
		p.conclude(w, err)
	}
	p.mu.Unlock()
	if err != nil {
		p.changed()
	}
	return err
}

// find is the pairing of c that a PIN was typed for, nil for none. Those that
// wait have a request under way, which their next one does not overtake. p.mu is
// held.
func (p *Pending) find(c Client) *pairing {
	for _, w := range p.all {
		if w.client == c && w.phase != waiting {
			return w
		}
	}
	return nil
}

// expire ends w if its time is over; its timer may have been set anew meanwhile.
func (p *Pending) expire(w *pairing) {
	p.mu.Lock()
	if time.Now().Before(w.until) {
		p.mu.Unlock()
		return
	}
	err := ErrGone
	if w.phase == waiting {
		err = ErrExpired
	}
	p.conclude(w, err)
	p.mu.Unlock()
	p.changed()
}

// end concludes w.
func (p *Pending) end(w *pairing, err error) {
	p.mu.Lock()
	p.conclude(w, err)
	p.mu.Unlock()
	p.changed()
}

// conclude ends w if it has not ended: err is its outcome. p.mu is held.
func (p *Pending) conclude(w *pairing, err error) {
	i := slices.Index(p.all, w)
	if i < 0 {
		return
	}
	p.all = slices.Delete(p.all, i, i+1)
	w.timer.Stop()
	w.forget()
	w.err = err
	close(w.over)
	switch {
	case err == nil:
		p.limit.succeed(w.client.Address)
	case w.phase != waiting && !p.closed:
		p.limit.fail(w.client.Address, time.Now())
	}
}

func (p *Pending) changed() {
	if p.Changed != nil {
		p.Changed()
	}
}

// clean is a name as it can be shown. Most clients all have the same one, which
// says nothing.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, ""))
	if r := []rune(name); len(r) > maxName {
		name = string(r[:maxName])
	}
	if name = strings.TrimSpace(name); name == "roth" {
		return ""
	}
	return name
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
