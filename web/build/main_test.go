package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The server embeds dist as it is committed, so it has to be what src makes.
// Run it with -count=1: the test cache does not see the sources.
func TestDistIsWhatTheSourcesBuild(t *testing.T) {
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	want, err := bundlePage(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	dist := filepath.Join(dir, "dist")
	err = filepath.WalkDir(dist, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dist, path)
		if err != nil {
			return err
		}
		got[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const hint = "run `go generate ./web` and commit web/dist"
	for name, content := range want {
		switch found, ok := got[name]; {
		case !ok:
			t.Errorf("dist/%s is missing: %s", name, hint)
		case !bytes.Equal(found, content):
			t.Errorf("dist/%s differs from what the sources build: %s", name, hint)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("dist/%s is left over: %s", name, hint)
		}
	}
}

func TestABrokenSourceIsNamed(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"src/index.html":         "{{app.js}}{{theme.js}}{{app.css}}",
		"src/ui/main.ts":         "import './missing';",
		"src/ui/theme-early.ts":  "",
		"src/ui/css/app.css":     "",
		"src/static/.keep":       "",
		"test/one.test.ts":       "const = 1",
		"test/not-a-test.txt":    "",
		"src/core/something.ts":  "",
		"src/core/else/other.ts": "",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bundlePage(dir); err == nil || !bytes.Contains([]byte(err.Error()), []byte("main.ts:1:7")) {
		t.Errorf("bundlePage: %v, want the place of the broken import", err)
	}
	if err := bundleTests(dir, filepath.Join(dir, "out")); err == nil || !bytes.Contains([]byte(err.Error()), []byte("one.test.ts:1:6")) {
		t.Errorf("bundleTests: %v, want the place of the syntax error", err)
	}
}
