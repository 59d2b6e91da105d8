package web_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"fenrir/web"
)

// reference matches what index.html loads from us.
var reference = regexp.MustCompile(`(?:src|href)="([^"#:]+)"`)

func TestIndexRefersOnlyToFilesThatAreThere(t *testing.T) {
	page, err := fs.ReadFile(web.FS(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	refs := reference.FindAllStringSubmatch(string(page), -1)
	if len(refs) < 4 {
		t.Fatalf("index.html refers to %d files, want at least 4: script, style, icon, manifest", len(refs))
	}
	for _, ref := range refs {
		if _, err := fs.Stat(web.FS(), strings.TrimPrefix(ref[1], "/")); err != nil {
			t.Errorf("index.html refers to %s: %v", ref[1], err)
		}
	}
}

func TestIndexHasNothingInline(t *testing.T) {
	page, err := fs.ReadFile(web.FS(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	for name, pattern := range map[string]string{
		"inline script":   `<script(?:\s[^>]*)?>\s*[^<\s]`,
		"inline style":    `<style|\sstyle=`,
		"event attribute": `\son[a-z]+=`,
		"foreign origin":  `(?:src|href)="(?:https?:)?//`,
	} {
		if found := regexp.MustCompile(pattern).Find(page); found != nil {
			t.Errorf("index.html has an %s, which its policy forbids: %q", name, found)
		}
	}
}

func TestFilesBelowAssetsHaveHashedNames(t *testing.T) {
	hashed := regexp.MustCompile(`-[A-Z0-9]{8}\.[a-z0-9]+$`)
	err := fs.WalkDir(web.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if got, want := hashed.MatchString(path), strings.HasPrefix(path, "assets/"); got != want {
			t.Errorf("%s has a hashed name: %v, want %v", path, got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
