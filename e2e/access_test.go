//go:build e2e

package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// TestRevokedLoginEndsThePlayer: a login that is ended takes its player along,
// and the session stays for its owner.
func TestRevokedLoginEndsThePlayer(t *testing.T) {
	s := start(t, options{})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 10, 20*time.Second)
	// The same person changes the password elsewhere: every other login is over.
	s.must("PUT", "/api/me/password", map[string]string{"current": adminPassword, "new": "another long password"}, http.StatusNoContent, nil)
	panel := p.Locator("[data-testid=error-panel][data-code=revoked]")
	do(t, "the page says so", panel.WaitFor(playwright.LocatorWaitForOptions{Timeout: playwright.Float(5000)}))
	until(t, 5*time.Second, "the peer is gone", func() bool { return len(s.session(sid).Peers) == 0 })
}

// TestStrangersSeeNothing: another player gets the same answer for a session
// that is not theirs as for one that is not there.
func TestStrangersSeeNothing(t *testing.T) {
	s := start(t, options{})
	s.setup()
	sess := s.create("playground")
	s.must("POST", "/api/users", map[string]string{"name": "loki", "password": "mischief managed", "role": "player"}, http.StatusCreated, nil)
	s.must("POST", "/api/login", map[string]string{"name": "loki", "password": "mischief managed"}, http.StatusOK, nil)
	for _, call := range [][2]string{
		{"GET", ""}, {"PATCH", ""}, {"DELETE", ""}, {"GET", "/screenshot"}, {"GET", "/events"}, {"POST", "/whep"}, {"GET", "/signal"},
	} {
		status, raw, err := s.call(call[0], "/api/sessions/"+sess.ID+call[1], map[string]int{}, nil)
		if err != nil || status != http.StatusNotFound {
			t.Errorf("%s …%s: %d %s %v, want 404", call[0], call[1], status, raw, err)
		}
	}
	var list struct{ Sessions []session }
	s.must("GET", "/api/sessions", nil, http.StatusOK, &list)
	if len(list.Sessions) != 0 {
		t.Errorf("a stranger sees %d sessions", len(list.Sessions))
	}
}
