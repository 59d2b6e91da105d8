package media

import (
	"fmt"
	"slices"
)

// AudioSpec asks for the session's sound as Opus, 48 kHz. Equal ones are one stream.
type AudioSpec struct {
	Kbps     int  // of all channels together, 6…510
	FrameMs  int  // 5, 10 or 20
	Channels int  `json:",omitempty"` // 2, 6 (5.1) or 8 (7.1); 0 is 2
	Constant bool `json:",omitempty"` // all packets have one length, and there are some in silence, too (hard CBR)
}

// Check says what of a is out of range.
func (a AudioSpec) Check() error {
	switch {
	case a.Kbps < 6 || a.Kbps > 510:
		return fmt.Errorf("sound of %d kbit/s cannot be made: 6…510", a.Kbps)
	case a.FrameMs != 5 && a.FrameMs != 10 && a.FrameMs != 20:
		return fmt.Errorf("sound in packets of %d ms cannot be made: 5, 10 or 20", a.FrameMs)
	case a.Channels != 0 && a.Channels != 2 && a.Channels != 6 && a.Channels != 8:
		return fmt.Errorf("sound of %d channels cannot be made: 2, 6 or 8", a.Channels)
	}
	return nil
}

// Format is how packets of a are made.
func (a AudioSpec) Format() AudioFormat {
	f := AudioFormat{FrameMs: a.FrameMs, Constant: a.Constant}
	layout := layouts[0]
	for _, l := range layouts {
		if l.Channels == a.Channels {
			layout = l
		}
	}
	f.Channels, f.Streams, f.Coupled, f.Mapping = layout.Channels, layout.Streams, layout.Coupled, slices.Clone(layout.Mapping)
	return f
}

// AudioFormat is what a decoder of a session's Opus packets must know.
type AudioFormat struct {
	Channels int
	FrameMs  int  // length of a packet
	Constant bool // all packets have one length, in bytes
	// A packet holds Streams streams, of which the first Coupled are stereo. Decoded,
	// these give the channels 0 and 1, 2 and 3, …, and each of the others one more.
	Streams, Coupled int
	// Mapping says which of these each loudspeaker plays. The order of loudspeakers is
	// front left, front right, centre, low frequencies, back left, back right, side
	// left, side right.
	Mapping []uint8
}

// layouts are one mono stream for each loudspeaker: encoders that couple some of
// them do it in ways of their own, and GStreamer's tells another than it does where
// there are eight.
var layouts = [...]AudioFormat{
	{Channels: 2, Streams: 1, Coupled: 1, Mapping: []uint8{0, 1}},
	{Channels: 6, Streams: 6, Mapping: []uint8{0, 1, 2, 3, 4, 5}},
	{Channels: 8, Streams: 8, Mapping: []uint8{0, 1, 2, 3, 4, 5, 6, 7}},
}
