package page

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

var script = strings.Repeat("console.log('fenrir');\n", 200)

func site(t *testing.T) *Page {
	t.Helper()
	p, err := New(fstest.MapFS{
		"index.html":                {Data: []byte("<!doctype html><title>Fenrir</title>")},
		"assets/app-ABCDEF12.js":    {Data: []byte(script)},
		"assets/photo-ABCDEF12.png": {Data: []byte("\x89PNG")},
		"manifest.webmanifest":      {Data: []byte("{}")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t *testing.T, p *Page, method, path string, header ...string) (*http.Response, string, bool) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	ok := p.Serve(w, r)
	resp := w.Result()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b), ok
}

func TestFilesAndPlaces(t *testing.T) {
	t.Parallel()
	p := site(t)
	for _, row := range []struct{ path, kind, cache string }{
		{"/", "text/html; charset=utf-8", "no-cache"},
		{"/index.html", "text/html; charset=utf-8", "no-cache"},
		{"/play/s_abc", "text/html; charset=utf-8", "no-cache"},
		{"/a/../b", "text/html; charset=utf-8", "no-cache"},
		{"/assets/app-ABCDEF12.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/assets/photo-ABCDEF12.png", "image/png", "public, max-age=31536000, immutable"},
		{"/manifest.webmanifest", "application/manifest+json", "no-cache"},
	} {
		resp, _, ok := get(t, p, "GET", row.path)
		if !ok || resp.Header.Get("Content-Type") != row.kind || resp.Header.Get("Cache-Control") != row.cache {
			t.Errorf("%s: %t, %v", row.path, ok, resp.Header)
		}
	}
	for _, path := range []string{"/api", "/api/x", "/assets/gone", "/gone.js", "/../etc/passwd.txt"} {
		if resp, body, ok := get(t, p, "GET", path); ok {
			t.Errorf("%s: got %v %s", path, resp.Header, body)
		}
	}
}

func TestCompressionAndValidators(t *testing.T) {
	t.Parallel()
	p := site(t)
	const path = "/assets/app-ABCDEF12.js"
	plain, body, _ := get(t, p, "GET", path)
	if body != script || plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("plain: %v", plain.Header)
	}
	zipped, body, _ := get(t, p, "GET", path, "Accept-Encoding", "br, gzip;q=0.8")
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(b, []byte(script)) || zipped.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("zipped: %v, %v", zipped.Header, err)
	}
	if a, b := plain.Header.Get("ETag"), zipped.Header.Get("ETag"); a == b || a == "" {
		t.Errorf("ETags %q and %q: two bodies need two", a, b)
	}
	for _, header := range []string{"gzip;q=0", "br", "identity", "gzip;q=0.000"} {
		if resp, _, _ := get(t, p, "GET", path, "Accept-Encoding", header); resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("Accept-Encoding %q got gzip", header)
		}
	}
	resp, body, _ := get(t, p, "GET", path, "If-None-Match", `"x", `+plain.Header.Get("ETag"))
	if resp.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("again: got %d", resp.StatusCode)
	}
	resp, body, _ = get(t, p, "GET", path, "If-None-Match", zipped.Header.Get("ETag"))
	if resp.StatusCode != http.StatusOK || body != script {
		t.Errorf("the other body's ETag: got %d", resp.StatusCode)
	}
	resp, body, _ = get(t, p, "HEAD", path)
	if body != "" || resp.Header.Get("Content-Length") != plain.Header.Get("Content-Length") {
		t.Errorf("HEAD: %q, %v", body, resp.Header)
	}
}

func TestAPageNeedsAnIndex(t *testing.T) {
	t.Parallel()
	if _, err := New(fstest.MapFS{"a.js": {}}); err == nil {
		t.Error("a page without index.html was taken")
	}
}
