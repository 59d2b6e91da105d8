//go:build cgo

package pipeline

import (
	"fmt"
	"strings"

	"fenrir/media"
)

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
	const raw = "audio/x-raw,format=S16LE,rate=48000,channels=%d"
	if card == 2 && channels == 2 {
		return fmt.Sprintf(raw, 2)
	}
	masks := map[int]string{2: ",channel-mask=(bitmask)0x3", 6: ",channel-mask=(bitmask)0x3f", 8: ",channel-mask=(bitmask)0xc3f"}
	way := fmt.Sprintf(raw+"%s", card, masks[card])
	if card != channels {
		way += fmt.Sprintf(" ! audioconvert mix-matrix=\"<%s>\" ! "+raw+"%s", matrix(card, channels), channels, masks[channels])
	}
	if channels > 2 {
		// Of no known place, so that the encoder takes them as they come.
		way += " ! capssetter caps=\"audio/x-raw,channel-mask=(bitmask)0x0\""
	}
	return way
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
