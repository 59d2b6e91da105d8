package api

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-chi/chi/v5"

	"fenrir/media"
	"fenrir/server/api/docs"
	"fenrir/server/api/page"
	"fenrir/server/api/problem"
	"fenrir/server/catalog"
	"fenrir/server/config"
)

type appJSON struct {
	ID         string         `json:"id"`
	Title      string         `json:"title"`
	Summary    string         `json:"summary"`
	Source     catalog.Source `json:"source"`
	Categories []string       `json:"categories"`
	Game       bool           `json:"game"`
	Icon       string         `json:"icon"`
	Width      int            `json:"width"` // wished size and rate, 0: none
	Height     int            `json:"height"`
	FPS        int            `json:"fps"`
}

func (a *API) getApps(w http.ResponseWriter, r *http.Request) {
	list := a.Apps.List(r.Context())
	apps := make([]appJSON, 0, len(list))
	for _, p := range list {
		j := appJSON{ID: p.ID, Title: p.Title, Summary: p.Summary, Source: p.Source, Categories: p.Categories, Game: p.Game, Width: p.Width, Height: p.Height, FPS: p.FPS}
		if j.Categories == nil {
			j.Categories = []string{}
		}
		if a.Apps.HasIcon(r.Context(), p.ID) {
			j.Icon = "/api/apps/" + url.PathEscape(p.ID) + "/icon"
		}
		apps = append(apps, j)
	}
	writeJSON(w, http.StatusOK, map[string]any{"apps": apps})
}

func (a *API) getIcon(w http.ResponseWriter, r *http.Request) {
	size := 0
	if q := r.URL.Query().Get("size"); q != "" {
		n, err := strconv.Atoi(q)
		if err != nil || n < 16 || n > 1024 {
			a.fail(w, r, problem.Invalidf("size is from 16 to 1024"))
			return
		}
		size = n
	}
	icon, err := a.Apps.Icon(r.Context(), chi.URLParam(r, "id"), size)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	h := w.Header()
	// An SVG is a document: opened by itself it gets no scripts and no origin.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox")
	h.Set("Cache-Control", "private, max-age=300")
	h.Set("ETag", icon.ETag)
	if page.ETagMatches(r.Header.Get("If-None-Match"), icon.ETag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", icon.Type)
	h.Set("Content-Length", strconv.Itoa(len(icon.Data)))
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(icon.Data)
}

func (a *API) getServer(w http.ResponseWriter, r *http.Request) {
	info := a.Info(r.Context())
	info.Version, info.Limits = a.Version, a.Limits
	if info.Encoders == nil {
		info.Encoders = []media.Encoder{}
	}
	if info.GPUs == nil {
		info.GPUs = []GPU{}
	}
	writeJSON(w, http.StatusOK, info)
}

func (a *API) getHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]bool{"ok": true})
}

func (a *API) getReady(w http.ResponseWriter, r *http.Request) {
	checks := []Check{}
	if a.Ready != nil {
		checks = append(checks, a.Ready(r.Context())...)
	}
	status := http.StatusOK
	for _, c := range checks {
		if !c.OK {
			status = http.StatusServiceUnavailable
		}
	}
	writeJSON(w, status, map[string]any{"ready": status == http.StatusOK, "checks": checks})
}

func (a *API) getStatic(w http.ResponseWriter, r *http.Request) {
	if !a.page.Serve(w, r) {
		a.fail(w, r, problem.ErrNotFound)
	}
}

func (a *API) getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(docs.OpenAPI)
}

func (a *API) getDocs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", a.docsPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(a.docs)
}

// getMetrics serves the metrics to those who may have them.
func (a *API) getMetrics(w http.ResponseWriter, r *http.Request) {
	// A proxy on this machine that nobody declared hands strangers in from
	// loopback; its header gives it away.
	local := visitOf(r).addr.IsLoopback() && (len(a.TrustedProxies) > 0 || r.Header.Get("X-Forwarded-For") == "")
	switch {
	case a.MetricsAccess == config.MetricsOff:
		a.fail(w, r, problem.ErrNotFound)
		return
	case a.MetricsAccess == config.MetricsOpen, isAdmin(r), a.MetricsAccess == config.MetricsLoopback && local:
		a.metrics.Handler.ServeHTTP(w, r)
	default:
		a.fail(w, r, problem.ErrForbidden)
	}
}
