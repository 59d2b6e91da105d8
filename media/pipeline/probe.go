//go:build cgo

package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"fenrir/media"
	"fenrir/media/pipeline/capture"
	"fenrir/media/pipeline/encoders"
)

// Sizes of a probe: small enough to be quick, large enough for every hardware.
const (
	probeWidth, probeHeight = 640, 360
	probeFrames             = 5
	probeBound              = 4 * time.Second
)

// ProbeMain answers one question about the encoder table on out, as JSON, and
// returns the exit code of the process. "list" lists the entries: those that
// this machine lacks the GStreamer elements for have a Reason. "try" and an
// entry's name really encodes with it. Native code may hang or crash in it, so
// it runs in a process of its own.
func ProbeMain(args []string, out io.Writer) int {
	initGStreamer()
	var answer any
	switch {
	case len(args) == 1 && args[0] == "list":
		var rows []media.Encoder
		for _, e := range encoders.Table() {
			rows = append(rows, row(e))
		}
		answer = rows
	case len(args) == 2 && args[0] == "try":
		e, ok := encoders.Find(args[1])
		if !ok {
			fmt.Fprintf(os.Stderr, "media probe: no encoder called %q\n", args[1])
			return 2
		}
		r := row(e)
		if r.Reason == "" {
			began := time.Now()
			if err := tryEntry(e); err != nil {
				r.Reason = err.Error()
			} else {
				r.Works = true
			}
			r.TookMs = int(time.Since(began).Milliseconds())
		}
		answer = r
	default:
		fmt.Fprintln(os.Stderr, "media probe: want list, or try and a name")
		return 2
	}
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		fmt.Fprintln(os.Stderr, "media probe:", err)
		return 1
	}
	return 0
}

func row(e encoders.Entry) media.Encoder {
	r := media.Encoder{Name: e.Name, Family: e.Family, Codec: e.Codec, Hardware: e.Hardware}
	if e.Family == "nvenc" {
		r.GPU = visibleGPU()
	}
	element, missing := present(e)
	r.Reason = missing
	if r.Element = element.Factory; missing != "" {
		r.Element = e.Elements[0].Factory
	}
	return r
}

// visibleGPU is the GPU that CUDA's first device is: the parent makes CUDA count
// as NVML does.
func visibleGPU() string {
	first, _, _ := strings.Cut(os.Getenv("CUDA_VISIBLE_DEVICES"), ",")
	if first = strings.TrimSpace(first); first != "" {
		return first
	}
	return "0"
}

// tryEntry encodes a few pictures and wants a key frame first.
func tryEntry(e encoders.Entry) error {
	c, err := newCodec(e, encoders.Params{Kbps: 2000, FPS: 60, Cores: runtime.NumCPU(), Pixels: probeWidth * probeHeight})
	if err != nil {
		var cause *media.Cause
		if errors.As(err, &cause) {
			return errors.New(cause.Detail)
		}
		return err
	}
	if err := c.setSize(probeWidth, probeHeight); err != nil {
		return err
	}
	if err := c.play(); err != nil {
		return err
	}
	f := capture.Frame{Pixels: make([]byte, 4*probeWidth*probeHeight), Stride: 4 * probeWidth, Width: probeWidth, Height: probeHeight}
	deadline := time.Now().Add(probeBound)
	for n := range probeFrames {
		for i := range f.Pixels {
			f.Pixels[i] = byte(i*(n+1) + i>>9)
		}
		if _, err := c.picture(f); err != nil {
			return err
		}
		if err := c.push(time.Duration(n)*time.Second/60, time.Second/60, false, false); err != nil {
			return err
		}
		u, ok, err := c.pull(time.Until(deadline))
		switch {
		case err != nil:
			return err
		case !ok:
			return c.busError(0, fmt.Errorf("picture %d did not come out of %s within %v", n, c.element.Factory, probeBound))
		}
		key, size := u.key, len(u.data)
		c.release()
		c.learn(size, 0)
		if n == 0 && !key || size == 0 {
			return fmt.Errorf("%s made %d bytes for picture %d, key frame: %v", c.element.Factory, size, n, key)
		}
	}
	return nil
}
