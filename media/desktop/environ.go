package desktop

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"fenrir/media"
)

// games is where Debian has games, which a service's PATH often lacks.
const games = "/usr/local/games:/usr/games"

// passes tells whether a variable of the server's environment goes on to its
// desktops: what says where things are and which driver to use, nothing that
// could hold a secret.
func passes(name string) bool {
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

// passedOn is the part of an environment that passes.
func passedOn(environ []string) []string {
	var kept []string
	for _, kv := range environ {
		if name, _, ok := strings.Cut(kv, "="); ok && passes(name) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// environment is the variables that one process gets; later ones win.
type environment map[string]string

// newEnvironment starts with what passes of environ, and defaults for the rest
// that every program expects.
func newEnvironment(environ []string, session string) environment {
	e := environment{}
	e.add(passedOn(environ)...)
	e["PATH"] = cmp.Or(e["PATH"], "/usr/local/bin:/usr/bin:/bin") + ":" + games
	if lang := strings.ToLower(cmp.Or(e["LC_ALL"], e["LC_CTYPE"], e["LANG"])); !strings.HasSuffix(lang, "utf-8") && !strings.HasSuffix(lang, "utf8") {
		delete(e, "LC_ALL")
		delete(e, "LC_CTYPE")
		e["LANG"] = "C.UTF-8"
	}
	e["SHELL"] = cmp.Or(e["SHELL"], "/bin/sh")
	e["XDG_DATA_DIRS"] = cmp.Or(e["XDG_DATA_DIRS"], "/usr/local/share:/usr/share")
	e["XDG_CONFIG_DIRS"] = cmp.Or(e["XDG_CONFIG_DIRS"], "/etc/xdg")
	e[marker] = session
	return e
}

func (e environment) add(list ...string) {
	for _, kv := range list {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" && !strings.ContainsRune(kv, 0) {
			e[name] = value
		}
	}
}

func (e environment) list() []string {
	l := make([]string, 0, len(e))
	for name, value := range e {
		l = append(l, name+"="+value)
	}
	slices.Sort(l)
	return l
}

// forProgram is the environment of the program on a desktop.
func forProgram(environ []string, s start, display media.Display, authority string) environment {
	e := newEnvironment(environ, s.Spec.Session)
	name := cmp.Or(s.User, strconv.Itoa(os.Getuid()))
	e.add(
		"HOME="+s.Spec.Home, "USER="+name, "LOGNAME="+name, "PWD="+cmp.Or(s.Spec.Program.Dir, s.Spec.Home),
		"DISPLAY="+display.Name, "XDG_SESSION_TYPE=x11", "XDG_CURRENT_DESKTOP=Fenrir",
		"XDG_RUNTIME_DIR="+filepath.Join(s.Spec.Runtime, "run"), "TMPDIR="+filepath.Join(s.Spec.Runtime, "tmp"),
		"PULSE_SERVER="+soundServer(s.Spec.Runtime),
		// Nobody listens there: else libdbus starts a bus of its own for the
		// display, which outlives the program.
		"DBUS_SESSION_BUS_ADDRESS=unix:path="+filepath.Join(s.Spec.Runtime, "run", "bus"),
	)
	if authority != "" {
		e["XAUTHORITY"] = authority
	}
	e.add(s.Spec.Program.Env...)
	e[marker] = s.Spec.Session // by which it is found again
	return e
}

// lookUp finds an executable as a shell does: in path, or from dir when the name
// has a slash.
func lookUp(name, path, dir string) (string, error) {
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
			return "", fmt.Errorf("%s: %w", name, reason(err))
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
		return "", fmt.Errorf("%s: %w", name, reason(denied))
	}
	return "", fmt.Errorf("%s: command not found", name)
}

// reason is an error without the path that is said already.
func reason(err error) error {
	if p := new(os.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}
