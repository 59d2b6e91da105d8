package rtsp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fenrir/media"
)

// Encryption is a set of streams that are sealed.
type Encryption int

// The streams.
const (
	SealControl Encryption = 1
	SealVideo   Encryption = 2
	SealAudio   Encryption = 4
)

// Offer is what clients are told that they can have.
type Offer struct {
	Codecs    []media.Codec // H.264 is always there
	Supported Encryption    // what a client may want
	Requested Encryption    // what it is asked for, of that
}

// codecMarks are the words by which clients know that a codec is there.
var codecMarks = map[media.Codec]string{
	media.H265: "sprop-parameter-sets=AAAAAU\n",
	media.AV1:  "a=rtpmap:98 AV1/90000\n",
}

// describe is the answer to DESCRIBE. Clients look for words in it.
func (o Offer) describe() string {
	var b strings.Builder
	// No touch, pen, touchpads or motion: clients then send what there is instead.
	fmt.Fprintf(&b, "a=x-ss-general.featureFlags:0\na=x-ss-general.encryptionSupported:%d\na=x-ss-general.encryptionRequested:%d\n", o.Supported, o.Requested)
	for _, c := range o.Codecs {
		b.WriteString(codecMarks[c])
	}
	for _, n := range [...]int{2, 6, 8} {
		fmt.Fprintf(&b, "a=fmtp:97 surround-params=%s\n", surround(media.AudioSpec{Channels: n}.Format()))
	}
	return b.String()
}

// surround describes a layout of channels: digits for the channels, the streams, the
// stereo ones, and for each loudspeaker the channel that it plays. Clients expect the
// low frequencies last and put them in the fourth place.
func surround(f media.AudioFormat) string {
	mapping := slices.Clone(f.Mapping)
	if f.Channels > 2 {
		low := mapping[3]
		mapping = append(append(mapping[:3:3], f.Mapping[4:]...), low)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d%d%d", f.Channels, f.Streams, f.Coupled)
	for _, m := range mapping {
		fmt.Fprintf(&b, "%d", m)
	}
	return b.String()
}

// Config is what the client wants, in ANNOUNCE.
type Config struct {
	Codec         media.Codec
	Width, Height int // pixels, even
	FPS           int
	BudgetKbps    int // all of the stream on the wire
	PacketSize    int // bytes, av.VideoConfig's
	MinParity     int
	Slices        int
	Seal          Encryption
	Channels      int // 2, 6 or 8
	FrameMs       int // of sound, 5 or 10
}

// Bounds of what clients may want.
const (
	leastSide, mostSide = 64, 7680 // pixels
	mostPixels          = 3840 * 2160
	mostFPS             = 240
	leastKbps, mostKbps = 500, 500_000
	leastPacket         = 256
	mostPacket          = 1456
)

var formats = []media.Codec{media.H264, media.H265, media.AV1}

// attributes reads the lines of an ANNOUNCE.
func attributes(body string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(body) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if name, is := strings.CutPrefix(name, "a="); ok && is {
			all[name] = strings.TrimSpace(value)
		}
	}
	return all
}

// configure makes a Config of an ANNOUNCE. The error says what cannot be done.
func (o Offer) configure(body string) (c Config, err error) {
	all := attributes(body)
	var wrong []string
	number := func(name string, missing, least, most int) int {
		text, there := all[name]
		if !there {
			return missing
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not from %d to %d", name, text, least, most))
		}
		return n
	}
	c = Config{
		Width:      number("x-nv-video[0].clientViewportWd", 0, leastSide, mostSide) &^ 1,
		Height:     number("x-nv-video[0].clientViewportHt", 0, leastSide, mostSide) &^ 1,
		FPS:        number("x-nv-video[0].maxFPS", 60, 1, mostFPS),
		PacketSize: number("x-nv-video[0].packetSize", 1024, leastPacket, mostPacket),
		MinParity:  min(number("x-nv-vqos[0].fec.minRequiredFecPackets", 0, 0, 255), 2),
		Slices:     max(number("x-nv-video[0].videoEncoderSlicesPerFrame", 1, 0, 32), 1),
		Seal:       Encryption(number("x-ss-general.encryptionEnabled", 0, 0, 7)),
		Channels:   number("x-nv-audio.surround.numChannels", 2, 2, 8),
		FrameMs:    number("x-nv-aqos.packetDuration", 5, 5, 10),
	}
	if number("x-nv-general.featureFlags", 0, 0, 1<<30)&0x20 != 0 {
		c.Seal |= SealAudio
	}
	c.BudgetKbps = number("x-ml-video.configuredBitrateKbps", 0, leastKbps, mostKbps)
	if c.BudgetKbps == 0 { // what is left of it for the encoder
		c.BudgetKbps = number("x-nv-vqos[0].bw.maximumBitrateKbps", 10_000, leastKbps, mostKbps) * 5 / 4
	}
	c.Codec = formats[min(max(number("x-nv-vqos[0].bitStreamFormat", 0, 0, len(formats)-1), 0), len(formats)-1)]
	for _, more := range [...]string{"x-nv-video[0].dynamicRangeMode", "x-ss-video[0].chromaSamplingType"} {
		number(more, 0, 0, 0) // neither HDR nor 4:4:4
	}
	refuse := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	refuse(c.Width == 0 || c.Height == 0 || c.Width*c.Height > mostPixels, "a picture of %d×%d", c.Width, c.Height)
	refuse(!slices.Contains(o.Codecs, c.Codec), "no encoder for %s", c.Codec)
	refuse(c.Channels != 2 && c.Channels != 6 && c.Channels != 8, "%d channels", c.Channels)
	refuse(c.FrameMs != 5 && c.FrameMs != 10, "sound in packets of %d ms", c.FrameMs)
	refuse(c.PacketSize%16 != 0, "packets of %d bytes", c.PacketSize)
	refuse(c.Seal&^o.Supported != 0, "encryption %d", c.Seal)
	if len(wrong) > 0 {
		return Config{}, fmt.Errorf("the stream cannot be had: %s", strings.Join(wrong, ", "))
	}
	return c, nil
}

// Sound is how the sound of the stream is made.
func (c Config) Sound() media.AudioSpec {
	kbps := map[int]int{2: 160, 6: 320, 8: 450}[c.Channels]
	return media.AudioSpec{Kbps: kbps, FrameMs: c.FrameMs, Channels: c.Channels, Constant: true}
}

// VideoKbps is what of the budget is left for pictures with so many percent of
// parity, after sound and what packets cost.
func (c Config) VideoKbps(percent int) int {
	b := c.BudgetKbps * 100 / (100 + percent)
	b -= min(c.Channels*96, b/5)
	return b - min(500, b/10)
}
