//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// newestEvent reads the playground's newest event off a screenshot.
func (s *server) newestEvent(sid string) (kind, value int) {
	s.t.Helper()
	img, err := png.Decode(bytes.NewReader(s.must("GET", "/api/sessions/"+sid+"/screenshot", nil, http.StatusOK, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	number := func(from, n int) (v int) {
		for c := from; c < from+n; c++ {
			r, g, b, _ := img.At(c*16+8, 16+8).RGBA()
			v *= 2
			if (r+g+b)/3 > 0x7fff {
				v++
			}
		}
		return v
	}
	return number(10, 4), number(14, 20)
}

// TestMoonlightWebPage replays what the page of moonlight-web does: it logs in, asks
// for hosts and programs, and streams, with its keys in the one data channel that we
// make.
func TestMoonlightWebPage(t *testing.T) {
	s := start(t, options{config: "[moonlight_web]\nenabled = true\n"})
	s.setup()
	const prefix = "/moonlight-web"
	jar, err := cookiejar.New(nil)
	do(t, "jar", err)
	page := &http.Client{Jar: jar, Transport: s.http.Transport, Timeout: 10 * time.Second}
	call := func(method, path, kind, body string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		do(t, path, err)
		req.Header.Set("Origin", s.url)
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		resp, err := page.Do(req)
		do(t, path, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		do(t, path, err)
		return resp, string(b)
	}
	want := func(status int, method, path, body string) string {
		t.Helper()
		resp, b := call(method, s.url+prefix+path, "application/json", body)
		if resp.StatusCode != status {
			t.Fatalf("%s %s: status %d: %s", method, path, resp.StatusCode, b)
		}
		return b
	}
	want(http.StatusUnauthorized, "GET", "/api/authenticate", "")
	want(http.StatusOK, "POST", "/api/login", fmt.Sprintf(`{"name":%q,"password":%q}`, adminName, adminPassword))
	want(http.StatusOK, "GET", "/api/authenticate", "")
	if rows := strings.Split(strings.TrimSpace(want(http.StatusOK, "GET", "/api/hosts", "")), "\n"); len(rows) != 2 {
		t.Errorf("hosts are %q", rows)
	}
	var list struct {
		Apps []struct {
			ID    uint32 `json:"app_id"`
			Title string
		}
	}
	do(t, "programs", json.Unmarshal([]byte(want(http.StatusOK, "GET", "/api/apps?host_id=1", "")), &list))
	var program uint32
	for _, a := range list.Apps {
		if a.Title == "Playground" {
			program = a.ID
		}
	}
	if picture := want(http.StatusOK, "GET", fmt.Sprintf("/api/app/image?host_id=1&app_id=%d", program), ""); !strings.HasPrefix(picture, "\x89PNG") {
		t.Error("the picture is none")
	}
	const endpoint = prefix + "/api/host/stream/webrtc"
	if resp, _ := call("OPTIONS", s.url+endpoint, "", ""); resp.StatusCode != http.StatusOK || resp.Header.Get("Accept-Post") != "application/sdp" {
		t.Errorf("OPTIONS: %d %v", resp.StatusCode, resp.Header)
	}

	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	do(t, "peer connection", err)
	defer pc.Close()
	var packets atomic.Int64
	control, ended := make(chan *webrtc.DataChannel, 1), make(chan uint32, 4)
	pc.OnTrack(func(tr *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := tr.ReadRTP(); err != nil {
				return
			}
			if tr.Kind() == webrtc.RTPCodecTypeVideo {
				packets.Add(1)
			}
		}
	})
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		dc.OnMessage(func(m webrtc.DataChannelMessage) {
			if len(m.Data) == 8 && binaryLE(m.Data) == 0x0109 {
				ended <- uint32(m.Data[4])<<24 | uint32(m.Data[5])<<16 | uint32(m.Data[6])<<8 | uint32(m.Data[7])
			}
		})
		dc.OnOpen(func() { control <- dc })
	})
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		_, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		do(t, "transceiver", err)
	}
	_, err = pc.CreateDataChannel("dummy", nil)
	do(t, "dummy channel", err)
	offer, err := pc.CreateOffer(nil)
	do(t, "offer", err)
	do(t, "local description", pc.SetLocalDescription(offer))
	asked := strings.Replace(offer.SDP, "\r\nm=", fmt.Sprintf("\r\na=x-moonlight-host-id:1\r\na=x-moonlight-app-id:%d\r\na=x-moonlight-mode:1280x720x60\r\na=x-moonlight-bitrate:8000\r\na=x-moonlight-hdr:0\r\na=x-moonlight-control:enet\r\nm=", program), 1)
	began := time.Now()
	resp, answer := call("POST", s.url+endpoint, "application/sdp", asked)
	took := time.Since(began)
	if resp.StatusCode != http.StatusCreated || !strings.HasPrefix(resp.Header.Get("Location"), endpoint+"/") || !strings.Contains(answer, "a=x-moonlight-app-name:Playground\r\n") || !strings.Contains(answer, "a=candidate:") {
		t.Fatalf("POST: %d, Location %q: %s", resp.StatusCode, resp.Header.Get("Location"), answer)
	}
	if took > 2*time.Second {
		t.Errorf("the answer took %v", took)
	}
	do(t, "remote description", pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}))
	resource := s.url + resp.Header.Get("Location")
	var channel *webrtc.DataChannel
	select {
	case channel = <-control:
	case <-time.After(10 * time.Second):
		t.Fatal("there is no control channel")
	}
	if channel.Label() != "moonlight.control" || !channel.Ordered() || channel.Protocol() != "" {
		t.Errorf("the channel is %q, ordered %v, %q", channel.Label(), channel.Ordered(), channel.Protocol())
	}
	until(t, 10*time.Second, "pictures", func() bool { return packets.Load() > 100 })
	var sessions struct{ Sessions []session }
	s.must("GET", "/api/sessions", nil, http.StatusOK, &sessions)
	sid := sessions.Sessions[0].ID
	for _, m := range [][]byte{
		{2, 3, 2, 0, 0, 0}, // a key frame, please
		{0, 2, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0},
		{6, 2, 14, 0, 0, 0, 0, 10, 3, 0, 0, 0, 0, vkA, 0x80, 0, 0, 0}, // the key A
	} {
		do(t, "control packet", channel.Send(m))
	}
	until(t, 5*time.Second, "the key is seen", func() bool {
		kind, value := s.newestEvent(sid)
		return kind == keyDown && value == xKeyA || kind == 6 && value == 'a'
	})
	if resp, _ := call("PATCH", resource, "application/trickle-ice-sdpfrag", "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("PATCH: %d", resp.StatusCode)
	}
	for _, one := range []struct {
		method, kind string
		status       int
	}{{"GET", "", http.StatusMethodNotAllowed}, {"PATCH", "text/plain", http.StatusUnsupportedMediaType}} {
		if resp, _ := call(one.method, resource, one.kind, ""); resp.StatusCode != one.status {
			t.Errorf("%s: %d, want %d", one.method, resp.StatusCode, one.status)
		}
	}
	want(http.StatusOK, "POST", "/api/host/cancel", `{"host_id":1}`)
	select {
	case reason := <-ended:
		if reason != 0x80030023 {
			t.Errorf("it was told %#x", reason)
		}
	case <-time.After(3 * time.Second):
		t.Error("the page was not told that it is over")
	}
	if resp, _ := call("DELETE", resource, "", ""); resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %d", resp.StatusCode)
	}
	until(t, 6*time.Second, "nothing is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
}

func binaryLE(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }
