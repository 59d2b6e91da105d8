//go:build !cgo

package pipeline

import (
	"fmt"
	"io"
	"os"

	"fenrir/media"
	"fenrir/media/wire"
)

const noCgo = "this program was built without cgo and cannot encode: build it with CGO_ENABLED=1"

// Main would run a media worker; it reports that it cannot and returns 1.
func Main(conn *os.File) int {
	cause := media.NewCause(media.CauseNoEncoder, noCgo)
	if err := wire.NewWriter(conn, 0).Report(media.Report{Kind: media.ReportFailed, Cause: cause}); err != nil {
		fmt.Fprintln(os.Stderr, noCgo)
	}
	return 1
}

// ProbeMain would probe the encoder table; it says that it cannot and returns 1.
func ProbeMain(args []string, out io.Writer) int {
	fmt.Fprintln(os.Stderr, noCgo)
	return 1
}
