// Package environ makes the environments of a desktop's processes: what passes of
// the server's own, which holds secrets, and what every program expects. It imports
// its sibling tree and the standard library.
package environ

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"fenrir/media/desktop/tree"
)

// Games is where Debian has games, which a service's PATH often lacks.
const Games = "/usr/local/games:/usr/games"

// Passes tells whether a variable of the server's environment goes on to its
// desktops: what says where things are and which driver to use, nothing that
// could hold a secret.
func Passes(name string) bool {
	switch name {
	case "PATH", "LANG", "LANGUAGE", "TZ", "SHELL", "XDG_DATA_DIRS", "XDG_CONFIG_DIRS", "LD_LIBRARY_PATH":
		return true
	}
	for _, prefix := range []string{"LC_", "LIBGL_", "MESA_", "VK_", "NVIDIA_", "__NV_", "__GL", "__EGL_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// PassedOn is the part of an environment that passes.
func PassedOn(environ []string) []string {
	var kept []string
	for _, kv := range environ {
		if name, _, ok := strings.Cut(kv, "="); ok && Passes(name) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// Vars is the variables that one process gets; later ones win.
type Vars map[string]string

// New starts with what passes of environ, and defaults for the rest
// that every program expects.
func New(environ []string, session string) Vars {
	e := Vars{}
	e.Add(PassedOn(environ)...)
	e["PATH"] = cmp.Or(e["PATH"], "/usr/local/bin:/usr/bin:/bin") + ":" + Games
	if lang := strings.ToLower(cmp.Or(e["LC_ALL"], e["LC_CTYPE"], e["LANG"])); !strings.HasSuffix(lang, "utf-8") && !strings.HasSuffix(lang, "utf8") {
		delete(e, "LC_ALL")
		delete(e, "LC_CTYPE")
		e["LANG"] = "C.UTF-8"
	}
	e["SHELL"] = cmp.Or(e["SHELL"], "/bin/sh")
	e["XDG_DATA_DIRS"] = cmp.Or(e["XDG_DATA_DIRS"], "/usr/local/share:/usr/share")
	e["XDG_CONFIG_DIRS"] = cmp.Or(e["XDG_CONFIG_DIRS"], "/etc/xdg")
	e[tree.Marker] = session
	return e
}

// Add sets variables given as NAME=VALUE, and leaves out what is none.
func (e Vars) Add(list ...string) {
	for _, kv := range list {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" && !strings.ContainsRune(kv, 0) {
			e[name] = value
		}
	}
}

// List is the variables as a process is given them.
func (e Vars) List() []string {
	l := make([]string, 0, len(e))
	for name, value := range e {
		l = append(l, name+"="+value)
	}
	slices.Sort(l)
	return l
}

// LookUp finds an executable as a shell does: in path, or from dir when the name
// has a slash.
func LookUp(name, path, dir string) (string, error) {
	executable := func(file string) (there bool, err error) {
		info, err := os.Stat(file)
		switch {
		case err != nil:
			return false, err
		case info.IsDir():
			return false, syscall.EISDIR
		case info.Mode()&0o111 == 0:
			return true, os.ErrPermission
		}
		return true, nil
	}
	if strings.Contains(name, "/") {
		file := name
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if _, err := executable(file); err != nil {
			return "", fmt.Errorf("%s: %w", name, Reason(err))
		}
		return file, nil
	}
	var denied error
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) { // a relative one would mean our own working folder
			continue
		}
		file := filepath.Join(folder, name)
		there, err := executable(file)
		if err == nil {
			return file, nil
		}
		if there {
			denied = err
		}
	}
	if denied != nil {
		return "", fmt.Errorf("%s: %w", name, Reason(denied))
	}
	return "", fmt.Errorf("%s: command not found", name)
}

// Reason is an error without the path that is said already.
func Reason(err error) error {
	if p := new(os.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}
