package peer

import (
	"context"
	"sync"
	"time"

	"github.com/pion/datachannel"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/ports"
)

// news is what waits to be told over the data channels: of each sort the
// newest only.
type news struct {
	wake chan struct{} // 1 slot: something changed

	mu     sync.Mutex // guards what follows
	events *datachannel.DataChannel
	motion *datachannel.DataChannel
	cursor *media.CursorImage // the present one
	told   bool               // cursor was sent on events
	timing *signaling.Timing  // waits to be sent
	at     *media.CursorMove  // where the pointer stands
	move   uint32             // number of the last position sent
	video  media.VideoState   // of the encoder that serves this peer
}

func (n *news) init() { n.wake = make(chan struct{}, 1) }

func (n *news) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// open makes raw the channel in slot; false when there is one already.
func (n *news) open(slot **datachannel.DataChannel, raw *datachannel.DataChannel) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if *slot != nil {
		return false
	}
	*slot = raw
	switch slot {
	case &n.events:
		n.told = false
		n.poke()
	case &n.motion:
		n.tellPosition()
	}
	return true
}

// tellPosition sends where the pointer stands, if that can be done at once; it
// reports whether. Called with n.mu held; the write queues and never waits.
func (n *news) tellPosition() bool {
	if n.at == nil || n.motion == nil {
		return true
	}
	if n.motion.BufferedAmount() > maxMoveBuffer {
		return false
	}
	n.move++
	_, err := n.motion.WriteDataChannel(signaling.AppendCursorPosition(make([]byte, 0, 8), signaling.CursorPosition{
		Seq: n.move, X: clamp16(n.at.X), Y: clamp16(n.at.Y),
	}), false)
	return err == nil
}

func (n *news) close(slot **datachannel.DataChannel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	*slot = nil
}

func (n *news) setTiming(t signaling.Timing) {
	n.mu.Lock()
	t.Encoder = n.video.Encoder
	n.timing = &t
	n.mu.Unlock()
	n.poke()
}

// pumpNotes takes the session's news until ctx ends or there are no more.
func (p *Peer) pumpNotes(ctx context.Context) {
	for {
		n, err := p.att.NextNote(ctx)
		if err != nil {
			return // the loop knows why
		}
		p.note(n)
		switch {
		case n.State != nil:
			p.Signal.State(*n.State)
		case n.Notice != nil:
			p.Signal.Notice(n.Notice)
		}
	}
}

// note keeps one piece of news, and sends it if that can be done at once.
func (p *Peer) note(note media.Note) {
	if note.Injected != nil {
		p.meter.Injected(note.Injected)
		return
	}
	n := &p.news
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case note.State != nil:
		for _, v := range note.State.Video {
			if v.Codec == p.att.Codec() {
				n.video = v
			}
		}
	case note.Cursor != nil:
		if n.cursor != nil && !n.told && n.events != nil {
			p.counts.drops.Add(1)
		}
		n.cursor, n.told = note.Cursor, false
		n.poke()
	case note.Move != nil:
		n.at = note.Move
		if !n.tellPosition() {
			p.counts.drops.Add(1)
		}
	}
}

func clamp16(v int) uint16 { return uint16(min(max(v, 0), 0xFFFF)) }

// writeEvents sends cursor pictures and timings, the newest of each, as fast as
// the client takes them.
func (p *Peer) writeEvents(ctx context.Context) {
	n := &p.news
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-retry.C:
		}
		n.mu.Lock()
		raw := n.events
		if raw == nil {
			n.mu.Unlock()
			continue
		}
		if raw.BufferedAmount() > maxEventBuffer {
			n.mu.Unlock()
			retry.Reset(50 * time.Millisecond)
			continue
		}
		var out []signaling.Message
		if n.cursor != nil && !n.told {
			n.told = true
			out = append(out, signaling.Cursor{
				Serial: n.cursor.Serial, Width: n.cursor.Width, Height: n.cursor.Height,
				HotX: n.cursor.HotX, HotY: n.cursor.HotY, PNG: n.cursor.PNG,
			})
		}
		if n.timing != nil {
			out = append(out, *n.timing)
			n.timing = nil
		}
		n.mu.Unlock()
		for _, m := range out {
			b, err := signaling.Encode(m)
			if err == nil && len(b) > ports.MaxMessage {
				p.log.Warn("event is too large to be sent", "type", m.Type(), "bytes", len(b))
				continue
			}
			if err == nil {
				_, err = raw.WriteDataChannel(b, true)
			}
			if err != nil {
				p.counts.drops.Add(1)
			}
		}
	}
}
