package systemd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager listens as a service manager does.
func manager(t *testing.T, env map[string]string) (Manager, *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return New(func(k string) string {
		if k == "NOTIFY_SOCKET" {
			return path
		}
		return env[k]
	}, 42), l
}

func heard(t *testing.T, l *net.UnixConn, within time.Duration) string {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := l.Read(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

func TestWhatTheManagerIsTold(t *testing.T) {
	m, l := manager(t, nil)
	for want, tell := range map[string]func() error{
		"READY=1\nSTATUS=serving here": func() error { return m.Ready("serving\nhere") },
		"STOPPING=1":                   m.Stopping, "WATCHDOG=1": m.Alive,
		"STATUS=well": func() error { return m.Status("well") },
	} {
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		if got := heard(t, l, 5*time.Second); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	if m := New(func(string) string { return "" }, 42); m.Present() || m.Ready("x") != nil {
		t.Error("a manager that is not there was told something")
	}
}

func TestWhoseWatchdog(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want time.Duration
	}{
		{map[string]string{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 30 * time.Second},
		{map[string]string{"WATCHDOG_USEC": "30000000"}, 30 * time.Second},
		{map[string]string{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, 0},
		{map[string]string{"WATCHDOG_USEC": "-5"}, 0},
		{map[string]string{"WATCHDOG_USEC": "soon"}, 0},
		{nil, 0},
	} {
		if m, _ := manager(t, c.env); m.Watchdog != c.want {
			t.Errorf("%v: %v, want %v", c.env, m.Watchdog, c.want)
		}
	}
}

func TestAWedgedServerStopsPettingTheDog(t *testing.T) {
	m, l := manager(t, map[string]string{"WATCHDOG_USEC": "200000"})
	var wedged atomic.Bool
	failing, recovered := make(chan error, 8), make(chan struct{}, 8)
	w := &Watch{
		Manager: m, Failing: func(err error) { failing <- err }, Recovered: func() { recovered <- struct{}{} },
		Check: func(ctx context.Context) error {
			if wedged.Load() {
				<-ctx.Done()
				return errors.New("no answer")
			}
			return nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- w.Run(ctx) }()
	for range 3 {
		if got := heard(t, l, 5*time.Second); got != "WATCHDOG=1" {
			t.Fatalf("heard %q, want a sign of life", got)
		}
	}
	wedged.Store(true)
	select {
	case err := <-failing:
		if err == nil {
			t.Error("failing without an error")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was told that the server answers nobody")
	}
	for heard(t, l, 10*time.Millisecond) != "" { // what was sent before
	}
	if got := heard(t, l, 400*time.Millisecond); got != "" {
		t.Errorf("heard %q of a wedged server", got)
	}
	wedged.Store(false)
	<-recovered
	if got := heard(t, l, 5*time.Second); got != "WATCHDOG=1" {
		t.Errorf("heard %q after it recovered", got)
	}
	if len(failing) != 0 {
		t.Error("failing was told more than once")
	}
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
}
