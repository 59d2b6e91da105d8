package e2e

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the name of ours in import paths.
const module = "fenrir"

// edge is one import: a file of package from names to. Packages of ours are
// folders ("media/worker", "" for the root), others are import paths.
type edge struct {
	from, to, file string
}

// ours tells whether the import is of this module, and its folder.
func (e edge) ours() (folder string, ok bool) {
	if e.to == module {
		return "", true
	}
	return strings.CutPrefix(e.to, module+"/")
}

// standard tells whether the import is of Go's standard library; C is not.
func (e edge) standard() bool {
	first, _, _ := strings.Cut(e.to, "/")
	_, ours := e.ours()
	return !ours && e.to != "C" && !strings.Contains(first, ".")
}

// within tells whether a folder is one of the trees or below one of them.
func within(folder string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(t string) bool { return folder == t || strings.HasPrefix(folder, t+"/") })
}

// rule is one fence of ARCHITECTURE.md. broken tells whether an import breaks it.
type rule struct {
	name   string
	broken func(edge) bool
}

// floor is a rule about who of ours may import whom of ours.
func floor(name string, broken func(from, to string) bool) rule {
	return rule{name, func(e edge) bool {
		to, ok := e.ours()
		return ok && broken(e.from, to)
	}}
}

// keeper is a rule that packages with this prefix are imported by some folders
// only.
func keeper(prefix string, allowed ...string) rule {
	return rule{prefix + " only in " + strings.Join(allowed, ", "), func(e edge) bool {
		return (e.to == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(e.to, strings.TrimSuffix(prefix, "/")+"/")) && !within(e.from, allowed...)
	}}
}

// doors are the rooms that clients come in by. A folder below one belongs to it.
var doors = []string{"server/api", "signaling/browser", "signaling/moonlight"}

func door(folder string) string {
	for _, d := range doors {
		if within(folder, d) {
			return d
		}
	}
	return ""
}

// rules are all fences.
var rules = []rule{
	floor("media imports neither signaling, server, gpu nor web", func(from, to string) bool {
		return within(from, "media") && !within(to, "media")
	}),
	floor("signaling imports only media", func(from, to string) bool {
		return within(from, "signaling") && !within(to, "signaling", "media")
	}),
	floor("a door speaks of media in the vocabulary alone", func(from, to string) bool {
		return door(from) != "" && within(to, "media") && to != "media"
	}),
	floor("server/session imports only media", func(from, to string) bool {
		return within(from, "server/session") && to != "media" && !within(to, "server/session")
	}),
	floor("doors do not import each other", func(from, to string) bool {
		return door(from) != "" && door(to) != "" && door(from) != door(to)
	}),
	floor("gpu is a leaf", func(from, to string) bool { return within(from, "gpu") && !within(to, "gpu") }),
	floor("web is a leaf", func(from, to string) bool { return within(from, "web") && !within(to, "web") }),
	floor("only main imports gpu", func(from, to string) bool { return within(to, "gpu") && !within(from, "gpu") && from != "server" }),
	// Tests may have one half drive the other for real, as main does.
	{"only main imports the halves with native code and child processes", func(e edge) bool {
		to, ours := e.ours()
		test := strings.HasSuffix(e.file, "_test.go") && within(e.from, "media")
		return ours && slices.Contains([]string{"media/pipeline", "media/desktop", "media/worker"}, to) && !within(e.from, to) && e.from != "server" && !test
	}},
	floor("nobody imports main", func(from, to string) bool { return to == "server" }),
	floor("nobody imports e2e", func(from, to string) bool { return within(to, "e2e") && !within(from, "e2e") }),
	floor("e2e imports nothing of ours", func(from, to string) bool { return within(from, "e2e") && !within(to, "e2e") }),
	{"media itself imports the standard library only", func(e edge) bool { return e.from == "media" && !e.standard() }},
	{"C only in media/pipeline", func(e edge) bool { return e.to == "C" && !within(e.from, "media/pipeline") }},

	keeper("github.com/go-gst/", "media/pipeline"),
	keeper("github.com/NVIDIA/go-nvml", "gpu"),
	keeper("github.com/pion/", "signaling", "e2e"),
	keeper("github.com/coder/websocket", "signaling", "e2e"),
	keeper("github.com/go-chi/chi", "server/api", "signaling/moonlight"),
	keeper("github.com/jezek/xgb", "media/x11", "media/screen", "media/input", "media/pipeline", "media/desktop", "server/playground"),
	keeper("github.com/evanw/esbuild", "web/build"),
	keeper("github.com/playwright-community/playwright-go", "e2e"),
}

// violations are the imports that break a rule, as "rule: file imports package".
func violations(edges []edge) []string {
	var out []string
	for _, r := range rules {
		for _, e := range edges {
			if r.broken(e) {
				out = append(out, fmt.Sprintf("%s: %s imports %s", r.name, e.file, e.to))
			}
		}
	}
	return out
}

// imports reads the imports of every Go file of the module, whatever its build
// constraints: what one platform may not import, none may.
func imports(t *testing.T) []edge {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	var edges []edge
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != root && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(base) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		folder := path.Dir(filepath.ToSlash(rel))
		if folder == "." {
			folder = ""
		}
		for _, i := range f.Imports {
			edges = append(edges, edge{folder, strings.Trim(i.Path.Value, "\"`"), filepath.ToSlash(rel)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return edges
}

// TestFloors keeps the rooms of the house apart. The test cache does not see
// the files that it reads: run it with -count=1.
func TestFloors(t *testing.T) {
	edges := imports(t)
	for _, v := range violations(edges) {
		t.Error(v)
	}
	// A checker that reads nothing finds nothing: what has to be there is there.
	for _, want := range []edge{
		{from: "server", to: "fenrir/gpu"}, {from: "signaling", to: "fenrir/media"}, {from: "server/session", to: "fenrir/media"},
		{from: "media/pipeline", to: "C"}, {from: "gpu", to: "github.com/NVIDIA/go-nvml/pkg/nvml"},
	} {
		if !slices.ContainsFunc(edges, func(e edge) bool { return e.from == want.from && e.to == want.to }) {
			t.Errorf("%s does not import %s: does this test read the sources?", want.from, want.to)
		}
	}
}

// TestFloorsFail shows that each rule fails for what it forbids, and for
// nothing that the house has.
func TestFloorsFail(t *testing.T) {
	shown := map[string]bool{}
	for _, c := range []struct {
		rule  string
		edges []edge // each alone breaks the rule
	}{
		{"media imports neither signaling, server, gpu nor web", []edge{
			{"media", "fenrir/signaling", "media/a.go"}, {"media/worker", "fenrir/server/session", "media/worker/a.go"},
			{"media/pipeline", "fenrir/gpu", "media/pipeline/a.go"}, {"media/x11", "fenrir/web", "media/x11/a_test.go"},
		}},
		{"signaling imports only media", []edge{
			{"signaling", "fenrir/server/session", "signaling/a.go"}, {"signaling/browser", "fenrir/gpu", "signaling/browser/a.go"},
			{"signaling/moonlight", "fenrir/server/auth", "signaling/moonlight/a_test.go"},
		}},
		{"a door speaks of media in the vocabulary alone", []edge{
			{"signaling/browser", "fenrir/media/wire", "signaling/browser/a.go"}, {"server/api", "fenrir/media/screen", "server/api/a.go"},
			{"server/api/page", "fenrir/media/x11", "server/api/page/a.go"},
		}},
		{"server/session imports only media", []edge{
			{"server/session", "fenrir/media/worker", "server/session/a.go"}, {"server/session", "fenrir/server/config", "server/session/a.go"},
			{"server/session", "fenrir/signaling", "server/session/a_test.go"}, {"server/session", "fenrir/gpu", "server/session/a.go"},
		}},
		{"doors do not import each other", []edge{
			{"server/api", "fenrir/signaling/browser", "server/api/a.go"}, {"signaling/browser", "fenrir/signaling/moonlight", "signaling/browser/a.go"},
			{"signaling/moonlight", "fenrir/server/api/problem", "signaling/moonlight/a.go"},
		}},
		{"gpu is a leaf", []edge{{"gpu", "fenrir/media", "gpu/a.go"}}},
		{"web is a leaf", []edge{{"web", "fenrir/media", "web/a.go"}, {"web/build", "fenrir/server/api", "web/build/a.go"}}},
		{"only main imports gpu", []edge{{"server/api", "fenrir/gpu", "server/api/a.go"}, {"media/worker", "fenrir/gpu", "media/worker/a.go"}}},
		{"only main imports the halves with native code and child processes", []edge{
			{"media/worker", "fenrir/media/pipeline", "media/worker/a.go"}, {"server/api", "fenrir/media/worker", "server/api/a.go"},
			{"server/session", "fenrir/media/desktop", "server/session/a.go"}, {"server/auth", "fenrir/media/worker", "server/auth/a_test.go"},
		}},
		{"nobody imports main", []edge{{"server/api", "fenrir/server", "server/api/a.go"}}},
		{"nobody imports e2e", []edge{{"server", "fenrir/e2e", "server/a.go"}}},
		{"e2e imports nothing of ours", []edge{{"e2e", "fenrir/media", "e2e/a_test.go"}, {"e2e/client", "fenrir/signaling", "e2e/client/a.go"}}},
		{"media itself imports the standard library only", []edge{
			{"media", "golang.org/x/sys/unix", "media/a.go"}, {"media", "fenrir/media/wire", "media/a.go"}, {"media", "C", "media/a.go"},
		}},
		{"C only in media/pipeline", []edge{{"gpu", "C", "gpu/a.go"}, {"media/worker", "C", "media/worker/a.go"}, {"server/playground", "C", "server/playground/a.go"}}},
		{"github.com/go-gst/ only in media/pipeline", []edge{
			{"media/worker", "github.com/go-gst/go-gst/gst", "media/worker/a.go"}, {"server", "github.com/go-gst/go-glib/glib", "server/a.go"}, {"e2e", "github.com/go-gst/go-gst/gst/app", "e2e/a_test.go"},
		}},
		{"github.com/NVIDIA/go-nvml only in gpu", []edge{{"media/pipeline", "github.com/NVIDIA/go-nvml/pkg/nvml", "media/pipeline/a.go"}}},
		{"github.com/pion/ only in signaling, e2e", []edge{{"server/api", "github.com/pion/webrtc/v4", "server/api/a.go"}, {"media", "github.com/pion/rtp", "media/a.go"}}},
		{"github.com/coder/websocket only in signaling, e2e", []edge{{"server/api", "github.com/coder/websocket", "server/api/a.go"}, {"server", "github.com/coder/websocket/wsjson", "server/a.go"}}},
		{"github.com/go-chi/chi only in server/api, signaling/moonlight", []edge{{"server", "github.com/go-chi/chi/v5", "server/a.go"}, {"signaling/browser", "github.com/go-chi/chi/v5/middleware", "signaling/browser/a.go"}}},
		{"github.com/jezek/xgb only in media/x11, media/screen, media/input, media/pipeline, media/desktop, server/playground", []edge{
			{"server", "github.com/jezek/xgb", "server/a.go"}, {"media/worker", "github.com/jezek/xgb/xproto", "media/worker/a.go"},
		}},
		{"github.com/evanw/esbuild only in web/build", []edge{{"web", "github.com/evanw/esbuild/pkg/api", "web/a.go"}}},
		{"github.com/playwright-community/playwright-go only in e2e", []edge{{"web", "github.com/playwright-community/playwright-go", "web/a_test.go"}}},
	} {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.name == c.rule }) {
			t.Errorf("there is no rule %q", c.rule)
		}
		for _, e := range c.edges {
			if got := violations([]edge{e}); !slices.ContainsFunc(got, func(v string) bool { return strings.HasPrefix(v, c.rule+": "+e.file) }) {
				t.Errorf("%s imports %s: broke %q, want %q", e.from, e.to, got, c.rule)
			}
			shown[c.rule] = true
		}
	}
	for _, r := range rules {
		if !shown[r.name] {
			t.Errorf("no case shows that the rule %q can fail", r.name)
		}
	}
	for _, e := range []edge{
		{"server", "fenrir/media/pipeline", "server/main.go"}, {"server", "fenrir/gpu", "server/main.go"}, {"server", "fenrir/server/api", "server/main.go"},
		{"server/api", "fenrir/server/session", "server/api/a.go"}, {"server/api", "fenrir/media", "server/api/a.go"}, {"server/api", "fenrir/server/api/problem", "server/api/a.go"},
		{"signaling/browser", "fenrir/signaling", "signaling/browser/a.go"}, {"signaling/browser", "fenrir/media", "signaling/browser/a.go"},
		{"media/worker", "fenrir/media/wire", "media/worker/a.go"}, {"media/pipeline", "github.com/go-gst/go-gst/gst", "media/pipeline/a.go"},
		{"signaling/browser", "github.com/pion/webrtc/v4", "signaling/browser/a.go"}, {"media", "encoding/json", "media/a.go"},
		{"web/build", "github.com/evanw/esbuild/pkg/api", "web/build/main.go"}, {"e2e", "github.com/pion/webrtc/v4", "e2e/a_test.go"}, {"e2e", "fenrir/e2e/route", "e2e/a_test.go"},
		{"media/worker", "fenrir/media/worker", "media/worker/a_test.go"}, {"media/pipeline", "fenrir/media/worker", "media/pipeline/a_test.go"}, {"server/session", "github.com/pionier/x", "server/session/a.go"},
	} {
		if got := violations([]edge{e}); len(got) > 0 {
			t.Errorf("%s imports %s: broke %q, want nothing", e.from, e.to, got)
		}
	}
}
