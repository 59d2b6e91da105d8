package environ

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestDefaults(t *testing.T) {
	e := New([]string{"PATH=/x", "LANG=de_DE.UTF-8", "HOME=/root", "LC_ALL=", "GOGC=50", "=x"}, "s")
	e.Add("A=1", "broken", "B=\x00", "=c", "A=2")
	want := Vars{
		"PATH": "/x:" + Games, "LANG": "de_DE.UTF-8", "LC_ALL": "", "SHELL": "/bin/sh", "FENRIR_SESSION": "s", "A": "2",
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
		if got, err := LookUp(name, path, dir); got != want || err != nil {
			t.Errorf("%s: got %s %v, want %s", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"plain": "permission denied", "./plain": "permission denied", "no": "command not found"} {
		if got, err := LookUp(name, path, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %s %v, want %s", name, got, err, want)
		}
	}
}
