package tree

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3"
	got, err := parseStat([]byte(line))
	want := Process{ID{42, 987654}, 7, 42, 40, 'S', "a) b (c"}
	if err != nil || got != want {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1", "1 (a", ") 1 (", "x (a) S 1 1 1", "1 (a) S 1"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
	me, err := Read(os.Getpid())
	if err != nil || me.Parent != os.Getppid() || !me.Alive() {
		t.Errorf("this process: got %+v %v", me, err)
	}
	if (ID{os.Getpid(), me.Start + 1}).Alive() {
		t.Error("a process with another start is taken for this one")
	}
}

func TestChildren(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	has := func() bool {
		pids, err := Children(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(pids, cmd.Process.Pid)
	}
	if !has() {
		t.Error("a running child is not among the children")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if has() {
		t.Error("a reaped child is among the children")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStat(b); err == nil && p.State == 0 {
			t.Fatal("a process without a state")
		}
	})
}

// Files of every length come whole: shorter than the room for them, longer, and
// longer than what the kernel gives at once.
func TestReadFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 63, 64, 65, 2047, 2048, 4096, 100000} {
		want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		if err := os.WriteFile(file, want, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, room := range []int{0, 64, 4096} {
			if got, err := ReadFile(file, make([]byte, room)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes with room for %d: %d bytes, %v", size, room, len(got), err)
			}
		}
	}
	for _, name := range []string{"/proc/self/maps", "/proc/self/status", "/proc/filesystems"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(name, nil)
		if err != nil || bytes.Count(got, []byte{'\n'}) != bytes.Count(want, []byte{'\n'}) {
			t.Errorf("%s: %d bytes, not %d; %v", name, len(got), len(want), err)
		}
	}
	if _, err := ReadFile("/proc/0/stat", nil); !errors.Is(err, os.ErrNotExist) {
		t.Error("a file that is not there:", err)
	}
}
