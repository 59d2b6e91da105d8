package nvhttp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fenrir/media"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/pairing"
)

const head = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// golden compares an answer byte by byte, after the strict parser has read it.
func golden(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if _, err := read(got); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if string(got) != head+want+"\n" {
		t.Errorf("%s: got\n%s\nwant\n%s", what, got, head+want)
	}
}

func info(d *door, mac, paired, game, state string) string {
	return fmt.Sprintf(`<root status_code="200"><hostname>Fenris&#39; &lt;hall&gt;</hostname><appversion>7.1.431.-1</appversion><GfeVersion>3.23.0.74</GfeVersion>`+
		`<uniqueid>11111111-2222-8333-8444-555555555555</uniqueid><HttpsPort>%d</HttpsPort><ExternalPort>%d</ExternalPort><MaxLumaPixelsHEVC>0</MaxLumaPixelsHEVC>`+
		`<mac>%s</mac><LocalIP>127.0.0.1</LocalIP><ServerCodecModeSupport>65537</ServerCodecModeSupport><PairStatus>%s</PairStatus><currentgame>%s</currentgame><state>SUNSHINE_SERVER_%s</state></root>`,
		d.HTTPSAddr().Port(), d.HTTPAddr().Port(), mac, paired, game, state)
}

const notPaired = `<root status_code="401" status_message="This client is not paired."></root>`

func TestServerInfo(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv, stranger := trusted(t, d, keys()[0], ada), newClient(t, d, keys()[1])
	golden(t, "over HTTP", tv.get(t, false, "/serverinfo"), info(d, noMAC, "0", "0", "FREE"))
	golden(t, "with a slash", tv.get(t, false, "/serverinfo/"), info(d, noMAC, "0", "0", "FREE"))
	golden(t, "unpaired", stranger.get(t, true, "/serverinfo"), notPaired)
	golden(t, "paired", tv.get(t, true, "/serverinfo"), info(d, "02:00:00:00:00:01", "1", "0", "FREE"))
	if _, err := (sessions{d.house}).Start(t.Context(), Order{Device: Device{Person: ada}, Program: "zoo"}); err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprint(id(t, tv.xml(t, true, "/applist"), "Zoo & <more>"))
	golden(t, "while something runs", tv.get(t, true, "/serverinfo"), info(d, "02:00:00:00:00:01", "1", number, "BUSY"))
	golden(t, "and over HTTP", tv.get(t, false, "/serverinfo"), info(d, noMAC, "0", "0", "FREE"))
	golden(t, "another person's", trusted(t, d, keys()[1], bob).get(t, true, "/serverinfo"), info(d, "02:00:00:00:00:01", "1", "0", "FREE"))
	d.change(func() { d.programs[ada.ID] = nil })
	if r := tv.xml(t, true, "/serverinfo"); r.text["currentgame"] == "0" || r.text["state"] != busy {
		t.Errorf("what runs is in no list: %v", r.text)
	}
}

func TestWhatIsEncodedIsOffered(t *testing.T) {
	t.Parallel()
	for want, of := range map[string][]media.Codec{
		"0 0": nil, "1 0": {media.H264, media.VP8}, "257 1869449984": {media.H265, media.H264}, "65793 1869449984": {media.H264, media.H265, media.AV1},
	} {
		mask, hevc := codecs(of)
		if got := fmt.Sprint(mask, " ", hevc); got != want {
			t.Errorf("%v: got %s, want %s", of, got, want)
		}
	}
}

func TestUnknownAddressesAndStrangersAreToldInXML(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv, stranger := trusted(t, d, keys()[0], ada), newClient(t, d, keys()[1])
	const nothing = `<root status_code="404" status_message="There is nothing at this address."></root>`
	for _, path := range []string{"/", "", "/favicon.ico", "/applist/x", "//serverinfo", "/../serverinfo", "/pin"} {
		if path == "" {
			path = "/%00"
		}
		golden(t, path, tv.get(t, true, path), nothing)
		golden(t, path, tv.get(t, false, path), nothing)
	}
	for _, path := range []string{"/applist", "/appasset?appid=1", "/launch?appid=1", "/resume", "/cancel", "/pair?phrase=pairchallenge"} {
		golden(t, path+" over HTTP", tv.get(t, false, path), notPaired)
		golden(t, path+" of a stranger", stranger.get(t, true, path), notPaired)
	}
	// The same key in another certificate is another client.
	golden(t, "another certificate", newClient(t, d, keys()[0]).get(t, true, "/applist"), notPaired)
	if d.started != 0 || len(d.ended) != 0 {
		t.Error("a stranger did something")
	}
	d.change(func() { d.broken = errors.New("the disk is full of secrets") })
	golden(t, "a fault", tv.get(t, true, "/applist"), `<root status_code="500" status_message="Something went wrong in the server."></root>`)
}

func TestProgramsAreListedForTheirPerson(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	got := tv.get(t, true, "/applist")
	r, err := read(got)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "/applist", got, fmt.Sprintf(`<root status_code="200"><App><IsHdrSupported>0</IsHdrSupported><AppTitle>Chess</AppTitle><ID>%d</ID></App>`+
		`<App><IsHdrSupported>0</IsHdrSupported><AppTitle>Zoo &amp; &lt;more&gt;</AppTitle><ID>%d</ID></App></root>`, id(t, r, "Chess"), id(t, r, "Zoo & <more>")))
	d.change(func() { d.programs[ada.ID][0].Picture = "z2" })
	again := tv.xml(t, true, "/applist")
	if id(t, again, "Chess") != id(t, r, "Chess") || id(t, again, "Zoo & <more>") == id(t, r, "Zoo & <more>") {
		t.Error("a number changes if and only if the picture does")
	}
	d.change(func() { d.programs[ada.ID] = []Program{{ID: "\x01\x02", Title: " \n"}} })
	if r := tv.xml(t, true, "/applist"); len(r.apps) != 1 {
		t.Errorf("a strange title: %v", r.apps)
	}
	d.change(func() { d.programs[ada.ID] = nil })
	golden(t, "an empty list", tv.get(t, true, "/applist"), `<root status_code="503" status_message="There is no program that you may start."></root>`)
}

func TestNumbersAreStableAndUnlike(t *testing.T) {
	t.Parallel()
	var of []Program
	for i := range 50 {
		of = append(of, Program{ID: fmt.Sprint(i), Title: fmt.Sprint("t", i%7)})
	}
	few := func(p Program, try int) uint32 { return numberOf(p, try)%60 + 1 } // many collide
	a := numbered(of, few)
	slices.Reverse(of)
	b := numbered(append(of, of[0]), few)
	if !slices.Equal(a, b) || len(a) != 50 {
		t.Errorf("the order changes numbers:\n%v\n%v", a, b)
	}
	seen := map[uint32]bool{}
	for _, x := range a {
		if seen[x.number] {
			t.Errorf("%d twice", x.number)
		}
		seen[x.number] = true
		if n := numberOf(x.Program, 0); n == 0 || n > 1<<31-1 {
			t.Errorf("%d is out of range", n)
		}
	}
	if numberOf(Program{ID: "a", Title: "b"}, 0) == numberOf(Program{ID: "ab"}, 0) {
		t.Error("fields run into each other")
	}
}

func TestPictures(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	d.icons["zoo"] = pngOf(t, 64)
	d.icons["chess"] = []byte("no PNG")
	list := tv.xml(t, true, "/applist")
	path := fmt.Sprintf("/appasset?appid=%d&AssetType=2&AssetIdx=0", id(t, list, "Zoo & <more>"))
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			m, err := png.DecodeConfig(bytes.NewReader(tv.get(t, true, path)))
			if err != nil || m.Width != 600 || m.Height != 800 {
				t.Errorf("%dx%d, %v", m.Width, m.Height, err)
			}
		})
	}
	wg.Wait()
	if d.asked != 1 && d.asked != 2 {
		t.Errorf("the icon was asked for %d times", d.asked)
	}
	if b := tv.get(t, true, fmt.Sprint("/appasset?appid=", id(t, list, "Chess"))); !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Error("a program with a bad icon has no picture")
	}
	const none = `<root status_code="404" status_message="There is no such program."></root>`
	for _, n := range []string{"", "0", "-1", "x", "99999999999999999999", fmt.Sprint(numberOf(Program{ID: "pong", Title: "Pong"}, 0))} {
		golden(t, "appid "+n, tv.get(t, true, "/appasset?appid="+n), none)
	}
	var c art
	for i := range 2 * maxArt {
		c.put(picture{app{number: uint32(i)}, []byte("x")})
	}
	if len(c.made) != maxArt || c.get(app{number: maxArt}) == nil || c.get(app{number: maxArt - 1}) != nil {
		t.Errorf("%d are kept", len(c.made))
	}
}

func TestPairingOverTheWire(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := newClient(t, d, keys()[0])
	if err := tv.pair(t, "Ada's TV", "1234", "4321", ada); err == nil || !strings.Contains(err.Error(), "wrong PIN") || !errors.Is(err, pairing.ErrWrongPIN) {
		t.Errorf("the wrong PIN: %v", err)
	}
	golden(t, "then", tv.get(t, true, "/serverinfo"), notPaired)
	if err := tv.pair(t, "Ada's TV", "1234", "1234", ada); err != nil {
		t.Fatal(err)
	}
	if r := tv.xml(t, true, "/serverinfo"); r.text["PairStatus"] != "1" {
		t.Errorf("then: %v", r)
	}
	if got, err := d.house.Find(t.Context(), tv.cert); err != nil || got.Person != ada || got.Name != "Ada's TV" {
		t.Errorf("the house knows %+v, %v", got, err)
	}
	// A stranger's request changes nothing, the device's own does.
	const done = `<root status_code="200"></root>`
	golden(t, "unpair", tv.get(t, false, "/unpair"), done)
	golden(t, "unpair of a stranger", newClient(t, d, keys()[1]).get(t, true, "/unpair"), done)
	if r := tv.xml(t, true, "/serverinfo"); r.status != 200 {
		t.Errorf("then: %v", r)
	}
	golden(t, "its own unpair", tv.get(t, true, "/unpair"), done)
	golden(t, "then", tv.get(t, true, "/serverinfo"), notPaired)
}

func TestManyClientsBehindOneAddressPairAtOnce(t *testing.T) {
	t.Parallel()
	d := open(t)
	var wg sync.WaitGroup
	for i, key := range keys() {
		c := newClient(t, d, key)
		person := media.PersonRef{ID: fmt.Sprint("p", i)}
		wg.Go(func() {
			name := fmt.Sprint("device ", i)
			if err := c.pair(t, name, fmt.Sprintf("%04d", i), fmt.Sprintf("%04d", i), person); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got, err := d.house.Find(t.Context(), c.cert); err != nil || got.Person != person || got.Name != name {
				t.Errorf("%s is %+v, %v", name, got, err)
			}
		})
	}
	wg.Wait()
}

func TestPairingSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := open(t)
	c := newClient(t, d, keys()[0])
	failed := func(message string) string {
		return `<root status_code="400" status_message="` + message + `"><paired>0</paired></root>`
	}
	for path, message := range map[string]string{
		"/pair": pairing.ErrProtocol.Error(), "/pair?phrase=getservercert": pairing.ErrProtocol.Error(), "/pair?phrase=x": pairing.ErrProtocol.Error(),
		"/pair?phrase=getservercert&salt=zz&clientcert=" + hex.EncodeToString([]byte("x")): pairing.ErrProtocol.Error(),
		"/pair?clientchallenge=00": pairing.ErrNone.Error(), "/pair?serverchallengeresp=00": pairing.ErrNone.Error(), "/pair?clientpairingsecret=": pairing.ErrNone.Error(),
	} {
		golden(t, path, c.get(t, false, path), failed(strings.ToUpper(message[:1])+message[1:]+"."))
	}
	if out := string(d.notPaired(netip.Addr{}, &pairing.RateError{RetryAfter: 9e9}).body); !strings.Contains(out, `"503"`) || !strings.Contains(out, "again in 9s.") {
		t.Errorf("a limited one: %s", out)
	}
	if out := string(d.notPaired(netip.Addr{}, errors.New("disk /secret")).body); !strings.Contains(out, `"500"`) || strings.Contains(out, "secret") {
		t.Errorf("a fault: %s", out)
	}
}

func TestAnIdentityIsMadeOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "m")
	a, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadIdentity(dir)
	if err != nil || !a.Certificate.Equal(b.Certificate) || a.UniqueID != b.UniqueID || !a.Key.Equal(b.Key) || !bytes.Equal(a.PEM, b.PEM) {
		t.Errorf("the second time it is another: %v", err)
	}
	c := a.Certificate
	if years := c.NotAfter.Sub(c.NotBefore).Hours() / 24 / 365; a.Key.N.BitLen() != 2048 || years < 19.9 || c.SerialNumber.Cmp(big.NewInt(1)) <= 0 || c.CheckSignatureFrom(c) == nil && c.IsCA {
		t.Errorf("%d bits, %.1f years, serial %v", a.Key.N.BitLen(), years, c.SerialNumber)
	}
	if u := a.UniqueID; len(u) != 36 || u[14] != '8' || !strings.ContainsRune("89ab", rune(u[19])) {
		t.Errorf("%s is no UUID", u)
	}
	for _, f := range []string{certFile, keyFile} {
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}
	// What is damaged is not made anew behind the devices' backs.
	if err := os.Remove(filepath.Join(dir, keyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(dir); err == nil {
		t.Error("a certificate without its key was replaced")
	}
	if err := os.Remove(filepath.Join(dir, certFile)); err != nil {
		t.Fatal(err)
	}
	if c, err := LoadIdentity(dir); err != nil || c.UniqueID == a.UniqueID {
		t.Errorf("a new one: %v", err)
	}
	if _, err := LoadIdentity(filepath.Join(dir, certFile, "x")); err == nil {
		t.Error("a folder that cannot be")
	}
}

var _ Launches = (*launch.Pending)(nil)
