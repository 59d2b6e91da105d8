package main

import (
	"context"
	"net/http"

	"fenrir/media"
	"fenrir/server/api/mlweb"
	"fenrir/server/auth"
	"fenrir/server/session"
	"fenrir/signaling/browser"
	"fenrir/signaling/moonlight"
	"fenrir/signaling/moonlight/boxart"
)

// webHouse is what the page of moonlight-web sees of the house.
type webHouse struct {
	h       *host
	players *browser.Server
}

var _ mlweb.House = webHouse{}

// mountMoonlightWeb is the handler of that page's interface by its path; none when it
// is off.
func (h *host) mountMoonlightWeb(persons *auth.Store, players *browser.Server, moon *moonlight.Server) map[string]http.Handler {
	c := h.cfg.MoonlightWeb
	if !c.Enabled {
		return nil
	}
	door := &mlweb.Handler{
		Prefix: c.Prefix, Page: c.PageDir, Name: moonName(h.cfg.Moonlight), Codecs: h.moonCodecs(), Auth: persons, House: webHouse{h, players},
		CookieLifetime: h.cfg.Auth.CookieLifetime.Std(), Log: h.log,
	}
	if moon != nil {
		door.HTTP, door.HTTPS = int(moon.HTTPAddr().Port()), int(moon.HTTPSAddr().Port())
	}
	return map[string]http.Handler{c.Prefix: door.Routes()}
}

// Programs implements mlweb.House. Of two with one number the first is shown.
func (w webHouse) Programs(ctx context.Context, _ media.PersonRef) ([]mlweb.Program, error) {
	apps := w.h.programs.List(ctx)
	out := make([]mlweb.Program, 0, len(apps))
	seen := map[uint32]bool{}
	for _, a := range apps {
		if n := mlweb.Number(a.ID); !seen[n] {
			seen[n] = true
			out = append(out, mlweb.Program{Number: n, Title: a.Title})
		}
	}
	return out, ctx.Err()
}

// program finds one by its number.
func (w webHouse) program(ctx context.Context, number uint32) (id, title string, ok bool) {
	for _, a := range w.h.programs.List(ctx) {
		if mlweb.Number(a.ID) == number {
			return a.ID, a.Title, true
		}
	}
	return "", "", false
}

// Picture implements mlweb.House.
func (w webHouse) Picture(ctx context.Context, _ media.PersonRef, number uint32) ([]byte, error) {
	id, title, ok := w.program(ctx, number)
	if !ok {
		return nil, nil
	}
	var icon []byte
	if i, err := w.h.programs.Icon(ctx, id, boxIcon); err == nil && i.Type == "image/png" {
		icon = i.Data
	}
	return boxart.Compose(id, title, icon)
}

// Running implements mlweb.House.
func (w webHouse) Running(person media.PersonRef) (uint32, bool) {
	s := w.h.newest(person)
	if s == nil {
		return 0, false
	}
	return mlweb.Number(s.App().ID), true
}

// Cancel implements mlweb.House.
func (w webHouse) Cancel(person media.PersonRef) {
	if s := w.h.newest(person); s != nil {
		s.End(&media.Cause{Code: media.CauseUser})
	}
}

// Stream implements mlweb.House. A program that runs already is joined; another one
// is started beside it, within the limits of sessions.
func (w webHouse) Stream(rw http.ResponseWriter, r *http.Request, base, resource string, person media.PersonRef) {
	w.players.ServeMoonlightWeb(rw, r, base, resource, person, func(ctx context.Context, wish browser.Wish) (string, string, error) {
		id, title, ok := w.program(ctx, uint32(wish.App))
		if !ok {
			return "", "", &media.Cause{Code: media.CauseSessionGone, Detail: "there is no such program"}
		}
		all := w.h.registry.All()
		for i := len(all) - 1; i >= 0; i-- {
			if s := all[i]; s.Owner().ID == person.ID && s.Err() == nil && s.App().ID == id {
				return string(s.ID()), title, nil
			}
		}
		app, ok := w.h.programs.Find(ctx, id)
		if !ok {
			return "", "", &media.Cause{Code: media.CauseSessionGone, Detail: "there is no such program"}
		}
		s, err := w.h.start(app, session.Request{
			App: media.AppRef{ID: app.ID, Title: app.Title}, Owner: person,
			Width:  min(max(wish.Width, leastWidth), mostWidth) &^ 1,
			Height: min(max(wish.Height, leastHeight), mostHeight) &^ 1,
			FPS:    min(max(wish.FPS, 10), w.h.cfg.Video.MaxFPS), Layout: w.h.cfg.Display.Layout,
			Video: media.VideoWish{Width: wish.Width, Height: wish.Height, FPS: wish.FPS, Cursor: true},
		})
		if err != nil {
			return "", "", err
		}
		return string(s.ID()), title, nil
	})
}
