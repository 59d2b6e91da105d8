package mlweb

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// mostDocument bounds what of a document is looked through for scripts, in bytes.
const mostDocument = 1 << 20

// policy is what that page needs: its own files, the scripts that stand in its
// documents (each by its hash, so that nothing else is run), decoders in WebAssembly,
// and styles that it writes itself.
func policy(scripts []string) string {
	return "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'" + strings.Join(scripts, "") +
		"; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:" +
		"; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
}

// getPage serves the files of the page, if there is a folder with them.
func (h *Handler) getPage(w http.ResponseWriter, r *http.Request) {
	if h.Page == "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	root, err := os.OpenRoot(h.Page)
	if err != nil {
		h.Log.ErrorContext(r.Context(), "moonlight-web: page", "err", err)
		w.WriteHeader(http.StatusNotFound)
		return
	}
	defer root.Close()
	scripts, err := inlineScripts(root.FS(), strings.TrimPrefix(r.URL.Path, h.Prefix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
		h.Log.WarnContext(r.Context(), "moonlight-web: scripts of the page", "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Security-Policy", policy(scripts))
	w.Header().Set("Cache-Control", "no-cache")
	http.StripPrefix(h.Prefix, http.FileServerFS(root.FS())).ServeHTTP(w, r)
}

// inlineScripts gives the sources, for a Content-Security-Policy, of the scripts that
// stand in the document at a path; none for other files.
func inlineScripts(files fs.FS, at string) ([]string, error) {
	if at == "" || strings.HasSuffix(at, "/") {
		at += "index.html"
	}
	if path.Ext(at) != ".html" {
		return nil, nil
	}
	f, err := files.Open(strings.TrimPrefix(path.Clean("/"+at), "/"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var sources []string
	inside := false
	for z := html.NewTokenizer(io.LimitReader(f, mostDocument)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if errors.Is(z.Err(), io.EOF) {
				return sources, nil
			}
			return sources, z.Err()
		case html.StartTagToken:
			inside = z.Token().DataAtom == atom.Script
		case html.EndTagToken:
			inside = false
		case html.TextToken:
			// Text has line ends as the browser sees them.
			if text := z.Text(); inside && len(bytes.TrimSpace(text)) > 0 {
				sum := sha256.Sum256(text)
				sources = append(sources, " 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
			}
		}
	}
}
