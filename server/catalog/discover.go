package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"fenrir/media"
)

// Bounds of what is read from the machine.
const (
	maxEntryFile = 256 << 10
	maxEntries   = 5000
	maxDepth     = 5
	maxTitle     = 200 // bytes
)

// desktopName is what OnlyShowIn and NotShowIn are compared with.
const desktopName = "Fenrir"

// discover finds the programs of .desktop files in data folders, the first
// folder winning, and says what it left out that a person might miss.
func discover(ctx context.Context, dataDirs []string, opt Options) ([]App, []Skip) {
	var apps []App
	var skipped []Skip
	seen := map[string]bool{}
	locales := localeKeys(opt.Locale)
	paths := searchPath(opt.Environ)
	for _, dir := range dataDirs {
		root := filepath.Join(dir, "applications")
		for _, file := range entryFiles(ctx, root) {
			id := entryID(root, file)
			if seen[id] {
				continue
			}
			seen[id] = true
			app, reason := readEntry(file, id, locales, paths)
			switch {
			case reason != "":
				skipped = append(skipped, Skip{ID: id, Path: file, Reason: reason})
			case app.ID != "":
				apps = append(apps, app)
			}
			if len(seen) >= maxEntries {
				return apps, append(skipped, Skip{Path: root, Reason: fmt.Sprintf("more than %d entries", maxEntries)})
			}
		}
	}
	return apps, skipped
}

// entryFiles lists the .desktop files under root in a stable order.
func entryFiles(ctx context.Context, root string) []string {
	var files []string
	// Folders that cannot be read are as good as absent ones.
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return nil
		case d.IsDir() && strings.Count(strings.TrimPrefix(path, root), "/") >= maxDepth:
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".desktop"):
			files = append(files, path)
		}
		if len(files) >= maxEntries {
			return fs.SkipAll
		}
		return nil
	})
	return files
}

// entryID is the desktop file ID without its ".desktop".
func entryID(root, file string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(file, root), "/")
	return safeName(strings.ReplaceAll(strings.TrimSuffix(rel, ".desktop"), "/", "-"))
}

// safeName is s if it is a plain file name and id, else something of it that
// is, made unique by a hash.
func safeName(s string) string {
	clean := func(r rune) rune {
		if r == '.' || r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}
	c := strings.TrimLeft(strings.Map(clean, s), ".")
	if c == s && s != "" && len(s) <= 100 {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return c[:min(len(c), 80)] + "~" + hex.EncodeToString(sum[:6])
}

// readEntry makes an App of a file. Without an App there is a reason, or
// nothing at all for what is no program or wants to be absent.
func readEntry(file, id string, locales, paths []string) (App, string) {
	text, err := readRegular(file, maxEntryFile)
	if err != nil {
		return App{}, "cannot be read: " + reasonOf(err)
	}
	e, err := parseEntry(string(text))
	if err != nil {
		return App{}, err.Error()
	}
	if t := e.text("Type"); t != "Application" || e.truth("Hidden") || e.truth("NoDisplay") {
		return App{}, ""
	}
	if only := e.list("OnlyShowIn"); len(only) > 0 && !slices.Contains(only, desktopName) {
		return App{}, "is only for " + strings.Join(only, ", ")
	}
	if slices.Contains(e.list("NotShowIn"), desktopName) {
		return App{}, "is not for " + desktopName
	}
	title := bound(e.local("Name", locales), maxTitle)
	if title == "" {
		return App{}, "has no name"
	}
	if try := e.text("TryExec"); try != "" && lookPath(try, paths) == "" {
		return App{}, "the program it needs is not installed: " + bound(try, maxTitle)
	}
	if e["Exec"] == "" {
		return App{}, "has no command"
	}
	args, err := splitExec(e.text("Exec"))
	if err == nil {
		args, err = expand(args, e.local("Icon", locales), title, file)
	}
	if err != nil {
		return App{}, "its command " + err.Error()
	}
	found := lookPath(args[0], paths)
	if found == "" {
		return App{}, "its program is not installed: " + bound(args[0], maxTitle)
	}
	args[0] = found
	if e.truth("Terminal") {
		xterm := lookPath("xterm", paths)
		if xterm == "" {
			return App{}, "needs a terminal, and xterm is not installed"
		}
		args = append([]string{xterm, "-T", title, "-e"}, args...)
	}
	dir := e.text("Path")
	if dir != "" && !filepath.IsAbs(dir) {
		return App{}, "its working folder is not an absolute path"
	}
	categories := e.list("Categories")
	return App{
		ID: id, Title: title, Summary: bound(e.local("Comment", locales), 2*maxTitle), Source: Desktop,
		Categories: categories[:min(len(categories), 32)], Game: slices.Contains(categories, "Game"),
		Icon:    e.local("Icon", locales),
		Program: media.Program{Title: title, Command: args, Dir: dir},
	}, ""
}

// bound cuts s to n bytes at a rune's edge, and to one line.
func bound(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}

func reasonOf(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// readRegular reads a regular file of at most limit bytes; a pipe or device in
// its place does not block.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("longer than %d bytes", limit)
	}
	return b, nil
}

// folderStamp changes when an entry or a folder of entries does.
func folderStamp(dataDirs []string) string {
	h := sha256.New()
	add := func(path string) {
		if st, err := os.Stat(path); err == nil {
			fmt.Fprintf(h, "%s %d %d\n", path, st.ModTime().UnixNano(), st.Size())
		}
	}
	for _, dir := range dataDirs {
		add(filepath.Join(dir, "icons"))
		add(filepath.Join(dir, "icons", "hicolor"))
		add(filepath.Join(dir, "pixmaps"))
		root := filepath.Join(dir, "applications")
		n := 0
		// As in entryFiles: what cannot be read is as good as absent.
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if d.IsDir() && strings.Count(strings.TrimPrefix(path, root), "/") >= maxDepth {
				return fs.SkipDir
			}
			if n++; n > 2*maxEntries {
				return fs.SkipAll
			}
			add(path)
			return nil
		})
	}
	return hex.EncodeToString(h.Sum(nil))
}

func getenv(environ []string, name string) string {
	for _, kv := range slices.Backward(environ) {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// xdgDataDirs are the data folders, most important first, as the XDG Base
// Directory specification has them.
func xdgDataDirs(environ []string) []string {
	var dirs []string
	add := func(dir string) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, filepath.Clean(dir)) {
			dirs = append(dirs, filepath.Clean(dir))
		}
	}
	if home := getenv(environ, "XDG_DATA_HOME"); home != "" {
		add(home)
	} else if home := getenv(environ, "HOME"); home != "" {
		add(filepath.Join(home, ".local", "share"))
	}
	list := getenv(environ, "XDG_DATA_DIRS")
	if list == "" {
		list = "/usr/local/share:/usr/share"
	}
	for _, dir := range filepath.SplitList(list) {
		add(dir)
	}
	return dirs
}

// searchPath is PATH, and Debian's folders for games, which root's lacks.
func searchPath(environ []string) []string {
	path := getenv(environ, "PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	paths := filepath.SplitList(path)
	for _, dir := range []string{"/usr/games", "/usr/local/games"} {
		if !slices.Contains(paths, dir) {
			paths = append(paths, dir)
		}
	}
	return paths
}

// lookPath finds an executable as exec.LookPath does, in paths; "" when there
// is none.
func lookPath(name string, paths []string) string {
	if strings.Contains(name, "/") {
		if filepath.IsAbs(name) && executable(name) {
			return name
		}
		return ""
	}
	for _, dir := range paths {
		if full := filepath.Join(dir, name); filepath.IsAbs(dir) && executable(full) {
			return full
		}
	}
	return ""
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0
}
