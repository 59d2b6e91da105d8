// Package catalog is the list of programs that a player can start: the built-in
// playground, programs found in XDG .desktop entries, and those of the
// configuration file, with their icons. It promises stable ids, and that files
// found on the machine are read within bounds and never run. It imports the
// vocabulary of media and the configuration.
package catalog

import (
	"cmp"
	"context"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"fenrir/media"
	"fenrir/server/config"
)

// Source says where an App comes from.
type Source string

// The sources of programs.
const (
	Builtin Source = "builtin"
	Desktop Source = "desktop"
	Config  Source = "config"
)

// PlaygroundID is the id of the built-in program.
const PlaygroundID = "playground"

// App is one program.
type App struct {
	ID         string // stable; [a-zA-Z0-9._-], at most 128 bytes
	Title      string
	Summary    string
	Source     Source
	Categories []string
	Game       bool
	Width      int // wished size in pixels; 0: none
	Height     int
	FPS        int    // wished frames a second; 0: none
	Home       string // HOME; empty: HomeFor decides
	Icon       string // what the icon is called: a name in the theme, a file, or empty
	Program    media.Program
}

// Skip is a program that was found and is not offered, and why.
type Skip struct {
	ID     string
	Path   string
	Reason string
}

// Options are what a Catalog is made from.
type Options struct {
	Exe     string         // path of this binary, which is also the playground
	Config  config.Catalog // what to show
	Apps    []config.App
	Locale  string // "de_DE.UTF-8" for titles; empty: untranslated
	Environ []string
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// rescanEvery bounds how often folders are looked at for changes.
const rescanEvery = 10 * time.Second

// patience is how long a caller waits for a look at the folders.
const patience = 50 * time.Millisecond

// Catalog answers what can be started. It looks for changed folders when it is
// asked, at most every ten seconds; there is nothing to close.
type Catalog struct {
	opt      Options
	dataDirs []string
	fixed    []App // built-in and configured ones, which need no disk
	patience time.Duration

	mu      sync.Mutex
	looking chan struct{}     // closed at the end of the present look, nil without one; guarded by mu
	checked time.Time         // last look at the folders, guarded by mu
	stamp   string            // their modification times then, guarded by mu
	apps    []App             // sorted, guarded by mu; replaced, never changed
	skipped []Skip            // guarded by mu; replaced, never changed
	icons   map[iconKey]*Icon // guarded by mu; emptied at every scan
	index   func() *iconIndex // guarded by mu; replaced at every scan
}

// New makes a Catalog. It reads nothing yet.
func New(opt Options) *Catalog {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	c := &Catalog{opt: opt, patience: patience, dataDirs: opt.Config.Dirs, icons: map[iconKey]*Icon{}}
	if len(c.dataDirs) == 0 {
		c.dataDirs = xdgDataDirs(opt.Environ)
	}
	// A configured entry replaces the playground, or hides it.
	if opt.Config.Playground && !slices.ContainsFunc(opt.Apps, func(a config.App) bool { return a.ID == PlaygroundID }) {
		c.fixed = append(c.fixed, App{
			ID: PlaygroundID, Title: "Playground", Source: Builtin, Game: true,
			Summary:    "See, hear and feel how fast your stream is",
			Categories: []string{"Game"},
			Icon:       PlaygroundID,
			Program:    media.Program{Title: "Playground", Command: []string{opt.Exe, "playground"}},
		})
	}
	for _, a := range opt.Apps {
		if !a.Hidden {
			c.fixed = append(c.fixed, fromConfig(a))
		}
	}
	return c
}

func fromConfig(a config.App) App {
	env := make([]string, 0, len(a.Env))
	for k, v := range a.Env {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return App{
		ID: a.ID, Title: a.Title, Summary: a.Summary, Source: Config, Game: true, Categories: []string{},
		Width: a.Width, Height: a.Height, FPS: a.FPS, Home: a.Home, Icon: a.Icon,
		Program: media.Program{Title: a.Title, Command: slices.Clone(a.Command), Env: env, Dir: a.Dir},
	}
}

// List is every program: the built-in one, then configured ones, then games,
// then the rest, each by title.
func (c *Catalog) List(ctx context.Context) []App {
	apps, _ := c.scan(ctx)
	return slices.Clone(apps)
}

// Find is the program with that id.
func (c *Catalog) Find(ctx context.Context, id string) (App, bool) {
	apps, _ := c.scan(ctx)
	i := slices.IndexFunc(apps, func(a App) bool { return a.ID == id })
	if i < 0 {
		return App{}, false
	}
	return apps[i], true
}

// Skipped is what was found and left out, with reasons.
func (c *Catalog) Skipped(ctx context.Context) []Skip {
	_, skipped := c.scan(ctx)
	return slices.Clone(skipped)
}

// scan has the folders looked at again if it is time to, and returns what there is. The
// very first look makes all callers wait. A later one is waited for by who asked for it,
// and that for 50 ms at most: on a machine that is short of everything, or a disk that
// hangs, what was there before is good enough. Nobody waits longer than ctx; who did for
// the first look is given what needs no disk. A look is never broken off, as what it
// found by then would be taken for all there is.
func (c *Catalog) scan(ctx context.Context) ([]App, []Skip) {
	now := c.opt.Now()
	c.mu.Lock()
	apps, skipped := c.apps, c.skipped
	fresh := apps != nil && now.Sub(c.checked) < rescanEvery
	asks := !fresh && c.looking == nil
	if asks {
		c.looking = make(chan struct{})
		go c.look(context.WithoutCancel(ctx), now) // ends with its system calls; there is one at a time
	}
	looking := c.looking
	c.mu.Unlock()
	if fresh || apps != nil && !asks {
		return apps, skipped
	}
	var enough <-chan time.Time
	if apps != nil {
		late := time.NewTimer(c.patience)
		defer late.Stop()
		enough = late.C
	}
	select {
	case <-looking:
	case <-enough:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apps == nil {
		return c.fixed, nil
	}
	return c.apps, c.skipped
}

// look reads the folders if they have changed since they were read, if ever. It closes
// looking, which the caller has made.
func (c *Catalog) look(ctx context.Context, now time.Time) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.looking)
		c.looking = nil
	}()
	stamp := ""
	if c.opt.Config.DesktopEntries {
		stamp = folderStamp(c.dataDirs)
	}
	c.mu.Lock()
	c.checked = now
	same := c.apps != nil && stamp == c.stamp
	c.mu.Unlock()
	if same {
		return
	}
	apps, skipped := c.collect(ctx)
	index := c.iconIndexFor(apps)
	index() // before anybody needs it, who would have to wait
	c.opt.Log.DebugContext(ctx, "catalogue read", "programs", len(apps), "skipped", len(skipped), "took", c.opt.Now().Sub(now))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apps, c.skipped, c.stamp = apps, skipped, stamp
	c.icons, c.index = map[iconKey]*Icon{}, index
}

// collect puts the sources together. A configured entry replaces what has its
// id, or hides it.
func (c *Catalog) collect(ctx context.Context) ([]App, []Skip) {
	apps := []App{}
	skipped := []Skip{}
	taken := map[string]bool{}
	hidden := map[string]bool{}
	for _, a := range c.opt.Apps {
		hidden[a.ID] = a.Hidden
	}
	for _, a := range c.fixed {
		taken[a.ID] = true
		apps = append(apps, a)
	}
	if c.opt.Config.DesktopEntries {
		found, left := discover(ctx, c.dataDirs, c.opt)
		skipped = append(skipped, left...)
		for _, a := range found {
			switch {
			case taken[a.ID]:
				skipped = append(skipped, Skip{ID: a.ID, Reason: "the configuration has an entry of that id"})
			case hidden[a.ID]:
				skipped = append(skipped, Skip{ID: a.ID, Reason: "hidden by the configuration"})
			case matches(c.opt.Config.Exclude, a.ID):
				skipped = append(skipped, Skip{ID: a.ID, Reason: "excluded by the configuration"})
			case c.opt.Config.GamesOnly && !a.Game && !matches(c.opt.Config.Include, a.ID):
				skipped = append(skipped, Skip{ID: a.ID, Reason: "not a game"})
			default:
				taken[a.ID] = true
				apps = append(apps, a)
			}
		}
	}
	rank := func(a App) int {
		switch {
		case a.Source == Builtin:
			return 0
		case a.Source == Config:
			return 1
		case a.Game:
			return 2
		}
		return 3
	}
	slices.SortFunc(apps, func(a, b App) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title)), cmp.Compare(a.ID, b.ID))
	})
	return apps, skipped
}

func matches(patterns []string, id string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, id)
		return ok && err == nil // config.Validate refused bad patterns
	})
}

// HomeFor is the HOME of a program for one person, within base: it depends on
// the two ids only, and stays within base whatever they contain.
func HomeFor(base, person, app string) string {
	return filepath.Join(base, safeName(person), safeName(app))
}
