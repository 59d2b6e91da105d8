//go:build cgo

package x264

/*
#cgo pkg-config: gstreamer-1.0 gstreamer-video-1.0
#cgo CFLAGS: -O2
#cgo LDFLAGS: -ldl
#include "element.h"
*/
import "C"

import (
	"errors"
	"sync"
)

// Register makes the element known to GStreamer, which must be initialized. It
// fails where libx264 of the build that this was compiled for is not installed.
var Register = sync.OnceValue(func() error {
	if why := C.fenrir_x264_register(); why != nil {
		return errors.New(C.GoString(why))
	}
	return nil
})
