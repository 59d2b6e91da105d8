//go:build cgo

package pipeline

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/go-gst/go-gst/gst"

	"fenrir/media"
)

// errOpus is that the encoder does not work.
var errOpus = errors.New("sound cannot be encoded")

// opus makes Opus packets of sound. What it makes of a fragment has been made when
// push returns: it has no thread of its own.
type opus struct {
	pipeline *gst.Pipeline
	feed     *C.GstPad     // owned
	sink     *C.GstElement // the pipeline's
}

func newOpus(sound media.Sound, spec media.AudioSpec) (*opus, error) {
	p, err := gst.NewPipelineFromString(fmt.Sprintf(
		"identity name=source ! %s ! opusenc bitrate=%d frame-size=%d complexity=5 %s ! %s"+
			" ! appsink name=sink sync=false async=false max-buffers=64 drop=true enable-last-sample=false",
		mixing(sound.Channels, spec.Channels), 1000*spec.Kbps, spec.FrameMs, opusMode(spec), opusCaps(spec)))
	if err != nil {
		return nil, fmt.Errorf("build sound pipeline: %w", err)
	}
	source, err := p.GetElementByName("source")
	if err != nil {
		return nil, fmt.Errorf("build sound pipeline: %w", err)
	}
	sink, err := p.GetElementByName("sink")
	if err != nil {
		return nil, fmt.Errorf("build sound pipeline: %w", err)
	}
	if err := p.SetState(gst.StatePlaying); err != nil {
		return nil, fmt.Errorf("start sound pipeline: %w", err)
	}
	caps := C.CString(rawCaps(max(sound.Channels, 2)) + ",layout=interleaved")
	defer C.free(unsafe.Pointer(caps))
	feed := C.fenrir_feed(cElement(source), caps)
	if feed == nil {
		stop(p)
		return nil, errors.New("build sound pipeline: nothing can be fed into it")
	}
	return &opus{pipeline: p, feed: feed, sink: cElement(sink)}, nil
}

// close frees the encoder. Nothing can hang in it, since nothing runs in it.
func (o *opus) close() {
	stop(o.pipeline)
	C.fenrir_feed_free(o.feed)
}

// push encodes sound captured from begin on. The error wraps errOpus.
func (o *opus) push(begin media.Stamp, d time.Duration, pcm []byte) error {
	if len(pcm) == 0 {
		return nil
	}
	if C.fenrir_feed_push(o.feed, C.guint64(begin), C.guint64(d), unsafe.Pointer(&pcm[0]), C.gsize(len(pcm))) != C.FENRIR_OK {
		return o.broken()
	}
	return nil
}

// broken is why the encoder does not work.
func (o *opus) broken() error {
	return fmt.Errorf("%w: %w", errOpus, busError(o.pipeline, 0, errEnded))
}

// Shares of loudspeakers that a listener lacks, in those that play instead. What
// is played in stereo stays what it is; what a surround program plays all around may
// be cut where it is loudest.
const (
	centre = 0.7
	behind = 0.5
)

// mixes say, for a card of so many loudspeakers and a listener with so many, what each
// of the listener's plays of each of the card's; both in the order of
// media.AudioFormat.Mapping. Where none is given, each plays its own.
var mixes = map[[2]int][][]float64{
	{6, 2}: {{1, 0, centre, 0, behind, 0}, {0, 1, centre, 0, 0, behind}},
	{8, 2}: {{1, 0, centre, 0, behind, 0, behind, 0}, {0, 1, centre, 0, 0, behind, 0, behind}},
	{8, 6}: {{1}, {0, 1}, {0, 0, 1}, {0, 0, 0, 1}, {0, 0, 0, 0, 1, 0, centre, 0}, {0, 0, 0, 0, 0, 1, 0, centre}},
}

// mixing is the way from a card's channels to those that are encoded. The sound
// server's own mixing would be another for each; its stereo of a card with more is
// hardly to be heard.
func mixing(card, channels int) string {
	card, channels = max(card, 2), max(channels, 2)
	way := rawCaps(card)
	if card != channels {
		way += fmt.Sprintf(" ! audioconvert mix-matrix=\"<%s>\" ! %s", matrix(card, channels), rawCaps(channels))
	}
	if channels > 2 {
		// Of no known place, so that the encoder takes them as they come.
		way += " ! capssetter caps=\"audio/x-raw,channel-mask=(bitmask)0x0\""
	}
	return way
}

// masks name the loudspeakers of a card.
var masks = map[int]string{2: "0x3", 6: "0x3f", 8: "0xc3f"}

// rawCaps are those of what a card plays.
func rawCaps(channels int) string {
	return fmt.Sprintf("audio/x-raw,format=S16LE,rate=48000,channels=%d,channel-mask=(bitmask)%s", channels, masks[channels])
}

// matrix is a mix in the form that GStreamer takes.
func matrix(card, channels int) string {
	mix := mixes[[2]int{card, channels}]
	rows := make([]string, channels)
	for i := range rows {
		row := make([]string, card)
		for j := range row {
			share := 0.0
			switch {
			case mix == nil && i == j:
				share = 1
			case mix != nil && j < len(mix[i]):
				share = mix[i][j]
			}
			row[j] = fmt.Sprintf("(float)%.2f", share)
		}
		rows[i] = "<" + strings.Join(row, ",") + ">"
	}
	return strings.Join(rows, ",")
}

// opusMode is how the encoder works. Packets of one length have no room for the
// repair of earlier ones, and who wants them short wants no delay either.
func opusMode(a media.AudioSpec) string {
	if a.Constant {
		return "bitrate-type=cbr audio-type=restricted-lowdelay"
	}
	return "bitrate-type=vbr inband-fec=true packet-loss-percentage=5 audio-type=generic"
}

// opusCaps is how the packets have to be laid out: what clients were told. An
// encoder that does otherwise does not start.
func opusCaps(a media.AudioSpec) string {
	f := a.Format()
	if f.Channels == 2 {
		return "audio/x-opus"
	}
	return fmt.Sprintf("audio/x-opus,channels=%d,channel-mapping-family=255,stream-count=%d,coupled-count=%d", f.Channels, f.Streams, f.Coupled)
}
