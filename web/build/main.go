// Command build bundles the page with esbuild's Go API.
//
//	go run ./web/build               write web/dist
//	go run ./web/build -tests DIR    bundle web/test/*.test.ts into DIR for node's test runner
//
// It type-checks nothing: that is `npm run check` in web.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	tests := flag.String("tests", "", "bundle the tests into this `folder` instead of building the page")
	flag.Parse()
	if err := run(*tests); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(tests string) error {
	dir, err := root()
	if err != nil {
		return err
	}
	if tests != "" {
		return bundleTests(dir, tests)
	}
	files, err := bundlePage(dir)
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, "dist"), files)
}

// root is the folder web, from the module's root or from inside of it.
func root() (string, error) {
	for _, dir := range []string{"web", ".", ".."} {
		if _, err := os.Stat(filepath.Join(dir, "src", "index.html")); err == nil {
			return filepath.Abs(dir)
		}
	}
	return "", errors.New("no src/index.html here: run it in the module's root or in web")
}

// entries are what index.html loads: placeholder → source.
var entries = map[string]string{
	"app.js":   "src/ui/main.ts",
	"theme.js": "src/ui/theme-early.ts",
	"app.css":  "src/ui/css/app.css",
}

// bundlePage makes the files of dist in memory: slash-separated name → content.
func bundlePage(dir string) (map[string][]byte, error) {
	var sources []string
	for _, source := range entries {
		sources = append(sources, filepath.Join(dir, source))
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir:     dir,
		EntryPoints:       sources,
		EntryNames:        "assets/[name]-[hash]",
		AssetNames:        "assets/[name]-[hash]",
		Outdir:            filepath.Join(dir, "dist"),
		Bundle:            true,
		Format:            api.FormatIIFE,
		Target:            api.ES2022,
		Engines:           []api.Engine{{Name: api.EngineChrome, Version: "110"}, {Name: api.EngineFirefox, Version: "115"}, {Name: api.EngineSafari, Version: "16.4"}},
		Charset:           api.CharsetUTF8,
		MinifySyntax:      true,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		LegalComments:     api.LegalCommentsNone,
		TsconfigRaw:       `{"compilerOptions":{"strict":true,"target":"ES2022","useDefineForClassFields":true}}`,
		Metafile:          true,
		LogLevel:          api.LogLevelSilent,
	})
	if err := problems(result.Errors, result.Warnings); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, out := range result.OutputFiles {
		name, err := filepath.Rel(filepath.Join(dir, "dist"), out.Path)
		if err != nil {
			return nil, err
		}
		files[filepath.ToSlash(name)] = out.Contents
	}
	page, err := index(dir, result.Metafile)
	if err != nil {
		return nil, err
	}
	files["index.html"] = page
	static := filepath.Join(dir, "src", "static")
	err = filepath.WalkDir(static, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(static, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	return files, err
}

// index fills the placeholders {{app.js}} … of index.html with the names that
// the bundles got.
func index(dir, metafile string) ([]byte, error) {
	var meta struct {
		Outputs map[string]struct {
			EntryPoint string `json:"entryPoint"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal([]byte(metafile), &meta); err != nil {
		return nil, fmt.Errorf("read metafile: %w", err)
	}
	named := map[string]string{}
	for output, info := range meta.Outputs {
		named[info.EntryPoint] = "/" + strings.TrimPrefix(output, "dist/")
	}
	page, err := os.ReadFile(filepath.Join(dir, "src", "index.html"))
	if err != nil {
		return nil, err
	}
	for placeholder, source := range entries {
		mark := []byte("{{" + placeholder + "}}")
		if !bytes.Contains(page, mark) || named[source] == "" {
			return nil, fmt.Errorf("index.html and the bundle of %s do not fit together", source)
		}
		page = bytes.ReplaceAll(page, mark, []byte(named[source]))
	}
	return page, nil
}

// bundleTests writes each test as one self-contained module.
func bundleTests(dir, out string) error {
	sources, err := filepath.Glob(filepath.Join(dir, "test", "*.test.ts"))
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return errors.New("no tests found")
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir: dir,
		EntryPoints:   sources,
		OutExtension:  map[string]string{".js": ".mjs"},
		Outdir:        out,
		Bundle:        true,
		Platform:      api.PlatformNode,
		Format:        api.FormatESModule,
		Target:        api.ES2022,
		Sourcemap:     api.SourceMapInline,
		Write:         true,
		LogLevel:      api.LogLevelSilent,
	})
	return problems(result.Errors, result.Warnings)
}

// problems makes one error of everything that esbuild complained about.
func problems(lists ...[]api.Message) error {
	var errs []error
	for _, list := range lists {
		for _, m := range list {
			where := ""
			if m.Location != nil {
				where = fmt.Sprintf("%s:%d:%d: ", m.Location.File, m.Location.Line, m.Location.Column)
			}
			errs = append(errs, errors.New(where+m.Text))
		}
	}
	return errors.Join(errs...)
}

// replace makes the folder hold exactly files.
func replace(folder string, files map[string][]byte) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
