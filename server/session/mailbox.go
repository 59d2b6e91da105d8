package session

import (
	"context"
	"sync"

	"fenrir/media"
)

// mailbox holds the newest note of each sort, of injections the newest few, for
// one slow or fast reader. put never blocks and never grows it beyond that.
type mailbox struct {
	wake chan struct{} // 1 slot

	mu     sync.Mutex // guards what follows
	state  *media.SessionState
	cursor *media.CursorImage
	move   *media.CursorMove
	notice *media.Cause
	done   []*media.Injection // oldest first
}

// maxInjections bounds the injections that wait: more of them than a person
// makes in a second.
const maxInjections = 64

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) put(n media.Note) {
	m.mu.Lock()
	if n.State != nil {
		m.state = n.State
	}
	if n.Cursor != nil {
		m.cursor = n.Cursor
	}
	if n.Move != nil {
		m.move = n.Move
	}
	if n.Notice != nil {
		m.notice = n.Notice
	}
	if n.Injected != nil {
		if len(m.done) == maxInjections {
			m.done = append(m.done[:0], m.done[1:]...)
		}
		m.done = append(m.done, n.Injected)
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// next blocks until a note is there or one of the contexts ends. Cursor notes
// come before state notes: they are small and what the player looks at.
func (m *mailbox) next(ctx, life context.Context) (media.Note, error) {
	for {
		m.mu.Lock()
		switch {
		case m.cursor != nil:
			n := media.Note{Cursor: m.cursor}
			m.cursor = nil
			m.mu.Unlock()
			return n, nil
		case m.move != nil:
			n := media.Note{Move: m.move}
			m.move = nil
			m.mu.Unlock()
			return n, nil
		case m.notice != nil:
			n := media.Note{Notice: m.notice}
			m.notice = nil
			m.mu.Unlock()
			return n, nil
		case len(m.done) > 0:
			n := media.Note{Injected: m.done[0]}
			m.done = append(m.done[:0], m.done[1:]...)
			m.mu.Unlock()
			return n, nil
		case m.state != nil:
			n := media.Note{State: m.state}
			m.state = nil
			m.mu.Unlock()
			return n, nil
		}
		m.mu.Unlock()
		select {
		case <-m.wake:
		case <-ctx.Done():
			return media.Note{}, context.Cause(ctx)
		case <-life.Done():
			return media.Note{}, context.Cause(life)
		}
	}
}
