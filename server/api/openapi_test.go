package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"fenrir/media"
	"fenrir/server/api/docs"
	"fenrir/server/api/problem"
	"fenrir/server/journal"
)

// document is openapi.json as generic JSON.
func document(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return doc.(map[string]any)
}

// mismatches compares the described operations with the routes, both ways. The
// page's own files are the only thing that is not described.
func mismatches(routes chi.Routes, doc map[string]any) ([]string, error) {
	described := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	var list []string
	err := chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		op := method + " " + route
		switch {
		case route == "/*":
		case !described[op]:
			list = append(list, "a route that is not described: "+op)
		}
		delete(described, op)
		return nil
	})
	for op := range described {
		list = append(list, "described, and no route: "+op)
	}
	slices.Sort(list)
	return list, err
}

func TestTheDescriptionMatchesTheRoutes(t *testing.T) {
	t.Parallel()
	routes := (&API{}).routes()
	got, err := mismatches(routes, document(t, docs.OpenAPI))
	if err != nil || len(got) > 0 {
		t.Fatalf("%v\n%s", err, strings.Join(got, "\n"))
	}
	// The check itself: it fails for what is missing on either side.
	broken := document(t, docs.OpenAPI)
	paths := broken["paths"].(map[string]any)
	delete(paths["/api/sessions"].(map[string]any), "post")
	paths["/api/nothing"] = map[string]any{"get": map[string]any{}}
	got, err = mismatches(routes, broken)
	want := []string{"a route that is not described: POST /api/sessions", "described, and no route: GET /api/nothing"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("of a broken description: got %q, %v; want %q", got, err, want)
	}
	extra := (&API{}).routes()
	extra.Get("/api/surprise", http.NotFound)
	got, _ = mismatches(extra, document(t, docs.OpenAPI))
	if want := []string{"a route that is not described: GET /api/surprise"}; !slices.Equal(got, want) {
		t.Errorf("of a new route: got %q, want %q", got, want)
	}
}

func TestTheDescriptionListsTheProblems(t *testing.T) {
	t.Parallel()
	var doc struct {
		Problems []struct {
			Code   string
			Status int
			Title  string
		} `json:"x-problems"`
	}
	if err := json.Unmarshal(docs.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	type row struct {
		status int
		title  string
	}
	described := map[string]row{}
	for _, p := range doc.Problems {
		described[p.Code] = row{p.Status, p.Title}
	}
	if len(described) != len(doc.Problems) {
		t.Error("a code is described twice")
	}
	for _, k := range problem.Kinds() {
		if got, want := described[k.Code], (row{k.Status, k.Title}); got != want {
			t.Errorf("%s: described as %v, is %v", k.Code, got, want)
		}
	}
	for code := range described {
		if !slices.ContainsFunc(problem.Kinds(), func(k problem.Kind) bool { return k.Code == code }) {
			t.Errorf("%s is described and does not exist", code)
		}
	}
}

func TestEveryCauseHasItsRow(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "../../media/media.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Cause") || len(spec.Values) != 1 {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		code, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if got := problem.Of(&media.Cause{Code: code}); got.Code != code {
			t.Errorf("media.%s: got code %q, want %q", spec.Names[0].Name, got.Code, code)
		}
		return true
	})
	if n < 15 {
		t.Errorf("found %d causes only: the test looks in the wrong place", n)
	}
}

// fieldsOf lists the JSON names of a struct.
func fieldsOf(typ reflect.Type) []string {
	var names []string
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func TestTheDescriptionKnowsEveryFieldOfTheVocabulary(t *testing.T) {
	t.Parallel()
	schemas := document(t, docs.OpenAPI)["components"].(map[string]any)["schemas"].(map[string]any)
	for name, typ := range map[string]reflect.Type{
		"Session": reflect.TypeFor[media.SessionState](), "Video": reflect.TypeFor[media.VideoState](), "Peer": reflect.TypeFor[media.PeerState](),
		"Grant": reflect.TypeFor[media.GrantBits](), "Cause": reflect.TypeFor[media.Cause](), "Encoder": reflect.TypeFor[media.Encoder](),
		"Event": reflect.TypeFor[media.Event](), "LogLine": reflect.TypeFor[journal.Line](),
		"GPU": reflect.TypeFor[GPU](), "Limits": reflect.TypeFor[Limits](), "Server": reflect.TypeFor[ServerInfo](), "Problem": reflect.TypeFor[problem.Document](),
	} {
		props := schemas[name].(map[string]any)["properties"].(map[string]any)
		want := fieldsOf(typ)
		for _, f := range want {
			if props[f] == nil {
				t.Errorf("%s: %q is not described", name, f)
			}
		}
		for f := range props {
			if !slices.Contains(want, f) {
				t.Errorf("%s: %q is described and does not exist", name, f)
			}
		}
	}
}

// described is a transport that holds every answer against the description.
type described struct {
	t    *testing.T
	next http.RoundTripper
}

var schemas struct {
	once     sync.Once
	doc      map[string]any
	compiler *jsonschema.Compiler
	mu       sync.Mutex
	compiled map[string]*jsonschema.Schema
}

func loadSchemas(t *testing.T) {
	schemas.once.Do(func() {
		schemas.doc = document(t, docs.OpenAPI)
		schemas.compiler = jsonschema.NewCompiler()
		schemas.compiler.AssertFormat()
		if err := schemas.compiler.AddResource("openapi.json", schemas.doc); err != nil {
			t.Fatal(err)
		}
		schemas.compiled = map[string]*jsonschema.Schema{}
	})
}

// RoundTrip is http.RoundTripper's.
func (d *described) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var body []byte
	if kind != "text/event-stream" && resp.StatusCode != http.StatusSwitchingProtocols {
		if body, err = io.ReadAll(resp.Body); err != nil {
			return nil, err
		}
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	if err := undescribed(d.t, r.Method, r.URL.Path, resp.StatusCode, kind, body); err != nil {
		d.t.Errorf("%s %s → %d %s is not as described: %v\n%s", r.Method, r.URL.Path, resp.StatusCode, kind, err, body)
	}
	return resp, nil
}

// undescribed says what about an answer the description does not allow.
func undescribed(t *testing.T, method, path string, status int, kind string, body []byte) error {
	loadSchemas(t)
	if status >= 400 && kind != "application/problem+json" && !(path == "/readyz" && status == 503) && status != http.StatusUpgradeRequired {
		return fmt.Errorf("a refusal of type %q", kind)
	}
	template, item := templateOf(path)
	if item == nil {
		return nil // the page, or nothing at all
	}
	op, ok := item[strings.ToLower(method)].(map[string]any)
	if !ok {
		if status != http.StatusMethodNotAllowed && status != http.StatusForbidden {
			return fmt.Errorf("the method is not described")
		}
		return nil
	}
	at := fmt.Sprintf("#/paths/%s/%s/responses/%d", strings.ReplaceAll(template, "/", "~1"), strings.ToLower(method), status)
	resp, ok := op["responses"].(map[string]any)[strconv.Itoa(status)].(map[string]any)
	if !ok {
		return fmt.Errorf("the status is not described")
	}
	if ref, ok := resp["$ref"].(string); ok {
		at = ref
		resp = schemas.doc["components"].(map[string]any)["responses"].(map[string]any)[strings.TrimPrefix(ref, "#/components/responses/")].(map[string]any)
	}
	content, _ := resp["content"].(map[string]any)
	if content == nil {
		if len(body) > 0 {
			return fmt.Errorf("no body is described")
		}
		return nil
	}
	if content[kind] == nil {
		return fmt.Errorf("the type is not described")
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	s, err := schemaAt(at + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema")
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func schemaAt(pointer string) (*jsonschema.Schema, error) {
	schemas.mu.Lock()
	defer schemas.mu.Unlock()
	if s := schemas.compiled[pointer]; s != nil {
		return s, nil
	}
	s, err := schemas.compiler.Compile("openapi.json" + strings.ReplaceAll(strings.ReplaceAll(pointer, "{", "%7B"), "}", "%7D"))
	if err == nil {
		schemas.compiled[pointer] = s
	}
	return s, err
}

// templateOf finds the described path that a path is one of, the plainest first.
func templateOf(path string) (string, map[string]any) {
	best := ""
	for template := range schemas.doc["paths"].(map[string]any) {
		re := "^" + regexp.MustCompile(`\\\{[^/]*\\\}`).ReplaceAllString(regexp.QuoteMeta(template), "[^/]+") + "$"
		if regexp.MustCompile(re).MatchString(path) && (best == "" || strings.Count(template, "{") < strings.Count(best, "{")) {
			best = template
		}
	}
	if best == "" {
		return "", nil
	}
	return best, schemas.doc["paths"].(map[string]any)[best].(map[string]any)
}

func TestTheCheckOfAnswersFindsMistakes(t *testing.T) {
	t.Parallel()
	me := `{"person":{"id":"1","name":"a","role":"player"}}`
	for _, c := range []struct {
		name, method, path string
		status             int
		kind, body         string
		ok                 bool
	}{
		{"good", "GET", "/api/me", 200, "application/json", me, true},
		{"unknown field", "GET", "/api/me", 200, "application/json", me[:len(me)-1] + `,"x":1}`, false},
		{"missing field", "GET", "/api/me", 200, "application/json", `{"person":{"id":"1","name":"a"}}`, false},
		{"wrong value", "GET", "/api/me", 200, "application/json", strings.Replace(me, "player", "king", 1), false},
		{"undescribed status", "GET", "/api/me", 201, "application/json", me, false},
		{"undescribed type", "GET", "/api/me", 200, "text/plain", me, false},
		{"problem", "GET", "/api/me", 401, "application/problem+json", `{"type":"t","title":"t","status":401,"code":"c"}`, true},
		{"bad problem", "GET", "/api/me", 401, "application/problem+json", `{"title":"t","status":401,"code":"c"}`, false},
		{"refusal in plain text", "GET", "/api/me", 401, "text/plain", "no", false},
		{"body where there is none", "POST", "/api/logout", 204, "", "x", false},
		{"parameter", "DELETE", "/api/sessions/s_1", 204, "", "", true},
		{"method", "PUT", "/api/sessions/s_1", 200, "", "", false},
	} {
		if err := undescribed(t, c.method, c.path, c.status, c.kind, []byte(c.body)); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want it to pass: %t", c.name, err, c.ok)
		}
	}
}
