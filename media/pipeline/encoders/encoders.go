// Package encoders is the table of video encoders: which GStreamer elements
// there are for a codec, and how each is told to encode with low latency. It
// is data; package pipeline acts by it. It imports package media only.
package encoders

import (
	"fmt"
	"strings"

	"fenrir/media"
)

// Entry is one row of the table: an encoder as a person would choose it.
type Entry struct {
	Name     string // stable, media.Encoder.Name
	Family   string // "nvenc", "vaapi" or "software"
	Codec    media.Codec
	Hardware bool
	// Elements are the ways to do it, most wanted first: generations of
	// GStreamer's plugins have different ones.
	Elements []Element
}

// Element is one GStreamer element that encodes.
type Element struct {
	Factory string
	Format  string   // of the raw pictures that it is given: "I420" or "NV12"
	Before  []string // what stands between source and encoder, as in gst-launch
	// Props are set once. An element that lacks a property goes without it.
	Props []Prop
	// Live are set before the start and again whenever the bitrate changes.
	Live []Prop
	// Moods are set whenever the picture's mood changes.
	Moods map[Mood][]Prop
	// Profiles of the stream, most wanted first; the first that the element
	// offers is asked for. Empty: the codec has none to choose.
	Profiles []string
	After    []string // what stands between encoder and sink, as in gst-launch
	Depth    int      // frames that are given to it at a time, 1 when 0
	// Ordered tells that it is told with each picture how to encode it, by package
	// rate, and knows no bitrate. Such an element has a Depth of 1.
	Ordered bool
}

// Mood is what the picture does.
type Mood uint8

// The moods.
const (
	Beginning Mood = iota // it begins to change, after it stood still
	Moving                // it has been changing for some frames
	Still                 // it does not change, and is to become good
)

// Prop is a property and the values to try, the first that its type takes is
// set. A value may contain the names of Params in braces.
type Prop struct {
	Name   string
	Values []string
}

func prop(name string, values ...string) Prop { return Prop{name, values} }

// Params fill in the values of properties.
type Params struct {
	Kbps   int // of the stream, at nominal frame rate
	FPS    int // nominal frames a second
	Cores  int // of the machine
	Pixels int // of a picture
}

// FrameBytes is what one frame may take, at nominal frame rate.
func (p Params) FrameBytes() int { return max(1000*p.Kbps/8/max(p.FPS, 1), 1) }

// Fill replaces the braces in a property's value.
func (p Params) Fill(value string) string {
	if !strings.Contains(value, "{") {
		return value
	}
	frameBits := 1000 * p.Kbps / max(p.FPS, 1)
	return strings.NewReplacer(
		"{kbps}", fmt.Sprint(p.Kbps),
		"{bps}", fmt.Sprint(1000*p.Kbps),
		"{threads}", fmt.Sprint(p.threads()),
		"{x264-kbps}", fmt.Sprint(p.Kbps*x264Boost/100),
		"{x264-vbv-ms}", fmt.Sprint(1080/max(p.FPS, 1)),
		"{frame-ms}", fmt.Sprint(max(1000/max(p.FPS, 1), 1)),
		"{frame-kbit}", fmt.Sprint(max(frameBits/1000, 1)),
		"{x264-preset}", p.x264Preset(),
		"{vp8-threads}", fmt.Sprint(p.vp8Threads()),
	).Replace(value)
}

// x264Boost makes up for what x264 leaves unused when its buffer holds one frame.
// Up to 1.1 frames it counts as a buffer for a single frame, which each frame
// may use up; with a larger one it leaves a third of the bitrate unused.
const x264Boost = 110

// threads is the number of slices that one frame is encoded in at once.
func (p Params) threads() int { return min(max(p.Cores, 1), 4) }

// x264Preset is the best one that leaves most of the machine to the program. At
// 10 Mbit/s, 720p60 and game-like motion they take 6.4, 8.8 and 13.3 ms of CPU
// time a frame for 36.4, 37.0 and 37.5 dB.
func (p Params) x264Preset() string {
	load := p.Pixels * p.FPS
	switch cores := p.Cores * 1280 * 720 * 60; {
	case cores >= 12*load:
		return "veryfast"
	case cores >= 6*load:
		return "superfast"
	}
	return "ultrafast"
}

// vp8Threads are few: libvpx's wait for each other by spinning, which on a busy
// machine costs more than it wins.
func (p Params) vp8Threads() int {
	if p.Pixels <= 1280*720 {
		return 1
	}
	return max(p.threads()/2, 2)
}

// caps of encoded streams.
var media2caps = map[media.Codec]string{
	media.H264: "video/x-h264,stream-format=byte-stream,alignment=au",
	media.H265: "video/x-h265,stream-format=byte-stream,alignment=au",
	media.AV1:  "video/x-av1,stream-format=obu-stream,alignment=tu",
	media.VP8:  "video/x-vp8",
	media.VP9:  "video/x-vp9",
}

// Caps describes the encoded stream of a codec to GStreamer.
func Caps(c media.Codec) string { return media2caps[c] }

// Find returns the entry of a name.
func Find(name string) (Entry, bool) {
	for _, e := range Table() {
		if e.Name == name {
			return e, true
		}
	}
	return Entry{}, false
}
