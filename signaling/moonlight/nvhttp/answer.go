package nvhttp

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// writeTimeout is how long a client may take for an answer.
const writeTimeout = 20 * time.Second

// answer is what a request is answered.
type answer struct {
	kind   string
	body   []byte
	failed bool // a launch that nobody waits for
}

// element is one of XML: with text, or with others in it.
type element struct {
	name   string
	text   string
	within []element
}

func number[T int | uint32](name string, n T) element {
	return element{name: name, text: strconv.FormatInt(int64(n), 10)}
}

// document makes an answer. A status other than 200 is a failure, and message
// says to people what failed; clients show it.
func document(status int, message string, elements ...element) answer {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	b.WriteString(`<root status_code="` + strconv.Itoa(status) + `"`)
	if message != "" {
		b.WriteString(` status_message="`)
		escape(&b, message)
		b.WriteString(`"`)
	}
	b.WriteString(">")
	writeElements(&b, elements)
	b.WriteString("</root>\n")
	return answer{kind: "application/xml; charset=utf-8", body: b.Bytes()}
}

func writeElements(b *bytes.Buffer, elements []element) {
	for _, e := range elements {
		b.WriteString("<" + e.name + ">")
		escape(b, e.text)
		writeElements(b, e.within)
		b.WriteString("</" + e.name + ">")
	}
}

func escape(b *bytes.Buffer, s string) {
	_ = xml.EscapeText(b, []byte(s)) // a buffer takes everything; what XML cannot say becomes U+FFFD
}

func ok(elements ...element) answer { return document(http.StatusOK, "", elements...) }

// refusal says no. The message is made a sentence.
func refusal(status int, message string, elements ...element) answer {
	first, n := utf8.DecodeRuneInString(message)
	return document(status, string(unicode.ToUpper(first))+strings.TrimSuffix(message[n:], ".")+".", elements...)
}

// send answers with HTTP status 200 whatever happened: clients take any other for
// a host that is not there.
func (a answer) send(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // real connections have one
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Connection", "close")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(a.body) // the client has gone
}
