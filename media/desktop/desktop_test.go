package desktop

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "desktop" {
		syscall.Exit(Main(os.NewFile(3, "parent")))
	}
	goleak.VerifyTestMain(m)
}

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	d := &Desktop{Exe: "/proc/self/exe", Args: []string{"desktop"}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Spec: media.DesktopSpec{
		Session: "s1", Width: 1280, Height: 720, Layout: "de", Runtime: filepath.Join(dir, "r"), Home: filepath.Join(dir, "home"),
		Program: media.Program{Command: []string{"sh", "-c", "env; id; sleep 1; echo done >&2; exit 3"}},
	}}
	begin := time.Now()
	err := d.Run(context.Background(), func(ev media.DesktopEvent) {
		t.Logf("%v %+v %v", time.Since(begin).Round(time.Millisecond), ev, ev.Cause)
		if ev.Cause != nil {
			t.Log(ev.Cause.Output)
		}
	})
	t.Log(time.Since(begin), err)
}
