package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/media/wire"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "child-") {
		os.Exit(misbehave(os.Args[1], os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// record is a sink that keeps what it gets.
type record struct {
	mu      sync.Mutex
	units   []media.Unit
	reports []media.Report
	closed  bool
	late    int
	news    chan struct{}
}

func newRecord() *record { return &record{news: make(chan struct{}, 1)} }

func (r *record) add(f func()) {
	r.mu.Lock()
	if r.closed {
		r.late++
	}
	f()
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *record) Unit(u media.Unit)     { r.add(func() { r.units = append(r.units, u) }) }
func (r *record) Report(m media.Report) { r.add(func() { r.reports = append(r.reports, m) }) }

// until waits until the record fulfils cond.
func (r *record) until(t *testing.T, what string, cond func(r *record) bool) {
	t.Helper()
	bound := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		ok := cond(r)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.news:
		case <-bound:
			t.Fatalf("no %s within 10 s", what)
		}
	}
}

func (r *record) has(k media.ReportKind) bool {
	for _, m := range r.reports {
		if m.Kind == k {
			return true
		}
	}
	return false
}

func ready(r *record) bool { return r.has(media.ReportReady) }

var spec = media.Spec{Session: "test", Video: &media.VideoSpec{Encoder: "x264", Codec: media.H264, FPS: 60, Kbps: 1000}}

func atOnce(context.Context) (media.Spec, error) { return spec, nil }

func process(args ...string) *Process {
	return &Process{Exe: "/proc/self/exe", Args: args, Spec: atOnce}
}

// life is a Run in the background.
type life struct {
	*record
	cancel context.CancelFunc
	orders chan media.Order
	done   chan struct{}
	err    error
}

func begin(t *testing.T, p *Process) *life {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{record: newRecord(), cancel: cancel, orders: make(chan media.Order), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.err = p.Run(ctx, l.orders, l.record)
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
	}()
	t.Cleanup(func() {
		cancel()
		l.wait(t, 10*time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.late > 0 {
			t.Errorf("sink was called %d times after Run had returned", l.late)
		}
	})
	return l
}

func (l *life) wait(t *testing.T, bound time.Duration) error {
	t.Helper()
	select {
	case <-l.done:
		return l.err
	case <-time.After(bound):
		t.Fatalf("Run has not returned within %v", bound)
		return nil
	}
}

func TestUnitsReportsAndOrdersPass(t *testing.T) {
	t.Parallel()
	l := begin(t, process("child-good"))
	l.until(t, "ready", ready)
	l.orders <- media.Order{Kind: media.OrderBitrate, Kbps: 777}
	l.until(t, "answer to the order", func(r *record) bool {
		for _, u := range r.units {
			if string(u.Data) == "bitrate 777" {
				return true
			}
		}
		return false
	})
	l.mu.Lock()
	for _, u := range l.units {
		if age := u.Stages.Received.Sub(u.Stages.Emitted); age < 0 || age > 5*time.Second {
			t.Errorf("received %v after it was emitted", age)
		}
	}
	l.mu.Unlock()
	began := time.Now()
	l.cancel()
	if err := l.wait(t, 3*time.Second); err != nil {
		t.Fatalf("polite end: %v", err)
	}
	if took := time.Since(began); took > StopGrace {
		t.Errorf("polite end took %v", took)
	}
}

func TestStopOrderEndsRun(t *testing.T) {
	t.Parallel()
	l := begin(t, process("child-good"))
	l.until(t, "ready", ready)
	l.orders <- media.Order{Kind: media.OrderStop}
	if err := l.wait(t, 3*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestOrdersBeforeTheSpecArriveAfterIt(t *testing.T) {
	t.Parallel()
	p := process("child-good")
	go4 := make(chan struct{})
	p.Spec = func(ctx context.Context) (media.Spec, error) {
		select {
		case <-go4:
			return spec, nil
		case <-ctx.Done():
			return media.Spec{}, context.Cause(ctx)
		}
	}
	l := begin(t, p)
	for kbps := range 100 {
		l.orders <- media.Order{Kind: media.OrderBitrate, Kbps: kbps}
	}
	close(go4)
	l.until(t, "newest order", func(r *record) bool {
		return len(r.units) > 0 && string(r.units[len(r.units)-1].Data) == "bitrate 99"
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.units) > 2 { // the last one may be put when the one before it was just taken
		t.Errorf("%d orders of one kind were given, want the newest", len(l.units))
	}
}

func TestEndBeforeTheSpec(t *testing.T) {
	t.Parallel()
	p := process("child-good")
	asked := make(chan struct{})
	p.Spec = func(ctx context.Context) (media.Spec, error) {
		close(asked)
		<-ctx.Done()
		return media.Spec{}, context.Cause(ctx)
	}
	l := begin(t, p)
	<-asked
	l.cancel()
	if err := l.wait(t, 3*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestSpecThatFails(t *testing.T) {
	t.Parallel()
	p := process("child-good")
	broken := errors.New("no display")
	p.Spec = func(context.Context) (media.Spec, error) { return media.Spec{}, broken }
	if err := begin(t, p).wait(t, 3*time.Second); !errors.Is(err, broken) {
		t.Fatal(err)
	}
}

func TestNoSuchProgram(t *testing.T) {
	t.Parallel()
	p := &Process{Exe: filepath.Join(t.TempDir(), "none"), Spec: atOnce}
	if err := begin(t, p).wait(t, 3*time.Second); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestNeighboursThatMisbehave runs a child of each bad sort by itself.
func TestNeighboursThatMisbehave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		child string
		want  error
		words string
		bound time.Duration
	}{
		{"child-exit", ErrDied, "exit status 3; its last words: I have had enough", time.Second},
		{"child-crash", ErrDied, "this is a crash", 2 * time.Second},
		{"child-garbage", wire.ErrMalformed, "", time.Second},
		{"child-orders", wire.ErrMalformed, "", time.Second}, // what only a parent may send
		{"child-huge", wire.ErrMalformed, "", time.Second},
		{"child-cut", ErrDied, "", time.Second},
		{"child-never-ready", ErrSilent, "not ready", StartGrace + time.Second},
		{"child-silent", ErrSilent, "no progress", 2 * time.Second},
		{"child-hum", ErrSilent, "no progress", 2 * time.Second}, // sound goes on, the picture does not
		{"child-stopped", ErrSilent, "it is stopped", time.Second},
		{"child-closes", ErrDied, "", time.Second}, // closes the socket and lives on
		{"child-fails", &media.Cause{Code: media.CauseNoEncoder}, "no such thing", time.Second},
		{"child-fails-and-stays", &media.Cause{Code: media.CauseNoEncoder}, "no such thing", 3 * time.Second},
	} {
		t.Run(c.child, func(t *testing.T) {
			t.Parallel()
			pids := filepath.Join(t.TempDir(), "pids")
			l := begin(t, process(c.child, pids))
			began := time.Now()
			err := l.wait(t, 12*time.Second)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.words)
			}
			if took := time.Since(began); took > c.bound+2*time.Second { // a loaded machine is no failure
				t.Errorf("took %v, want less than %v", took, c.bound)
			}
			gone(t, pids)
		})
	}
}

// gone checks that no process of the child's is left.
func gone(t *testing.T, pids string) {
	t.Helper()
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatalf("child did not tell its processes: %v", err)
	}
	for field := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 { // an orphan is reaped by init, a moment later
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(stat), ") Z ") {
				pid = 0
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if pid != 0 {
			t.Errorf("process %d is still there", pid)
		}
	}
}

func TestDeafChildIsKilledOnStop(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	l := begin(t, process("child-deaf", pids))
	l.until(t, "ready", ready)
	began := time.Now()
	l.cancel()
	err := l.wait(t, 8*time.Second)
	if !errors.Is(err, ErrKilled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took < StopGrace || took > StopGrace+2*time.Second {
		t.Errorf("took %v", took)
	}
	gone(t, pids)
}

func TestStoppedChildTakesOrdersWithoutBlockingUs(t *testing.T) {
	t.Parallel()
	l := begin(t, process("child-stopped", filepath.Join(t.TempDir(), "pids")))
	l.until(t, "ready", ready)
	for i := range 5000 {
		select {
		case l.orders <- media.Order{Kind: media.OrderBitrate, Kbps: i}:
		case <-l.done:
			return // found silent, as it should
		case <-time.After(2 * time.Second):
			t.Fatal("an order blocked")
		}
	}
}

func TestGrandchildIsKilledAndDoesNotHoldUs(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	l := begin(t, process("child-parent", pids))
	l.until(t, "ready", ready)
	l.cancel()
	if err := l.wait(t, 5*time.Second); err != nil {
		t.Errorf("got %v", err)
	}
	gone(t, pids)
}

func TestFloodIsEnded(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	l := begin(t, process("child-flood", pids))
	if err := l.wait(t, 5*time.Second); !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), "units a second") {
		t.Fatalf("got %v, want that it floods", err)
	}
	gone(t, pids)
}

// TestChattyChild prints without end; it is neither blocked by it nor is all of
// it kept or logged.
func TestChattyChild(t *testing.T) {
	t.Parallel()
	lines := &counter{}
	p := process("child-chatty")
	p.Log = slog.New(slog.NewTextHandler(lines, nil))
	l := begin(t, p)
	l.until(t, "ready", ready)
	l.cancel()
	if err := l.wait(t, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	lines.mu.Lock()
	defer lines.mu.Unlock()
	if lines.n == 0 || lines.n > 60 {
		t.Errorf("%d lines logged of 10000", lines.n)
	}
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return len(p), nil
}

func TestNoFileDescriptorIsLeft(t *testing.T) {
	// Not parallel: it counts what the process holds.
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	once := func(child string) {
		l := begin(t, process(child, filepath.Join(t.TempDir(), "pids")))
		if child == "child-good" {
			l.until(t, "ready", ready)
			l.cancel()
		}
		_ = l.wait(t, 10*time.Second) // its error is other tests' matter
	}
	once("child-good")
	before := count()
	for range 10 {
		once("child-good")
		once("child-exit")
		once("child-garbage")
	}
	if after := count(); after > before {
		t.Errorf("%d file descriptors before, %d after", before, after)
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Parallel()
	got := environ([]string{
		"HOME=/h", "PATH=/p", "GST_DEBUG=2", "GST_REGISTRY=/r", "LIBVA_DRIVER_NAME=iHD", "CUDA_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=all",
		"FENRIR_TOKEN=secret", "DISPLAY=:0", "XAUTHORITY=/x", "XDG_RUNTIME_DIR=/run", "PULSE_SERVER=/s", "AWS_SECRET_ACCESS_KEY=secret", "DBUS_SESSION_BUS_ADDRESS=x",
	})
	want := "HOME=/h PATH=/p GST_DEBUG=2 GST_REGISTRY=/r LIBVA_DRIVER_NAME=iHD CUDA_VISIBLE_DEVICES=0 NVIDIA_VISIBLE_DEVICES=all"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	began := time.Now()
	got := Probe(context.Background(), "/proc/self/exe", []string{"child-probe"}, log)
	if took := time.Since(began); took > 2*ProbeBound+2*time.Second {
		t.Errorf("took %v", took)
	}
	want := map[string]string{
		"good": "", "absent": "no element", "bad": "it does not", "hung": "no answer within 5s", "crashes": "exit status 2", "babbles": "read answer", "liar": `answered about "good"`,
	}
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d: %+v", len(got), len(want), got)
	}
	for _, e := range got {
		if e.Works != (e.Name == "good") || !strings.Contains(e.Reason, want[e.Name]) || (want[e.Name] == "") != (e.Reason == "") {
			t.Errorf("%+v, want reason %q", e, want[e.Name])
		}
		if e.Name == "hung" && e.TookMs < 4900 {
			t.Errorf("took %d ms", e.TookMs)
		}
	}
}

func TestProbeWithoutAList(t *testing.T) {
	t.Parallel()
	if got := Probe(context.Background(), "/proc/self/exe", []string{"child-exit"}, slog.New(slog.DiscardHandler)); len(got) != 0 {
		t.Fatalf("got %+v", got)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	for _, e := range Probe(ctx, "/proc/self/exe", []string{"child-probe"}, slog.New(slog.DiscardHandler)) {
		if e.Name == "hung" && e.Reason == "" {
			t.Errorf("%+v", e)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func grandchild() (*exec.Cmd, error) {
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

func stopSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }
