package desktop

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"fenrir/media"
)

func FuzzMessages(f *testing.F) {
	o, err := encode(order{Start: &start{Spec: media.DesktopSpec{Session: "s"}}})
	if err != nil {
		f.Fatal(err)
	}
	n, err := encode(news{Event: &media.DesktopEvent{Kind: media.DesktopProgram, PID: 7}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o)
	f.Add(n)
	f.Add([]byte("{\"warn\":\"\\u0000\"}\n\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for s := lines(bytes.NewReader(b)); s.Scan(); {
			m, err := decode[news](s.Bytes())
			if err != nil {
				continue
			}
			line, err := encode(m)
			if err != nil {
				t.Skip("longer than it came: escapes")
			}
			again, err := decode[news](line)
			if err != nil || !reflect.DeepEqual(normal(t, m), normal(t, again)) {
				t.Fatalf("got %+v %v, want %+v", again, err, m)
			}
		}
	})
}

// normal is a message as JSON has it.
func normal(t *testing.T, m news) string {
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMessagesHaveALimit(t *testing.T) {
	if _, err := encode(news{Warn: strings.Repeat("x", maxLine)}); err == nil {
		t.Error("a message without end was made")
	}
	s := lines(strings.NewReader(strings.Repeat("x", maxLine+1)))
	for s.Scan() {
		t.Error("a line without end was read")
	}
	if s.Err() == nil {
		t.Error("a line without end is no error")
	}
}

func TestTail(t *testing.T) {
	w := &tail{max: 10}
	for _, s := range []string{"first\n", "second\n", "third\x01\xff\n"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := w.String(); got != "third" {
		t.Errorf("got %q, want whole lines only", got)
	}
}
