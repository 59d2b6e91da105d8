package api

import (
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"fenrir/server/auth"
)

type personJSON struct {
	ID   auth.PersonID `json:"id"`
	Name string        `json:"name"`
	Role auth.Role     `json:"role"`
}

type meJSON struct {
	Person personJSON `json:"person"`
}

func me(p auth.Person) meJSON { return meJSON{personJSON{p.ID, p.Name, p.Role}} }

type userJSON struct {
	personJSON
	Created time.Time `json:"created"`
}

func user(p auth.Person) userJSON { return userJSON{personJSON{p.ID, p.Name, p.Role}, p.Created} }

type tokenJSON struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Created  time.Time  `json:"created"`
	LastUsed *time.Time `json:"last_used"`
}

func (a *API) getMe(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, me(person(r)))
}

func (a *API) postSetup(w http.ResponseWriter, r *http.Request) {
	var req struct{ Token, Name, Password string }
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	p, cookie, err := a.Auth.Setup(r.Context(), visitOf(r).addr.String(), req.Token, req.Name, req.Password)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.Log.InfoContext(r.Context(), "server set up", "person", p.Name, "client", visitOf(r).addr)
	a.setCookie(w, cookie)
	writeJSON(w, http.StatusCreated, me(p))
}

func (a *API) postLogin(w http.ResponseWriter, r *http.Request) {
	var req struct{ Name, Password string }
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	p, cookie, err := a.Auth.Login(r.Context(), visitOf(r).addr.String(), req.Name, req.Password)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.Log.InfoContext(r.Context(), "logged in", "person", p.Name, "client", visitOf(r).addr)
	a.setCookie(w, cookie)
	writeJSON(w, http.StatusOK, me(p))
}

func (a *API) postLogout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		if err := a.Auth.Logout(c.Value); err != nil {
			a.fail(w, r, err)
			return
		}
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) putPassword(w http.ResponseWriter, r *http.Request) {
	var req struct{ Current, New string }
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	v := visitOf(r)
	if err := a.Auth.ChangePassword(r.Context(), v.addr.String(), *v.who, req.Current, req.New); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) getUsers(w http.ResponseWriter, r *http.Request) {
	people, err := a.Auth.Persons()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	users := make([]userJSON, 0, len(people))
	for _, p := range people {
		users = append(users, user(p))
	}
	writeJSON(w, http.StatusOK, map[string]any{"users": users})
}

func (a *API) postUser(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Name, Password string
		Role           auth.Role
	}
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	p, err := a.Auth.AddPerson(r.Context(), req.Name, req.Password, req.Role)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, user(p))
}

func (a *API) patchUser(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Role     *auth.Role
		Password *string
	}
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	id := auth.PersonID(chi.URLParam(r, "id"))
	p, err := a.Auth.Person(id)
	if err == nil && req.Password != nil {
		err = a.Auth.SetPassword(r.Context(), id, *req.Password, "")
	}
	if err == nil && req.Role != nil {
		p, err = a.Auth.SetRole(id, *req.Role)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, user(p))
}

func (a *API) deleteUser(w http.ResponseWriter, r *http.Request) {
	if err := a.Auth.DeletePerson(auth.PersonID(chi.URLParam(r, "id"))); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) getTokens(w http.ResponseWriter, r *http.Request) {
	list, err := a.Auth.Tokens(person(r).ID)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	tokens := make([]tokenJSON, 0, len(list))
	for _, t := range list {
		j := tokenJSON{ID: t.ID, Name: t.Name, Created: t.Created}
		if !t.LastUsed.IsZero() {
			j.LastUsed = &t.LastUsed
		}
		tokens = append(tokens, j)
	}
	writeJSON(w, http.StatusOK, map[string]any{"tokens": tokens})
}

func (a *API) postToken(w http.ResponseWriter, r *http.Request) {
	var req struct{ Name string }
	if err := readJSON(r, &req); err != nil {
		a.fail(w, r, err)
		return
	}
	t, secret, err := a.Auth.NewToken(person(r).ID, req.Name)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, map[string]string{"id": t.ID, "name": t.Name, "token": secret})
}

func (a *API) deleteToken(w http.ResponseWriter, r *http.Request) {
	if err := a.Auth.DeleteToken(person(r).ID, chi.URLParam(r, "id")); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
