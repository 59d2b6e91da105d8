// Package web holds the page: what a browser loads to use Fenrir. The sources
// are TypeScript in src (src/core knows no element of the page, src/ui is the
// page), web/build bundles them into dist, and dist is committed and embedded,
// so that building the server needs no JavaScript tools. It imports the
// standard library only.
package web

import (
	"embed"
	"io/fs"
)

//go:generate go run ./build

//go:embed all:dist
var dist embed.FS

// FS is the built page: index.html and what it refers to. Files below assets
// carry a hash of their content in their names and may be cached for ever. The
// page has no inline script and no inline style; besides the server's files it
// needs data: and blob: pictures in its Content-Security-Policy. FS is
// immutable and safe for concurrent use.
func FS() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("web: embedded dist is missing: " + err.Error()) // should not happen: embed checked it
	}
	return sub
}
