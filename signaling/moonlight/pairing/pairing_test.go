package pairing

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// vectors are a pairing that a real client has done with a server of fixed secrets.
type vectors struct {
	PIN             string
	AESKey          string `json:"aes_key"`
	ServerSecret    string `json:"server_secret"`
	ServerChallenge string `json:"server_challenge"`
	Salt            string
	ServerSignature string `json:"server_cert_signature"`
	ClientSignature string `json:"client_cert_signature"`
	Phase2          string `json:"phase2_plaintext"`
	Phase3          string `json:"phase3_plaintext"`
	ServerCert      string `json:"server_cert_pem"`
	ServerKey       string `json:"server_key_pem"`
	ClientCert      string `json:"client_cert_pem"`
	ClientKey       string `json:"client_key_pem"`
	Transcript      []struct{ Request, Response string }
}

var known = sync.OnceValue(func() (v vectors) {
	b, err := os.ReadFile("testdata/pairing.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		panic(err)
	}
	return v
})

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func identity(certPEM, keyPEM string) (*x509.Certificate, *rsa.PrivateKey) {
	b, _ := pem.Decode([]byte(certPEM))
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		panic(err)
	}
	b, _ = pem.Decode([]byte(keyPEM))
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		panic(err)
	}
	return c, k.(*rsa.PrivateKey)
}

// keys are made once: they take long.
var keys = sync.OnceValue(func() (ks [4]*rsa.PrivateKey) {
	for i := range ks {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		ks[i] = k
	}
	return ks
})

// ledger is a Trust, and hears of news.
type ledger struct {
	bell chan struct{}
	mu   sync.Mutex
	all  []Device
	fail error
}

func (l *ledger) Add(_ context.Context, d Device) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail == nil {
		l.all = append(l.all, d)
	}
	return l.fail
}

func (l *ledger) devices() []Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Device(nil), l.all...)
}

func newPending(t testing.TB) (*Pending, *ledger) {
	cert, key := identity(known().ServerCert, known().ServerKey)
	l := &ledger{bell: make(chan struct{}, 1)}
	p := &Pending{Certificate: cert, Key: key, Trust: l, Changed: func() {
		select {
		case l.bell <- struct{}{}:
		default:
		}
	}}
	t.Cleanup(p.Close)
	return p, l
}

// device is a client as Moonlight is one: a fresh certificate with serial 0 that
// says what all of them say.
type device struct {
	Client
	name string
	key  *rsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
	salt [16]byte
}

// made tells certificates of one key apart.
var made atomic.Int64

func newDevice(t testing.TB, key *rsa.PrivateKey, address string) *device {
	t.Helper()
	now := time.Now()
	tpl := &x509.Certificate{
		SerialNumber: new(big.Int), Subject: pkix.Name{CommonName: "NVIDIA GameStream Client"},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24*time.Hour + time.Duration(made.Add(1))*time.Second), // its clock is wrong
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{
		Client: Client{"0123456789ABCDEF", netip.MustParseAddr(address)}, name: "roth",
		key: key, cert: cert, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}
	_, _ = rand.Read(d.salt[:])
	return d
}

func (d *device) ask() Ask {
	return Ask{Client: d.Client, Name: d.name, Salt: d.salt[:], Certificate: d.pem}
}

// begin sends the first request and returns the id under which it waits.
func (d *device) begin(t testing.TB, ctx context.Context, p *Pending) (id string, done chan error) {
	t.Helper()
	done = make(chan error, 1)
	before := map[string]bool{}
	for _, r := range p.List() {
		before[r.ID] = true
	}
	go func() { done <- p.Begin(ctx, d.ask()) }()
	for end := time.After(10 * time.Second); ; {
		for _, r := range p.List() {
			if !before[r.ID] {
				return r.ID, done
			}
		}
		select {
		case err := <-done:
			done <- err
			return "", done
		case <-p.Trust.(*ledger).bell:
		case <-end:
			t.Fatal("nobody was told of a new request")
		}
	}
}

var errNoPeer = errors.New("the server's signature or hash is wrong")

// steps are the requests after the first, with the PIN that the device shows. It
// checks what moonlight-qt does.
func (d *device) steps(p *Pending, pin string) error {
	key := keyOf(d.salt, pin)
	var challenge, secret [16]byte
	_, _ = rand.Read(challenge[:])
	_, _ = rand.Read(secret[:])
	out, err := p.Challenge(d.Client, encrypt(key, challenge[:]))
	if err != nil {
		return fmt.Errorf("second: %w", err)
	}
	out = decrypt(key, out)
	serverHash, serverChallenge := out[:32], out[32:]
	h := hash(serverChallenge, d.cert.Signature, secret[:])
	out, err = p.Respond(d.Client, encrypt(key, h[:]))
	if err != nil {
		return fmt.Errorf("third: %w", err)
	}
	if !signed(p.Certificate, out[:16], out[16:]) {
		return errNoPeer
	}
	if h := hash(challenge[:], p.Certificate.Signature, out[:16]); !bytes.Equal(h[:], serverHash) {
		p.Cancel(d.Client) // a wrong PIN, says the client
		return errNoPeer
	}
	signature, err := sign(d.key, secret[:])
	if err != nil {
		return err
	}
	if err = p.Finish(context.Background(), d.Client, append(secret[:], signature...)); err != nil {
		return fmt.Errorf("fourth: %w", err)
	}
	return nil
}

var ada = media.PersonRef{ID: "p_ada", Name: "Ada"}

// pair does everything with the PIN that the device shows and the one that is typed.
func pair(t testing.TB, p *Pending, d *device, shown, typed string) (client, person error) {
	t.Helper()
	id, begun := d.begin(t, t.Context(), p)
	if id == "" {
		return <-begun, nil
	}
	enter := make(chan error, 1)
	go func() { enter <- p.Enter(t.Context(), id, typed, ada) }()
	if err := <-begun; err != nil {
		return err, <-enter
	}
	client = d.steps(p, shown)
	return client, <-enter
}

func TestTheKnownPairingIsReplayed(t *testing.T) {
	t.Parallel()
	v := known()
	p, trusted := newPending(t)
	client := Client{"0123456789ABCDEF", netip.MustParseAddr("192.0.2.1")}
	var sent []url.Values
	var want []string
	for _, x := range v.Transcript {
		u, err := url.Parse(x.Request)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, u.Query())
		_, rest, _ := strings.Cut(x.Response, "<paired>1</paired><")
		_, value, _ := strings.Cut(rest, ">")
		value, _, _ = strings.Cut(value, "<")
		want = append(want, value)
	}
	if got := keyOf([16]byte(unhex(t, v.Salt)), v.PIN); hex.EncodeToString(got[:]) != v.AESKey {
		t.Errorf("the key is %x, want %s", got, v.AESKey)
	}
	if hex.EncodeToString(p.Certificate.Signature) != v.ServerSignature {
		t.Error("the server's signature field is another")
	}
	begun := make(chan error, 1)
	go func() {
		begun <- p.Begin(t.Context(), Ask{client, sent[0].Get("devicename"), unhex(t, sent[0].Get("salt")), unhex(t, sent[0].Get("clientcert"))})
	}()
	<-trusted.bell
	entered := make(chan error, 1)
	go func() { entered <- p.Enter(t.Context(), p.List()[0].ID, v.PIN, ada) }()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	out, err := p.challenge(client, unhex(t, sent[1].Get("clientchallenge")), [16]byte(unhex(t, v.ServerSecret)), [16]byte(unhex(t, v.ServerChallenge)))
	if err != nil || hex.EncodeToString(out) != want[1] {
		t.Fatalf("second: got %x, %v\nwant %s", out, err, want[1])
	}
	if plain := decrypt([16]byte(unhex(t, v.AESKey)), out); hex.EncodeToString(plain) != v.Phase2 {
		t.Errorf("second, in clear: got %x, want %s", plain, v.Phase2)
	}
	out, err = p.Respond(client, unhex(t, sent[2].Get("serverchallengeresp")))
	if err != nil || hex.EncodeToString(out) != want[2] {
		t.Fatalf("third: got %x, %v\nwant %s", out, err, want[2])
	}
	if got := hex.EncodeToString(p.all[0].response[:]); got != v.Phase3 {
		t.Errorf("third, in clear: got %s, want %s", got, v.Phase3)
	}
	if err := p.Finish(t.Context(), client, unhex(t, sent[3].Get("clientpairingsecret"))); err != nil {
		t.Fatalf("fourth: %v", err)
	}
	if err := <-entered; err != nil {
		t.Fatalf("the person is told %v", err)
	}
	d := trusted.devices()
	if len(d) != 1 || d[0].Person != ada || hex.EncodeToString(d[0].Certificate.Signature) != v.ClientSignature {
		t.Errorf("trusted: %+v", d)
	}
}

func TestADeviceIsPairedAndBelongsToWhoTypedThePIN(t *testing.T) {
	t.Parallel()
	p, trusted := newPending(t)
	d := newDevice(t, keys()[0], "192.0.2.1")
	d.name = "Ada's\x00 tablet \u202e"
	id, begun := d.begin(t, t.Context(), p)
	r := p.List()[0]
	if r.ID != id || r.Name != "Ada's tablet" || r.Address != d.Address || r.Entered || r.Until.Sub(r.Since).Round(time.Second) != Patience {
		t.Errorf("listed as %+v", r)
	}
	for _, pin := range []string{"", "123", "12345", "12a4", "１２３４", "-123", "12 4"} {
		if err := p.Enter(t.Context(), id, pin, ada); !errors.Is(err, ErrPIN) {
			t.Errorf("PIN %q: %v", pin, err)
		}
	}
	if err := p.Enter(t.Context(), "another", "0042", ada); !errors.Is(err, ErrNotFound) {
		t.Errorf("another: %v", err)
	}
	enter := make(chan error, 1)
	go func() { enter <- p.Enter(t.Context(), id, "0042", ada) }()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	if err := p.Enter(t.Context(), id, "0042", ada); !errors.Is(err, ErrEntered) {
		t.Errorf("again: %v", err)
	}
	if !p.List()[0].Entered {
		t.Error("it is not listed as under way")
	}
	if err := d.steps(p, "0042"); err != nil {
		t.Fatal(err)
	}
	if err := <-enter; err != nil {
		t.Fatal(err)
	}
	got := trusted.devices()
	if len(got) != 1 || !got[0].Certificate.Equal(d.cert) || got[0].Person != ada || got[0].Name != "Ada's tablet" || got[0].Address != d.Address {
		t.Errorf("trusted: %+v", got)
	}
	if len(p.List()) != 0 {
		t.Error("it is still listed")
	}
}

func TestManyDevicesBehindOneAddressDoNotMix(t *testing.T) {
	t.Parallel()
	p, trusted := newPending(t)
	const n = 50
	p.MostPerAddress = n
	ids := make(map[string]*device)
	owner := func(i int) media.PersonRef { return media.PersonRef{ID: fmt.Sprint("p", i)} }
	begun := make(map[*device]chan error)
	var order []string
	for i := range n {
		d := newDevice(t, keys()[i%len(keys())], "192.0.2.1")
		id, done := d.begin(t, t.Context(), p)
		ids[id], begun[d] = d, done
		order = append(order, id)
	}
	if err := p.Begin(t.Context(), newDevice(t, keys()[0], "192.0.2.1").ask()); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	// The last one first, and a second that is entered meanwhile.
	var wg sync.WaitGroup
	for i := n - 1; i >= 0; i-- {
		id := order[i]
		d := ids[id]
		entered := make(chan error, 1)
		wg.Go(func() { entered <- p.Enter(t.Context(), id, fmt.Sprintf("%04d", i), owner(i)) })
		if err := <-begun[d]; err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if err := p.Enter(t.Context(), order[i-1], "0000", ada); !errors.Is(err, ErrBusy) {
				t.Fatalf("a second one at a time: %v", err)
			}
		}
		if err := d.steps(p, fmt.Sprintf("%04d", i)); err != nil {
			t.Fatalf("device %d: %v", i, err)
		}
		if err := <-entered; err != nil {
			t.Fatalf("device %d: %v", i, err)
		}
	}
	wg.Wait()
	for i, got := range trusted.devices() {
		want := ids[order[n-1-i]]
		if !got.Certificate.Equal(want.cert) || got.Person != owner(n-1-i) {
			t.Errorf("device %d went to %v", n-1-i, got.Person)
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	d := newDevice(t, keys()[0], "192.0.2.1")
	c, err := ParseCertificate([]byte(known().ClientCert))
	if err != nil {
		t.Fatal(err)
	}
	crlf, err := ParseCertificate(bytes.ReplaceAll([]byte(known().ClientCert), []byte("\n"), []byte("\r\n")))
	if err != nil || !c.Equal(crlf) {
		t.Errorf("with other line ends: %v", err)
	}
	other, err := ParseCertificate(d.pem)
	if err != nil {
		t.Fatal(err)
	}
	if KeyID(c) != KeyID(crlf) || KeyID(c) == KeyID(other) || len(KeyID(c)) != 64 {
		t.Errorf("key ids %s, %s, %s", KeyID(c), KeyID(crlf), KeyID(other))
	}
	for name, text := range map[string]string{
		"nothing": "", "text": "hello", "a key": known().ClientKey, "cut": known().ClientCert[:300],
		"long":           known().ClientCert + strings.Repeat("x", maxPEM),
		"no certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})),
	} {
		if _, err := ParseCertificate([]byte(text)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseCertificate(f *testing.F) {
	f.Add([]byte(known().ClientCert))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseCertificate(text)
		if err == nil {
			signed(c, []byte("secret"), text)
			KeyID(c)
		}
	})
}

func FuzzSteps(f *testing.F) {
	f.Add(uint8(0), make([]byte, 16), make([]byte, 32), make([]byte, 272))
	f.Add(uint8(1), []byte{}, make([]byte, 33), make([]byte, 16))
	f.Add(uint8(6), make([]byte, 16), make([]byte, 32), make([]byte, 17))
	f.Fuzz(func(t *testing.T, skip uint8, challenge, response, secret []byte) {
		p, trusted := newPending(t)
		v := known()
		client := Client{"0", netip.MustParseAddr("::1")}
		w, err := p.begin(Ask{client, "", make([]byte, 16), []byte(v.ClientCert)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.enter(w.id, "1234", ada); err != nil {
			t.Fatal(err)
		}
		if skip&1 == 0 {
			_, _ = p.Challenge(client, challenge)
		}
		if skip&2 == 0 {
			_, _ = p.Respond(client, response)
		}
		if skip&4 == 0 {
			_ = p.Finish(t.Context(), client, secret)
		}
		if len(trusted.devices()) != 0 {
			t.Fatal("a device is trusted that does not know the key")
		}
	})
}
