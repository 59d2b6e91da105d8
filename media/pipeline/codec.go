//go:build cgo

package pipeline

/*
#cgo pkg-config: gstreamer-1.0 gstreamer-app-1.0 gstreamer-video-1.0
#cgo CFLAGS: -O2
#cgo LDFLAGS: -lyuv
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/go-gst/go-gst/gst"

	"fenrir/media"
	"fenrir/media/pipeline/capture"
	"fenrir/media/pipeline/encoders"
	"fenrir/media/pipeline/rate"
)

// errEnded is that GStreamer ended a stream, of which the bus knows more.
var errEnded = errors.New("stream ended")

// codec is a running pipeline from raw pictures of one size to encoded units.
// Pictures are given to it by one goroutine, units taken by another.
type codec struct {
	entry    encoders.Entry
	element  encoders.Element
	params   encoders.Params
	pipeline *gst.Pipeline
	elements []*gst.Element // source, encoder, sink
	source   C.fenrir_source
	unit     C.fenrir_unit
	mood     encoders.Mood
	control  *rate.Control // of an element that is told with each picture how to encode it, else nil

	retired atomic.Bool   // its units are not wanted any more
	taken   chan struct{} // closed when nobody pulls any more
}

// newCodec builds the pipeline of an entry for nominally params.FPS frames a
// second. The error is a *media.Cause when this machine lacks what it takes.
func newCodec(entry encoders.Entry, params encoders.Params) (*codec, error) {
	element, missing := present(entry)
	if missing != "" {
		return nil, media.NewCause(media.CauseNoEncoder, "%s: %s", entry.Name, missing)
	}
	c := &codec{entry: entry, element: element, params: params, taken: make(chan struct{})}
	scratch, err := gst.NewElement(element.Factory)
	if err != nil {
		return nil, media.NewCause(media.CauseNoEncoder, "%s: make %s: %v", entry.Name, element.Factory, err)
	}
	defer drop(scratch.InitiallyUnowned.Object)
	caps := encoders.Caps(entry.Codec)
	if len(element.Profiles) > 0 {
		profile := offered(scratch, caps, element.Profiles)
		if profile == "" {
			return nil, media.NewCause(media.CauseNoEncoder, "%s: %s offers none of the profiles %s", entry.Name, element.Factory, strings.Join(element.Profiles, ", "))
		}
		caps += ",profile=" + profile
	}
	parts := []string{"appsrc name=source is-live=true format=time max-bytes=0 max-buffers=0"}
	parts = append(parts, element.Before...)
	parts = append(parts, element.Factory+" name=encoder", caps)
	parts = append(parts, element.After...)
	parts = append(parts, "appsink name=sink sync=false max-buffers=16 drop=false enable-last-sample=false wait-on-eos=false")
	if c.pipeline, err = gst.NewPipelineFromString(strings.Join(parts, " ! ")); err != nil {
		return nil, fmt.Errorf("build pipeline of %s: %w", entry.Name, err)
	}
	for _, name := range [...]string{"source", "encoder", "sink"} {
		e, err := c.pipeline.GetElementByName(name)
		if err != nil {
			return nil, fmt.Errorf("build pipeline of %s: %w", entry.Name, err)
		}
		c.elements = append(c.elements, e)
	}
	c.source.appsrc, c.source.encoder = cElement(c.elements[0]), cElement(c.elements[1])
	c.setAll(element.Props)
	c.setAll(element.Live)
	c.setAll(element.Moods[c.mood])
	c.sabotage()
	return c, nil
}

// present finds the first element of an entry that this machine has, with all
// that has to stand around it, or says what is missing.
func present(entry encoders.Entry) (encoders.Element, string) {
	var missing []string
	for _, e := range entry.Elements {
		lacks := ""
		for _, part := range append(append([]string{e.Factory}, e.Before...), e.After...) {
			factory, _, _ := strings.Cut(part, " ")
			if !strings.Contains(factory, "/") && gst.Find(factory) == nil && lacks == "" {
				lacks = factory
			}
		}
		if lacks == "" {
			return e, ""
		}
		missing = append(missing, lacks)
	}
	return encoders.Element{}, "no GStreamer element " + strings.Join(missing, ", nor ")
}

func cElement(e *gst.Element) *C.GstElement { return (*C.GstElement)(unsafe.Pointer(e.Unsafe())) }

func offered(e *gst.Element, caps string, profiles []string) string {
	for _, p := range profiles {
		s := C.CString(caps + ",profile=" + p)
		ok := C.fenrir_offers(cElement(e), s) != 0
		C.free(unsafe.Pointer(s))
		if ok {
			return p
		}
	}
	return ""
}

// setAll sets what the encoder has of these properties.
func (c *codec) setAll(props []encoders.Prop) {
	e := cElement(c.elements[1])
	for _, p := range props {
		name := C.CString(p.Name)
		if C.fenrir_has_property(e, name) != 0 {
			for _, v := range p.Values {
				value := C.CString(c.params.Fill(v))
				ok := C.fenrir_takes(e, name, value) != 0
				if ok {
					C.fenrir_set(e, name, value)
				}
				C.free(unsafe.Pointer(value))
				if ok {
					break
				}
			}
		}
		C.free(unsafe.Pointer(name))
	}
}

// setMood tells the encoder what the picture does.
func (c *codec) setMood(m encoders.Mood) {
	if m != c.mood {
		c.mood = m
		c.setAll(c.element.Moods[m])
	}
}

// setKbps changes the bitrate of the running encoder.
func (c *codec) setKbps(kbps int) {
	if kbps == c.params.Kbps {
		return
	}
	c.params.Kbps = kbps
	c.setAll(c.element.Live)
	if c.control != nil {
		c.control.SetBudget(c.params.FrameBytes())
	}
}

// play starts the pipeline. Encoding errors come from bus.
func (c *codec) play() error {
	if err := c.pipeline.SetState(gst.StatePlaying); err != nil {
		return fmt.Errorf("start pipeline of %s: %w", c.entry.Name, c.busError(0, err))
	}
	return nil
}

// busError waits up to bound for an error of the pipeline's, and returns other
// if there is none.
func (c *codec) busError(bound time.Duration, other error) error {
	return busError(c.pipeline, bound, other)
}

func busError(p *gst.Pipeline, bound time.Duration, other error) error {
	m := p.GetPipelineBus().TimedPopFiltered(gst.ClockTime(bound.Nanoseconds()), gst.MessageError|gst.MessageEOS)
	if m == nil {
		return other
	}
	defer drop(m)
	if m.Type() == gst.MessageEOS {
		return errEnded
	}
	e := m.ParseError()
	text := e.Error()
	if d := e.DebugString(); d != "" {
		text += " (" + strings.Join(strings.Fields(d), " ") + ")"
	}
	return fmt.Errorf("%s: %s", m.Source(), text)
}

// setSize makes pictures of this size from now on. Both are even.
func (c *codec) setSize(width, height int) error {
	format := C.CString(c.element.Format)
	defer C.free(unsafe.Pointer(format))
	if C.fenrir_source_format(&c.source, format, C.int(width), C.int(height), C.int(c.params.FPS)) != C.FENRIR_OK {
		return fmt.Errorf("set picture size %d×%d: refused", width, height)
	}
	if c.element.Ordered {
		if C.fenrir_source_look(&c.source) != C.FENRIR_OK {
			return fmt.Errorf("look at pictures of %d×%d: refused", width, height)
		}
		c.control = rate.New(width*height, c.params.FrameBytes())
	}
	return nil
}

// scale says that frames are of another size than the picture, and which part of it they fill.
func (c *codec) scale(v capture.View) error {
	if C.fenrir_source_scale(&c.source, C.int(v.FromWidth), C.int(v.FromHeight), C.int(v.X), C.int(v.Y), C.int(v.Width), C.int(v.Height)) != C.FENRIR_OK {
		return fmt.Errorf("scale pictures %+v: refused", v)
	}
	return nil
}

// picture converts a frame, of the size that was set or scaled from, into the
// present picture. It returns the pixels that went into that, of the picture's
// size: the frame itself, or what it was scaled to, valid until the next call.
func (c *codec) picture(f capture.Frame) (capture.Frame, error) {
	if C.fenrir_source_picture(&c.source, unsafe.Pointer(unsafe.SliceData(f.Pixels)), C.int(f.Stride)) != C.FENRIR_OK {
		return f, errors.New("convert picture: refused")
	}
	if c.source.scaled == nil {
		return f, nil
	}
	w, h := int(c.source.info.width), int(c.source.info.height)
	return capture.Frame{Pixels: unsafe.Slice((*byte)(unsafe.Pointer(c.source.scaled)), 4*w*h), Stride: 4 * w, Width: w, Height: h}, nil
}

// patch paints a part of the present picture over, before it is pushed.
func (c *codec) patch(p capture.Patch) error {
	if C.fenrir_source_patch(&c.source, unsafe.Pointer(unsafe.SliceData(p.Pixels)), C.int(p.X), C.int(p.Y), C.int(p.Width), C.int(p.Height)) != C.FENRIR_OK {
		return errors.New("paint cursor: refused")
	}
	return nil
}

// order says how the present picture is to be encoded, which was taken now or is
// the last one again.
func (c *codec) order(again, key bool) {
	if c.control == nil {
		return
	}
	var f rate.Frame
	if again && !key {
		f = c.control.Refine()
	} else {
		l := c.source.look
		look := rate.Look{Change: float64(l.change), Detail: float64(l.detail), Novelty: float64(l.moved) / (float64(l.spread) + 1), Area: float64(l.area)}
		if again {
			look.Change, look.Novelty, look.Area = 0, 0, 0
		}
		f = c.control.Next(key, look)
	}
	C.fenrir_source_order(&c.source, C.int(f.Quantizer), C.double(f.Top), C.double(f.Bottom))
}

// learn tells the size in bytes of the unit that the last picture pushed became,
// before the next is ordered. It returns whether there is nothing left to tell of that
// picture, small being a size below which that is so, and how many frames at the
// nominal rate to leave out now, because the last ones were too large.
func (c *codec) learn(size, small int) (settled bool, owed float64) {
	if c.control == nil {
		return size < small, 0
	}
	return c.control.Done(size)
}

// push gives the present picture to the encoder, which may be once more. again
// tells so. It does not block.
func (c *codec) push(at, lasts time.Duration, again, key bool) error {
	c.order(again, key)
	wantKey := C.int(0)
	if key {
		wantKey = 1
	}
	switch C.fenrir_source_push(&c.source, C.guint64(at), C.guint64(lasts), wantKey) {
	case C.FENRIR_OK:
		return nil
	case C.FENRIR_ENDED:
		return c.busError(0, errEnded)
	}
	return c.busError(0, errors.New("picture refused"))
}

// close ends the encoder and gives back what it holds. Nothing may be given to
// it any more, and whoever pulls must close taken when the stream ends. It
// fails when the encoder hangs; all of it is then left as it is.
func (c *codec) close() error {
	c.retired.Store(true)
	if !stop(c.pipeline) {
		return fmt.Errorf("stop %s: it hangs", c.element.Factory)
	}
	bound := time.NewTimer(stopBound)
	defer bound.Stop()
	select {
	case <-c.taken:
	case <-bound.C:
		return fmt.Errorf("stop %s: its stream does not end", c.element.Factory)
	}
	C.fenrir_source_free(&c.source)
	for _, e := range c.elements {
		drop(e.InitiallyUnowned.Object)
	}
	drop(c.pipeline.GetPipelineBus().InitiallyUnowned.Object)
	drop(c.pipeline.InitiallyUnowned.Object)
	return nil
}

// drop releases an object of GStreamer's now, not when the garbage collector
// comes to it.
func drop[T interface{ Unref() }](o T) {
	runtime.SetFinalizer(o, nil)
	o.Unref()
}

const stopBound = 2 * time.Second // for a pipeline to let go of everything

// stop brings a pipeline to a halt. It says whether that happened within
// stopBound.
func stop(p *gst.Pipeline) bool {
	stopped := make(chan struct{})
	go func() {
		_ = p.SetState(gst.StateNull) // cannot fail, only hang
		close(stopped)
	}()
	bound := time.NewTimer(stopBound)
	defer bound.Stop()
	select {
	case <-stopped:
		return true
	case <-bound.C:
		return false
	}
}

// pulled is an encoded unit in GStreamer's memory, valid until release.
type pulled struct {
	at            time.Duration // as given to push
	key           bool
	width, height int
	data          []byte
}

// pull waits up to bound for the next unit. ok is false when none came.
func (c *codec) pull(bound time.Duration) (u pulled, ok bool, err error) {
	switch C.fenrir_pull(cElement(c.elements[2]), C.guint64(bound), &c.unit) {
	case C.FENRIR_OK:
		return pulled{
			at: time.Duration(c.unit.pts), key: c.unit.key != 0, width: int(c.unit.width), height: int(c.unit.height),
			data: unsafe.Slice((*byte)(unsafe.Pointer(c.unit.mapped.data)), int(c.unit.mapped.size)),
		}, true, nil
	case C.FENRIR_EMPTY:
		return u, false, nil
	case C.FENRIR_ENDED:
		if c.retired.Load() {
			return u, false, errEnded
		}
		return u, false, c.busError(time.Second, errEnded)
	}
	return u, false, c.busError(0, errors.New("unit cannot be read"))
}

// release gives the last pulled unit back.
func (c *codec) release() { C.fenrir_unit_release(&c.unit) }
