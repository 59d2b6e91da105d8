package rtpstream

import (
	"fmt"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"fenrir/media"
)

// payloadMTU is how many payload bytes a packet takes. With RTP header,
// extensions, SRTP tag, and the headers of TURN, UDP and IPv6 it stays below
// 1280 bytes, which every network carries.
const payloadMTU = 1150

// newPayloader makes the packetiser of one stream.
func newPayloader(codec media.Codec) (rtp.Payloader, error) {
	switch codec {
	case media.H264:
		return &codecs.H264Payloader{}, nil
	case media.H265:
		return &codecs.H265Payloader{}, nil
	case media.AV1:
		return &codecs.AV1Payloader{}, nil
	case media.VP8:
		return &codecs.VP8Payloader{EnablePictureID: true}, nil
	case media.VP9:
		return &codecs.VP9Payloader{FlexibleMode: true}, nil
	}
	return nil, fmt.Errorf("no packetiser for codec %q", codec)
}
