package doctor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunIsBoundedHoweverChecksBehave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		checks := []Check{
			{"hangs", func(context.Context) Result { <-stuck; return Good("never") }},
			{"waits", func(ctx context.Context) Result { <-ctx.Done(); return Warnf("do", "its time was over") }},
		}
		for range 20 {
			checks = append(checks, Check{"fine", func(context.Context) Result { return Good("fine") }})
		}
		began := time.Now()
		results := Run(t.Context(), checks)
		if took := time.Since(began); took > Total {
			t.Errorf("took %v, want at most %v", took, Total)
		}
		if results[0].Status != Fail || results[0].Name != "hangs" || results[1].Status != Warn || results[21].Status != OK {
			t.Errorf("got %+v", results)
		}
		if Worst(results) != Fail || Worst(results[1:]) != Warn || Worst(results[2:]) != OK {
			t.Error("the worst is not the worst")
		}
		close(stuck)
		synctest.Wait()
	})
}

func TestWhatIsPrinted(t *testing.T) {
	results := []Result{
		{Status: OK, Name: "one", Found: "It is fine."},
		{Status: Warn, Name: "another", Found: "It is not.", Do: "Do this."},
		{Status: Fail, Name: "x", Found: "Broken."},
	}
	var plain, colour, doc bytes.Buffer
	if err := Print(&plain, results, false); err != nil {
		t.Fatal(err)
	}
	want := `OK    one      It is fine.
warn  another  It is not.
               → Do this.
FAIL  x        Broken.

1 fine, 1 to look at, 1 broken
`
	if plain.String() != want {
		t.Errorf("got\n%s\nwant\n%s", plain.String(), want)
	}
	if err := Print(&colour, results, true); err != nil || !strings.Contains(colour.String(), "\x1b[31;1mFAIL\x1b[0m  x ") {
		t.Errorf("got %q, %v", colour.String(), err)
	}
	if err := JSON(&doc, results); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Status string
		Checks []struct{ Check, Status, Found, Do string }
	}
	if err := json.Unmarshal(doc.Bytes(), &got); err != nil || got.Status != "fail" || len(got.Checks) != 3 || got.Checks[1].Check != "another" || got.Checks[1].Do != "Do this." {
		t.Errorf("got %+v, %v", got, err)
	}
}

func no(context.Context) bool  { return false }
func yes(context.Context) bool { return true }

func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, c := range []struct {
		name string
		look func(context.Context) Result
		want Status
		says string
	}{
		{"free TCP", TCPPort("127.0.0.1:0", no), OK, "is free"},
		{"TCP of another", TCPPort(l.Addr().String(), no), Fail, "another program"},
		{"TCP of ours", TCPPort(l.Addr().String(), yes), OK, "a Fenrir"},
		{"no address of ours", TCPPort("192.0.2.1:0", no), Fail, "cannot be opened"},
		{"free UDP", UDP("127.0.0.1:0", no), OK, "datagrams arrive on 127.0.0.1"},
		{"UDP everywhere", UDP(":0", no), OK, "127.0.0.1"},
		{"UDP of another", UDP(u.LocalAddr().String(), no), Fail, "another program"},
		{"UDP of ours", UDP(u.LocalAddr().String(), yes), OK, "cannot be tried"},
	} {
		if r := c.look(t.Context()); r.Status != c.want || !strings.Contains(r.Found, c.says) || r.Status != OK && r.Do == "" {
			t.Errorf("%s: got %+v, want %v with %q and what to do", c.name, r, c.want, c.says)
		}
	}
}

// made writes a certificate for a name and a term.
func made(t *testing.T, name string, from, to time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCertificates(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	good := made(t, "play.example.org", now.Add(-day), now.Add(90*day))
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file string
		self       bool
		names      []string
		want       Status
		says       string
	}{
		{"good", good, false, []string{"play.example.org"}, OK, "2027-04-01"},
		{"of another name", good, false, []string{"play.example.org", "other.example.org"}, Warn, "not for other.example.org"},
		{"self-signed", good, true, nil, Warn, "self-signed"},
		{"not yet made", "/nonexistent/cert.pem", true, nil, Warn, "made at the first start"},
		{"missing", "/nonexistent/cert.pem", false, nil, Fail, "cannot be read"},
		{"no certificate", text, false, nil, Fail, "holds no PEM"},
		{"over", made(t, "x", now.Add(-90*day), now.Add(-day)), false, nil, Fail, "ended on 2026-12-31"},
		{"nearly over", made(t, "x", now.Add(-90*day), now.Add(3*day)), false, nil, Warn, "ends on 2027-01-04"},
		{"not good yet", made(t, "x", now.Add(day), now.Add(90*day)), false, nil, Fail, "not good before"},
	} {
		r := Certificate(c.file, c.self, c.names, func() time.Time { return now })(t.Context())
		if r.Status != c.want || !strings.Contains(r.Found, c.says) || r.Status != OK && r.Do == "" {
			t.Errorf("%s: got %+v, want %v with %q and what to do", c.name, r, c.want, c.says)
		}
	}
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Status{dir: OK, filepath.Join(dir, "not", "yet"): OK, file: Fail, filepath.Join(file, "below"): Fail, "/proc/fenrir": Fail} {
		if r := Folder(path)(t.Context()); r.Status != want && !(want == OK && strings.Contains(r.Found, "can be written")) {
			t.Errorf("%s: got %+v, want %v", path, r, want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".fenrir*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFonts(t *testing.T) {
	dir := t.TempDir()
	if r := Fonts([]string{dir, "/nonexistent"})(t.Context()); r.Status != Warn || r.Do == "" {
		t.Errorf("without fonts: %+v", r)
	}
	for _, name := range []string{"a.ttf", "b.pcf.gz", "README"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := Fonts([]string{dir})(t.Context()); r.Status != OK || !strings.HasPrefix(r.Found, "2 ") {
		t.Errorf("with two: %+v", r)
	}
}

// TestOfThisMachine runs what depends on the machine: each has to say something,
// and something to do unless all is well.
func TestOfThisMachine(t *testing.T) {
	for name, look := range map[string]func(context.Context) Result{
		"shared memory": SharedMemory(8), "limits": Limits(8), "clock": Clock, "control groups": ControlGroups, "namespaces": Namespaces,
		"X server": Xvfb, "sound server": Sound,
	} {
		r := look(t.Context())
		t.Logf("%s: %v: %s", name, r.Status, r.Found)
		if r.Found == "" || r.Status == Fail && r.Do == "" {
			t.Errorf("%s: %+v says too little", name, r)
		}
	}
	if r := SharedMemory(1 << 20)(t.Context()); r.Status != Warn {
		t.Errorf("a million sessions fit into /dev/shm: %+v", r)
	}
	if r := Limits(1 << 40)(t.Context()); r.Status != Warn && !strings.Contains(r.Found, "unlimited open files") {
		t.Errorf("a million million sessions fit into the limits: %+v", r)
	}
}
