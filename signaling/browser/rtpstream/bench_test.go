package rtpstream

import (
	"fmt"
	"testing"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
)

const fecSSRC = 4321

// bound is what pion gives to Bind.
type bound struct {
	codecs []webrtc.RTPCodecParameters
	ext    []webrtc.RTPHeaderExtensionParameter
	out    writer
}

func (b bound) CodecParameters() []webrtc.RTPCodecParameters           { return b.codecs }
func (b bound) HeaderExtensions() []webrtc.RTPHeaderExtensionParameter { return b.ext }
func (b bound) SSRC() webrtc.SSRC                                      { return 1234 }
func (b bound) SSRCRetransmission() webrtc.SSRC                        { return 0 }
func (b bound) SSRCForwardErrorCorrection() webrtc.SSRC                { return fecSSRC }
func (b bound) WriteStream() webrtc.TrackLocalWriter                   { return b.out }
func (b bound) ID() string                                             { return "x" }
func (b bound) RTCPReader() interceptor.RTCPReader                     { return nil }

type writer func(*rtp.Header, []byte) (int, error)

func (w writer) WriteRTP(h *rtp.Header, p []byte) (int, error) { return w(h, p) }
func (w writer) Write([]byte) (int, error)                     { panic("not used") }

// newBound makes a Track whose packets go to out, with all extensions.
func newBound(t testing.TB, codec media.Codec, out writer) *Track {
	t.Helper()
	tr, err := NewTrack(codec)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tr.Bind(bound{
		codecs: []webrtc.RTPCodecParameters{
			{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: MimeTypes[codec]}, PayloadType: 96},
			{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeFlexFEC03}, PayloadType: 99},
		},
		ext: []webrtc.RTPHeaderExtensionParameter{{URI: URIPlayoutDelay, ID: 5}, {URI: URIAbsCaptureTime, ID: 6}, {URI: sdp.TransportCCURI, ID: 7}},
		out: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// What a frame costs between the fan-out and the socket: 40 kB is 20 Mbit/s at 60 fps.
func BenchmarkSend(b *testing.B) {
	for _, codec := range []media.Codec{media.H264, media.H265, media.AV1, media.VP8, media.VP9} {
		u := sampleUnit(codec, 40_000)
		b.Run(fmt.Sprintf("%s/packetise", codec), func(b *testing.B) {
			tr := newBound(b, codec, func(*rtp.Header, []byte) (int, error) { return 0, nil })
			b.ReportAllocs()
			for b.Loop() {
				u.Stages.Captured += 16_666_667
				if err := tr.Send(b.Context(), &u); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%s/packetise+parity", codec), func(b *testing.B) {
			tr := newBound(b, codec, func(*rtp.Header, []byte) (int, error) { return 0, nil })
			tr.SetParity(0.1)
			b.ReportAllocs()
			for b.Loop() {
				u.Stages.Captured += 16_666_667
				if err := tr.Send(b.Context(), &u); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%s/packetise+SRTP", codec), func(b *testing.B) {
			ctx, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
			if err != nil {
				b.Fatal(err)
			}
			var plain, sealed []byte
			tr := newBound(b, codec, func(h *rtp.Header, p []byte) (int, error) {
				n := h.MarshalSize()
				if cap(plain) < n+len(p) {
					plain = make([]byte, 2048)
				}
				plain = plain[:n+len(p)]
				if _, err := h.MarshalTo(plain); err != nil {
					return 0, err
				}
				copy(plain[n:], p)
				sealed, err = ctx.EncryptRTP(sealed[:cap(sealed)], plain, h)
				return len(sealed), err
			})
			b.ReportAllocs()
			for b.Loop() {
				u.Stages.Captured += 16_666_667
				if err := tr.Send(b.Context(), &u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
