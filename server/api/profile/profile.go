// Package profile shows what the process is doing: profiles in the form of `go
// tool pprof`, and execution traces. Each is bounded in time, and those that slow
// the process down are made one at a time. It imports the standard library only.
package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"runtime/trace"
	"sync/atomic"
	"time"
)

// Bounds of what takes time.
const (
	MaxCPU   = 20 * time.Second
	MaxTrace = 5 * time.Second
)

// Names are the profiles that there are.
var Names = []string{"goroutine", "heap", "allocs", "threadcreate", "profile", "trace"}

// ErrBusy is returned while another profile is being taken that takes time.
var ErrBusy = errors.New("another profile is being taken")

// ErrSeconds is wrapped by the error for a duration out of range.
var ErrSeconds = errors.New("seconds is out of range")

// ErrUnknown is returned for a name that is not in Names.
var ErrUnknown = errors.New("there is no such profile")

var busy atomic.Bool

// Take makes a profile. seconds counts for "profile" (CPU) and "trace"; text asks for
// the others in words rather than for tools.
func Take(ctx context.Context, name string, seconds int, text bool) ([]byte, error) {
	var b bytes.Buffer
	switch name {
	case "profile":
		err := during(ctx, seconds, MaxCPU, func() error { return pprof.StartCPUProfile(&b) }, pprof.StopCPUProfile)
		return b.Bytes(), err
	case "trace":
		err := during(ctx, seconds, MaxTrace, func() error { return trace.Start(&b) }, trace.Stop)
		return b.Bytes(), err
	case "goroutine", "heap", "allocs", "threadcreate":
		debug := 0
		if text {
			debug = 1
			if name == "goroutine" {
				debug = 2
			}
		}
		err := pprof.Lookup(name).WriteTo(&b, debug)
		return b.Bytes(), err
	}
	return nil, ErrUnknown
}

// during lets something run for a while, once at a time.
func during(ctx context.Context, seconds int, most time.Duration, start func() error, stop func()) error {
	d := time.Duration(seconds) * time.Second
	if d <= 0 || d > most {
		return fmt.Errorf("%w: it is from 1 to %d", ErrSeconds, int(most.Seconds()))
	}
	if !busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer busy.Store(false)
	if err := start(); err != nil {
		return err
	}
	defer stop()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
