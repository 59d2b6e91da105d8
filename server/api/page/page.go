// Package page serves the files of the page: read into memory once, with strong
// validators, compressed where that gains something, and for ever where the name
// changes with the content. It imports the standard library only.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Page is the page, read into memory once, with what HTTP wants to know of
// each file.
type Page struct{ files map[string]*file }

type file struct {
	kind   string
	etag   string
	hashed bool // the name changes with the content
	plain  []byte
	zipped []byte // nil when compression gains nothing
}

// hashedName is how the bundler names files by their content.
var hashedName = regexp.MustCompile(`-[A-Z0-9]{8}\.[a-z0-9]+(\.map)?$`)

// kindOf is the media type of a file; the machine's own tables are not asked,
// so that every machine serves the same.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".json", ".map":
		return "application/json"
	case ".webmanifest":
		return "application/manifest+json"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".wasm":
		return "application/wasm"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// New reads every file of web; one of them must be index.html.
func New(web fs.FS) (*Page, error) {
	s := &Page{files: map[string]*file{}}
	err := fs.WalkDir(web, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(web, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		f := &file{kind: kindOf(name), etag: base64.RawURLEncoding.EncodeToString(sum[:12]), hashed: hashedName.MatchString(name), plain: b}
		if strings.HasPrefix(f.kind, "text/") || strings.Contains(f.kind, "json") || strings.Contains(f.kind, "svg") || strings.Contains(f.kind, "wasm") {
			var z bytes.Buffer
			zw, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
			if err != nil {
				return err
			}
			if _, err := zw.Write(b); err != nil {
				return err
			}
			if err := zw.Close(); err != nil {
				return err
			}
			if z.Len()+200 < len(b) {
				f.zipped = z.Bytes()
			}
		}
		s.files["/"+name] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the page's files: %w", err)
	}
	if s.files["/index.html"] == nil {
		return nil, fmt.Errorf("the page has no index.html")
	}
	return s, nil
}

// Serve answers with the file at the request's path. Paths without an extension
// are places within the page: they get its index. It returns false, having
// written nothing, when there is no such file.
func (s *Page) Serve(w http.ResponseWriter, r *http.Request) bool {
	p := path.Clean("/" + r.URL.Path)
	f := s.files[p]
	if f == nil && path.Ext(p) == "" && p != "/api" && !strings.HasPrefix(p, "/api/") && !strings.HasPrefix(p, "/assets/") {
		f = s.files["/index.html"]
	}
	if f == nil {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	if f.hashed {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	body, etag := f.plain, `"`+f.etag+`"`
	if f.zipped != nil {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			body, etag = f.zipped, `"`+f.etag+`-gz"`
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("ETag", etag)
	if ETagMatches(r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		// The client may be gone; there is nobody else to tell.
		_, _ = w.Write(body)
	}
	return true
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := strings.ReplaceAll(params, " ", "")
		if strings.EqualFold(coding, "gzip") && q != "q=0" && !strings.HasPrefix(q, "q=0.0") {
			return true
		}
	}
	return false
}

// ETagMatches is If-None-Match's weak comparison.
func ETagMatches(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == etag {
			return true
		}
	}
	return false
}
