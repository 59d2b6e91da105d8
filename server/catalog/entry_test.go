package catalog

import (
	"slices"
	"strings"
	"testing"
)

func TestEntriesAreReadAsTheSpecificationSays(t *testing.T) {
	t.Parallel()
	e, err := parseEntry("\ufeff# comment\r\n\r\n[Desktop Entry]\r\nName = Plain \nName[de]=Deutsch\nName[sr@latin]=Latinica\nComment=a\\sb\\nc\\td\\\\e\\xf\nCategories=Game;Arcade\\;Game;;X\nName=second\nNoDisplay=true\n" +
		"[Desktop Action New]\nthis is no key and nobody asked\nName=Other\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{e.text("Name"), "Plain"},
		{e.local("Name", localeKeys("de_AT.UTF-8")), "Deutsch"},
		{e.local("Name", localeKeys("sr_RS.UTF-8@latin")), "Latinica"},
		{e.local("Name", localeKeys("fr")), "Plain"},
		{e.text("Comment"), "a b\nc\td\\e\\xf"},
		{strings.Join(e.list("Categories"), "|"), "Game|Arcade;Game|X"},
		{e.text("Nothing"), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if !e.truth("NoDisplay") || e.truth("Hidden") {
		t.Error("truth values are wrong")
	}
}

func TestBrokenEntriesAreErrors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "Name=x\n", "[Other]\nName=x\n", "[Desktop Entry\n", "[Desktop Entry]\nno key\n", "[Desktop Entry]\n=x\n", "[Desktop Entry]\nNa me=x\n", "[Desktop Entry]\nName[de=x\n", "[Desktop Entry]\nName=\xff\n"} {
		if e, err := parseEntry(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, e)
		}
	}
}

func TestLocaleKeys(t *testing.T) {
	t.Parallel()
	for locale, want := range map[string][]string{
		"de_DE.UTF-8": {"de_DE", "de"}, "sr_RS@latin": {"sr_RS@latin", "sr_RS", "sr@latin", "sr"}, "sr@latin": {"sr@latin", "sr"}, "C.UTF-8": nil, "POSIX": nil, "": nil, "eo": {"eo"},
	} {
		if got := localeKeys(locale); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", locale, got, want)
		}
	}
}

func TestExecLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		exec string
		want []string // nil: an error
	}{
		{"game", []string{"game"}},
		{"game  --full \t-x", []string{"game", "--full", "-x"}},
		{"game %U", []string{"game"}},
		{"game %f %F %u %d %D %n %N %v %m end", []string{"game", "end"}},
		{"game --file=%f", []string{"game", "--file="}},
		{`"/opt/my game/run" "a \"b\" \$HOME \\ \` + "`" + `"`, []string{"/opt/my game/run", `a "b" $HOME \ ` + "`"}},
		{`game "keep \n this"`, []string{"game", `keep \n this`}},
		{`game ""`, []string{"game", ""}},
		{`game --title %c`, []string{"game", "--title", "The Title"}},
		{`game %i`, []string{"game", "--icon", "theicon"}},
		{`game %k`, []string{"game", "/a.desktop"}},
		{`game 100%%`, []string{"game", "100%"}},
		{`sh -c 'cd /x && exec "game"'`, []string{"sh", "-c", `cd /x && exec "game"`}},
		{`game a\ b`, []string{"game", "a b"}},
		{`env A=b game`, []string{"env", "A=b", "game"}},
		{`game %x`, nil},
		{`game %`, nil},
		{`game "open`, nil},
		{`game 'open`, nil},
		{`%U`, nil},
		{`""`, nil},
		{"   ", nil},
		{"a\x00b", nil},
		{strings.Repeat("a ", maxArgs+2), nil},
	} {
		args, err := splitExec(c.exec)
		if err == nil {
			args, err = expand(args, "theicon", "The Title", "/a.desktop")
		}
		if (err != nil) != (c.want == nil) || !slices.Equal(args, c.want) && c.want != nil {
			t.Errorf("%.40q: got %q, %v; want %q", c.exec, args, err, c.want)
		}
	}
	if args, err := expand([]string{"game", "%i"}, "", "", ""); err != nil || len(args) != 1 {
		t.Errorf("%%i without an icon: got %q, %v", args, err)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("[Desktop Entry]\nType=Application\nName=x\nName[de_DE@euro]=y\nExec=sh -c 'x' \"a\\\\\" %U %i\nCategories=Game;A\\;b;\n")
	f.Add("[Desktop Entry]\n[Desktop Entry]\nExec=%\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEntry(text)
		if err != nil {
			return
		}
		e.local("Name", localeKeys("de_DE.UTF-8@euro"))
		for _, item := range e.list("Categories") {
			if item == "" {
				t.Error("a list has an empty item")
			}
		}
		args, err := splitExec(e.text("Exec"))
		if err != nil {
			return
		}
		out, err := expand(args, e.text("Icon"), "T", "/p")
		if err != nil {
			return
		}
		if len(out) == 0 || len(out) > 2*maxArgs+2 || out[0] == "" {
			t.Errorf("%q became %q", e.text("Exec"), out)
		}
	})
}

func FuzzTheme(f *testing.F) {
	f.Add("[Icon Theme]\nInherits=hicolor,../x\nDirectories=48x48/apps,../../etc\n[48x48/apps]\nSize=48\nType=Scalable\nMinSize=8\nMaxSize=512\nScale=2\n[../../etc]\nSize=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		th, err := parseTheme(text, "x")
		if err != nil {
			return
		}
		for _, d := range th.dirs {
			if !plainPath(d.path) || d.distance(128) < 0 {
				t.Errorf("%+v", d)
			}
		}
		for _, n := range th.inherits {
			if strings.Contains(n, "/") || n == ".." {
				t.Errorf("inherits %q", n)
			}
		}
	})
}
