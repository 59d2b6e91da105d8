package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	lastWords  = 4 << 10 // bytes kept
	maxLine    = 512     // bytes of one logged line
	lineBurst  = 20      // lines logged at once
	linePerSec = 5       // and in the long run
)

// words takes what a child prints: it logs lines as fast as is good for a log
// and keeps the last ones. Its Write never fails.
type words struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	kept    []byte
	line    []byte
	tokens  float64
	filled  time.Time
	dropped int

	dumping bool   // what comes now are stacks
	dump    []byte // at most maxStacks
}

func newWords(log *slog.Logger) *words {
	return &words{log: log, tokens: lineBurst, filled: time.Now()}
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dumping {
		w.dump = append(w.dump, p[:min(len(p), maxStacks-len(w.dump))]...)
		return len(p), nil
	}
	w.kept = append(w.kept, p[max(0, len(p)-lastWords):]...)
	if over := len(w.kept) - lastWords; over > 0 {
		w.kept = append(w.kept[:0], w.kept[over:]...)
	}
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		w.line = append(w.line, line[:min(len(line), max(0, maxLine-len(w.line)))]...)
		if ended {
			w.say(strings.ToValidUTF8(strings.TrimSpace(string(w.line)), "?"))
			w.line = w.line[:0]
		}
		rest = after
	}
	return len(p), nil
}

func (w *words) say(line string) {
	if line == "" {
		return
	}
	now := time.Now()
	w.tokens = min(lineBurst, w.tokens+linePerSec*now.Sub(w.filled).Seconds())
	w.filled = now
	if w.tokens < 1 {
		w.dropped++
		return
	}
	w.tokens--
	if w.dropped > 0 {
		w.log.Warn("media worker said more", "lines", w.dropped)
		w.dropped = 0
	}
	w.log.Warn("media worker says", "line", line)
}

// last returns the last lines, at most lastWords bytes of them.
func (w *words) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(w.kept)), "?")
}
