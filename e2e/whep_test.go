//go:build e2e

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// whepClient is the source of a WHEP client that is not ours: the npm package
// whip-whep by an author of the WHEP draft, unpacked by scripts/install-test.sh
// into the folder that FENRIR_WHEP names.
func whepClient(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("FENRIR_WHEP")
	if dir == "" {
		dir = "../.cache/whip-whep/package"
	}
	b, err := os.ReadFile(filepath.Join(dir, "whep.js"))
	if err != nil {
		t.Fatalf("the WHEP client: %v (scripts/install-test.sh fetches it)", err)
	}
	return strings.Replace(string(b), "export class WHEPClient", "globalThis.WHEPClient = class WHEPClient", 1)
}

// TestWHEP plays a session in a foreign WHEP client, with a bearer token and
// without a cookie.
func TestWHEP(t *testing.T) {
	s := start(t, options{})
	s.setup()
	var token struct{ Token string }
	s.must("POST", "/api/tokens", map[string]string{"name": "whep"}, http.StatusCreated, &token)
	sess := s.create("playground")

	ctx, err := browser(t).NewContext(playwright.BrowserNewContextOptions{
		IgnoreHttpsErrors: playwright.Bool(true), BypassCSP: playwright.Bool(true),
	})
	do(t, "context", err)
	t.Cleanup(func() { ctx.Close() })
	p := page(t, ctx)
	do(t, "eyes", p.AddInitScript(playwright.Script{Content: playwright.String(eyes)}))
	_, err = p.Goto(s.url + "/healthz") // any page of the origin without a script of ours
	do(t, "open", err)
	_, err = p.AddScriptTag(playwright.PageAddScriptTagOptions{Content: playwright.String(whepClient(t)), Type: playwright.String("module")})
	do(t, "client", err)
	until(t, 5*time.Second, "the module has run", func() bool { // a tag with its text within tells nobody
		var there bool
		eval(t, p, &there, "() => typeof WHEPClient === 'function'")
		return there
	})
	eval(t, p, nil, `async ([url, token]) => {
		const video = document.createElement('video');
		video.autoplay = video.muted = true;
		document.body.append(video);
		video.srcObject = new MediaStream();
		const pc = new RTCPeerConnection();
		pc.addTransceiver('video', { direction: 'recvonly' });
		pc.addTransceiver('audio', { direction: 'recvonly' });
		pc.ontrack = e => video.srcObject.addTrack(e.track);
		globalThis.whep = new WHEPClient();
		await whep.view(pc, url, token);
	}`, []string{s.url + "/api/sessions/" + sess.ID + "/whep", token.Token})
	awaitPicture(t, p, 30, 20*time.Second)
	if st := s.session(sess.ID); len(st.Peers) != 1 {
		t.Errorf("%d peers, want 1", len(st.Peers))
	}
	eval(t, p, nil, "() => whep.stop()")
	until(t, 5*time.Second, "the peer is gone after DELETE", func() bool { return len(s.session(sess.ID).Peers) == 0 })
}
