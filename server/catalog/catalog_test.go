package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fenrir/server/config"
)

// tree is a made-up machine below a temporary folder.
type tree struct {
	t    *testing.T
	root string
	mu   sync.Mutex
	at   time.Time
}

func newTree(t *testing.T) *tree {
	return &tree{t: t, root: t.TempDir(), at: time.Now()}
}

func (m *tree) path(p string) string { return filepath.Join(m.root, p) }

func (m *tree) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at
}

func (m *tree) wait(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = m.at.Add(d)
}

func (m *tree) write(p, text string, mode os.FileMode) {
	m.t.Helper()
	full := m.path(p)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

// entry writes a .desktop file of a game whose program exists; more lines may follow.
func (m *tree) entry(p, name string, lines ...string) {
	m.t.Helper()
	m.write("bin/prog", "#!/bin/sh\n", 0o755)
	all := append([]string{"[Desktop Entry]", "Type=Application", "Name=" + name}, lines...)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Exec=") }) {
		all = append(all, "Exec=prog")
	}
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Categories=") }) {
		all = append(all, "Categories=Game;")
	}
	m.write(p, strings.Join(all, "\n")+"\n", 0o644)
}

func (m *tree) png(p string, edge int) {
	m.t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, edge, edge))); err != nil {
		m.t.Fatal(err)
	}
	m.write(p, b.String(), 0o644)
}

func (m *tree) catalog(adjust ...func(*Options)) *Catalog {
	opt := Options{
		Exe: "/opt/fenrir", Now: m.now, Locale: "de_DE.UTF-8",
		Config:  config.Catalog{Playground: true, DesktopEntries: true, GamesOnly: true},
		Environ: []string{"PATH=" + m.path("bin"), "HOME=" + m.path("home"), "XDG_DATA_DIRS=" + m.path("local") + ":" + m.path("share") + ":relative"},
	}
	for _, f := range adjust {
		f(&opt)
	}
	c := New(opt)
	c.patience = time.Minute // what is found is what counts
	return c
}

func ids(apps []App) (list []string) {
	for _, a := range apps {
		list = append(list, a.ID)
	}
	return list
}

func reasons(skips []Skip) map[string]string {
	m := map[string]string{}
	for _, s := range skips {
		m[s.ID] = s.Reason
	}
	return m
}

func TestThePlaygroundIsAlwaysThere(t *testing.T) {
	t.Parallel()
	c := newTree(t).catalog()
	app, ok := c.Find(t.Context(), PlaygroundID)
	if !ok || app.Source != Builtin || !slices.Equal(app.Program.Command, []string{"/opt/fenrir", "playground"}) {
		t.Fatalf("got %+v, %t", app, ok)
	}
	icon, err := c.Icon(t.Context(), PlaygroundID, 64)
	if err != nil || icon.Type != "image/svg+xml" || !bytes.Contains(icon.Data, []byte("<svg")) {
		t.Errorf("its icon: %+v, %v", icon, err)
	}
	off := newTree(t).catalog(func(o *Options) { o.Config.Playground = false })
	if got := off.List(t.Context()); len(got) != 0 {
		t.Errorf("switched off: %v", ids(got))
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	const dir = "share/applications/"
	m.entry(dir+"org.example.Ball.desktop", "Ball", "Name[de]=Kugel", "Comment=Roll\\sit", "Path=/var/games", "Icon=ball", "Exec=prog --full %U")
	m.entry(dir+"kde/chess.desktop", "Chess")
	m.entry(dir+"editor.desktop", "Editor", "Categories=Utility;")
	m.entry(dir+"listed.desktop", "Listed", "Categories=Utility;")
	m.entry(dir+"secret.desktop", "Secret", "NoDisplay=true")
	m.entry(dir+"link.desktop", "Link", "Type=Link") // the first Type counts: it is an application still
	m.write(dir+"folder.desktop", "[Desktop Entry]\nType=Directory\nName=Folder\n", 0o644)
	m.entry(dir+"gone.desktop", "Gone", "Exec=/nowhere/prog")
	m.entry(dir+"try.desktop", "Try", "TryExec=nowhere")
	m.entry(dir+"gnome.desktop", "Gnome", "OnlyShowIn=GNOME;")
	m.entry(dir+"notus.desktop", "NotUs", "NotShowIn=Fenrir;KDE;")
	m.entry(dir+"badexec.desktop", "BadExec", "Exec=prog %x")
	m.entry(dir+"noname.desktop", "")
	m.entry(dir+"dir.desktop", "Dir", "Path=relative")
	m.entry(dir+"term.desktop", "Term", "Terminal=true")
	m.entry(dir+"excluded.desktop", "Excluded")
	m.write(dir+"dbus.desktop", "[Desktop Entry]\nType=Application\nName=DBus\nDBusActivatable=true\nCategories=Game;\n", 0o644)
	m.write(dir+"broken.desktop", "[Desktop Entry]\nrubbish\n", 0o644)
	m.write(dir+"huge.desktop", strings.Repeat("#", maxEntryFile+1), 0o644)
	m.write(dir+"readme.txt", "no entry", 0o644)
	if err := syscall.Mkfifo(m.path(dir+"pipe.desktop"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := m.catalog(func(o *Options) {
		o.Config.Include = []string{"listed"}
		o.Config.Exclude = []string{"excl*"}
	})
	if got, want := ids(c.List(t.Context())), []string{PlaygroundID, "kde-chess", "org.example.Ball", "link", "listed"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	ball, _ := c.Find(t.Context(), "org.example.Ball")
	if ball.Title != "Kugel" || ball.Summary != "Roll it" || ball.Program.Dir != "/var/games" || ball.Icon != "ball" || !ball.Game || ball.Source != Desktop ||
		!slices.Equal(ball.Program.Command, []string{m.path("bin/prog"), "--full"}) {
		t.Errorf("got %+v", ball)
	}
	got := reasons(c.Skipped(t.Context()))
	for id, want := range map[string]string{
		"editor": "not a game", "gone": "not installed", "try": "not installed: nowhere", "gnome": "only for GNOME", "notus": "not for Fenrir", "badexec": "unknown field code %x",
		"noname": "no name", "dir": "not an absolute path", "term": "xterm is not installed", "excluded": "excluded", "dbus": "no command", "broken": "line 2", "huge": "longer than", "pipe": "not a regular file",
	} {
		if !strings.Contains(got[id], want) {
			t.Errorf("%s was left out because %q, want %q", id, got[id], want)
		}
	}
	for _, id := range []string{"secret", "folder"} {
		if got[id] != "" {
			t.Errorf("%s wants to be absent, and is named: %s", id, got[id])
		}
	}
}

func TestATerminalProgramRunsInXterm(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	m.write("bin/xterm", "#!/bin/sh\n", 0o755)
	m.entry("share/applications/nethack.desktop", "NetHack", "Terminal=true", "Exec=prog -u x")
	app, ok := m.catalog().Find(t.Context(), "nethack")
	if want := []string{m.path("bin/xterm"), "-T", "NetHack", "-e", m.path("bin/prog"), "-u", "x"}; !ok || !slices.Equal(app.Program.Command, want) {
		t.Errorf("got %q, want %q", app.Program.Command, want)
	}
}

func TestTheFirstDataFolderWins(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	m.entry("share/applications/a.desktop", "Third")
	m.entry("local/applications/a.desktop", "Second")
	m.entry("share/applications/b.desktop", "B")
	m.entry("home/.local/share/applications/b.desktop", "B", "Hidden=true")
	c := m.catalog()
	if a, _ := c.Find(t.Context(), "a"); a.Title != "Second" {
		t.Errorf("got %q, want Second", a.Title)
	}
	if _, ok := c.Find(t.Context(), "b"); ok {
		t.Error("what the person's own folder hides is shown")
	}
}

func TestConfiguredPrograms(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	m.entry("share/applications/ball.desktop", "Ball")
	m.entry("share/applications/other.desktop", "Other")
	m.png("art/x.png", 64)
	c := m.catalog(func(o *Options) {
		o.Apps = []config.App{
			{ID: "ball", Title: "My Ball", Summary: "s", Command: []string{"/x", "y"}, Env: map[string]string{"B": "2", "A": "1"}, Dir: "/d", Home: "/h", Width: 800, Height: 600, FPS: 30, Icon: m.path("art/x.png")},
			{ID: "other", Hidden: true},
			{ID: PlaygroundID, Hidden: true},
		}
	})
	list := c.List(t.Context())
	if got := ids(list); !slices.Equal(got, []string{"ball"}) {
		t.Fatalf("got %v, want only ball", got)
	}
	a := list[0]
	if a.Source != Config || a.Title != "My Ball" || a.Home != "/h" || a.Width != 800 || a.FPS != 30 || a.Program.Dir != "/d" || !slices.Equal(a.Program.Env, []string{"A=1", "B=2"}) {
		t.Errorf("got %+v", a)
	}
	if icon, err := c.Icon(t.Context(), "ball", 0); err != nil || icon.Type != "image/png" {
		t.Errorf("its icon: %v", err)
	}
	own := m.catalog(func(o *Options) { o.Apps = []config.App{{ID: PlaygroundID, Title: "Mine", Command: []string{"/x"}}} })
	if p, _ := own.Find(t.Context(), PlaygroundID); p.Title != "Mine" || p.Source != Config {
		t.Errorf("a configured playground: got %+v", p)
	}
}

func TestNewProgramsAppearWithinTenSeconds(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	m.entry("share/applications/a.desktop", "A")
	c := m.catalog()
	if got := ids(c.List(t.Context())); !slices.Equal(got, []string{PlaygroundID, "a"}) {
		t.Fatal(got)
	}
	m.entry("share/applications/deep/b.desktop", "B")
	m.wait(rescanEvery - time.Second)
	if _, ok := c.Find(t.Context(), "deep-b"); ok {
		t.Error("the folders were looked at again too early")
	}
	m.wait(2 * time.Second)
	if _, ok := c.Find(t.Context(), "deep-b"); !ok {
		t.Error("a new program did not appear")
	}
	if err := os.Remove(m.path("share/applications/a.desktop")); err != nil {
		t.Fatal(err)
	}
	m.wait(rescanEvery)
	if _, ok := c.Find(t.Context(), "a"); ok {
		t.Error("a removed program did not disappear")
	}
}

// A disk that hangs makes nobody wait who can be served what was there before.
func TestALookThatHangs(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	m.entry("share/applications/a.desktop", "A")
	var hangs atomic.Bool
	looking, mended := make(chan struct{}), make(chan struct{})
	c := m.catalog(func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(writer(func(line []byte) {
			if hangs.Load() && bytes.Contains(line, []byte("catalogue read")) { // at the end of a look
				looking <- struct{}{}
				<-mended
			}
		}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c.patience = time.Millisecond
	first := ids(c.List(t.Context()))
	m.entry("share/applications/b.desktop", "B")
	m.wait(rescanEvery)
	hangs.Store(true)
	if got := ids(c.List(t.Context())); !slices.Equal(got, first) { // has it looked at
		t.Errorf("while a look hangs there are %q, not %q", got, first)
	}
	<-looking
	m.wait(rescanEvery)
	if got := ids(c.List(t.Context())); !slices.Equal(got, first) { // does not have it looked at again
		t.Errorf("while a look hangs there are %q, not %q", got, first)
	}
	c.mu.Lock()
	over := c.looking
	c.mu.Unlock()
	hangs.Store(false)
	close(mended)
	<-over
	if got := ids(c.List(t.Context())); !slices.Equal(got, []string{PlaygroundID, "a", "b"}) {
		t.Errorf("afterwards there are %q", got)
	}
}

// A disk that hangs from the beginning leaves everybody what needs no disk, within their
// own deadlines.
func TestAFirstLookThatHangs(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	m.entry("share/applications/a.desktop", "A")
	mended := make(chan struct{})
	c := m.catalog(func(o *Options) {
		o.Apps = []config.App{{ID: "own", Title: "Own", Icon: "own", Command: []string{"/x"}}, {ID: "gone", Hidden: true}}
		o.Log = slog.New(slog.NewTextHandler(writer(func([]byte) { <-mended }), &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if got := ids(c.List(ctx)); !slices.Equal(got, []string{PlaygroundID, "own"}) {
			t.Errorf("while the first look hangs there are %q", got)
		}
		if c.HasIcon(ctx, "own") {
			t.Error("while the first look hangs there is an icon")
		}
		cancel()
	}
	close(mended)
	if _, ok := c.Find(t.Context(), "a"); !ok {
		t.Error("afterwards there is no program")
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// A caller who goes away in the middle of the first look does not leave half of it.
func TestACallerThatGoes(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	m.entry("share/applications/a.desktop", "A")
	c := m.catalog()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.List(ctx)
	if got := ids(c.List(t.Context())); !slices.Equal(got, []string{PlaygroundID, "a"}) {
		t.Errorf("the next caller gets %q", got)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	for i := range 20 {
		m.entry(fmt.Sprintf("share/applications/g%d.desktop", i), fmt.Sprint("G", i), "Icon=g")
	}
	m.png("share/pixmaps/g.png", 32)
	c := m.catalog()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				m.wait(rescanEvery / 2)
				if n := len(c.List(context.Background())); n != 21 {
					t.Errorf("%d programs, want 21", n)
				}
				if !c.HasIcon(context.Background(), "g7") {
					t.Error("no icon")
				}
			}
		})
	}
	all.Wait()
}

const index = `[Icon Theme]
Name=Hicolor
Directories=32x32/apps,48x48/apps,128x128/apps,64x64@2/apps,scalable/apps,symbolic/apps,../../../escape
[32x32/apps]
Size=32
Type=Fixed
[48x48/apps]
Size=48
Type=Threshold
[128x128/apps]
Size=128
[64x64@2/apps]
Size=64
Scale=2
Type=Fixed
[scalable/apps]
Size=128
MinSize=8
MaxSize=512
Type=Scalable
[symbolic/apps]
Size=128
[../../../escape]
Size=128
`

// edge is the size of a PNG icon.
func edge(t *testing.T, icon *Icon, err error) int {
	t.Helper()
	if err != nil {
		t.Error(err)
		return 0
	}
	conf, err := png.DecodeConfig(bytes.NewReader(icon.Data))
	if err != nil {
		t.Error(err)
	}
	return conf.Width
}

func TestIconsComeFromThemes(t *testing.T) {
	t.Parallel()
	m := newTree(t)
	ctx := t.Context()
	m.write("share/icons/hicolor/index.theme", index, 0o644)
	m.write("share/icons/Adwaita/index.theme", "[Icon Theme]\nName=A\nInherits=Loop\nDirectories=a\n[a]\nSize=96\nType=Fixed\n", 0o644)
	m.write("share/icons/Loop/index.theme", "[Icon Theme]\nName=L\nInherits=Adwaita,hicolor\nDirectories=b\n[b]\nSize=72\nType=Fixed\n", 0o644)
	for _, e := range []int{32, 48, 128} {
		m.png(fmt.Sprintf("share/icons/hicolor/%dx%d/apps/ball.png", e, e), e)
	}
	m.png("share/icons/hicolor/symbolic/apps/ball.png", 1)
	m.png("share/icons/hicolor/32x32/apps/small.png", 32)
	m.png("local/icons/hicolor/48x48/apps/small.png", 48) // another folder, the same theme
	m.png("share/icons/hicolor/64x64@2/apps/sharp.png", 127)
	m.png("share/icons/hicolor/48x48/apps/sharp.png", 48)
	m.write("share/icons/hicolor/scalable/apps/vector.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>", 0o644)
	m.png("share/icons/hicolor/48x48/apps/vector.png", 48)
	m.png("share/icons/Adwaita/a/generic.png", 96)
	m.png("share/icons/Loop/b/inherited.png", 72)
	m.png("share/pixmaps/loose.png", 20)
	m.png("share/pixmaps/wrongname.png", 21)
	m.png("home/.icons/own.png", 22)
	m.png("escape/escaped.png", 23)
	m.write("share/pixmaps/old.xpm", "/* XPM */ static char*x[]={\"2 1 2 1\",\"a c red\",\"b c None\",\"ab\"};", 0o644)
	m.write("share/pixmaps/lies.png", "not a picture", 0o644)
	m.png("share/pixmaps/giant.png", maxIconEdge+1)
	for _, name := range []string{"ball", "small", "sharp", "vector", "generic", "inherited", "loose", "own", "escaped", "old", "lies", "giant", "missing"} {
		m.entry("share/applications/"+name+".desktop", name, "Icon="+name)
	}
	m.entry("share/applications/wrongname.desktop", "W", "Icon=wrongname.png")
	m.entry("share/applications/absolute.desktop", "A", "Icon="+m.path("share/pixmaps/loose.png"))
	m.entry("share/applications/relative.desktop", "R", "Icon=../../etc/passwd")
	m.entry("share/applications/none.desktop", "N")
	c := m.catalog()

	for _, row := range []struct {
		id         string
		size, want int
	}{
		{"ball", 32, 32}, {"ball", 16, 32}, {"ball", 128, 128}, {"ball", 100, 128}, {"ball", 512, 128}, {"ball", 0, 128},
		{"small", 128, 48}, {"small", 32, 32}, {"sharp", 128, 127}, {"generic", 128, 96}, {"inherited", 128, 72},
		{"loose", 128, 20}, {"wrongname", 128, 21}, {"absolute", 128, 20}, {"own", 128, 22}, {"old", 128, 2},
	} {
		icon, err := c.Icon(ctx, row.id, row.size)
		if got := edge(t, icon, err); got != row.want {
			t.Errorf("%s at %d: got %d pixels, want %d", row.id, row.size, got, row.want)
		}
	}
	icon, err := c.Icon(ctx, "vector", 256)
	if err != nil || icon.Type != "image/svg+xml" {
		t.Errorf("vector: %v", err)
	}
	for _, id := range []string{"lies", "giant", "missing", "relative", "none", "escaped", "nothing"} {
		if _, err := c.Icon(ctx, id, 128); !errors.Is(err, ErrNoIcon) {
			t.Errorf("%s: got %v, want ErrNoIcon", id, err)
		}
		if c.HasIcon(ctx, id) {
			t.Errorf("%s has an icon", id)
		}
	}
	a, _ := c.Icon(ctx, "ball", 128)
	b, _ := c.Icon(ctx, "ball", 32)
	if a.ETag == b.ETag || a.ETag == "" {
		t.Errorf("ETags %s and %s", a.ETag, b.ETag)
	}
}

func TestHomes(t *testing.T) {
	t.Parallel()
	if got, want := HomeFor("/homes", "a1b2", "org.example.Ball"), "/homes/a1b2/org.example.Ball"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	seen := map[string]string{}
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a_b", "/", "\x00", "..x", ".hidden", strings.Repeat("x", 300), strings.Repeat("x", 301), "ä", "ö", "a b"} {
		home := HomeFor("/homes", "p", id)
		if filepath.Dir(home) != "/homes/p" || len(filepath.Base(home)) > 100 || strings.HasPrefix(filepath.Base(home), ".") {
			t.Errorf("%q: got %s", id, home)
		}
		if other, ok := seen[home]; ok {
			t.Errorf("%q and %q share %s", id, other, home)
		}
		seen[home] = id
		if other := HomeFor("/homes", id, "a"); filepath.Dir(filepath.Dir(other)) != "/homes" {
			t.Errorf("person %q: got %s", id, other)
		}
	}
}

func TestThisMachine(t *testing.T) {
	t.Parallel()
	c := New(Options{Exe: "/x", Config: config.Catalog{DesktopEntries: true}, Environ: os.Environ()})
	start := time.Now()
	apps := c.List(t.Context())
	n := 0
	for _, a := range apps {
		if c.HasIcon(t.Context(), a.ID) {
			n++
		}
		if !filepath.IsAbs(a.Program.Command[0]) || a.Title == "" {
			t.Errorf("%+v", a)
		}
	}
	t.Logf("%d programs, %d with icons, %d left out, %s", len(apps), n, len(c.Skipped(t.Context())), time.Since(start))
}
