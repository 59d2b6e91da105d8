// Package moonlight is a Moonlight client for tests: it pairs, lists, launches,
// streams and cancels as clients do, written from the description of the protocol.
// It knows nothing of the server's code. It imports the standard library only.
package moonlight

import (
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
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client is one device.
type Client struct {
	Host string // of the server, an IP address
	Port int    // of its HTTP

	key         *rsa.PrivateKey
	certificate *x509.Certificate
	server      []byte // DER of the server's certificate, once paired
	https       int
	plain, tls  *http.Client
}

// New makes a device with a certificate as clients make it.
func New(host string, port int) (*Client, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(0), Subject: pkix.Name{CommonName: "NVIDIA GameStream Client"}, SignatureAlgorithm: x509.SHA256WithRSA,
		NotBefore: time.Now(), NotAfter: time.Now().AddDate(20, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &Client{Host: host, Port: port, key: key, certificate: cert}
	c.plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	c.tls = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, MaxConnsPerHost: 64, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, InsecureSkipVerify: true, // the certificate is pinned
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if c.server != nil && !bytes.Equal(raw[0], c.server) {
				return errors.New("this is another server")
			}
			return nil
		},
	}}, Timeout: time.Minute}
	return c, nil
}

// Root is an answer's XML.
type Root struct {
	Status  int    `xml:"status_code,attr"`
	Message string `xml:"status_message,attr"`

	HTTPSPort   int    `xml:"HttpsPort"`
	AppVersion  string `xml:"appversion"`
	PairStatus  int    `xml:"PairStatus"`
	CurrentGame int    `xml:"currentgame"`
	State       string `xml:"state"`
	Paired      int    `xml:"paired"`
	PlainCert   string `xml:"plaincert"`
	Challenge   string `xml:"challengeresponse"`
	Secret      string `xml:"pairingsecret"`
	URL         string `xml:"sessionUrl0"`
	Game        string `xml:"gamesession"`
	Resume      string `xml:"resume"`
	Cancel      string `xml:"cancel"`
	Apps        []App  `xml:"App"`
}

// App is one program.
type App struct {
	Title string `xml:"AppTitle"`
	ID    int    `xml:"ID"`
}

// Error is what the server answers instead of what was asked for.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Message) }

// Get asks for a path, over TLS or not, and returns the body.
func (c *Client) Get(ctx context.Context, secure bool, path string, query url.Values) ([]byte, error) {
	q := url.Values{"uniqueid": {"0123456789ABCDEF"}, "uuid": {rand.Text()}}
	for k, v := range query {
		q[k] = v
	}
	scheme, port, client := "http", c.Port, c.plain
	if secure {
		scheme, port, client = "https", c.https, c.tls
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(c.Host, strconv.Itoa(port))+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &Error{resp.StatusCode, "HTTP status"}
	}
	return b, err
}

// Ask is Get for XML; another status than 200 in it is an *Error.
func (c *Client) Ask(ctx context.Context, secure bool, path string, query url.Values) (r Root, err error) {
	b, err := c.Get(ctx, secure, path, query)
	if err != nil {
		return r, err
	}
	if err := xml.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if r.Status != 200 {
		return r, &Error{r.Status, r.Message}
	}
	return r, nil
}

// Info is the server's; over TLS it tells what is the device's own.
func (c *Client) Info(ctx context.Context, secure bool) (Root, error) {
	r, err := c.Ask(ctx, secure, "/serverinfo", nil)
	if err == nil {
		c.https = r.HTTPSPort
	}
	return r, err
}

// ecb applies the cipher of pairing block by block.
func ecb(key, in []byte, decrypt bool) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys here have 16 bytes
	}
	out := make([]byte, len(in))
	for i := 0; i+16 <= len(in); i += 16 {
		if decrypt {
			block.Decrypt(out[i:], in[i:])
		} else {
			block.Encrypt(out[i:], in[i:])
		}
	}
	return out
}

func hash(parts ...[]byte) []byte {
	sum := sha256.Sum256(bytes.Join(parts, nil))
	return sum[:]
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

// ErrWrongPIN is what Pair says when the server was told another PIN.
var ErrWrongPIN = errors.New("wrong PIN")

// Pair goes through all phases with a PIN, which somebody must type at the server
// meanwhile. When it fails, the server is told so, as all clients do.
func (c *Client) Pair(ctx context.Context, pin string) error {
	err := c.pair(ctx, pin)
	if err != nil {
		_, unpair := c.Ask(context.WithoutCancel(ctx), false, "/unpair", nil)
		err = errors.Join(err, unpair)
	}
	return err
}

func (c *Client) pair(ctx context.Context, pin string) error {
	if _, err := c.Info(ctx, false); err != nil {
		return err
	}
	ask := func(secure bool, key, value string, more url.Values) (Root, error) {
		q := url.Values{"devicename": {"roth"}, "updateState": {"1"}, key: {value}}
		for k, v := range more {
			q[k] = v
		}
		r, err := c.Ask(ctx, secure, "/pair", q)
		if err == nil && r.Paired != 1 {
			err = ErrWrongPIN
		}
		return r, err
	}
	salt := random(16)
	key := hash(salt, []byte(pin))[:16]
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.certificate.Raw})
	r, err := ask(false, "phrase", "getservercert", url.Values{"salt": {hex.EncodeToString(salt)}, "clientcert": {hex.EncodeToString(text)}})
	if err != nil {
		return err
	}
	plain, _ := hex.DecodeString(r.PlainCert)
	block, _ := pem.Decode(plain)
	if block == nil {
		return errors.New("no certificate of the server")
	}
	server, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	challenge := random(16)
	if r, err = ask(false, "clientchallenge", hex.EncodeToString(ecb(key, challenge, false)), nil); err != nil {
		return err
	}
	answer, _ := hex.DecodeString(r.Challenge)
	if answer = ecb(key, answer, true); len(answer) != 48 {
		return errors.New("no challenge of the server")
	}
	secret := random(16)
	response := hash(answer[32:48], c.certificate.Signature, secret)
	if r, err = ask(false, "serverchallengeresp", hex.EncodeToString(ecb(key, response, false)), nil); err != nil {
		return err
	}
	theirs, _ := hex.DecodeString(r.Secret)
	if len(theirs) < 17 {
		return errors.New("no secret of the server")
	}
	public, ok := server.PublicKey.(*rsa.PublicKey)
	if !ok || rsa.VerifyPKCS1v15(public, crypto.SHA256, hash(theirs[:16]), theirs[16:]) != nil {
		return errors.New("somebody is between the two")
	}
	if !bytes.Equal(answer[:32], hash(challenge, server.Signature, theirs[:16])) {
		return ErrWrongPIN
	}
	signature, err := rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA256, hash(secret))
	if err != nil {
		return err
	}
	if _, err = ask(false, "clientpairingsecret", hex.EncodeToString(append(secret, signature...)), nil); err != nil {
		return err
	}
	c.server = server.Raw
	_, err = ask(true, "phrase", "pairchallenge", nil)
	return err
}

// Apps are the programs.
func (c *Client) Apps(ctx context.Context) ([]App, error) {
	r, err := c.Ask(ctx, true, "/applist", nil)
	return r.Apps, err
}

// Cancel ends what runs.
func (c *Client) Cancel(ctx context.Context) error {
	r, err := c.Ask(ctx, true, "/cancel", nil)
	if err == nil && r.Cancel != "1" {
		err = fmt.Errorf("cancel is %q", r.Cancel)
	}
	return err
}

// Mode is what a stream shall be.
type Mode struct {
	App                int // 0: resume
	Width, Height, FPS int
	Kbps               int
	Seal               int     // 1 control, 2 video, 4 audio; control is sealed in any case
	Channels           int     // 0: 2
	Lose               float64 // of video and audio datagrams, here
}

// launched is an agreement to stream.
type launched struct {
	mode  Mode
	key   []byte
	keyID uint32
	port  int // of RTSP
}

// Launch asks for a stream of a program, or for one of what runs.
func (c *Client) launch(ctx context.Context, m Mode) (*launched, error) {
	l := &launched{mode: m, key: random(16)}
	l.keyID = uint32(random(1)[0])<<24 | 0x102030
	q := url.Values{
		"mode": {fmt.Sprintf("%dx%dx%d", m.Width, m.Height, m.FPS)}, "additionalStates": {"1"}, "sops": {"0"},
		"rikey": {hex.EncodeToString(l.key)}, "rikeyid": {strconv.Itoa(int(int32(l.keyID)))}, "localAudioPlayMode": {"0"},
		"surroundAudioInfo": {map[int]string{0: "196610", 2: "196610", 6: "4128774", 8: "104792072"}[m.Channels]}, "corever": {"1"},
		"remoteControllersBitmap": {"1"}, "gcmap": {"1"},
	}
	path := "/resume"
	if m.App != 0 {
		path = "/launch"
		q.Set("appid", strconv.Itoa(m.App))
	}
	r, err := c.Ask(ctx, true, path, q)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "rtspenc" || r.Game+r.Resume != "1" {
		return nil, fmt.Errorf("%s: session %q, %q%q: %w", path, r.URL, r.Game, r.Resume, errors.Join(err))
	}
	l.port, err = strconv.Atoi(u.Port())
	return l, err
}

// state tells whether something of this device runs.
func (r Root) Busy() bool { return strings.HasSuffix(r.State, "_SERVER_BUSY") && r.CurrentGame != 0 }
