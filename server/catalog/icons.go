package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"fenrir/server/catalog/xpm"
)

// ErrNoIcon says that a program, or its icon, does not exist.
var ErrNoIcon = errors.New("no such icon")

// Icon is a picture for a program. It is shared: nobody changes it.
type Icon struct {
	Type string // "image/png" or "image/svg+xml"
	Data []byte
	ETag string // quoted, as HTTP wants it
}

// Bounds of icons.
const (
	maxIconFile  = 1 << 20
	maxIconEdge  = 2048 // pixels
	maxThemeFile = 1 << 20
	maxIcons     = 1000 // cached
	maxInherits  = 16   // themes looked through
)

// iconSizes are the sizes that are looked for; others are rounded up to one.
var iconSizes = []int{32, 64, 128, 256, 512}

type iconKey struct {
	app  string
	size int
}

//go:embed playground.svg
var playgroundIcon []byte

// HasIcon reports whether a program names an icon that Icon can give.
func (c *Catalog) HasIcon(ctx context.Context, id string) bool {
	_, err := c.Icon(ctx, id, 0)
	return err == nil
}

// Icon is the picture of a program for a tile of size pixels (0: 128). It fails
// with an error that wraps ErrNoIcon when there is none that can be shown.
func (c *Catalog) Icon(ctx context.Context, id string, size int) (*Icon, error) {
	app, ok := c.Find(ctx, id)
	if !ok {
		return nil, ErrNoIcon
	}
	if app.Source == Builtin {
		return newIcon("image/svg+xml", playgroundIcon), nil
	}
	if size <= 0 {
		size = 128
	}
	if i, _ := slices.BinarySearch(iconSizes, size); i < len(iconSizes) {
		size = iconSizes[i]
	} else {
		size = iconSizes[len(iconSizes)-1]
	}
	key := iconKey{id, size}
	c.mu.Lock()
	icons, index := c.icons, c.index
	icon, known := icons[key]
	c.mu.Unlock()
	if index == nil { // the first look is not over
		return nil, ErrNoIcon
	}
	if !known {
		var err error
		if icon, err = loadIcon(index(), app.Icon, size); err != nil {
			c.opt.Log.DebugContext(ctx, "icon left out", "app", id, "icon", app.Icon, "err", err)
		}
		c.mu.Lock()
		if len(icons) < maxIcons { // a rescan meanwhile has another map
			icons[key] = icon // nil when there is none: that is remembered too
		}
		c.mu.Unlock()
	}
	if icon == nil {
		return nil, ErrNoIcon
	}
	return icon, nil
}

func loadIcon(index *iconIndex, name string, size int) (*Icon, error) {
	if name == "" {
		return nil, ErrNoIcon
	}
	if filepath.IsAbs(name) {
		return readIcon(name)
	}
	if strings.Contains(name, "/") || strings.HasPrefix(name, ".") {
		return nil, fmt.Errorf("%w: a relative path", ErrNoIcon)
	}
	name = bareName(name)
	var failed error
	for _, path := range index.files(name, size) {
		icon, err := readIcon(path)
		if err == nil {
			return icon, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, errors.Join(ErrNoIcon, failed)
}

// bareName takes the extension off: such names are wrong, and common.
func bareName(name string) string {
	for _, ext := range iconExts {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}

var iconExts = []string{".svg", ".png", ".xpm"}

// iconIndex is where the icons of the catalogue's programs are. It is made by
// reading each folder of the themes once: asking for every possible file of
// every program would be thousands of questions each.
type iconIndex struct {
	themes []map[string][]iconFile // by theme, best first, then by name
	loose  map[string][]string     // of no theme, by name
}

type iconFile struct {
	dir  themeDir
	path string
}

// indexIcons looks for the wanted names in the themes below iconDirs and in the
// pixmaps below dataDirs.
func indexIcons(iconDirs, dataDirs []string, wanted map[string]bool) *iconIndex {
	x := &iconIndex{loose: map[string][]string{}}
	// The server has no desktop and so no chosen theme: hicolor has what
	// programs bring themselves, the others serve names like "applications-games".
	for _, t := range inherit(iconDirs, "hicolor", "Adwaita", "gnome") {
		found := map[string][]iconFile{}
		for _, sub := range t.dirs {
			for _, base := range iconDirs {
				eachIcon(filepath.Join(base, t.name, sub.path), wanted, func(name, path string) {
					found[name] = append(found[name], iconFile{sub, path})
				})
			}
		}
		x.themes = append(x.themes, found)
	}
	loose := slices.Clone(iconDirs)
	for _, d := range dataDirs {
		loose = append(loose, filepath.Join(d, "pixmaps"))
	}
	for _, d := range loose {
		eachIcon(d, wanted, func(name, path string) { x.loose[name] = append(x.loose[name], path) })
	}
	return x
}

// eachIcon calls found for the wanted icons of a folder, the extension that is
// first in iconExts first.
func eachIcon(dir string, wanted map[string]bool, found func(name, path string)) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // most themes lack most folders
	}
	for _, ext := range iconExts {
		for _, e := range entries {
			if name, ok := strings.CutSuffix(e.Name(), ext); ok && wanted[name] {
				found(name, filepath.Join(dir, e.Name()))
			}
		}
	}
}

// files lists candidate files for a name, best first: of each theme the one
// whose size is nearest, then those that belong to no theme.
func (x *iconIndex) files(name string, size int) []string {
	var list []string
	for _, t := range x.themes {
		best, dist := "", 1<<30
		for _, f := range t[name] {
			if d := f.dir.distance(size); d < dist {
				best, dist = f.path, d
			}
		}
		if best != "" {
			list = append(list, best)
		}
	}
	return append(list, x.loose[name]...)
}

// iconIndexFor makes the index of these programs' icons when it is first needed.
func (c *Catalog) iconIndexFor(apps []App) func() *iconIndex {
	return sync.OnceValue(func() *iconIndex {
		wanted := map[string]bool{}
		for _, a := range apps {
			wanted[bareName(a.Icon)] = true
		}
		var dirs []string
		if home := getenv(c.opt.Environ, "HOME"); filepath.IsAbs(home) && len(c.opt.Config.Dirs) == 0 {
			dirs = append(dirs, filepath.Join(home, ".icons"))
		}
		for _, d := range c.dataDirs {
			dirs = append(dirs, filepath.Join(d, "icons"))
		}
		return indexIcons(dirs, c.dataDirs, wanted)
	})
}

// theme is an icon theme: https://specifications.freedesktop.org/icon-theme-spec/
type theme struct {
	name     string
	inherits []string
	dirs     []themeDir
}

type themeDir struct {
	path                       string // below the theme
	size, scale, min, max, gap int
	kind                       string // "Fixed", "Scalable" or "Threshold"
}

// inherit reads the named themes and those that they inherit from, each once.
func inherit(iconDirs []string, names ...string) []theme {
	var themes []theme
	for i := 0; i < len(names) && len(themes) < maxInherits; i++ {
		if slices.Contains(names[:i], names[i]) {
			continue
		}
		for _, d := range iconDirs {
			t, err := readTheme(filepath.Join(d, names[i], "index.theme"), names[i])
			if err != nil {
				continue // the next folder may have the theme's index
			}
			themes = append(themes, t)
			names = append(names, t.inherits...)
			break
		}
	}
	return themes
}

func readTheme(path, name string) (theme, error) {
	b, err := readRegular(path, maxThemeFile)
	if err != nil {
		return theme{}, err
	}
	return parseTheme(string(b), name)
}

func parseTheme(text, name string) (theme, error) {
	groups := map[string]entry{}
	err := parseGroups(text, func(g string) entry {
		if groups[g] == nil {
			groups[g] = entry{}
		}
		return groups[g]
	})
	if err != nil {
		return theme{}, err
	}
	head := groups["Icon Theme"]
	t := theme{name: name}
	for _, n := range commas(head["Inherits"]) {
		if plainPath(n) && !strings.Contains(n, "/") {
			t.inherits = append(t.inherits, n)
		}
	}
	for _, sub := range append(commas(head["Directories"]), commas(head["ScaledDirectories"])...) {
		g, ok := groups[sub]
		size := number(g["Size"], 0)
		if !ok || size <= 0 || !plainPath(sub) || strings.HasSuffix(sub, "/symbolic") || strings.HasPrefix(sub, "symbolic") {
			continue // symbolic icons are for recolouring, not for tiles
		}
		d := themeDir{path: sub, size: size, scale: max(number(g["Scale"], 1), 1), kind: g["Type"],
			min: number(g["MinSize"], size), max: number(g["MaxSize"], size), gap: number(g["Threshold"], 2)}
		t.dirs = append(t.dirs, d)
	}
	return t, nil
}

func commas(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// plainPath refuses what would leave the theme's folder.
func plainPath(s string) bool { return filepath.IsLocal(s) }

func number(s string, otherwise int) int {
	if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil && n >= 0 && n <= 1<<16 {
		return n
	}
	return otherwise
}

// distance is how far the folder's icons are from size, 0 for a match. Scale is
// folded in: a 128-pixel tile is served by 64@2 as well as by 128.
func (d themeDir) distance(size int) int {
	low, high := d.size, d.size
	switch d.kind {
	case "Fixed":
	case "Scalable":
		low, high = d.min, d.max
	default:
		low, high = d.size-d.gap, d.size+d.gap
	}
	low, high = low*d.scale, high*d.scale
	switch {
	case size < low:
		return low - size
	case size > high:
		// Too small looks worse than too big.
		return 4 * (size - high)
	}
	return 0
}

// readIcon reads a file and makes sure that it is what it is served as.
func readIcon(path string) (*Icon, error) {
	b, err := readRegular(path, maxIconFile)
	if err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		conf, err := png.DecodeConfig(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if conf.Width > maxIconEdge || conf.Height > maxIconEdge {
			return nil, fmt.Errorf("%s: %d×%d pixels are too many", path, conf.Width, conf.Height)
		}
		return newIcon("image/png", b), nil
	case filepath.Ext(path) == ".xpm":
		img, err := xpm.Decode(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		var out bytes.Buffer
		if err := png.Encode(&out, img); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return newIcon("image/png", out.Bytes()), nil
	case filepath.Ext(path) == ".svg" && bytes.Contains(b[:min(len(b), 4096)], []byte("<svg")):
		return newIcon("image/svg+xml", b), nil
	}
	return nil, fmt.Errorf("%s: neither PNG, SVG nor XPM", path)
}

func newIcon(kind string, data []byte) *Icon {
	sum := sha256.Sum256(data)
	return &Icon{Type: kind, Data: data, ETag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}
