package desktop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"fenrir/media"
	"fenrir/media/desktop/quota"
)

// maxLine is the most bytes that one message between Desktop and supervisor takes.
const maxLine = 256 << 10

// order is what Desktop tells the supervisor, one JSON object a line: first a
// start, then at most a stop.
type order struct {
	Start *start `json:"start,omitempty"`
	Stop  bool   `json:"stop,omitempty"`
}

// start is all that the supervisor needs to know.
type start struct {
	Spec        media.DesktopSpec `json:"spec"`
	Framebuffer string            `json:"framebuffer"` // folder for Xvfb's framebuffer, empty: within Spec.Runtime
	Group       *quota.Group      `json:"group"`       // nil: none
	User        string            `json:"user"`        // login name, for the program
}

// news is what the supervisor tells Desktop, one JSON object a line. Exactly one
// field is set.
type news struct {
	Event *media.DesktopEvent `json:"event,omitempty"`
	Fatal *media.Cause        `json:"fatal,omitempty"` // the desktop is over by no fault of the program
	Warn  string              `json:"warn,omitempty"`  // for the log
}

// lines reads messages; one that is too long ends it with bufio.ErrTooLong.
func lines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4<<10), maxLine)
	return s
}

// decode reads one message.
func decode[T order | news](line []byte) (m T, err error) {
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("message: %w", err)
	}
	return m, nil
}

// encode writes one message as a line.
func encode[T order | news](m T) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	if len(b) >= maxLine {
		return nil, errors.New("message is too long")
	}
	return append(b, '\n'), nil
}
