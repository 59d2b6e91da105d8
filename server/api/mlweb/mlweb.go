// Package mlweb is what the page of moonlight-web, version 3, asks of its server:
// logins, one host with the library as its programs, and streams. It shows Fenrir's
// persons and sessions in that page's words, and has none of its own.
//
// The API bounds its requests and checks where they come from. It imports chi, and
// the API and the nouns beside it.
package mlweb

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"fenrir/media"
	"fenrir/server/api"
	"fenrir/server/auth"
)

// cookieName is as the page's own server has it; scripts cannot read it.
const cookieName = "mlSession"

// hostID is the number of the one host that there is.
const hostID = 1

// Program is one of the library.
type Program struct {
	Number uint32 // as Number makes it
	Title  string
}

// Number is the number of a program, which that page wants, 31 bits.
func Number(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // it never fails
	return max(h.Sum32()&(1<<31-1), 1)
}

// House is what there is to play.
type House interface {
	// Programs are those that a person may start, in the order to show them.
	Programs(ctx context.Context, person media.PersonRef) ([]Program, error)
	// Picture is a program's as PNG, nil for none.
	Picture(ctx context.Context, person media.PersonRef, number uint32) ([]byte, error)
	// Running is the program of the person's newest session.
	Running(person media.PersonRef) (number uint32, ok bool)
	// Cancel ends that session, and does not block.
	Cancel(person media.PersonRef)
	// Stream serves the endpoint at base for a person; resource is what follows it.
	Stream(w http.ResponseWriter, r *http.Request, base, resource string, person media.PersonRef)
}

// Handler serves everything below a prefix. Fill the fields, then call Routes.
type Handler struct {
	Prefix         string // "/moonlight-web", without a slash at its end
	Name           string // of the host
	HTTP, HTTPS    int    // Moonlight's ports, 0 where that door is closed
	Codecs         []media.Codec
	Page           string // folder with the page's files; "" for none
	Auth           *auth.Store
	House          House
	CookieLifetime time.Duration
	Log            *slog.Logger
}

// Routes is the handler, to be mounted at Prefix.
func (h *Handler) Routes() http.Handler {
	r := chi.NewRouter()
	r.Get("/config.js", h.getConfig)
	r.Post("/api/login", h.postLogin)
	r.Group(func(r chi.Router) {
		r.Use(h.who)
		r.Post("/api/logout", h.postLogout)
		r.Get("/api/authenticate", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		r.Get("/api/user", h.getUser)
		r.Get("/api/users", func(w http.ResponseWriter, r *http.Request) { answer(w, map[string]any{"users": []any{user(r)}}) })
		r.Get("/api/user/default", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"id": nil}) })
		r.Get("/api/role", h.getRole)
		r.Get("/api/roles", func(w http.ResponseWriter, r *http.Request) {
			answer(w, map[string]any{"roles": []any{map[string]any{"id": roleID(r), "name": roleName(r)}}})
		})
		r.Get("/api/role/default", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"id": rolePlayer}) })
		r.Get("/api/hosts", h.getHosts)
		r.Get("/api/host", h.getHost)
		r.Post("/api/host/wake", h.ofHost(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
		r.Post("/api/host/cancel", h.ofHost(func(w http.ResponseWriter, r *http.Request) {
			h.House.Cancel(personOf(r))
			answer(w, map[string]any{"success": true})
		}))
		r.Post("/api/pair", h.ofHost(func(w http.ResponseWriter, r *http.Request) {
			lines(w, map[string]any{"Paired": h.host(r, true)})
		}))
		r.Get("/api/apps", h.getApps)
		r.Get("/api/app/image", h.getImage)
		stream := func(w http.ResponseWriter, r *http.Request) {
			h.House.Stream(w, r, h.Prefix+"/api/host/stream/webrtc", chi.URLParam(r, "id"), personOf(r))
		}
		r.HandleFunc("/api/host/stream/webrtc", stream)
		r.HandleFunc("/api/host/stream/webrtc/{id}", stream)
	})
	// What that page could do besides, is done on Fenrir's.
	r.HandleFunc("/api/*", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	r.Get("/*", h.getPage)
	return r
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// lines answers with a value a line.
func lines(w http.ResponseWriter, values ...any) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	for _, v := range values {
		_ = e.Encode(v) // the client may be gone
	}
}

type identityKey struct{}

func identityOf(r *http.Request) auth.Identity {
	id, _ := r.Context().Value(identityKey{}).(auth.Identity)
	return id
}

func personOf(r *http.Request) media.PersonRef {
	p := identityOf(r).Person
	return media.PersonRef{ID: string(p.ID), Name: p.Name}
}

// who lets those in who are logged in here, or on Fenrir's own page, or have a token.
func (h *Handler) who(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := api.IdentityOf(r.Context())
		if c, err := r.Cookie(cookieName); err == nil && !ok {
			found, renewed, err := h.Auth.FromCookie(c.Value)
			if err != nil && !errors.Is(err, auth.ErrUnauthenticated) {
				h.Log.ErrorContext(r.Context(), "moonlight-web: login", "err", err)
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			if id, ok = found, err == nil; renewed {
				h.setCookie(w, c.Value)
			}
		}
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		api.Identified(r, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
	})
}

func (h *Handler) setCookie(w http.ResponseWriter, token string) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token, Path: h.Prefix, MaxAge: int(h.CookieLifetime.Seconds()), HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode,
	})
}

func (h *Handler) postLogin(w http.ResponseWriter, r *http.Request) {
	var req struct{ Name, Password string }
	if json.NewDecoder(r.Body).Decode(&req) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p, token, err := h.Auth.Login(r.Context(), api.AddressOf(r), req.Name, req.Password)
	var wait *auth.RateError
	switch {
	case err == nil:
		h.Log.InfoContext(r.Context(), "logged in", "person", p.Name, "client", api.AddressOf(r), "page", "moonlight-web")
		h.setCookie(w, token)
	case errors.Is(err, auth.ErrBadCredentials):
		w.WriteHeader(http.StatusUnauthorized)
	case errors.As(err, &wait):
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.RetryAfter.Seconds())+1))
		w.WriteHeader(http.StatusTooManyRequests)
	case errors.Is(err, auth.ErrBusy):
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		h.Log.ErrorContext(r.Context(), "moonlight-web: login", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (h *Handler) postLogout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		if err := h.Auth.Logout(c.Value); err != nil {
			h.Log.ErrorContext(r.Context(), "moonlight-web: logout", "err", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: h.Prefix, MaxAge: -1, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode})
}

// Roles, as numbers.
const (
	roleAdmin  = 1
	rolePlayer = 2
)

func admin(r *http.Request) bool { return identityOf(r).Person.Role == auth.Admin }

func roleID(r *http.Request) int {
	if admin(r) {
		return roleAdmin
	}
	return rolePlayer
}

func roleName(r *http.Request) string {
	if admin(r) {
		return "Admin"
	}
	return "User"
}

func user(r *http.Request) map[string]any {
	p := identityOf(r).Person
	return map[string]any{"id": Number(string(p.ID)), "is_default_user": false, "name": p.Name, "role": roleName(r), "role_id": roleID(r), "client_unique_id": string(p.ID)}
}

func (h *Handler) getUser(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	me := user(r)
	if name := q.Get("name"); name != "" && name != me["name"] {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, me)
}

func (h *Handler) getRole(w http.ResponseWriter, r *http.Request) {
	answer(w, map[string]any{"role": map[string]any{
		"id": roleID(r), "name": roleName(r), "ty": roleName(r), "default_settings": map[string]any{},
		"permissions": map[string]any{
			"allow_add_hosts": false, "maximum_bitrate_kbps": nil, "allow_codec_h264": slices.Contains(h.Codecs, media.H264),
			"allow_codec_h265": slices.Contains(h.Codecs, media.H265), "allow_codec_av1": slices.Contains(h.Codecs, media.AV1),
			"allow_hdr": false, "allow_transport_webrtc": true, "allow_transport_websockets": false,
		},
	}})
}

// lumaPixels is what hosts with H.265 say of it.
const lumaPixels = 1869449984

// modes are the codecs as Moonlight's bits, of 8 bits a sample.
func modes(codecs []media.Codec) (bits int) {
	for codec, bit := range map[media.Codec]int{media.H264: 0x1, media.H265: 0x100, media.AV1: 0x10000} {
		if slices.Contains(codecs, codec) {
			bits |= bit
		}
	}
	return bits
}

// host is the one that there is.
func (h *Handler) host(r *http.Request, detailed bool) map[string]any {
	running, busy := h.House.Running(personOf(r))
	state := "Free"
	if busy {
		state = "Busy"
	}
	out := map[string]any{"host_id": hostID, "owner": "Global", "name": h.Name, "paired": "Paired", "server_state": state}
	if detailed {
		address, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			address = r.Host
		}
		pixels := 0
		if slices.Contains(h.Codecs, media.H265) {
			pixels = lumaPixels
		}
		for k, v := range map[string]any{
			"address": address, "http_port": h.HTTP, "https_port": h.HTTPS, "external_port": nil, "version": "7.1.431.-1", "gfe_version": "3.23.0.74",
			"unique_id": h.Name, "mac": nil, "local_ip": address, "current_game": running, "max_luma_pixels_hevc": pixels, "server_codec_mode_support": modes(h.Codecs),
		} {
			out[k] = v
		}
	}
	return out
}

func (h *Handler) getHosts(w http.ResponseWriter, r *http.Request) {
	one := h.host(r, false)
	lines(w, map[string]any{"hosts": []any{one}}, one)
}

// isHost tells whether a request is about the host that there is.
func isHost(r *http.Request) bool { return r.URL.Query().Get("host_id") == strconv.Itoa(hostID) }

func (h *Handler) getHost(w http.ResponseWriter, r *http.Request) {
	if !isHost(r) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, map[string]any{"host": h.host(r, true)})
}

// ofHost serves requests that name the host in their body.
func (h *Handler) ofHost(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			HostID int `json:"host_id"`
		}
		if json.NewDecoder(r.Body).Decode(&req) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if req.HostID != hostID {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		next(w, r)
	}
}

func (h *Handler) getApps(w http.ResponseWriter, r *http.Request) {
	if !isHost(r) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	all, err := h.House.Programs(r.Context(), personOf(r))
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	apps := make([]any, 0, len(all))
	for _, p := range all {
		apps = append(apps, map[string]any{"app_id": p.Number, "title": p.Title, "is_hdr_supported": false})
	}
	answer(w, map[string]any{"apps": apps})
}

func (h *Handler) getImage(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseUint(r.URL.Query().Get("app_id"), 10, 31)
	if err != nil || !isHost(r) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	png, err := h.House.Picture(r.Context(), personOf(r), uint32(n))
	if err != nil || png == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	sum := fnv.New64a()
	_, _ = sum.Write(png) // it never fails
	tag := `"` + strconv.FormatUint(sum.Sum64(), 36) + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(png) // the client may be gone
}

func (h *Handler) getConfig(w http.ResponseWriter, _ *http.Request) {
	b, err := json.Marshal(map[string]string{"path_prefix": h.Prefix})
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/javascript")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(append([]byte("window.__CONFIG_JS__ = "), b...), ";\n"...)) // the client may be gone
}
