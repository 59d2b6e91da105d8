// Package web holds the page: what a browser loads to use Fenrir. The sources
// are TypeScript in src (src/core knows no element of the page, src/ui is the
// page), web/build bundles them into dist, and dist is committed and embedded,
// so that building the server needs no JavaScript tools. It imports the
// standard library only.
package web

import (
	"embed"
	"io/fs"
	"strings"
)

//go:generate go run ./build

//go:embed all:dist
var dist embed.FS

// FS is the built page: index.html and what it refers to. It is immutable and
// safe for concurrent use.
func FS() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("web: embedded dist is missing: " + err.Error()) // should not happen: embed checked it
	}
	return sub
}

// ContentSecurityPolicy is the strictest policy under which the page works.
// The page has no inline script and no inline style; pictures come from the
// server, from data URLs (cursors) and from blobs.
const ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data: blob:; connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Immutable tells whether the file at path (as in FS, without a leading slash)
// carries a hash of its content in its name, so that it may be cached for ever.
// Everything else has to be revalidated.
func Immutable(path string) bool { return strings.HasPrefix(path, "assets/") }
