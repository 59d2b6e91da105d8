package api

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

// static is the page, read into memory once, with what HTTP wants to know of
// each file.
type static struct{ files map[string]*staticFile }

type staticFile struct {
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

func newStatic(web fs.FS) (*static, error) {
	s := &static{files: map[string]*staticFile{}}
	err := fs.WalkDir(web, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(web, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		f := &staticFile{kind: kindOf(name), etag: base64.RawURLEncoding.EncodeToString(sum[:12]), hashed: hashedName.MatchString(name), plain: b}
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

// getStatic serves the page. Paths without an extension are places within the
// page: they get its index.
func (a *API) getStatic(w http.ResponseWriter, r *http.Request) {
	p := path.Clean("/" + r.URL.Path)
	f := a.static.files[p]
	if f == nil && path.Ext(p) == "" && p != "/api" && !strings.HasPrefix(p, "/api/") && !strings.HasPrefix(p, "/assets/") {
		f = a.static.files["/index.html"]
	}
	if f == nil {
		a.fail(w, r, errNotFound)
		return
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
	if etagMatches(r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(body)
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

// etagMatches is If-None-Match's weak comparison.
func etagMatches(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == etag {
			return true
		}
	}
	return false
}
