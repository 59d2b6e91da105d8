package browser

import (
	"fmt"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
)

// Header extensions that we send.
const (
	uriPlayoutDelay   = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
	uriAbsCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
	uriTransportCC    = sdp.TransportCCURI
	uriMid            = sdp.SDESMidURI
)

// nackPackets is how many sent packets are kept for retransmission: a second
// at 40 Mbit/s. Must be a power of two.
const nackPackets = 4096

// maxMessage bounds one message on a data channel, both ways, bytes.
const maxMessage = 256 << 10

// mimeTypes are pion's names of our codecs.
var mimeTypes = map[media.Codec]string{
	media.H264: webrtc.MimeTypeH264,
	media.H265: webrtc.MimeTypeH265,
	media.AV1:  webrtc.MimeTypeAV1,
	media.VP8:  webrtc.MimeTypeVP8,
	media.VP9:  webrtc.MimeTypeVP9,
	media.Opus: webrtc.MimeTypeOpus,
}

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
// packet last, so that it numbers retransmissions too.
func (s *Server) newPeerConnection(codec media.Codec, path interceptor.Factory) (*webrtc.PeerConnection, error) {
	engine, err := newMediaEngine(codec)
	if err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	registry.Add(path)
	responder, err := nack.NewResponderInterceptor(
		nack.ResponderSize(nackPackets), nack.WithResponderLoggerFactory(pionLog{s.Log}))
	if err != nil {
		return nil, err
	}
	registry.Add(responder)

	api := webrtc.NewAPI(
		webrtc.WithMediaEngine(engine),
		webrtc.WithInterceptorRegistry(registry),
		webrtc.WithSettingEngine(s.settings()),
	)
	return api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
}

func (s *Server) settings() webrtc.SettingEngine {
	var e webrtc.SettingEngine
	e.LoggerFactory = pionLog{s.Log}
	e.DetachDataChannels()
	e.SetICETimeouts(iceDisconnected, iceFailed, iceKeepAlive)
	e.SetNetworkTypes(s.networks)
	e.SetIncludeLoopbackCandidate(s.Network.Loopback)
	if s.Network.Interfaces != nil {
		e.SetInterfaceFilter(s.Network.Interfaces)
	}
	if len(s.Network.NAT1To1) > 0 {
		e.SetNAT1To1IPs(s.Network.NAT1To1, webrtc.ICECandidateTypeHost)
	}
	if s.udp != nil {
		e.SetICEUDPMux(s.udp)
	}
	if s.tcp != nil {
		e.SetICETCPMux(s.tcp)
	}
	// The server never dials: a client must not make it connect anywhere.
	e.DisableActiveTCP(true)
	// Names like x.local need a socket of their own to be resolved; browsers
	// that hide behind them are found as peer-reflexive.
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetSCTPMaxMessageSize(maxMessage)
	return e
}

func newMediaEngine(codec media.Codec) (*webrtc.MediaEngine, error) {
	engine := &webrtc.MediaEngine{}
	lines, ok := formats[codec]
	if !ok {
		return nil, fmt.Errorf("video codec %q is not one we can send", codec)
	}
	feedback := []webrtc.RTCPFeedback{{Type: "transport-cc"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	pt := webrtc.PayloadType(96)
	for _, line := range lines {
		err := engine.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: mimeTypes[codec], ClockRate: 90000, SDPFmtpLine: line, RTCPFeedback: feedback},
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
		uriTransportCC:    {webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio},
		uriMid:            {webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio},
		uriAbsCaptureTime: {webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio},
		uriPlayoutDelay:   {webrtc.RTPCodecTypeVideo},
	} {
		for _, kind := range kinds {
			if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind, webrtc.RTPTransceiverDirectionSendonly); err != nil {
				return nil, err
			}
		}
	}
	return engine, nil
}
