// Package journal keeps what was logged about each session, bounded, so that its
// owner and admins can read afterwards why it failed: also what the server's log
// leaves out by its level. It imports the standard library only.
package journal

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept.
const (
	MaxLines = 400      // of one journal
	MaxBytes = 64 << 10 // of one journal's texts
	MaxText  = 4 << 10  // of one line
	MaxPast  = 64       // journals of ended sessions
)

// Line is one thing that was logged.
type Line struct {
	At    time.Time `json:"at"`
	Level string    `json:"level"` // "debug", "info", "warn", "error"
	Text  string    `json:"text"`  // the message, and what came with it as key=value
}

// Books are the journals of the sessions, by id. The zero value is ready.
type Books struct {
	mu      sync.Mutex // guards what follows
	journal map[string]*Journal
	past    []string // ids of ended sessions, oldest first
}

// Open makes the journal of a session and returns a logger that writes into it
// and into log.
func (b *Books) Open(id string, log *slog.Logger) *slog.Logger {
	j := &Journal{}
	b.mu.Lock()
	if b.journal == nil {
		b.journal = map[string]*Journal{}
	}
	b.journal[id] = j
	b.mu.Unlock()
	return slog.New(&handler{to: j, next: log.Handler()})
}

// End tells that a session is over: its journal stays until MaxPast others have
// ended after it.
func (b *Books) End(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.journal[id] == nil || slices.Contains(b.past, id) {
		return
	}
	b.past = append(b.past, id)
	for len(b.past) > MaxPast {
		delete(b.journal, b.past[0])
		b.past = b.past[1:]
	}
}

// Lines are what is kept of a session, oldest first, and how many older lines
// were dropped.
func (b *Books) Lines(id string) (lines []Line, dropped int, ok bool) {
	b.mu.Lock()
	j := b.journal[id]
	b.mu.Unlock()
	if j == nil {
		return nil, 0, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines), j.dropped, true
}

// Journal is what was logged about one session.
type Journal struct {
	mu      sync.Mutex // guards what follows
	lines   []Line
	bytes   int // of the lines' texts
	dropped int
}

func (j *Journal) add(l Line) {
	if len(l.Text) > MaxText {
		l.Text = strings.ToValidUTF8(l.Text[:MaxText], "") + "…"
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, l)
	j.bytes += len(l.Text)
	n := 0
	for len(j.lines)-n > MaxLines || j.bytes > MaxBytes {
		j.bytes -= len(j.lines[n].Text)
		n++
	}
	j.dropped += n
	j.lines = slices.Delete(j.lines, 0, n)
}

// handler writes into a journal whatever the level, and passes on what the next
// one wants.
type handler struct {
	to    *Journal
	next  slog.Handler
	attrs string // " key=value" of With
	group string // "group." of WithGroup
}

// Enabled is slog.Handler's.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelDebug }

// Handle is slog.Handler's.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		h.write(&b, a)
		return true
	})
	h.to.add(Line{At: r.Time, Level: strings.ToLower(r.Level.String()), Text: b.String()})
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// write appends an attribute. That a line of a session's journal is of that
// session need not be said.
func (h *handler) write(b *strings.Builder, a slog.Attr) {
	if a.Key == "session" || a.Equal(slog.Attr{}) {
		return
	}
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		inner := *h
		inner.group += a.Key + "."
		for _, g := range v.Group() {
			inner.write(b, g)
		}
		return
	}
	fmt.Fprintf(b, " %s%s=%s", h.group, a.Key, v.String())
}

// WithAttrs is slog.Handler's.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.next = h.next.WithAttrs(attrs)
	var b strings.Builder
	for _, a := range attrs {
		h.write(&b, a)
	}
	out.attrs += b.String()
	return &out
}

// WithGroup is slog.Handler's.
func (h *handler) WithGroup(name string) slog.Handler {
	out := *h
	out.next = h.next.WithGroup(name)
	out.group += name + "."
	return &out
}
