package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fenrir/media"
)

func TestClientMessagesAreParsed(t *testing.T) {
	mid, line := "0", uint16(0)
	tests := []struct {
		in   string
		want Message
	}{
		{`{"type":"hello","version":1,"client":"c","peer":"12345678","codecs":["h264","vp8"]}`, Hello{Version: 1, Client: "c", Peer: "12345678", Codecs: []media.Codec{media.H264, media.VP8}}},
		{`{"type":"hello","version":9,"codecs":["h266","av1"],"view_only":true,"max_kbps":5,"new":{"x":[1]}}`, Hello{Version: 9, Codecs: []media.Codec{media.AV1}, ViewOnly: true, MaxKbps: 5}},
		{`{"type":"offer","id":3,"sdp":"v=0"}`, Offer{ID: 3, SDP: "v=0"}},
		{`{"type":"candidate","candidate":"candidate:1","sdp_mid":"0","sdp_mline_index":0}`, Candidate{Candidate: "candidate:1", SDPMid: &mid, SDPMLineIndex: &line}},
		{`{"type":"candidate"}`, Candidate{}},
		{`{"type":"settings","max_kbps":0}`, Settings{}},
		{`{"type":"painted","frames":18446744073709551615,"rtp_timestamp":4294967295}`, Painted{Frames: 1<<64 - 1, RTPTimestamp: 1<<32 - 1}},
		{`{"type":"painted","frames":2,"legs":{"decode":[1.5,0],"photon":[60000],"smell":[1]}}`, Painted{Frames: 2, Legs: &Legs{Decode: []float64{1.5, 0}, Photon: []float64{60000}}}},
		{`{"type":"bye","code":"left"}`, Bye{Code: "left"}},
	}
	for _, tt := range tests {
		got, err := ParseClient([]byte(tt.in))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %v", tt.in, got, err)
		}
	}
}

func TestBadClientMessagesAreRefused(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for name, in := range map[string]string{
		"nothing":                   ``,
		"no object":                 `[]`,
		"a number":                  `7`,
		"null":                      `null`,
		"no type":                   `{"version":1}`,
		"type of no string":         `{"type":1}`,
		"unknown type":              `{"type":"exec"}`,
		"a server's type":           `{"type":"welcome"}`,
		"two objects":               `{"type":"bye"}{"type":"bye"}`,
		"too long":                  `{"type":"bye","x":"` + long + `"}`,
		"not UTF-8":                 "{\"type\":\"bye\",\"code\":\"\xff\"}",
		"peer too short":            `{"type":"hello","version":1,"peer":"1234567","codecs":["h264"]}`,
		"peer with a slash":         `{"type":"hello","version":1,"peer":"../../etc","codecs":["h264"]}`,
		"no codecs":                 `{"type":"hello","version":1}`,
		"no known codecs":           `{"type":"hello","version":1,"codecs":["h266"]}`,
		"seventeen codecs":          `{"type":"hello","version":1,"codecs":[` + strings.Repeat(`"h264",`, 16) + `"h264"]}`,
		"client of 129 bytes":       `{"type":"hello","version":1,"client":"` + long[:129] + `","codecs":["h264"]}`,
		"negative cap":              `{"type":"settings","max_kbps":-1}`,
		"enormous cap":              `{"type":"settings","max_kbps":1000001}`,
		"a cap of half a kilobit":   `{"type":"settings","max_kbps":0.5}`,
		"version of no number":      `{"type":"hello","version":"1","codecs":["h264"]}`,
		"offer without id":          `{"type":"offer","sdp":"v=0"}`,
		"offer with negative id":    `{"type":"offer","id":-1,"sdp":"v=0"}`,
		"offer without sdp":         `{"type":"offer","id":1}`,
		"offer of 61 KiB":           `{"type":"offer","id":1,"sdp":"` + long[:61<<10] + `"}`,
		"candidate of two lines":    `{"type":"candidate","candidate":"candidate:1\r\na=evil"}`,
		"candidate of 2 KiB":        `{"type":"candidate","candidate":"` + long[:2048] + `"}`,
		"candidate of section 64":   `{"type":"candidate","candidate":"","sdp_mline_index":64}`,
		"candidate with a long mid": `{"type":"candidate","candidate":"","sdp_mid":"` + long[:33] + `"}`,
		"candidate, long ufrag":     `{"type":"candidate","candidate":"","username_fragment":"` + long[:257] + `"}`,
		"painted minus one":         `{"type":"painted","frames":-1}`,
		"painted before it was":     `{"type":"painted","frames":1,"legs":{"decode":[1,-0.1]}}`,
		"painted a minute later":    `{"type":"painted","frames":1,"legs":{"photon":[60000.1]}}`,
		"painted in no time":        `{"type":"painted","frames":1,"legs":{"paint":[null,"0"]}}`,
		"257 painted":               `{"type":"painted","frames":1,"legs":{"paint":[` + strings.Repeat("0,", 256) + `0]}}`,
		"bye of 65 bytes":           `{"type":"bye","code":"` + long[:65] + `"}`,
	} {
		if m, err := ParseClient([]byte(in)); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: got %+v, %v; want ErrMessage", name, m, err)
		}
	}
}

func TestVersionsAreNegotiated(t *testing.T) {
	for client, want := range map[int]int{1: 1, 2: 1, 99: 1} {
		if got, err := Negotiate(client); err != nil || got != want {
			t.Errorf("client %d: got %d, %v; want %d", client, got, err, want)
		}
	}
	for _, client := range []int{0, -1} {
		if _, err := Negotiate(client); !errors.Is(err, &media.Cause{Code: media.CauseVersion}) {
			t.Errorf("client %d: got %v, want version-mismatch", client, err)
		}
	}
}

func TestByeTellsCausesAndHidesFaults(t *testing.T) {
	cause := &media.Cause{Code: media.CauseAppExited, Detail: "d", Output: "o"}
	if got := ByeFor(fmt.Errorf("wrapped: %w", cause)); got != (Bye{Code: "app-exited", Detail: "d", Output: "o"}) {
		t.Errorf("got %+v", got)
	}
	if got := ByeFor(errors.New("password is hunter2")); got.Code != CauseInternal || strings.Contains(got.Detail, "hunter2") || !got.Retry {
		t.Errorf("got %+v", got)
	}
	if got := ByeFor(media.NewCause(media.CauseICE, "x")); !got.Retry {
		t.Errorf("got %+v, want retry", got)
	}
}

// The table of close codes in PROTOCOL.md is what CloseCode does.
func TestProtocolListsCloseCodes(t *testing.T) {
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^\| (\d{4}) \| (.*) \| (yes|no) \|$`).FindAllStringSubmatch(string(doc), -1) {
		for _, c := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(m[2], -1) {
			listed[c[1]] = true
			status, retry := CloseCode(c[1])
			if fmt.Sprint(status) != m[1] || retry != (m[3] == "yes") {
				t.Errorf("%s: the code says %d, retry %v; PROTOCOL.md says %s, %s", c[1], status, retry, m[1], m[3])
			}
		}
	}
	for _, code := range causesInSource(t) {
		if !listed[code] {
			t.Errorf("PROTOCOL.md does not list the cause %q", code)
		}
	}
}

// causesInSource are the values of all Cause… constants of package media.
func causesInSource(t *testing.T) (codes []string) {
	src, err := os.ReadFile("../media/media.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\tCause\w+\s+= "([a-z-]+)"`).FindAllStringSubmatch(string(src), -1) {
		codes = append(codes, m[1])
	}
	if len(codes) < 15 {
		t.Fatalf("found %d causes only", len(codes))
	}
	return codes
}

// Every message type that the code knows, with a value of its Go type.
var documented = []Message{
	Hello{}, Welcome{}, Offer{}, Answer{}, Candidate{}, State{}, Settings{}, Painted{}, Bye{}, Error{}, Cursor{}, Timing{},
}

// checkProtocol returns what is wrong with a PROTOCOL.md, given the names of
// all message types.
func checkProtocol(doc string, types []string) (wrong []string) {
	byName := make(map[string]reflect.Type)
	for _, m := range documented {
		byName[m.Type()] = reflect.TypeOf(m)
	}
	fields := make(map[string]map[string]bool) // type → fields seen
	for _, b := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(doc, -1) {
		text := strings.TrimSpace(b[1])
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &raw); err != nil {
			wrong = append(wrong, fmt.Sprintf("not JSON: %.60s: %v", text, err))
			continue
		}
		var name string
		if err := json.Unmarshal(raw["type"], &name); err != nil || byName[name] == nil {
			wrong = append(wrong, fmt.Sprintf("no message type: %.60s", text))
			continue
		}
		delete(raw, "type")
		body, err := json.Marshal(raw)
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		strict := json.NewDecoder(bytes.NewReader(body))
		strict.DisallowUnknownFields()
		if err := strict.Decode(reflect.New(byName[name]).Interface()); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", name, err))
		}
		_, cerr := ParseClient([]byte(text))
		_, serr := ParseServer([]byte(text))
		if event := name == "cursor" || name == "timing"; !event && cerr != nil && serr != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v; %v", name, cerr, serr))
		}
		if fields[name] == nil {
			fields[name] = make(map[string]bool)
		}
		for f := range raw {
			fields[name][f] = true
		}
	}
	for _, name := range types {
		typ, ok := byName[name]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s is a message in the code that this test does not know", name))
			continue
		}
		if fields[name] == nil {
			wrong = append(wrong, fmt.Sprintf("%s has no example", name))
			continue
		}
		for i := range typ.NumField() {
			tag, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !fields[name][tag] {
				wrong = append(wrong, fmt.Sprintf("%s: no example has the field %s", name, tag))
			}
		}
	}
	return wrong
}

// typesInSource finds every method Type() string of this package that returns a
// literal: the messages, whoever added them.
func typesInSource(t *testing.T) (names []string) {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			fn, ok := n.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != "Type" {
				return true
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					names = append(names, strings.Trim(lit.Value, `"`))
				}
				return true
			})
			return false
		})
	}
	slices.Sort(names)
	return names
}

func TestProtocolDocumentsEveryMessage(t *testing.T) {
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	doc, types := string(b), typesInSource(t)
	if len(types) != len(documented) {
		t.Errorf("the code has %d messages, this test %d: %v", len(types), len(documented), types)
	}
	for _, w := range checkProtocol(doc, types) {
		t.Error(w)
	}
	// The check itself must notice what it is there for.
	for name, change := range map[string]func(string) (string, []string){
		"a missing example": func(d string) (string, []string) {
			return strings.Replace(d, `{"type":"painted"`, `{"kind":"painted"`, 1), types
		},
		"a field that is gone": func(d string) (string, []string) {
			return strings.Replace(d, `"frames":123,`, `"frames":123,"fps":60,`, 1), types
		},
		"a field nobody explains": func(d string) (string, []string) { return strings.Replace(d, `,"view_only":false`, ``, 1), types },
		"a value out of range": func(d string) (string, []string) {
			return strings.Replace(d, `{"type":"offer","id":1`, `{"type":"offer","id":0`, 1), types
		},
		"broken JSON": func(d string) (string, []string) {
			return strings.Replace(d, `"max_kbps":8000}`, `"max_kbps":8000`, 1), types
		},
		"a new message": func(d string) (string, []string) { return d, append(slices.Clone(types), "clipboard") },
	} {
		if changed, types := change(doc); len(checkProtocol(changed, types)) == 0 {
			t.Errorf("the check does not notice %s", name)
		}
	}
}

// FuzzMessages: parsing never panics, never lets out more than is allowed, and
// what was parsed is parsed again from its encoding.
func FuzzMessages(f *testing.F) {
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(doc, -1) {
		f.Add(b[1])
	}
	f.Add([]byte(`{"type":"candidate","candidate":null,"sdp_mid":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) (Message, error){ParseClient, ParseServer} {
			m, err := parse(b)
			if err != nil {
				if !errors.Is(err, ErrMessage) {
					t.Fatalf("%v is no ErrMessage", err)
				}
				continue
			}
			switch m := m.(type) {
			case Hello:
				if len(m.Codecs) == 0 || len(m.Codecs) > 16 || len(m.Client) > 128 || m.Peer != "" && !ValidPeerID(m.Peer) || m.MaxKbps < 0 {
					t.Fatalf("let through %+v", m)
				}
			case Offer:
				if m.ID == 0 || len(m.SDP) > MaxSDP {
					t.Fatalf("let through %+v", m)
				}
			case Candidate:
				if strings.ContainsAny(m.Candidate, "\r\n") || len(m.Candidate) > MaxCandidate {
					t.Fatalf("let through %+v", m)
				}
			case Painted:
				if m.Legs == nil {
					break
				}
				for _, leg := range m.Legs.All() {
					if len(*leg.Values) > MaxLegs || slices.ContainsFunc(*leg.Values, func(ms float64) bool { return !(ms >= 0 && ms <= maxLegMs) }) {
						t.Fatalf("let through %+v", m)
					}
				}
			}
			out, err := Encode(m)
			if err != nil {
				t.Fatalf("%+v cannot be encoded: %v", m, err)
			}
			if len(out) > MaxMessage {
				continue // escapes made it longer; only the encoder's own side reads it
			}
			again, err := parse(out)
			if err != nil {
				t.Fatalf("%s was written by us and is refused: %v", out, err)
			}
			if !reflect.DeepEqual(normal(t, again), normal(t, m)) {
				t.Fatalf("%+v came back as %+v", m, again)
			}
		}
	})
}

// normal is m as JSON without the difference of nil and empty.
func normal(t *testing.T, m Message) string {
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
