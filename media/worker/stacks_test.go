package worker

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestASilentWorkersStacksAreKept(t *testing.T) {
	for how, prints := range map[string]bool{"child-silent": true, "child-never-ready": true, "child-stopped": false} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := process(how)
			stacks := make(chan string, 1)
			p.Stacks = func(text string) { stacks <- text }
			l := begin(t, p)
			if err := l.wait(t, StartGrace+3*time.Second); !errors.Is(err, ErrSilent) {
				t.Fatalf("got %v, want ErrSilent", err)
			}
			var r interface{ Reason() string }
			if !errors.As(l.err, &r) || r.Reason() != "silent" {
				t.Errorf("the reason of %v is not silent", l.err)
			}
			if strings.Contains(l.err.Error(), "goroutine") {
				t.Errorf("the stacks are taken for last words: %v", l.err)
			}
			select {
			case text := <-stacks:
				if !strings.HasPrefix(text, "threads of process ") {
					t.Errorf("no threads in %.300q", text)
				}
				if got := strings.Contains(text, "misbehave("); got != prints {
					t.Errorf("it printed its goroutines: %t, want %t\n%s", got, prints, text)
				}
				if len(text) > maxStacks {
					t.Errorf("%d bytes, want at most %d", len(text), maxStacks)
				}
			default:
				t.Error("nothing was kept")
			}
		})
	}
}

func TestLastWordsAreKept(t *testing.T) {
	l := begin(t, process("child-exit", t.TempDir()+"/pid"))
	err := l.wait(t, 5*time.Second)
	var w *LastWords
	if !errors.As(err, &w) || w.Output() != "I have had enough" || strings.Contains(w.Unwrap().Error(), "enough") {
		t.Errorf("got %v, want the last words apart", err)
	}
}
