package desktop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fenrir/media"
)

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3"
	got, err := parseStat([]byte(line))
	want := process{identity{42, 987654}, 7, 40, 'S', "a) b (c"}
	if err != nil || got != want {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1", "1 (a", ") 1 (", "x (a) S 1 1 1", "1 (a) S 1"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
	me, err := readProcess(os.Getpid())
	if err != nil || me.parent != os.Getppid() || !me.alive() {
		t.Errorf("this process: got %+v %v", me, err)
	}
	if (identity{os.Getpid(), me.Start + 1}).alive() {
		t.Error("a process with another start is taken for this one")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStat(b); err == nil && p.state == 0 {
			t.Fatal("a process without a state")
		}
	})
}

func FuzzMessages(f *testing.F) {
	o, err := encode(order{Start: &start{Spec: media.DesktopSpec{Session: "s"}}})
	if err != nil {
		f.Fatal(err)
	}
	n, err := encode(news{Event: &media.DesktopEvent{Kind: media.DesktopProgram, PID: 7}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o)
	f.Add(n)
	f.Add([]byte("{\"warn\":\"\\u0000\"}\n\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for s := lines(bytes.NewReader(b)); s.Scan(); {
			m, err := decode[news](s.Bytes())
			if err != nil {
				continue
			}
			line, err := encode(m)
			if err != nil {
				t.Skip("longer than it came: escapes")
			}
			again, err := decode[news](line)
			if err != nil || !reflect.DeepEqual(normal(t, m), normal(t, again)) {
				t.Fatalf("got %+v %v, want %+v", again, err, m)
			}
		}
	})
}

// normal is a message as JSON has it.
func normal(t *testing.T, m news) string {
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMessagesHaveALimit(t *testing.T) {
	if _, err := encode(news{Warn: strings.Repeat("x", maxLine)}); err == nil {
		t.Error("a message without end was made")
	}
	s := lines(strings.NewReader(strings.Repeat("x", maxLine+1)))
	for s.Scan() {
		t.Error("a line without end was read")
	}
	if s.Err() == nil {
		t.Error("a line without end is no error")
	}
}

func TestEnvironmentDefaults(t *testing.T) {
	e := newEnvironment([]string{"PATH=/x", "LANG=de_DE.UTF-8", "HOME=/root", "LC_ALL=", "GOGC=50", "=x"}, "s")
	e.add("A=1", "broken", "B=\x00", "=c", "A=2")
	want := environment{
		"PATH": "/x:" + games, "LANG": "de_DE.UTF-8", "LC_ALL": "", "SHELL": "/bin/sh", "FENRIR_SESSION": "s", "A": "2",
		"XDG_DATA_DIRS": "/usr/local/share:/usr/share", "XDG_CONFIG_DIRS": "/etc/xdg",
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got %v, want %v", e, want)
	}
}

func TestLookUp(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"run": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	path := "relative::/no/such:" + dir
	for name, want := range map[string]string{"run": dir + "/run", "./run": dir + "/run", dir + "/run": dir + "/run"} {
		if got, err := lookUp(name, path, dir); got != want || err != nil {
			t.Errorf("%s: got %s %v, want %s", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"plain": "permission denied", "./plain": "permission denied", "no": "command not found"} {
		if got, err := lookUp(name, path, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %s %v, want %s", name, got, err, want)
		}
	}
}

func TestTail(t *testing.T) {
	w := &tail{max: 10}
	for _, s := range []string{"first\n", "second\n", "third\x01\xff\n"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := w.String(); got != "third" {
		t.Errorf("got %q, want whole lines only", got)
	}
}

func TestOnlyStaleSocketsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stale", "live"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at(name)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if name == "stale" {
			l.SetUnlinkOnClose(false)
			l.Close()
		}
	}
	for _, name := range []string{"missing", "file", "folder", "stale", "live"} {
		if err := removeStale(at(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := filepath.Glob(at("*"))
	if err != nil || len(left) != 3 || exists(at("stale")) {
		t.Errorf("got %v %v, want all but the stale socket", left, err)
	}
}

func TestDisplaysAreLocked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if err := lock(path); err != nil {
		t.Fatal(err)
	}
	if err := lock(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v, want that it exists", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != fmt.Sprintf("%10d\n", os.Getpid()) {
		t.Errorf("got %q %v", b, err)
	}
	number, err := lockDisplay(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := readNotes(dir)
	if !slices.Contains(n.displays, number) {
		t.Fatalf("got notes %+v, want display %d", n, number)
	}
	if err := removeX(n); err != nil || !exists(lockOf(number)) {
		t.Errorf("a lock of somebody else was removed: %v", err)
	}
	n.processes = []identity{{PID: os.Getpid()}}
	if err := removeX(n); err != nil || exists(lockOf(number)) {
		t.Errorf("the lock was not removed: %v", err)
	}
}
