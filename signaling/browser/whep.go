package browser

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/offer"
	"fenrir/signaling/browser/peer"
)

const (
	typeSDP      = "application/sdp"
	typeFragment = "application/trickle-ice-sdpfrag"

	maxFragment   = 16 << 10
	answerTimeout = 2 * time.Second
	gatherTimeout = 500 * time.Millisecond // of our own candidates; they are local addresses
	deleteTimeout = 400 * time.Millisecond
)

// ServeWHEP serves the WHEP protocol (draft-ietf-wish-whep) for one session.
// resource is the last part of the path after the endpoint's own: empty for
// the endpoint (POST, OPTIONS), an id for a player (PATCH, DELETE). Players
// watch and hear; they have no input. The caller has checked that person may
// see the session.
func (s *Server) ServeWHEP(w http.ResponseWriter, r *http.Request, sessionID, resource string, person media.PersonRef) {
	switch {
	case resource == "" && r.Method == http.MethodPost:
		s.whepPost(w, r, sessionID, person)
	case resource == "" && r.Method == http.MethodOptions:
		w.Header().Set("Accept-Post", typeSDP)
		s.linkICE(w, person.ID)
		w.WriteHeader(http.StatusNoContent)
	case resource == "":
		w.Header().Set("Allow", "POST, OPTIONS")
		problem(w, http.StatusMethodNotAllowed, "method-not-allowed", "")
	default:
		s.mu.Lock()
		p := s.players[resource]
		s.mu.Unlock()
		if p == nil || p.Session != sessionID || p.Spec.Person.ID != person.ID {
			problem(w, http.StatusNotFound, "whep-resource-not-found", "there is no such player, or it is over")
			return
		}
		s.servePlayer(w, r, p)
	}
}

// servePlayer serves the resource of one player.
func (s *Server) servePlayer(w http.ResponseWriter, r *http.Request, p *player) {
	switch r.Method {
	case http.MethodPatch:
		s.whepPatch(w, r, p)
	case http.MethodDelete:
		p.Leave(media.NewCause(media.CauseLeft, "the player left"))
		select {
		case <-p.Done():
		case <-time.After(deleteTimeout):
		}
		w.WriteHeader(http.StatusOK)
	default:
		w.Header().Set("Allow", "PATCH, DELETE")
		problem(w, http.StatusMethodNotAllowed, "method-not-allowed", "")
	}
}

func (s *Server) whepPost(w http.ResponseWriter, r *http.Request, sessionID string, person media.PersonRef) {
	sdp, ok := readBody(w, r, typeSDP, offer.MaxSize)
	if !ok {
		return
	}
	o, err := offer.Parse(sdp)
	if err != nil {
		problem(w, http.StatusBadRequest, media.CauseNegotiation, fmt.Sprintf("the offer cannot be used: %v", err))
		return
	}
	spec := media.PeerSpec{Person: person, Transport: peer.WHEP, Codecs: o.Codecs, ViewOnly: true}
	answer, resource, p, ok := s.admit(w, r, sessionID, spec, sdp, o, rand.Text)
	if !ok {
		return
	}
	h := w.Header()
	h.Set("Content-Type", typeSDP)
	h.Set("Location", strings.TrimSuffix(r.URL.EscapedPath(), "/")+"/"+resource)
	h.Set("ETag", p.etag)
	h.Set("Accept-Patch", typeFragment)
	s.linkICE(w, p.Attachment.ID())
	w.WriteHeader(http.StatusCreated)
	if _, err := io.WriteString(w, answer); err != nil {
		s.Log.Debug("write answer", "session", sessionID, "err", err)
	}
}

// admit attaches a player to a session, serves it from now on under a resource that
// name makes, and answers its offer; or answers the request with why not.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, sessionID string, spec media.PeerSpec, sdp string, o offer.Offer, name func() string) (answer, resource string, p *player, ok bool) {
	ear := &playerEar{gathered: make(chan struct{})}
	served, err := s.attach(r.Context(), sessionID, spec, ear)
	if err != nil {
		s.causeProblem(w, err)
		return "", "", nil, false
	}
	p = &player{Peer: served, etag: `"` + rand.Text() + `"`, ufrag: o.Ufrag}
	s.mu.Lock()
	for resource = name(); s.players[resource] != nil; {
		resource = name()
	}
	s.players[resource] = p
	s.mu.Unlock()
	go func() { // Run waits for it, through leave
		// Serve has logged what it returns.
		_ = served.Serve(context.WithoutCancel(r.Context()))
		s.mu.Lock()
		delete(s.players, resource)
		s.mu.Unlock()
		s.leave(served)
	}()
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	answer, err = p.answer(ctx, sdp, ear)
	if err != nil {
		p.Leave(peer.CauseOf(err))
		s.causeProblem(w, err)
		return "", "", nil, false
	}
	return answer, resource, p, true
}

// player is the peer behind one WHEP resource.
type player struct {
	*peer.Peer
	etag  string
	ufrag string // of its offer
}

// answer negotiates and waits for our candidates: many players cannot trickle,
// and ours are there at once.
func (p *player) answer(ctx context.Context, sdp string, ear *playerEar) (string, error) {
	if err := p.Negotiate(ctx, sdp, func(string) {}); err != nil {
		return "", err
	}
	select {
	case <-ear.gathered:
	case <-time.After(gatherTimeout):
	case <-ctx.Done():
	}
	return p.Answer(ctx)
}

// whepPatch takes candidates of a player. Restarting ICE this way is not
// offered: a player that lost its path makes a new one.
func (s *Server) whepPatch(w http.ResponseWriter, r *http.Request, p *player) {
	if match := r.Header.Get("If-Match"); match == "*" {
		problem(w, http.StatusUnprocessableEntity, "ice-restart-unsupported", "ICE restart is not supported; make a new player")
		return
	} else if match != "" && match != p.etag {
		problem(w, http.StatusPreconditionFailed, "etag-mismatch", "")
		return
	}
	body, ok := readBody(w, r, typeFragment, maxFragment)
	if !ok {
		return
	}
	frag, err := parseFragment(body)
	if err != nil {
		problem(w, http.StatusBadRequest, media.CauseProtocol, err.Error())
		return
	}
	if frag.ufrag != "" && frag.ufrag != p.ufrag {
		problem(w, http.StatusUnprocessableEntity, "ice-restart-unsupported", "ICE restart is not supported; make a new player")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	if err := p.Trickle(ctx, frag.candidates...); err != nil {
		s.causeProblem(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fragment is the body of a PATCH (RFC 8840).
type fragment struct {
	ufrag      string
	candidates []webrtc.ICECandidateInit
}

func parseFragment(text string) (f fragment, err error) {
	var mid *string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if len(line) > signaling.MaxCandidate {
			return f, fmt.Errorf("a line of %d bytes", len(line))
		}
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "a=ice-ufrag":
			f.ufrag = value
		case "a=mid":
			mid = &value
		case "a=candidate":
			if len(f.candidates) == peer.MaxEarly {
				return f, fmt.Errorf("more than %d candidates", peer.MaxEarly)
			}
			f.candidates = append(f.candidates, webrtc.ICECandidateInit{Candidate: "candidate:" + value, SDPMid: mid})
		}
	}
	return f, nil
}

// playerEar is the signal of a player: it hears of our candidates in the answer
// and of everything else by the media.
type playerEar struct {
	gathered chan struct{}
	once     sync.Once
}

// Candidate implements peer.Signal.
func (e *playerEar) Candidate(c *webrtc.ICECandidate) {
	if c == nil {
		e.once.Do(func() { close(e.gathered) })
	}
}

// State implements peer.Signal.
func (e *playerEar) State(media.SessionState) {}

// Notice implements peer.Signal: a player cannot be told.
func (e *playerEar) Notice(*media.Cause) {}

// Bye implements peer.Signal.
func (e *playerEar) Bye(error) {}

func (s *Server) linkICE(w http.ResponseWriter, peer string) {
	for _, ice := range s.iceServers(peer) {
		for _, url := range ice.URLs {
			link := "<" + url + `>; rel="ice-server"`
			if ice.Username != "" {
				link += fmt.Sprintf(`; username=%q; credential=%q; credential-type="password"`, ice.Username, ice.Credential)
			}
			w.Header().Add("Link", link)
		}
	}
}

// readBody reads a body of the given type and size, or answers why not.
func readBody(w http.ResponseWriter, r *http.Request, want string, limit int64) (string, bool) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != want {
		w.Header().Set("Accept", want)
		problem(w, http.StatusUnsupportedMediaType, "unsupported-media-type", "the body must be "+want)
		return "", false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		problem(w, http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("at most %d bytes are allowed", limit))
		return "", false
	case err != nil:
		problem(w, http.StatusBadRequest, "body-unreadable", "")
		return "", false
	}
	return string(b), true
}

// causeProblem answers with the status of err's cause.
func (s *Server) causeProblem(w http.ResponseWriter, err error) {
	c := peer.CauseOf(err)
	status := http.StatusInternalServerError
	switch c.Code {
	case media.CauseNegotiation, media.CauseProtocol:
		status = http.StatusBadRequest
	case media.CauseSessionGone:
		status = http.StatusNotFound
	case media.CauseRevoked:
		status = http.StatusForbidden
	case media.CauseNoEncoder:
		status = http.StatusNotAcceptable
	case media.CauseNoSlot, media.CauseTooMany, media.CauseShutdown:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	case signaling.CauseInternal:
		s.Log.Error("whep", "err", err)
	default:
		status = http.StatusGone // the session is over
	}
	problem(w, status, c.Code, c.Detail)
}

// problem answers with a problem document (RFC 9457).
func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	// The client may be gone; nobody else wants to know.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": detail,
	})
}
