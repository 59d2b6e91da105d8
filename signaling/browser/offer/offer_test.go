package offer

import (
	_ "embed"
	"slices"
	"strings"
	"testing"

	"fenrir/media"
)

// chromiumOffer is what Chromium offers for two receivers and a channel,
// shortened to a few formats.
var chromiumOffer = strings.ReplaceAll(chromiumSDP, "\n", "\r\n")

//go:embed testdata/chromium-offer.sdp
var chromiumSDP string

func TestAnOfferIsUnderstood(t *testing.T) {
	o, err := Parse(chromiumOffer)
	if err != nil {
		t.Fatal(err)
	}
	if want := []media.Codec{media.VP8, media.H264, media.VP9, media.AV1}; !slices.Equal(o.Codecs, want) {
		t.Errorf("codecs %v, want %v", o.Codecs, want)
	}
	if !o.Audio || !o.Data || o.Ufrag != "Xq4m" || o.Has(media.H265) || !o.Has(media.AV1) {
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
		if o, err := Parse(sdp); err == nil && name != "unknown codecs" {
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
		o, err := Parse(sdp)
		if err != nil {
			return
		}
		if len(o.Codecs) == 0 || len(o.Ufrag) < 4 || len(o.Pwd) < 22 || len(sdp) > MaxSize {
			t.Fatalf("let through %+v", o)
		}
	})
}
