// Package docs holds the description of the API, openapi.json, and makes the
// readable page of it. It imports the standard library only.
package docs

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// OpenAPI describes the API. A test compares it with the routes, both ways,
// and the answers of the other tests with its schemas.
//
//go:embed openapi.json
var OpenAPI []byte

//go:embed docs.css
var docsStyle string

//go:embed docs.html
var docsPage string

// document is what the readable page shows of OpenAPI.
type document struct {
	Info struct {
		Title, Version, Description string
	}
	Tags []struct {
		Name, Description string
	}
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas   map[string]json.RawMessage
		Responses map[string]response
	}
	Problems []struct {
		Code   string
		Status int
		Title  string
	} `json:"x-problems"`
}

type operation struct {
	Method, Path string
	Summary      string
	Description  string
	Tags         []string
	Security     []map[string][]string
	Parameters   []struct {
		Name, In, Description string
		Required              bool
	}
	RequestBody struct {
		Content map[string]body
	}
	Responses map[string]response
}

type response struct {
	Ref         string `json:"$ref"`
	Description string
	Content     map[string]body
}

type body struct {
	Schema json.RawMessage
}

// Open reports whether the operation needs no login.
func (o operation) Open() bool { return o.Security != nil && len(o.Security) == 0 }

// methodOrder is the order in which a path's methods are shown.
var methodOrder = []string{"get", "post", "put", "patch", "delete", "options"}

// Render makes the readable page, and the Content-Security-Policy that lets it
// have its style and nothing else.
func Render() (html []byte, policy string, err error) {
	var doc document
	if err := json.Unmarshal(OpenAPI, &doc); err != nil {
		return nil, "", fmt.Errorf("read openapi.json: %w", err)
	}
	byTag := map[string][]operation{}
	for path, item := range doc.Paths {
		for _, method := range methodOrder {
			raw, ok := item[method]
			if !ok {
				continue
			}
			var op operation
			if err := json.Unmarshal(raw, &op); err != nil {
				return nil, "", fmt.Errorf("openapi.json, %s %s: %w", method, path, err)
			}
			op.Method, op.Path = strings.ToUpper(method), path
			for status, r := range op.Responses {
				if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
					op.Responses[status] = doc.Components.Responses[name]
				}
			}
			for _, tag := range op.Tags {
				byTag[tag] = append(byTag[tag], op)
			}
		}
	}
	for _, ops := range byTag {
		slices.SortFunc(ops, func(a, b operation) int {
			if a.Path != b.Path {
				return strings.Compare(a.Path, b.Path)
			}
			return slices.Index(methodOrder, strings.ToLower(a.Method)) - slices.Index(methodOrder, strings.ToLower(b.Method))
		})
	}
	t, err := template.New("docs").Funcs(template.FuncMap{"schema": prettySchema, "link": schemaName}).Parse(docsPage)
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"Doc": doc, "ByTag": byTag, "Style": template.CSS(docsStyle)})
	sum := sha256.Sum256([]byte(docsStyle))
	policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return out.Bytes(), policy, err
}

// prettySchema is a schema as indented JSON.
func prettySchema(raw json.RawMessage) string {
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return string(raw)
	}
	return out.String()
}

// schemaName is the name that a reference leads to, or "".
func schemaName(raw json.RawMessage) string {
	var ref struct {
		Ref string `json:"$ref"`
	}
	if json.Unmarshal(raw, &ref) != nil {
		return ""
	}
	return strings.TrimPrefix(ref.Ref, "#/components/schemas/")
}
