package xwin

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/jezek/xgb/xproto"
)

func TestDisplayNames(t *testing.T) {
	for name, want := range map[string]struct {
		network, address string
		number           int
	}{
		":7":           {"unix", "/tmp/.X11-unix/X7", 7},
		":7.0":         {"unix", "/tmp/.X11-unix/X7", 7},
		"unix:12":      {"unix", "/tmp/.X11-unix/X12", 12},
		"box:1.2":      {"tcp", "box:6001", 1},
		"/tmp/x/org:0": {"unix", "/tmp/x/org:0", 0},
	} {
		network, address, number, err := endpoint(name)
		if err != nil || network != want.network || address != want.address || number != want.number {
			t.Errorf("endpoint(%q) = %s %s %d, %v, want %v", name, network, address, number, err, want)
		}
	}
	for _, name := range []string{"", "7", ":", ":x", ":-1"} {
		if _, _, _, err := endpoint(name); err == nil {
			t.Errorf("endpoint(%q) is no error", name)
		}
	}
}

// authority is an Xauthority file of entries: family, address, number, name, data.
func authority(entries ...[5]string) []byte {
	var b []byte
	for _, e := range entries {
		b = append(b, e[0]...)
		for _, f := range e[1:] {
			b = binary.BigEndian.AppendUint16(b, uint16(len(f)))
			b = append(b, f...)
		}
	}
	return b
}

func TestCookieOfTheDisplay(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const local, wild, internet = "\x01\x00", "\xff\xff", "\x00\x00"
	file := filepath.Join(t.TempDir(), "auth")
	err = os.WriteFile(file, authority(
		[5]string{internet, host, "5", cookieName, "no: wrong family"},
		[5]string{local, "elsewhere", "5", cookieName, "no, another host"},
		[5]string{local, host, "4", cookieName, "no,other display"},
		[5]string{local, host, "5", "XDM-AUTH", "no, another kind"},
		[5]string{local, host, "5", cookieName, "too short"},
		[5]string{local, host, "5", cookieName, "this is cookie 5"},
		[5]string{wild, "", "", cookieName, "and this any one"},
	), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range map[int]string{5: "this is cookie 5", 4: "no,other display", 9: "and this any one"} {
		if got := string(cookie(file, number)); got != want {
			t.Errorf("cookie of :%d is %q, want %q", number, got, want)
		}
	}
	if got := cookie(filepath.Join(t.TempDir(), "none"), 5); got != nil {
		t.Errorf("a file that is not there has the cookie %q", got)
	}
}

func FuzzCookie(f *testing.F) {
	f.Add(authority([5]string{"\xff\xff", "", "5", cookieName, "0123456789abcdef"}))
	f.Add([]byte("\xff\xff\xff\xff"))
	file := filepath.Join(f.TempDir(), "auth")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if c := cookie(file, 5); c != nil && len(c) != 16 {
			t.Errorf("cookie of %d bytes", len(c))
		}
	})
}

// served is a stream that has got what the server sent after the handshake.
func served(b []byte) *stream {
	return &stream{r: bufio.NewReader(bytes.NewReader(b)), begun: true, xkb: 85, xi: 131}
}

// rawMotion is an XI_RawMotion event by dx, dy in 32.32 fixed point.
func rawMotion(dx, dy int64) []byte {
	b := make([]byte, 32, 72)
	b[0], b[1] = 35, 131
	le := binary.LittleEndian
	le.PutUint32(b[4:], 9)
	le.PutUint16(b[8:], 17)
	le.PutUint32(b[12:], 4711)
	le.PutUint16(b[22:], 1)
	b = le.AppendUint32(b, 3)
	for _, v := range []int64{dx, dy, dx, dy} {
		b = le.AppendUint32(b, uint32(v>>32))
		b = le.AppendUint32(b, uint32(v))
	}
	return b
}

func TestStreamMakesEventsThatXgbCanRead(t *testing.T) {
	key := make([]byte, 32)
	key[0] = xproto.KeyPress
	other := make([]byte, 40)
	other[0], other[1], other[4] = 35, 99, 2
	xkb := make([]byte, 32)
	xkb[0] = 85
	reply := make([]byte, 44)
	reply[0], reply[4], reply[40] = 1, 3, 77
	in := bytes.Join([][]byte{key, rawMotion(-3<<32-1<<31, 5<<32), other, xkb, reply, key}, nil)
	out, err := io.ReadAll(served(in))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(out), 32+32+32+44+32; got != want {
		t.Fatalf("got %d bytes, want %d", got, want)
	}
	motion, ok := AsRawMotion(xproto.ClientMessageEventNew(out[32:64]))
	if want := (RawMotion{DX: -3.5, DY: 5, Time: 4711}); !ok || motion != want {
		t.Errorf("raw motion is %+v, %t, want %+v", motion, ok, want)
	}
	if out[64] != xproto.MappingNotify {
		t.Errorf("the event of XKB became %d, want MappingNotify", out[64])
	}
	if !bytes.Equal(out[96:140], reply) {
		t.Error("the reply was changed")
	}
	if _, ok := AsRawMotion(xproto.KeyPressEventNew(key)); ok {
		t.Error("a key press was taken for raw motion")
	}
}

func FuzzStream(f *testing.F) {
	f.Add(rawMotion(1<<32, 0))
	f.Add([]byte{35, 131, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		out, _ := io.ReadAll(served(b)) // must end, and not panic
		if len(out) > len(b)+32 {
			t.Errorf("%d bytes became %d", len(b), len(out))
		}
	})
}
