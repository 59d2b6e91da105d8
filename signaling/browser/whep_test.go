package browser

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling/browser/peer"
	"fenrir/signaling/browser/ports"
)

func (b *bench) request(method, path, contentType, body string, header ...string) (*http.Response, string) {
	b.t.Helper()
	url := path
	if !strings.HasPrefix(path, "http") {
		url = b.http.URL + path
	}
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	must(b.t, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(r)
	must(b.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(b.t, err)
	return resp, string(text)
}

// player is a WHEP client: no websocket, no data channels.
func (b *bench) player() *client {
	c := &client{t: b.t, b: b, done: make(chan struct{})}
	c.init()
	c.ws = nil
	c.makePC(clientConfig{bare: true})
	b.t.Cleanup(c.close)
	return c
}

const whepPath = "/api/sessions/s1/whep"

func TestAPlayerWatchesOverWHEP(t *testing.T) {
	b := newBench(t, func(s *Server) {
		s.Network.ICEServers = func(peer string) []ICEServer {
			return []ICEServer{{URLs: []string{"turn:turn.example.org?transport=udp"}, Username: "u:" + peer, Credential: "c"}}
		}
	})
	resp, _ := b.request("OPTIONS", whepPath, "", "")
	if resp.StatusCode != 204 || resp.Header.Get("Accept-Post") != "application/sdp" || !strings.HasPrefix(resp.Header.Get("Link"), `<turn:turn.example.org?transport=udp>; rel="ice-server"; username="u:`) {
		t.Errorf("OPTIONS: %d %v", resp.StatusCode, resp.Header)
	}

	c := b.player()
	o, err := c.pc.CreateOffer(nil)
	must(t, err)
	must(t, c.pc.SetLocalDescription(o))
	begin := time.Now()
	resp, answer := b.request("POST", whepPath, "application/sdp; charset=utf-8", o.SDP)
	if resp.StatusCode != 201 {
		t.Fatalf("POST: %d %s", resp.StatusCode, answer)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the answer took %v", took)
	}
	location, etag := resp.Header.Get("Location"), resp.Header.Get("ETag")
	if !strings.HasPrefix(location, whepPath+"/") || etag == "" || resp.Header.Get("Content-Type") != "application/sdp" || resp.Header.Get("Accept-Patch") == "" {
		t.Errorf("headers %v", resp.Header)
	}
	if !strings.Contains(answer, "a=candidate:") {
		t.Errorf("no candidates in\n%s", answer)
	}
	must(t, c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}))
	frag := "a=ice-ufrag:" + attribute(o.SDP, "ice-ufrag") + "\r\na=ice-pwd:x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
	for name, tt := range map[string]struct {
		contentType, match, body string
		want                     int
	}{
		"candidates":       {typeFragment, "", frag, 204},
		"with its tag":     {typeFragment, etag, frag, 204},
		"another tag":      {typeFragment, `"other"`, frag, 412},
		"a restart":        {typeFragment, "*", frag, 422},
		"another fragment": {typeFragment, etag, "a=ice-ufrag:different\r\n", 422},
		"another type":     {"text/plain", etag, frag, 415},
		"too much":         {typeFragment, etag, strings.Repeat("a=x\r\n", 5000), 413},
		"a long line":      {typeFragment, etag, "a=candidate:" + strings.Repeat("x", 3000), 400},
	} {
		resp, text := b.request("PATCH", location, tt.contentType, tt.body, "If-Match", tt.match)
		if resp.StatusCode != tt.want {
			t.Errorf("PATCH %s: %d, want %d: %s", name, resp.StatusCode, tt.want, text)
		}
	}
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.only()
	if !att.spec.ViewOnly || att.spec.Transport != "whep" || att.spec.Codecs[0] != media.VP8 && len(att.spec.Codecs) < 3 {
		t.Errorf("spec %+v", att.spec)
	}
	start(t, att, 10*time.Millisecond, 500)
	get(t, c.video, "video")
	get(t, c.audio, "audio")
	resp, _ = b.request("DELETE", location, "", "")
	if resp.StatusCode != 200 {
		t.Errorf("DELETE: %d", resp.StatusCode)
	}
	if cause := get(t, att.detached, "detach"); cause.Code != media.CauseLeft {
		t.Errorf("detached with %v", cause)
	}
	b.empty()
	if resp, _ := b.request("DELETE", location, "", ""); resp.StatusCode != 404 {
		t.Errorf("DELETE again: %d", resp.StatusCode)
	}
}

func attribute(sdp, name string) string {
	_, v, _ := strings.Cut(sdp, "a="+name+":")
	v, _, _ = strings.Cut(v, "\r\n")
	return v
}

func TestTheAnswerNamesPublicAddresses(t *testing.T) {
	b := newBench(t, func(s *Server) { s.Network.NAT1To1 = []string{"203.0.113.7"} })
	resp, answer := b.request("POST", whepPath, typeSDP, chromiumOffer)
	if resp.StatusCode != 201 {
		t.Fatalf("POST: %d", resp.StatusCode)
	}
	for _, want := range []string{" udp ", " tcp "} {
		n := 0
		for line := range strings.SplitSeq(answer, "\r\n") {
			if strings.HasPrefix(line, "a=candidate:") && strings.Contains(line, want) && strings.Contains(line, " 203.0.113.7 ") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d candidates of%sin\n%s", n, want, answer)
		}
	}
	if resp, _ := b.request("DELETE", resp.Header.Get("Location"), "", ""); resp.StatusCode != 200 {
		t.Errorf("DELETE: %d", resp.StatusCode)
	}
}

func TestWHEPRefusals(t *testing.T) {
	b := newBench(t)
	for name, tt := range map[string]struct {
		method, path, contentType, body string
		status                          int
		code                            string
	}{
		"no SDP":           {"POST", whepPath, "application/json", "{}", 415, "unsupported-media-type"},
		"garbage":          {"POST", whepPath, typeSDP, "hello", 400, media.CauseNegotiation},
		"too large":        {"POST", whepPath, typeSDP, strings.Repeat("a", 70_000), 413, "too-large"},
		"no such session":  {"POST", "/api/sessions/s2/whep", typeSDP, chromiumOffer, 404, media.CauseSessionGone},
		"get":              {"GET", whepPath, "", "", 405, "method-not-allowed"},
		"no such player":   {"PATCH", whepPath + "/xyz", typeFragment, "", 404, "whep-resource-not-found"},
		"an offer to send": {"POST", whepPath, typeSDP, strings.ReplaceAll(chromiumOffer, "a=recvonly", "a=sendonly"), 400, media.CauseNegotiation},
	} {
		resp, text := b.request(tt.method, tt.path, tt.contentType, tt.body)
		var p struct {
			Status int
			Code   string
		}
		if err := json.Unmarshal([]byte(text), &p); err != nil || resp.StatusCode != tt.status || p.Status != tt.status || p.Code != tt.code || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	if n := b.server.Peers(); n != 0 {
		t.Errorf("%d peers were left behind", n)
	}
	b.session.refuse = media.NewCause(media.CauseNoSlot, "full")
	if resp, text := b.request("POST", whepPath, typeSDP, chromiumOffer); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("full: %d %s", resp.StatusCode, text)
	}
}

func TestAPlayerThatNeverConnectsIsForgotten(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for seconds
	b := newBench(t)
	resp, _ := b.request("POST", whepPath, typeSDP, chromiumOffer)
	if resp.StatusCode != 201 {
		t.Fatalf("POST: %d", resp.StatusCode)
	}
	att := b.session.only()
	begin := time.Now()
	if cause := get(t, att.detached, "detach"); cause.Code != media.CauseICE {
		t.Errorf("detached with %v", cause)
	}
	if took := time.Since(begin); took > peer.ConnectTimeout+time.Second {
		t.Errorf("after %v", took)
	}
}

func TestAPlayerWhosePathIsCutIsForgotten(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for seconds
	b := newBench(t)
	c := b.player()
	o, err := c.pc.CreateOffer(nil)
	must(t, err)
	must(t, c.pc.SetLocalDescription(o))
	resp, answer := b.request("POST", whepPath, typeSDP, o.SDP)
	if resp.StatusCode != 201 {
		t.Fatalf("POST: %d", resp.StatusCode)
	}
	must(t, c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}))
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.only()
	// The tab is killed: its socket is gone without a word.
	must(t, c.pc.SCTP().Transport().ICETransport().Stop())
	begin := time.Now()
	if cause := get(t, att.detached, "detach"); cause.Code != media.CauseICE && cause.Code != media.CauseLost {
		t.Errorf("detached with %v", cause)
	}
	if took := time.Since(begin); took > ports.Disconnected+ports.Failed+3*time.Second {
		t.Errorf("after %v", took)
	}
}

// FuzzFragment: no body of a PATCH makes us panic or take more than is allowed.
func FuzzFragment(f *testing.F) {
	f.Add("a=ice-ufrag:Xq4m\r\na=ice-pwd:x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		frag, err := parseFragment(text)
		if err != nil {
			return
		}
		if len(frag.candidates) > peer.MaxEarly {
			t.Fatalf("%d candidates", len(frag.candidates))
		}
		for _, c := range frag.candidates {
			if strings.ContainsAny(c.Candidate, "\r\n") && !strings.Contains(c.Candidate, "\r") {
				t.Fatalf("candidate %q", c.Candidate)
			}
		}
	})
}
