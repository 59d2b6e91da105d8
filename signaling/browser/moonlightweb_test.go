package browser

import (
	"strings"
	"testing"
)

const wishes = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
	"a=x-moonlight-app-id:77\r\na=x-moonlight-mode:1281x721x60\r\na=x-moonlight-bitrate:10000\r\na=x-moonlight-hdr:0\r\na=x-moonlight-control:enet\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"

func TestWishes(t *testing.T) {
	want := Wish{App: 77, Width: 1280, Height: 720, FPS: 60, Kbps: 10000}
	if got, err := parseWish(wishes); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for from, to := range map[string]string{
		"app-id:77": "app-id:0", "mode:1281x721x60": "mode:1281x721", "bitrate:10000": "bitrate:many", "hdr:0": "hdr:1",
		"a=x-moonlight-app-id:77\r\n": "", "1281x": "99999x",
	} {
		if got, err := parseWish(strings.Replace(wishes, from, to, 1)); err == nil {
			t.Errorf("with %q for %q: %+v", to, from, got)
		}
	}
	// Only the session level counts.
	if _, err := parseWish("v=0\r\nm=video 9 x 96\r\n" + strings.SplitAfterN(wishes, "t=0 0\r\n", 2)[1]); err == nil {
		t.Error("attributes of a section are taken")
	}
}

func TestAnswersNameTheProgram(t *testing.T) {
	got := withAttributes("v=0\r\ns=-\r\nt=0 0\r\nm=video 9 x 96\r\n", "A\r\na=evil:1")
	if want := "v=0\r\ns=-\r\nt=0 0\r\na=x-moonlight-app-name:A  a=evil:1\r\na=x-moonlight-microphone:0\r\nm=video 9 x 96\r\n"; got != want {
		t.Errorf("got %q", got)
	}
}

func FuzzWish(f *testing.F) {
	f.Add(wishes)
	f.Fuzz(func(t *testing.T, sdp string) {
		w, err := parseWish(sdp)
		if err == nil && (w.App < 1 || w.Width < leastWish || w.Width > mostWish || w.Height < leastWish || w.FPS < 1 || w.Kbps < 1) {
			t.Fatalf("%q makes %+v", sdp, w)
		}
	})
}
