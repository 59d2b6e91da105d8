package worker

import (
	"sync"

	"fenrir/media"
)

// mailbox holds the orders that the child has not been given yet. It has room
// for one of each kind: the newest counts.
type mailbox struct {
	wake chan struct{} // capacity 1: something was put

	mu      sync.Mutex // guards what follows
	pending []media.Order
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put takes an order in the place of an older one of its kind. Never blocks.
func (m *mailbox) put(o media.Order) {
	m.mu.Lock()
	replaced := false
	for i := range m.pending {
		if m.pending[i].Kind == o.Kind {
			m.pending[i] = o
			replaced = true
		}
	}
	if !replaced && len(m.pending) < 8 { // there are six kinds; nobody makes more
		m.pending = append(m.pending, o)
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// stop puts the stop order; nothing before it matters any more.
func (m *mailbox) stop() {
	m.mu.Lock()
	m.pending = nil
	m.mu.Unlock()
	m.put(media.Order{Kind: media.OrderStop})
}

// take returns what is there, oldest first.
func (m *mailbox) take() []media.Order {
	m.mu.Lock()
	defer m.mu.Unlock()
	orders := m.pending
	m.pending = nil
	return orders
}
