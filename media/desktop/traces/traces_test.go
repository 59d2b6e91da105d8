package traces

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media/desktop/tree"
)

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

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
	number, err := LockDisplay(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := ReadNotes(dir)
	if !slices.Contains(n.Displays, number) {
		t.Fatalf("got notes %+v, want display %d", n, number)
	}
	if err := RemoveX(n); err != nil || !exists(lockOf(number)) {
		t.Errorf("a lock of somebody else was removed: %v", err)
	}
	n.Processes = []tree.ID{{PID: os.Getpid()}}
	if err := RemoveX(n); err != nil || exists(lockOf(number)) {
		t.Errorf("the lock was not removed: %v", err)
	}
}

func TestReapOfAnotherBoot(t *testing.T) {
	root := t.TempDir()
	me, err := tree.Self()
	if err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for name, o := range map[string]Owner{
		"old":   {Session: "old", Server: me, Boot: "another"},
		"liar":  {Session: "liar", Server: me, Boot: "another", Framebuffer: outside},
		"alive": {Session: "alive", Server: me},
	} {
		if o.Boot == "" {
			if o.Boot, err = BootID(); err != nil {
				t.Fatal(err)
			}
		}
		if err := Make(filepath.Join(root, name), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"foreign", "young.new", "aged.new"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	hour := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(root, "aged.new"), hour, hour); err != nil {
		t.Fatal(err)
	}
	n, err := Reap(t.Context(), root, time.Second, slog.New(slog.DiscardHandler))
	if n != 3 || err != nil {
		t.Errorf("got %d, %v, want 3", n, err)
	}
	left, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if got, want := fmt.Sprint(names), "[alive foreign young.new]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !exists(outside) {
		t.Error("a folder was removed that is no framebuffer")
	}
}

func TestMountsAreNotRemovedThrough(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "a b", "mount")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(outside, at, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("may not mount here: %v", err)
	}
	if err := RemoveTree(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if !exists(precious) || exists(dir) {
		t.Errorf("got outside %v, inside %v, want only the outside", exists(precious), exists(dir))
	}
}
