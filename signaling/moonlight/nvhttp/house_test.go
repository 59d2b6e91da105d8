package nvhttp

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/pairing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ada = media.PersonRef{ID: "p_ada", Name: "Ada"}
	bob = media.PersonRef{ID: "p_bob", Name: "Bob"}
)

// house is what the rest of Fenrir is to the door: all in memory.
type house struct {
	mu       sync.Mutex // guards what follows
	devices  map[string]pairing.Device
	programs map[string][]Program // by person
	icons    map[string][]byte
	asked    int // for icons
	sessions []running
	ended    []string
	broken   error
	started  int
}

type running struct {
	Running
	owner media.PersonRef
	order Order
}

func (h *house) Add(_ context.Context, d pairing.Device) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices[pairing.KeyID(d.Certificate)] = d
	return h.broken
}

func (h *house) Find(_ context.Context, c *x509.Certificate) (Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := pairing.KeyID(c)
	d, ok := h.devices[id]
	switch {
	case h.broken != nil:
		return Device{}, h.broken
	case !ok || !bytes.Equal(d.Certificate.Raw, c.Raw):
		return Device{}, ErrUnknown
	}
	return Device{ID: id, Name: d.Name, Person: d.Person}, nil
}

func (h *house) Forget(_ context.Context, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.devices, id)
	return h.broken
}

func (h *house) List(_ context.Context, p media.PersonRef) ([]Program, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.programs[p.ID], h.broken
}

func (h *house) Icon(_ context.Context, _ media.PersonRef, program string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	return h.icons[program], nil
}

// sessions is the part that is a Sessions: Find is another there.
type sessions struct{ *house }

func (s sessions) Find(p media.PersonRef) (Running, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.house.sessions) {
		if r.owner.ID == p.ID {
			return r.Running, true
		}
	}
	return Running{}, false
}

func (s sessions) Start(_ context.Context, o Order) (Running, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return Running{}, s.broken
	}
	s.started++
	r := Running{Session: fmt.Sprint("s", s.started), Program: o.Program, Title: "title of " + o.Program}
	s.house.sessions = append(s.house.sessions, running{r, o.Device.Person, o})
	return r, nil
}

func (s sessions) End(id string, cause *media.Cause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.house.sessions = slices.DeleteFunc(s.house.sessions, func(r running) bool { return r.Session == id })
	s.ended = append(s.ended, id+" "+cause.Code)
}

func (h *house) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// made is shared: an RSA key takes long.
var madeIdentity = sync.OnceValue(func() *Identity {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Fenrir"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &Identity{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "11111111-2222-8333-8444-555555555555"}
})

// door is a server that runs, with its house.
type door struct {
	*Server
	*house
	launches *launch.Pending
	stop     func() error
}

func open(t testing.TB) *door {
	t.Helper()
	h := &house{
		devices: map[string]pairing.Device{}, icons: map[string][]byte{},
		programs: map[string][]Program{
			ada.ID: {{ID: "zoo", Title: "Zoo & <more>", Picture: "z1"}, {ID: "chess", Title: "Chess"}},
			bob.ID: {{ID: "chess", Title: "Chess"}, {ID: "pong", Title: "Pong"}},
		},
	}
	id := madeIdentity()
	launches := new(launch.Pending)
	pairings := &pairing.Pending{Certificate: id.Certificate, Key: id.Key, Trust: h}
	s := &Server{
		Host:     Host{Name: "Fenris' <hall>", MAC: "02:00:00:00:00:01", Codecs: func() []media.Codec { return []media.Codec{media.H264, media.AV1, media.VP9} }},
		Identity: id, Pairings: pairings, Devices: h, Programs: h, Sessions: sessions{h}, Launches: launches, RTSPPort: 48010,
		Log: slog.New(slog.DiscardHandler),
	}
	if err := s.Listen("127.0.0.1:0", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ran })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		launches.Close()
		pairings.Close()
	})
	return &door{s, h, launches, stop}
}

// keys are made once.
var keys = sync.OnceValue(func() (ks [3]*rsa.PrivateKey) {
	for i := range ks {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		ks[i] = k
	}
	return ks
})

var made atomic.Int64

// client is one as Moonlight is: serial 0, a name that all have, a wrong clock.
type client struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
	to   *door
}

func newClient(t testing.TB, to *door, key *rsa.PrivateKey) *client {
	t.Helper()
	n := time.Duration(made.Add(1)) * time.Second
	tpl := &x509.Certificate{
		SerialNumber: new(big.Int), Subject: pkix.Name{CommonName: "NVIDIA GameStream Client"},
		NotBefore: time.Now().Add(-48*time.Hour - n), NotAfter: time.Now().Add(-24*time.Hour - n),
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &client{key, cert, to}
}

// trusted is a client that is paired without having paired.
func trusted(t testing.TB, to *door, key *rsa.PrivateKey, person media.PersonRef) *client {
	t.Helper()
	c := newClient(t, to, key)
	if err := to.house.Add(t.Context(), pairing.Device{Certificate: c.cert, Name: "tv", Person: person}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) tls() *tls.Config {
	return &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}},
		InsecureSkipVerify: true, // it pins the certificate instead
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if !bytes.Equal(raw[0], c.to.Identity.Certificate.Raw) {
				return errors.New("another host")
			}
			return nil
		},
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}
}

const common = "uniqueid=0123456789ABCDEF&uuid=5f1d5a4e0f9c4a34b3f9d0a1b2c3d4e5"

// raw makes a request on a connection of its own and returns everything that
// came back.
func (c *client) raw(t testing.TB, secure bool, request string) string {
	t.Helper()
	var conn net.Conn
	var err error
	d := &net.Dialer{Timeout: 10 * time.Second}
	if secure {
		conn, err = tls.DialWithDialer(d, "tcp", c.to.HTTPSAddr().String(), c.tls())
	} else {
		conn, err = d.Dial("tcp", c.to.HTTPAddr().String())
	}
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Error(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// get is the body of the answer to path, which may have a query. It fails unless
// the answer is as clients want it.
func (c *client) get(t testing.TB, secure bool, path string) []byte {
	t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	all := c.raw(t, secure, "GET "+path+sep+common+" HTTP/1.1\r\nHost: fenrir\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(all)), nil)
	if err != nil {
		t.Errorf("%s: %v in %q", path, err, all)
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || resp.Proto != "HTTP/1.1" || !resp.Close || resp.ContentLength != int64(len(body)) {
		t.Errorf("%s: %s %s, close %v, length %d of %d, %v", path, resp.Proto, resp.Status, resp.Close, resp.ContentLength, len(body), err)
	}
	if want := map[bool]string{true: "image/png", false: "application/xml; charset=utf-8"}[bytes.HasPrefix(body, []byte("\x89PNG"))]; resp.Header.Get("Content-Type") != want {
		t.Errorf("%s is %s", path, resp.Header.Get("Content-Type"))
	}
	return body
}

// xml is the answer as a strict client reads it.
func (c *client) xml(t testing.TB, secure bool, path string) reply {
	t.Helper()
	r, err := read(c.get(t, secure, path))
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return r
}

func ecb(key, in []byte, crypt func(b interface{ Encrypt(dst, src []byte) }, dst, src []byte)) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += 16 {
		crypt(c, out[i:i+16], in[i:i+16])
	}
	return out
}

func encrypt(key, in []byte) []byte {
	return ecb(key, in, func(b interface{ Encrypt(dst, src []byte) }, dst, src []byte) { b.Encrypt(dst, src) })
}

func decrypt(key, in []byte) []byte {
	return ecb(key, in, func(b interface{ Encrypt(dst, src []byte) }, dst, src []byte) {
		b.(interface{ Decrypt(dst, src []byte) }).Decrypt(dst, src)
	})
}

// pair does all five requests, with capitals as some clients do, and types the PIN
// for person.
func (c *client) pair(t testing.TB, name, shown, typed string, person media.PersonRef) error {
	t.Helper()
	salt, challenge, secret := make([]byte, 16), make([]byte, 16), make([]byte, 16)
	for _, b := range [][]byte{salt, challenge, secret} {
		_, _ = rand.Read(b)
	}
	sum := sha256.Sum256(append(slices.Clone(salt), shown...))
	key := sum[:16]
	ask := func(secure bool, q string) (reply, error) {
		r := c.xml(t, secure, "/pair?devicename="+url.QueryEscape(name)+"&updateState=1&"+q)
		if r.status != 200 || r.text["paired"] != "1" {
			return r, fmt.Errorf("%d %s, paired %q", r.status, r.message, r.text["paired"])
		}
		return r, nil
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
	typedIt := make(chan error, 1)
	go func() { typedIt <- c.to.typePIN(t.Context(), name, typed, person) }()
	r, err := ask(false, fmt.Sprintf("phrase=getservercert&salt=%X&clientcert=%X", salt, text))
	if err != nil {
		return errors.Join(fmt.Errorf("first: %w", err), <-typedIt)
	}
	if r.text["plaincert"] != hex.EncodeToString(c.to.Identity.PEM) {
		t.Error("the server's certificate is another")
	}
	if r, err = ask(false, fmt.Sprintf("clientchallenge=%x", encrypt(key, challenge))); err != nil {
		return errors.Join(fmt.Errorf("second: %w", err), <-typedIt)
	}
	b, _ := hex.DecodeString(r.text["challengeresponse"])
	plain := decrypt(key, b)
	h := sha256.Sum256(slices.Concat(plain[32:], c.cert.Signature, secret))
	if r, err = ask(false, fmt.Sprintf("serverchallengeresp=%x", encrypt(key, h[:]))); err != nil {
		return errors.Join(fmt.Errorf("third: %w", err), <-typedIt)
	}
	s, _ := hex.DecodeString(r.text["pairingsecret"])
	signed := sha256.Sum256(s[:16])
	if err := rsa.VerifyPKCS1v15(&c.to.Identity.Key.PublicKey, crypto.SHA256, signed[:], s[16:]); err != nil {
		t.Error("somebody is in between")
	}
	if h := sha256.Sum256(slices.Concat(challenge, c.to.Identity.Certificate.Signature, s[:16])); !bytes.Equal(h[:], plain[:32]) {
		c.xml(t, false, "/unpair")
		return errors.Join(errors.New("wrong PIN"), <-typedIt)
	}
	sum = sha256.Sum256(secret)
	signature, err := rsa.SignPKCS1v15(nil, c.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err = ask(false, fmt.Sprintf("clientpairingsecret=%x", append(secret, signature...))); err != nil {
		return errors.Join(fmt.Errorf("fourth: %w", err), <-typedIt)
	}
	_, err = ask(true, "phrase=pairchallenge")
	return errors.Join(err, <-typedIt)
}

// typePIN waits for a device of that name to ask, and types.
func (d *door) typePIN(ctx context.Context, name, pin string, person media.PersonRef) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		for _, r := range d.Pairings.List() {
			if r.Name == name && !r.Entered {
				if err := d.Pairings.Enter(ctx, r.ID, pin, person); !errors.Is(err, pairing.ErrBusy) {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
	return ctx.Err()
}

func pngOf(t testing.TB, edge int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, edge, edge))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func id(t testing.TB, r reply, title string) uint32 {
	t.Helper()
	for _, a := range r.apps {
		if a["AppTitle"] == title {
			n, err := strconv.ParseUint(a["ID"], 10, 31)
			if err != nil || n == 0 {
				t.Errorf("%s has the number %s", title, a["ID"])
			}
			return uint32(n)
		}
	}
	t.Errorf("%s is not in the list %v", title, r.apps)
	return 0
}
