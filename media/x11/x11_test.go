package x11

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/damage"
	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/xproto"
	"go.uber.org/goleak"

	"fenrir/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// xvfb starts an X server of the test's own, which only takes its cookie.
func xvfb(t *testing.T) (media.Display, *os.Process) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Xvfb")
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	cookie := hex.EncodeToString(secret[:])
	content, err := AuthorityEntry(cookie)
	if err != nil {
		t.Fatal(err)
	}
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Servers that choose their own number and start together can choose the same.
	number := ":" + strconv.Itoa(32000+mathrand.IntN(20000))
	cmd := exec.Command("Xvfb", number, "-displayfd", "3", "-screen", "0", "640x480x24", "-auth", auth, "-nolisten", "tcp", "-noreset")
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb does not start: %v", err)
	}
	return media.Display{Name: ":" + strings.TrimSpace(line), Cookie: cookie, Authority: auth}, cmd.Process
}

func dialTest(t *testing.T, d media.Display) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within fails the test when f takes longer than d.
func within(t *testing.T, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s still blocks after %v", what, d)
	}
}

func focus(x *xgb.Conn) (*xproto.GetInputFocusReply, error) { return xproto.GetInputFocus(x).Reply() }

func TestDialTakesCookieOrAuthority(t *testing.T) {
	d, _ := xvfb(t)
	for name, c := range map[string]struct {
		display media.Display
		ok      bool
	}{
		"cookie":        {media.Display{Name: d.Name, Cookie: d.Cookie}, true},
		"authority":     {media.Display{Name: d.Name, Authority: d.Authority}, true},
		"socket path":   {media.Display{Name: "/tmp/.X11-unix/X" + d.Name[1:], Cookie: d.Cookie}, true},
		"screen":        {media.Display{Name: "unix" + d.Name + ".0", Cookie: d.Cookie}, true},
		"wrong cookie":  {media.Display{Name: d.Name, Cookie: strings.Repeat("00", 16)}, false},
		"broken cookie": {media.Display{Name: d.Name, Cookie: "zz"}, false},
		"no file":       {media.Display{Name: d.Name, Authority: "/nonexistent"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := Dial(t.Context(), c.display)
			if (err == nil) != c.ok {
				t.Fatalf("got error %v, want success %v", err, c.ok)
			}
			if err != nil {
				if c.display.Cookie != "" && strings.Contains(err.Error(), c.display.Cookie) {
					t.Fatalf("error shows the cookie: %v", err)
				}
				return
			}
			defer conn.Close()
			if _, err := Do(t.Context(), conn, focus); err != nil {
				t.Fatal(err)
			}
			if got := conn.Screen().WidthInPixels; got != 640 {
				t.Fatalf("got width %d, want 640", got)
			}
		})
	}
}

func TestExtensionsBelongToTheConnection(t *testing.T) {
	d, _ := xvfb(t)
	c := dialTest(t, d)
	ctx := t.Context()
	if err := c.Use(ctx, "RANDR", "DAMAGE"); err != nil {
		t.Fatal(err)
	}
	if err := c.Use(ctx, "NO-SUCH-THING"); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("got %v, want ErrUnsupported", err)
	}
	// An error of an extension comes back with its own type.
	_, err := Do(ctx, c, func(x *xgb.Conn) (*randr.GetOutputInfoReply, error) {
		return randr.GetOutputInfo(x, 1, 0).Reply()
	})
	if _, ok := err.(randr.BadOutputError); !ok {
		t.Fatalf("got %T %v, want BadOutputError", err, err)
	}
	// An event of an extension as well.
	if _, err := Do(ctx, c, func(x *xgb.Conn) (*damage.QueryVersionReply, error) {
		return damage.QueryVersion(x, 1, 1).Reply()
	}); err != nil {
		t.Fatal(err)
	}
	id, err := damage.NewDamageId(c.X)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(ctx, c, damage.CreateChecked(c.X, id, xproto.Drawable(c.Root()), damage.ReportLevelNonEmpty)); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "damage event", func() {
		ev, err := c.Next(ctx)
		if _, ok := ev.(damage.NotifyEvent); !ok {
			t.Errorf("got %T %v, want damage.NotifyEvent", ev, err)
		}
	})
	// A connection that did not ask for the extension gets a general error
	// instead of waiting for ever.
	c2 := dialTest(t, d)
	op := c.X.Extensions["RANDR"]
	cookie := c2.X.NewCookie(true, true)
	_, err = Do(ctx, c2, func(x *xgb.Conn) ([]byte, error) {
		x.NewRequest([]byte{op, 9, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0}, cookie)
		return cookie.Reply()
	})
	if _, ok := err.(unknownError); !ok {
		t.Fatalf("got %T %v, want unknownError", err, err)
	}
}

func TestCallsEndWhenServerHangs(t *testing.T) {
	d, p := xvfb(t)
	c := dialTest(t, d)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	within(t, time.Second, "Do with ended context", func() {
		time.AfterFunc(50*time.Millisecond, func() { cancel(left) })
		if _, err := Do(ctx, c, focus); !errors.Is(err, left) {
			t.Errorf("got %v, want the cause", err)
		}
	})
	within(t, ReplyBound+time.Second, "Do", func() {
		if _, err := Do(t.Context(), c, focus); !errors.Is(err, ErrHung) {
			t.Errorf("got %v, want ErrHung", err)
		}
	})
	within(t, time.Second, "Next", func() {
		if _, err := c.Next(t.Context()); !errors.Is(err, ErrHung) {
			t.Errorf("got %v, want ErrHung", err)
		}
	})
	within(t, DialBound+time.Second, "Dial", func() {
		if _, err := Dial(t.Context(), d); !errors.Is(err, ErrHung) {
			t.Errorf("got %v, want ErrHung", err)
		}
	})
}

func TestWritesEndWhenServerHangs(t *testing.T) {
	d, p := xvfb(t)
	c := dialTest(t, d)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	within(t, WriteBound+2*time.Second, "unchecked requests", func() {
		buf := make([]byte, 4000)
		for c.Err() == nil { // until the socket is full and the bound has passed
			xproto.ChangeProperty(c.X, xproto.PropModeReplace, c.Root(), xproto.AtomWmName, xproto.AtomString, 8, uint32(len(buf)), buf)
		}
	})
	if err := c.Err(); !errors.Is(err, ErrHung) {
		t.Fatalf("got %v, want ErrHung", err)
	}
}

func TestEveryEndReleasesCalls(t *testing.T) {
	d, p := xvfb(t)
	for name, end := range map[string]func(*Conn, context.CancelFunc){
		"Close":  func(c *Conn, _ context.CancelFunc) { c.Close(); c.Close() },
		"cancel": func(_ *Conn, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c, err := Dial(ctx, d)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := p.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Signal(syscall.SIGCONT) }()
			raw := xproto.GetInputFocus(c.X)
			errs := make(chan error, 3)
			go func() { _, err := raw.Reply(); errs <- err }()
			go func() { _, err := c.Next(context.Background()); errs <- err }()
			go func() { _, err := Do(context.Background(), c, focus); errs <- err }()
			end(c, cancel)
			for range cap(errs) {
				select {
				case err := <-errs:
					if err == nil {
						t.Error("a call succeeded on a closed connection")
					}
				case <-time.After(time.Second):
					t.Fatal("a call still blocks")
				}
			}
			if err := c.Err(); !errors.Is(err, ErrClosed) {
				t.Fatalf("got %v, want ErrClosed", err)
			}
		})
	}
}

func TestServerDies(t *testing.T) {
	d, p := xvfb(t)
	c := dialTest(t, d)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "Next", func() {
		if _, err := c.Next(t.Context()); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want EOF", err)
		}
	})
	n, _ := strconv.Atoi(d.Name[1:])
	_ = os.Remove("/tmp/.X11-unix/X" + strconv.Itoa(n)) // left by a killed server
	_ = os.Remove("/tmp/.X" + strconv.Itoa(n) + "-lock")
}

func TestSlowReaderOfEventsIsTold(t *testing.T) {
	d, _ := xvfb(t)
	c := dialTest(t, d)
	ctx := t.Context()
	if err := Check(ctx, c, xproto.ChangeWindowAttributesChecked(c.X, c.Root(), xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange})); err != nil {
		t.Fatal(err)
	}
	const changes = 3 * ringSize
	for range changes {
		xproto.ChangeProperty(c.X, xproto.PropModeReplace, c.Root(), xproto.AtomWmName, xproto.AtomString, 8, 1, []byte("x"))
	}
	if _, err := Do(ctx, c, focus); err != nil { // answers overtake unread events
		t.Fatal(err)
	}
	if _, err := c.Poll(); !errors.Is(err, ErrEventsLost) {
		t.Fatalf("got %v, want ErrEventsLost", err)
	}
	n := 0
	for {
		ev, err := c.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if ev == nil {
			break
		}
		n++
	}
	if n == 0 || n > ringSize {
		t.Fatalf("got %d events after the gap, want 1…%d", n, ringSize)
	}
}

// babbler accepts one connection, makes the handshake and then sends what it was given.
func babbler(t *testing.T, setup, then []byte) media.Display {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write(setup)
		_, _ = conn.Write(then)
		_, _ = io.Copy(io.Discard, conn)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return media.Display{Name: path, Cookie: strings.Repeat("ab", 16)}
}

func goodSetup(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/setup.bin") // what Xvfb of Debian 12 answers at 640×480
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBabblingServer(t *testing.T) {
	packet := func(kind byte, seq uint16, length uint32) []byte {
		b := make([]byte, 32)
		b[0] = kind
		binary.LittleEndian.PutUint16(b[2:], seq)
		binary.LittleEndian.PutUint32(b[4:], length)
		return b
	}
	for name, then := range map[string][]byte{
		"answer to nothing":       packet(1, 1, 0),
		"error for nothing":       packet(0, 7, 0),
		"answer of gigabytes":     packet(1, 0, 1<<30),
		"event of gigabytes":      packet(35, 0, 1<<30),
		"noise":                   []byte(strings.Repeat("\x01noise", 100)),
		"events of no known kind": append([]byte(strings.Repeat("\x7f", 3200)), packet(1, 1, 0)...),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTest(t, babbler(t, goodSetup(t), then))
			within(t, 5*time.Second, "Next", func() {
				for {
					ev, err := c.Next(t.Context())
					if ev != nil {
						continue
					}
					if !errors.Is(err, ErrProtocol) {
						t.Errorf("got %v, want ErrProtocol", err)
					}
					return
				}
			})
		})
	}
	for name, setup := range map[string][]byte{
		"no screen": func() []byte { b := goodSetup(t); b[28] = 0; return b }(),
		"too short": {1, 0, 11, 0, 0, 0, 0, 0},
		"version":   append([]byte{1, 0, 12, 0, 0, 0, 8, 0}, make([]byte, 32)...),
		"lying":     append([]byte{1, 0, 11, 0, 0, 0, 8, 0}, []byte(strings.Repeat("\xff", 32))...),
		"refusal":   []byte("\x00\x04\x0b\x00\x00\x00\x01\x00nope"),
	} {
		t.Run("setup: "+name, func(t *testing.T) {
			within(t, 5*time.Second, "Dial", func() {
				c, err := Dial(t.Context(), babbler(t, setup, nil))
				if err == nil {
					c.Close()
					t.Error("handshake succeeded")
				}
			})
		})
	}
}

func TestParseName(t *testing.T) {
	for name, want := range map[string]address{
		":7":         {number: 7},
		":7.0":       {number: 7},
		"unix:3":     {number: 3},
		"pc:10":      {host: "pc", number: 10},
		"[::1]:1.2":  {host: "::1", number: 1},
		"tcp/h:0":    {host: "h"},
		"/tmp/x/s:0": {path: "/tmp/x/s:0"},
	} {
		got, err := parseName(name)
		if err != nil || got != want {
			t.Errorf("%q: got %+v %v, want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "7", ":", ":x", ":-1", ":99999", "host"} {
		if got, err := parseName(name); err == nil {
			t.Errorf("%q: got %+v, want an error", name, got)
		}
	}
}

func FuzzAuthority(f *testing.F) {
	seed, err := AuthorityEntry(strings.Repeat("ab", 16))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(append(seed, 1, 0, 0, 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries := parseAuthority(b)
		if got := choose(entries, "0", netip.Addr{}, "h"); got != nil && len(got) != 16 {
			t.Fatalf("got a cookie of %d bytes", len(got))
		}
	})
}
