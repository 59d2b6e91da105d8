package desktop

import (
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

// tail keeps the last bytes written to it. Write never blocks nor fails.
type tail struct {
	max int

	mu  sync.Mutex // guards buf, cut
	buf []byte
	cut bool // something was dropped
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if len(p) > t.max { // of a flood, no more is touched than is kept
		p, t.buf, t.cut = p[len(p)-t.max:], t.buf[:0], true
	}
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
	return n, nil
}

// String is what was kept as whole lines of readable text.
func (t *tail) String() string {
	t.mu.Lock()
	s, cut := string(t.buf), t.cut
	t.mu.Unlock()
	if cut {
		if _, rest, ok := strings.Cut(s, "\n"); ok && rest != "" {
			s = rest
		}
	}
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	return strings.TrimSpace(s)
}

// Who prints without end takes a core for it, and another one for its reader: beyond
// so many bytes it waits until the pause is over. That is 25 MB/s.
const (
	floodPart  = 256 << 10
	floodPause = 10 * time.Millisecond
)

// capture is a pipe whose reader never stops for long, so that nobody who prints into it
// ever waits, but those who flood it.
type capture struct {
	tail
	w    int // descriptor for the processes that print; -1 once closed
	done chan struct{}
}

// newCapture opens the pipe; max is how many of the last bytes are kept.
func newCapture(max int) (*capture, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil { // the reader's end only: deadlines work then
		_ = syscall.Close(fds[0])
		_ = syscall.Close(fds[1])
		return nil, err
	}
	c := &capture{tail: tail{max: max}, w: fds[1], done: make(chan struct{})}
	r := os.NewFile(uintptr(fds[0]), "output")
	go func() { // ends when the last process that could print is gone, or this process is
		defer close(c.done)
		defer r.Close()
		drain(r, &c.tail)
	}()
	return c, nil
}

// drain reads until the end, whatever that is.
func drain(r io.Reader, to *tail) {
	buf := make([]byte, 64<<10) // all that a pipe holds
	var began time.Time
	part := 0
	for {
		n, err := r.Read(buf)
		_, _ = to.Write(buf[:n]) // never fails
		if err != nil {
			return
		}
		now := time.Now()
		if now.Sub(began) >= floodPause {
			began, part = now, 0
		}
		if part += n; part >= floodPart { // at most floodPause; whoever prints waits in the kernel
			time.Sleep(floodPause - now.Sub(began))
		}
	}
}

// started closes our copy of the writing end, after the process has its own.
func (c *capture) started() {
	if c.w >= 0 {
		_ = syscall.Close(c.w) // a pipe has nothing to flush
		c.w = -1
	}
}

// last waits until all output is read, at most bound, and returns what was kept.
func (c *capture) last(bound time.Duration) string {
	t := time.NewTimer(bound)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	}
	return c.String()
}
