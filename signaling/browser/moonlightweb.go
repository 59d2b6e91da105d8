package browser

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"fenrir/media"
	"fenrir/signaling/browser/offer"
	"fenrir/signaling/browser/peer"
)

// Wish is what a page of moonlight-web asks for besides WebRTC.
type Wish struct {
	App                int // its number
	Width, Height, FPS int
	Kbps               int
}

// Bounds of a Wish.
const (
	leastWish, mostWish = 64, 7680 // pixels
	mostWishFPS         = 240
	mostWishKbps        = 500_000
)

// parseWish reads the attributes of the session level of an offer.
func parseWish(sdp string) (w Wish, err error) {
	head, _, _ := strings.Cut(sdp, "\nm=")
	got := map[string]string{}
	for line := range strings.Lines(head) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && strings.HasPrefix(name, "a=x-moonlight-") {
			got[strings.TrimPrefix(name, "a=x-moonlight-")] = value
		}
	}
	number := func(text string, least, most int) int {
		n, e := strconv.ParseInt(text, 10, 64)
		if e != nil || n < int64(least) || n > int64(most) {
			err = fmt.Errorf("%q is no number from %d to %d", text, least, most)
			return least
		}
		return int(n)
	}
	for _, name := range []string{"app-id", "mode", "bitrate"} {
		if got[name] == "" {
			return w, fmt.Errorf("the offer has no x-moonlight-%s", name)
		}
	}
	if hdr := got["hdr"]; hdr != "" && hdr != "0" {
		return w, fmt.Errorf("HDR is not there")
	}
	mode := strings.Split(got["mode"], "x")
	if len(mode) != 3 {
		return w, fmt.Errorf("%q is no mode", got["mode"])
	}
	w = Wish{
		App: number(got["app-id"], 1, 1<<31-1), Kbps: number(got["bitrate"], 1, mostWishKbps),
		Width: number(mode[0], leastWish, mostWish) &^ 1, Height: number(mode[1], leastWish, mostWish) &^ 1, FPS: number(mode[2], 1, mostWishFPS),
	}
	return w, err
}

// Open finds the session that a person's page shall show, or starts it: its id, and
// the name of its program. It answers at once.
type Open func(ctx context.Context, w Wish) (session, title string, err error)

// ServeMoonlightWeb serves the stream of moonlight-web's page, version 3: base is the
// path of the endpoint, resource the last part of the path after it, as in ServeWHEP.
// The caller knows who asks; open gives them a session of theirs.
func (s *Server) ServeMoonlightWeb(w http.ResponseWriter, r *http.Request, base, resource string, person media.PersonRef, open Open) {
	switch {
	case resource == "" && r.Method == http.MethodPost:
		s.moonlightWebPost(w, r, base, person, open)
	case resource == "" && r.Method == http.MethodOptions:
		w.Header().Set("Accept-Post", typeSDP)
		s.linkICE(w, person.ID)
		w.WriteHeader(http.StatusOK)
	case resource == "":
		w.Header().Set("Allow", "POST, OPTIONS")
		problem(w, http.StatusMethodNotAllowed, "method-not-allowed", "")
	default:
		s.mu.Lock()
		p := s.players[resource]
		s.mu.Unlock()
		if p == nil || p.Spec.Person.ID != person.ID || p.Spec.Transport != peer.MoonlightWeb {
			problem(w, http.StatusNotFound, "whep-resource-not-found", "there is no such stream, or it is over")
			return
		}
		s.servePlayer(w, r, p)
	}
}

func (s *Server) moonlightWebPost(w http.ResponseWriter, r *http.Request, base string, person media.PersonRef, open Open) {
	sdp, ok := readBody(w, r, typeSDP, offer.MaxSize)
	if !ok {
		return
	}
	o, err := offer.Parse(sdp)
	var wish Wish
	if err == nil {
		wish, err = parseWish(sdp)
	}
	if err != nil {
		problem(w, http.StatusBadRequest, media.CauseNegotiation, fmt.Sprintf("the offer cannot be used: %v", err))
		return
	}
	session, title, err := open(r.Context(), wish)
	if err != nil {
		s.causeProblem(w, err)
		return
	}
	spec := media.PeerSpec{
		Person: person, Transport: peer.MoonlightWeb, Codecs: o.Codecs, MaxKbps: wish.Kbps,
		Video: media.VideoWish{Width: wish.Width, Height: wish.Height, FPS: wish.FPS, Cursor: true}, // that page draws none
	}
	answer, resource, _, ok := s.admit(w, r, session, spec, sdp, o, func() string { return strconv.FormatUint(uint64(rand.Uint32()), 10) })
	if !ok {
		return
	}
	h := w.Header()
	h.Set("Content-Type", typeSDP)
	h.Set("Location", base+"/"+resource)
	w.WriteHeader(http.StatusCreated)
	if _, err := io.WriteString(w, withAttributes(answer, title)); err != nil {
		s.Log.Debug("write answer", "session", session, "err", err)
	}
}

// withAttributes adds what the page reads to the session level of an answer.
func withAttributes(answer, title string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, title)
	more := "a=x-moonlight-app-name:" + clean + "\r\na=x-moonlight-microphone:0\r\n"
	head, rest, ok := strings.Cut(answer, "\r\nm=")
	if !ok {
		return answer + more
	}
	return head + "\r\n" + more + "m=" + rest
}
