package peer

import (
	"fmt"

	"github.com/pion/interceptor"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling/browser/ports"
	"fenrir/signaling/browser/rtpstream"
)

// formats are the fmtp lines with which a codec may be offered to us. The
// payload types are placeholders: the offer brings its own.
var formats = map[media.Codec][]string{
	media.H264: {
		"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
		"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
		"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
		"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f",
		"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
	},
	media.H265: {"level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST", ""},
	media.AV1:  {"level-idx=5;profile=0;tier=0", ""},
	media.VP9:  {"profile-id=0"},
	media.VP8:  {""},
}

// newPeerConnection makes a PeerConnection that sends video in exactly this
// codec, and Opus. Everything about it is this peer's own. path sees every
// packet last, so that it numbers what responder sends again too; reports is told
// of the tracks before the connection stands.
func newPeerConnection(p *ports.Ports, codec media.Codec, path, responder interceptor.Factory, reports *reports) (*webrtc.PeerConnection, error) {
	engine, err := newMediaEngine(codec)
	if err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	registry.Add(path)
	registry.Add(responder)

	settings := p.Settings()
	settings.BufferFactory = reports.buffer

	api := webrtc.NewAPI(
		webrtc.WithMediaEngine(engine),
		webrtc.WithInterceptorRegistry(registry),
		webrtc.WithSettingEngine(settings),
	)
	return api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
}

func newMediaEngine(codec media.Codec) (*webrtc.MediaEngine, error) {
	engine := &webrtc.MediaEngine{}
	lines, ok := formats[codec]
	if !ok {
		return nil, fmt.Errorf("video codec %q is not one we can send", codec)
	}
	feedback := []webrtc.RTCPFeedback{{Type: "transport-cc"}, {Type: "rrtr"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	pt := webrtc.PayloadType(96)
	for _, line := range lines {
		err := engine.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: rtpstream.MimeTypes[codec], ClockRate: 90000, SDPFmtpLine: line, RTCPFeedback: feedback},
			PayloadType:        pt,
		}, webrtc.RTPCodecTypeVideo)
		if err != nil {
			return nil, err
		}
		err = engine.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", pt)},
			PayloadType:        pt + 1,
		}, webrtc.RTPCodecTypeVideo)
		if err != nil {
			return nil, err
		}
		pt += 2
	}
	err := engine.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeFlexFEC03, ClockRate: 90000, SDPFmtpLine: "repair-window=10000000",
			RTCPFeedback: []webrtc.RTCPFeedback{{Type: "transport-cc"}},
		},
		PayloadType: pt,
	}, webrtc.RTPCodecTypeVideo)
	if err != nil {
		return nil, err
	}
	err = engine.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2,
			SDPFmtpLine:  "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1",
			RTCPFeedback: []webrtc.RTCPFeedback{{Type: "transport-cc"}},
		},
		PayloadType: 111,
	}, webrtc.RTPCodecTypeAudio)
	if err != nil {
		return nil, err
	}
	for uri, kinds := range map[string][]webrtc.RTPCodecType{
		sdp.TransportCCURI:          {webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio},
		rtpstream.URIAbsCaptureTime: {webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio},
		rtpstream.URIPlayoutDelay:   {webrtc.RTPCodecTypeVideo},
	} {
		for _, kind := range kinds {
			if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind, webrtc.RTPTransceiverDirectionSendonly); err != nil {
				return nil, err
			}
		}
	}
	return engine, nil
}
