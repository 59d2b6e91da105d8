package traces

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"fenrir/media/desktop/tree"
)

func TestOrphansAreReapedAndOthersAreNot(t *testing.T) {
	root := t.TempDir()
	me, err := tree.Self()
	if err != nil {
		t.Fatal(err)
	}
	boot, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "1000") // stands for another server that is alive
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }() // it is killed, so Wait says so
	row, err := tree.Read(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for session, owner := range map[string]tree.ID{"s_owned": me, "s_orphan": me, "s_foreign": row.ID} {
		if err := Make(filepath.Join(root, session), Owner{Session: session, Server: owner, Boot: boot}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "s_making"+unfinished), 0o700); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("sleep", "1000")
	left.Env = append(os.Environ(), tree.Marker+"=s_orphan")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- left.Wait() }()

	found, err := ReapOrphans(t.Context(), root, func(s string) bool { return s == "s_owned" }, slog.New(slog.DiscardHandler))
	if err != nil || len(found) != 1 || found[0].Session != "s_orphan" || found[0].Processes != 1 {
		t.Errorf("got %+v, %v; want the orphan with its process", found, err)
	}
	<-gone
	for name, want := range map[string]bool{"s_owned": true, "s_orphan": false, "s_foreign": true, "s_making" + unfinished: true} {
		if got := exists(filepath.Join(root, name)); got != want {
			t.Errorf("%s is there: %t, want %t", name, got, want)
		}
	}
	if found, err := ReapOrphans(t.Context(), root, func(s string) bool { return s == "s_owned" }, slog.New(slog.DiscardHandler)); err != nil || len(found) != 0 {
		t.Errorf("again: %+v, %v; want nothing", found, err)
	}
}
