// Package legs measures the ways of the frames and inputs of one peer, leg by leg:
// medians of each second, the stages of every single one for the client that
// asks, and what the client says of the legs that only it can see. It blocks
// nobody and allocates nothing for a frame.
//
// It imports media and signaling.
package legs

import (
	"context"

	"fenrir/media"
	"fenrir/signaling"
)

// Watcher is told what frames and inputs cost on their way, of all peers. Its
// methods do not block and may be called from any goroutine.
type Watcher interface {
	// Sent tells that a frame's last packet was handed to the network.
	Sent(s *media.Stages, at media.Stamp)
	// Injected tells that an input reached the display.
	Injected(*media.Injection)
	// Painted tells what a client says that it measured. It may lie, within the
	// bounds of the protocol and for as many frames and inputs as there were.
	Painted(*signaling.Legs)
}

// Meter measures one peer. Make it with NewMeter; its methods may be called from
// any goroutine but where they say otherwise.
type Meter struct {
	watcher Watcher
	medians medians
	trail   trail
	painted painted
}

// NewMeter makes a Meter. watcher may be nil.
func NewMeter(watcher Watcher) *Meter {
	return &Meter{watcher: watcher, trail: trail{wake: make(chan struct{}, 1)}}
}

// Run tells the client of single frames and inputs until ctx ends.
func (m *Meter) Run(ctx context.Context) { m.trail.run(ctx) }

// Open makes raw the channel `stages`; false when there is one already.
func (m *Meter) Open(raw Channel) bool { return m.trail.open(raw) }

// Close forgets the channel.
func (m *Meter) Close() { m.trail.close() }

// Sent notes a frame with the given RTP timestamp whose last packet was handed
// to the network at the given moment.
func (m *Meter) Sent(u *media.Unit, rtp uint32, at media.Stamp) {
	m.medians.sent(u, at)
	s := &u.Stages
	if m.watcher != nil {
		m.watcher.Sent(s, at)
	}
	f := signaling.FrameStages{
		RTPTimestamp: rtp, Captured: s.Captured, Wait: signaling.NoChange,
		Convert: s.Converted.Sub(s.Captured), Encode: s.Encoded.Sub(s.Converted), Wire: s.Received.Sub(s.Encoded), Send: at.Sub(s.Received),
	}
	if s.Damage != 0 {
		f.Wait = max(s.Captured.Sub(s.Damage), 0)
	}
	m.trail.frame(f)
}

// Injected notes an input of this peer that reached the display.
func (m *Meter) Injected(in *media.Injection) {
	if m.watcher != nil {
		m.watcher.Injected(in)
	}
	m.trail.input(signaling.InputStages{Number: in.Number, Received: in.Received, Inject: in.Injected.Sub(in.Received)})
}

// Second is what was sent since the last call, in medians. rtp is the video
// stream's RTP time at now.
func (m *Meter) Second(rtp uint32, now media.Stamp) signaling.Timing {
	return m.medians.second(rtp, now)
}

// Painted takes the client's word on what it painted, having been sent so many
// frames and having sent so many inputs in all, and returns how many frames it can
// have painted. One goroutine at a time calls it.
func (m *Meter) Painted(says signaling.Painted, sent, inputs uint64) uint64 {
	if m.watcher != nil && says.Legs != nil {
		l := *says.Legs
		m.painted.bound(&l, sent, inputs)
		m.watcher.Painted(&l)
	}
	return min(says.Frames, sent)
}
