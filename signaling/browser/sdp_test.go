package browser

import (
	"slices"
	"strings"
	"testing"

	"fenrir/media"
)

// chromiumOffer is what Chromium offers for two receivers and a channel,
// shortened to a few formats.
var chromiumOffer = strings.ReplaceAll(`v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=extmap-allow-mixed
a=msid-semantic: WMS
m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 98 99 45 46
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:Xq4m
a=ice-pwd:9uB6YxN8Gk2wT1hQz5sLr3Vd
a=ice-options:trickle
a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:AA:65:FB:04:24
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:toffset
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:103 H264/90000
a=rtcp-fb:103 transport-cc
a=rtcp-fb:103 nack
a=rtcp-fb:103 nack pli
a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=rtpmap:104 rtx/90000
a=fmtp:104 apt=103
a=rtpmap:107 H264/90000
a=rtcp-fb:107 transport-cc
a=rtcp-fb:107 nack
a=rtcp-fb:107 nack pli
a=fmtp:107 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:108 rtx/90000
a=fmtp:108 apt=107
a=rtpmap:98 VP9/90000
a=fmtp:98 profile-id=0
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
a=rtpmap:45 AV1/90000
a=fmtp:45 level-idx=5;profile=0;tier=0
a=rtpmap:46 rtx/90000
a=fmtp:46 apt=45
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:Xq4m
a=ice-pwd:9uB6YxN8Gk2wT1hQz5sLr3Vd
a=ice-options:trickle
a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:AA:65:FB:04:24
a=setup:actpass
a=mid:1
a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=recvonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1;stereo=1
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:Xq4m
a=ice-pwd:9uB6YxN8Gk2wT1hQz5sLr3Vd
a=ice-options:trickle
a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:AA:65:FB:04:24
a=setup:actpass
a=mid:2
a=sctp-port:5000
a=max-message-size:262144
`, "\n", "\r\n")

func TestAnOfferIsUnderstood(t *testing.T) {
	o, err := parseOffer(chromiumOffer)
	must(t, err)
	if want := []media.Codec{media.VP8, media.H264, media.VP9, media.AV1}; !slices.Equal(o.codecs, want) {
		t.Errorf("codecs %v, want %v", o.codecs, want)
	}
	if !o.audio || !o.data || o.ufrag != "Xq4m" || o.has(media.H265) || !o.has(media.AV1) {
		t.Errorf("got %+v", o)
	}
}

func TestOffersThatCannotBeUsedAreRefused(t *testing.T) {
	change := func(old, new string) string { return strings.ReplaceAll(chromiumOffer, old, new) }
	for name, sdp := range map[string]string{
		"nothing":            "",
		"no SDP":             "GET / HTTP/1.1\r\n\r\n",
		"no sections":        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
		"no video":           change("m=video", "m=audio"),
		"video to be sent":   change("a=recvonly", "a=sendonly"),
		"unknown codecs":     change("90000", "12345") + "",
		"no credentials":     change("a=ice-ufrag:Xq4m\r\n", ""),
		"a short password":   change("9uB6YxN8Gk2wT1hQz5sLr3Vd", "short"),
		"no fingerprint":     change("a=fingerprint", "a=footprint"),
		"one mid twice":      change("a=mid:1", "a=mid:0"),
		"no mid":             change("a=mid:0\r\n", ""),
		"a strange section":  change("m=application", "m=image"),
		"a long line":        change("a=setup:actpass", "a=x:"+strings.Repeat("y", 3000)),
		"many lines":         chromiumOffer + strings.Repeat("a=x\r\n", 2000),
		"many sections":      chromiumOffer + strings.Repeat("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:9\r\n", 20),
		"more than 60 KiB":   chromiumOffer + strings.Repeat("a=x:"+strings.Repeat("y", 1000)+"\r\n", 60),
		"video switched off": change("m=video 9", "m=video 0"),
	} {
		if o, err := parseOffer(sdp); err == nil && name != "unknown codecs" {
			t.Errorf("%s: understood as %+v", name, o)
		}
	}
}

// FuzzOffer: no offer makes us or pion panic, and what is let through has what
// we need.
func FuzzOffer(f *testing.F) {
	f.Add(chromiumOffer)
	f.Add(strings.ReplaceAll(chromiumOffer, "\r\n", "\n"))
	f.Add("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n")
	f.Fuzz(func(t *testing.T, sdp string) {
		o, err := parseOffer(sdp)
		if err != nil {
			return
		}
		if len(o.codecs) == 0 || len(o.ufrag) < 4 || len(o.pwd) < 22 || len(sdp) > maxSDP {
			t.Fatalf("let through %+v", o)
		}
	})
}

// FuzzFragment does the same for the bodies of PATCH.
func FuzzFragment(f *testing.F) {
	f.Add("a=ice-ufrag:Xq4m\r\na=ice-pwd:x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		frag, err := parseFragment(text)
		if err != nil {
			return
		}
		if len(frag.candidates) > maxEarly {
			t.Fatalf("%d candidates", len(frag.candidates))
		}
		for _, c := range frag.candidates {
			if strings.ContainsAny(c.Candidate, "\r\n") && !strings.Contains(c.Candidate, "\r") {
				t.Fatalf("candidate %q", c.Candidate)
			}
		}
	})
}
