//go:build cgo

package pipeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"

	"fenrir/media"
	"fenrir/media/worker"
	"fenrir/media/x11"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "media-worker":
			os.Exit(Main(os.NewFile(3, "parent")))
		case "media-probe":
			os.Exit(ProbeMain(os.Args[2:], os.Stdout))
		}
	}
	os.Exit(m.Run())
}

// servers are the X servers that run, by display name.
var servers sync.Map

// killServer ends a display's X server.
func killServer(t testing.TB, d media.Display) {
	t.Helper()
	p, ok := servers.Load(d.Name)
	if !ok {
		t.Fatal("no X server of that name")
	}
	if err := p.(*os.Process).Kill(); err != nil {
		t.Fatal(err)
	}
}

// xvfb starts an X server with its framebuffer in a file and the size that
// production uses, and gives its screen the size wanted.
func xvfb(t testing.TB, width, height int, options ...string) media.Display {
	t.Helper()
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	options = append(options, "-displayfd", "3", "-screen", "0", "3840x2160x24", "-fbdir", dir, "-nolisten", "tcp", "-noreset", "-s", "0")
	cmd := exec.Command("Xvfb", options...)
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may be dead already
		_ = cmd.Wait()         // killed
	})
	_ = w.Close() // Xvfb's
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal("Xvfb says no display number:", err)
	}
	d := media.Display{Name: ":" + strings.TrimSpace(line), Framebuffer: filepath.Join(dir, "Xvfb_screen0"), Width: width, Height: height}
	servers.Store(d.Name, cmd.Process)
	t.Cleanup(func() { servers.Delete(d.Name) })
	c := dial(t, d)
	if err := x11.SetSize(context.Background(), c, width, height); err != nil {
		t.Fatal(err)
	}
	return d
}

func dial(t testing.TB, d media.Display) *x11.Conn {
	t.Helper()
	c, err := x11.Dial(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// brush draws on a display.
type brush struct {
	t    testing.TB
	c    *x11.Conn
	win  xproto.Window
	gc   xproto.Gcontext
	w, h int
}

func newBrush(t testing.TB, d media.Display) *brush {
	t.Helper()
	b := &brush{t: t, c: dial(t, d), w: 3840, h: 2160}
	var err error
	if b.win, err = xproto.NewWindowId(b.c.X); err != nil {
		t.Fatal(err)
	}
	if b.gc, err = xproto.NewGcontextId(b.c.X); err != nil {
		t.Fatal(err)
	}
	xproto.CreateWindow(b.c.X, 0, b.win, b.c.Root(), 0, 0, uint16(b.w), uint16(b.h), 0, xproto.WindowClassInputOutput, 0,
		xproto.CwBackPixel|xproto.CwOverrideRedirect, []uint32{0x204060, 1})
	xproto.CreateGC(b.c.X, b.gc, xproto.Drawable(b.win), 0, nil)
	xproto.MapWindow(b.c.X, b.win)
	b.sync()
	return b
}

// sync waits until the X server has drawn everything.
func (b *brush) sync() {
	b.t.Helper()
	if _, err := x11.Reply(context.Background(), b.c, xproto.GetInputFocus(b.c.X)); err != nil {
		b.t.Fatal(err)
	}
}

// fill paints a rectangle.
func (b *brush) fill(rgb uint32, x, y, w, h int) {
	xproto.ChangeGC(b.c.X, b.gc, xproto.GcForeground, []uint32{rgb})
	xproto.PolyFillRectangle(b.c.X, xproto.Drawable(b.win), b.gc, []xproto.Rectangle{{X: int16(x), Y: int16(y), Width: uint16(w), Height: uint16(h)}})
}

// arrivals is a sink that keeps what it gets.
type arrivals struct {
	mu      sync.Mutex
	video   []media.Unit
	audio   []media.Unit
	reports []media.Report
	news    chan struct{}
	over    chan struct{} // closed when Run has returned
	err     error
}

func (r *arrivals) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *arrivals) Unit(u media.Unit) {
	r.mu.Lock()
	if u.Kind == media.Video {
		r.video = append(r.video, u)
	} else {
		r.audio = append(r.audio, u)
	}
	r.mu.Unlock()
	r.wake()
}

func (r *arrivals) Report(m media.Report) {
	r.mu.Lock()
	r.reports = append(r.reports, m)
	r.mu.Unlock()
	r.wake()
}

// until waits until what arrived fulfils cond, which is called with mu held.
func (r *arrivals) until(t testing.TB, bound time.Duration, what string, cond func() bool) {
	t.Helper()
	limit := time.After(bound)
	for {
		r.mu.Lock()
		ok := cond()
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.news:
		case <-r.over:
			t.Fatalf("waiting for %s: the worker ended: %v", what, r.err)
		case <-limit:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("no %s within %v; %d video units, %d audio units, reports %+v", what, bound, len(r.video), len(r.audio), r.reports[max(0, len(r.reports)-3):])
		}
	}
}

// begin runs a worker, a process of its own, until the test is over.
func begin(t testing.TB, spec media.Spec) (*arrivals, chan<- media.Order) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &arrivals{news: make(chan struct{}, 1), over: make(chan struct{})}
	orders := make(chan media.Order)
	p := &worker.Process{
		Exe: "/proc/self/exe", Args: []string{"media-worker"},
		Spec: func(context.Context) (media.Spec, error) { return spec, nil },
		Log:  slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	go func() {
		defer close(r.over)
		r.err = p.Run(ctx, orders, r)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.over
		if r.err != nil && !errors.Is(r.err, worker.ErrDied) {
			t.Log("worker:", r.err)
		}
	})
	return r, orders
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "DATA RACE") {
		l.t.Error("the race detector found something in the worker")
	}
	fmt.Fprint(os.Stderr, l.t.Name(), " ", string(p))
	return len(p), nil
}

func videoSpec(d media.Display, encoder string, codec media.Codec) media.Spec {
	return media.Spec{Session: "test", Display: d, Video: &media.VideoSpec{Encoder: encoder, Codec: codec, FPS: 60, Kbps: 8000}}
}
