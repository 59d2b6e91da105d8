//go:build cgo

package pipeline

/*
#include "native.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"github.com/go-gst/go-gst/gst"

	"fenrir/media"
	"fenrir/media/pipeline/x264"
	"fenrir/media/priority"
	"fenrir/media/wire"
)

// errParent is that the parent cannot be reached, which ends everything.
var errParent = errors.New("parent is gone")

// Main runs a media worker whose parent is at the other end of conn, as
// package worker starts it. The process is meant to end with it: it returns the
// exit code when the worker could not start or broke, having reported why, and
// ends the process itself when the parent says so or is gone, without asking
// native code for leave.
func Main(conn *os.File) int {
	syscall.CloseOnExec(int(conn.Fd()))
	parent, err := net.FileConn(conn)
	if err != nil {
		fmt.Fprintln(os.Stderr, "media worker: take socket of parent:", err)
		return 1
	}
	_ = conn.Close() // parent is its duplicate
	out := wire.NewWriter(parent, 0)
	spec := make(chan media.Spec, 1)
	orders := make(chan media.Order, 16)
	go listen(wire.NewReader(parent, wire.TypeSpec, wire.TypeOrder), spec, orders)

	// A picture and a packet of sound wake several goroutines, one after the other.
	// With more than one processor to run on, the scheduler calls another thread in
	// for each of them, which costs more than they do. C runs on threads of its own.
	runtime.GOMAXPROCS(1)
	priority.Ask(priority.Worker)
	prepare()
	err = work(context.Background(), <-spec, orders, out)
	var cause *media.Cause
	if !errors.As(err, &cause) {
		cause = &media.Cause{Code: media.CauseMedia, Detail: err.Error()}
	}
	if err := out.Report(media.Report{Kind: media.ReportFailed, Cause: cause}); err != nil {
		fmt.Fprintln(os.Stderr, "media worker:", cause)
	}
	return 1
}

// prepare loads what takes time, before there is anything to do.
func prepare() {
	C.fenrir_tune_allocator()
	initGStreamer()
	for _, factory := range [...]string{"appsrc", "appsink", "fenrirx264enc", "opusenc"} {
		if e, err := gst.NewElement(factory); err == nil {
			_ = e // its plugin is loaded now, which is what it was made for
		}
	}
}

// initGStreamer makes GStreamer and our own elements ready.
func initGStreamer() {
	gst.Init(nil)
	if err := x264.Register(); err != nil {
		fmt.Fprintf(os.Stderr, "libx264 is used through GStreamer's own element, which takes longer: %v\n", err)
	}
}

// listen serves the parent: it is the one who can always end this process.
func listen(in *wire.Reader, spec chan<- media.Spec, orders chan<- media.Order) {
	for told := false; ; {
		m, err := in.Next()
		if err != nil {
			os.Exit(0)
		}
		switch m := m.(type) {
		case media.Spec:
			if told {
				fmt.Fprintln(os.Stderr, "media worker: told twice what to do")
				os.Exit(2)
			}
			told = true
			spec <- m
		case media.Order:
			if m.Kind == media.OrderStop {
				os.Exit(0)
			}
			select {
			case orders <- m:
			default: // the picture loop does not go round; its silence is noticed
			}
		}
	}
}

// work does what the spec says until something breaks.
func work(ctx context.Context, spec media.Spec, orders <-chan media.Order, out *wire.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 2)
	if spec.Audio != nil {
		go func() { failed <- runAudio(ctx, spec.Sound, *spec.Audio, out, spec.Video == nil) }()
	}
	if spec.Video != nil {
		v, err := startVideo(ctx, spec.Display, *spec.Video, out)
		if err != nil {
			return err
		}
		go func() { failed <- v.run(ctx, orders) }()
	}
	if spec.Audio == nil && spec.Video == nil {
		return errors.New("nothing to do")
	}
	return <-failed
}
