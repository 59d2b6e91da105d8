package browser

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
)

func isLoopback(ip net.IP) bool { return ip.IsLoopback() }

// clientInterceptors gives a client what browsers have: NACK, RTCP reports, TWCC.
func clientInterceptors(t *testing.T, m *webrtc.MediaEngine) *interceptor.Registry {
	t.Helper()
	r := &interceptor.Registry{}
	must(t, webrtc.RegisterDefaultInterceptors(m, r))
	return r
}

func TestPictureSoundAndInputOverUDP(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	if c.welcome.Codec != media.H264 || c.welcome.Version != 1 || c.welcome.Session.ID != "s1" || c.welcome.HeartbeatMs != 500 {
		t.Fatalf("welcome %+v", c.welcome)
	}
	begin := time.Now()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go att.play(ctx, 10*time.Millisecond, 3000)
	v := get(t, c.video, "video")
	get(t, c.audio, "audio")
	t.Logf("offer to first packet: %v", time.Since(begin))
	if v.PayloadType == 0 || v.SSRC == 0 {
		t.Fatalf("packet %v", v)
	}
	in, err := signaling.AppendInput(nil, media.Input{Kind: media.KeyDown, Key: 0x41})
	must(t, err)
	opened := make(chan struct{})
	c.input.OnOpen(func() { close(opened) })
	get(t, opened, "open channel")
	must(t, c.input.Send(in))
	got := get(t, att.inputs, "input")
	if got.Kind != media.KeyDown || got.Key != 0x41 || got.Received == 0 {
		t.Fatalf("input %+v", got)
	}
	c.send(signaling.Bye{Code: media.CauseLeft})
	if cause := get(t, att.detached, "detach"); cause.Code != media.CauseLeft {
		t.Fatalf("detached with %v", cause)
	}
	bye, ok := c.wait().(signaling.Bye)
	if !ok || bye.Code != media.CauseLeft {
		t.Fatalf("bye %+v", bye)
	}
}
