package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// documents are the pages for people, by path from the module's root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"../README.md", "../docs/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			out[n] = string(b)
		}
	}
	return out
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	makeTarget   = regexp.MustCompile("(?:^|`|    )make ([a-z][a-z0-9-]*)")
)

// TestDocumentsPointAtWhatIsThere follows the links of the documents to files,
// and looks up the make targets that they name.
func TestDocumentsPointAtWhatIsThere(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	links, targets := 0, 0
	for name, text := range documents(t) {
		for _, m := range markdownLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
			targets++
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s: there is no `make %s`", name, m[1])
			}
		}
	}
	if links < 10 || targets < 5 {
		t.Errorf("found %d links and %d targets: does this test read the documents?", links, targets)
	}
}

// TestEveryCauseIsExplained holds docs/troubleshooting.md to the codes that
// media declares: they are part of the API.
func TestEveryCauseIsExplained(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../media/media.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := documents(t)["../docs/troubleshooting.md"]
	codes := 0
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "Cause") {
				continue
			}
			code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes++
			if !strings.Contains(text, "\n| `"+code+"` |") {
				t.Errorf("docs/troubleshooting.md has no row for %s", code)
			}
		}
	}
	if codes < 10 {
		t.Errorf("found %d causes in media/media.go", codes)
	}
}

var (
	settingName = regexp.MustCompile("`([a-z]+)\\.([a-z0-9_]+)`?")
	section     = regexp.MustCompile(`(?m)^\[([a-z]+)\]$`)
)

// TestDocumentsNameRealSettings looks up every `section.key` of the documents in
// the example of the configuration, which has them all.
func TestDocumentsNameRealSettings(t *testing.T) {
	b, err := os.ReadFile("../server/config/example.toml")
	if err != nil {
		t.Fatal(err)
	}
	keys, at := map[string]string{}, section.FindAllStringSubmatchIndex(string(b), -1)
	for i, m := range at {
		end := len(b)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		keys[string(b[m[2]:m[3]])] = string(b[m[1]:end])
	}
	seen := 0
	for name, text := range documents(t) {
		for _, m := range settingName.FindAllStringSubmatch(text, -1) {
			body, ok := keys[m[1]]
			if !ok {
				continue // no section: go.mod, bin/fenrir
			}
			seen++
			if !strings.Contains(body, "\n"+m[2]+" = ") {
				t.Errorf("%s: there is no setting %s.%s", name, m[1], m[2])
			}
		}
	}
	if seen < 15 {
		t.Errorf("found %d settings: does this test read the documents?", seen)
	}
}

var (
	reliabilityRow = regexp.MustCompile(`(?m)^\| (\d+) \| ([^|]+) \| ([^|]+) \|$`)
	namedTest      = regexp.MustCompile("`(Test\\w+|page: [^`]+)`")
	declaredTest   = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	pageTest       = regexp.MustCompile("(?m)^ *test\\(([\"`])(.+?)[\"`],")
	templatePart   = regexp.MustCompile(`\$\{[^}]*\}`)
)

// TestReliabilityHasEveryRow holds docs/reliability.md to its promise: 66 rows, each
// with tests that are there, or with a reason.
func TestReliabilityHasEveryRow(t *testing.T) {
	tests, page := testNames(t)
	next, named := 1, 0
	for _, m := range reliabilityRow.FindAllStringSubmatch(documents(t)["../docs/reliability.md"], -1) {
		if m[1] != strconv.Itoa(next) {
			t.Fatalf("row %s comes where row %d should", m[1], next)
		}
		next++
		names := namedTest.FindAllStringSubmatch(m[3], -1)
		if len(names) == 0 && !strings.HasPrefix(m[3], "Cannot occur: ") && !strings.HasPrefix(m[3], "Waits for ") {
			t.Errorf("row %s names no test and no reason: %s", m[1], m[3])
		}
		for _, n := range names {
			named++
			title, ofPage := strings.CutPrefix(n[1], "page: ")
			if ofPage && !slices.ContainsFunc(page, func(p *regexp.Regexp) bool { return p.MatchString(title) }) || !ofPage && !tests[n[1]] {
				t.Errorf("row %s: there is no test %s", m[1], n[1])
			}
		}
	}
	if next != 67 {
		t.Errorf("%d rows, want 66", next-1)
	}
	if named < 66 {
		t.Errorf("%d tests are named: does this test read the table?", named)
	}
	for name := range tests {
		if strings.HasPrefix(name, "TestRow") && !strings.Contains(documents(t)["../docs/reliability.md"], "`"+name+"`") {
			t.Errorf("docs/reliability.md does not name %s", name)
		}
	}
}

// testNames are the tests of the module and patterns of those of the page, whose
// titles may be made of parts.
func testNames(t *testing.T) (tests map[string]bool, page []*regexp.Regexp) {
	t.Helper()
	tests = map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		of := map[bool]*regexp.Regexp{strings.HasSuffix(path, "_test.go"): declaredTest, strings.HasSuffix(path, ".test.ts"): pageTest}[true]
		if of == nil {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range of.FindAllStringSubmatch(string(b), -1) {
			if of == declaredTest {
				tests[m[1]] = true
				continue
			}
			var pattern strings.Builder
			for i, part := range templatePart.Split(m[2], -1) {
				if i > 0 {
					pattern.WriteString(".+")
				}
				pattern.WriteString(regexp.QuoteMeta(part))
			}
			page = append(page, regexp.MustCompile("^"+pattern.String()+"$"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests, page
}
