package peer

import (
	"sync/atomic"
	"time"

	"fenrir/media"
)

// Totals count what peers did. They only grow.
type Totals struct {
	Packets    uint64 // RTP packets sent, without retransmissions
	Bytes      uint64 // RTP payload bytes of those
	Frames     uint64 // video frames sent
	Unsent     uint64 // units that found no path
	Resent     uint64 // packets sent again on request
	NACKs      uint64 // packets that peers asked for again
	PLIs       uint64 // picture-loss and full-intra requests
	Inputs     uint64 // input events decoded
	BadInputs  uint64 // input packets that could not be
	MotionLost uint64 // pointer packets that no message brought
	Drops      uint64 // cursor pictures and positions dropped because the peer was slow
	Painted    uint64 // frames that clients say they painted
}

// Add adds o to t.
func (t *Totals) Add(o Totals) {
	t.Packets += o.Packets
	t.Bytes += o.Bytes
	t.Frames += o.Frames
	t.Unsent += o.Unsent
	t.Resent += o.Resent
	t.NACKs += o.NACKs
	t.PLIs += o.PLIs
	t.Inputs += o.Inputs
	t.BadInputs += o.BadInputs
	t.MotionLost += o.MotionLost
	t.Drops += o.Drops
	t.Painted += o.Painted
}

// counts is Totals while they grow.
type counts struct {
	frames, unsent, nacks, plis, inputs, badInputs, motionLost, drops, painted atomic.Uint64
}

func (c *counts) totals() Totals {
	return Totals{
		Frames: c.frames.Load(), Unsent: c.unsent.Load(),
		NACKs: c.nacks.Load(), PLIs: c.plis.Load(), Inputs: c.inputs.Load(), BadInputs: c.badInputs.Load(),
		MotionLost: c.motionLost.Load(), Drops: c.drops.Load(), Painted: c.painted.Load(),
	}
}

// Stats is a snapshot of one peer.
type Stats struct {
	Session   string
	Peer      string
	Person    media.PersonRef
	Transport string // "webrtc" or "whep"
	Codec     media.Codec
	State     string // of the connection: "new", "connecting", "connected", "disconnected", "failed"
	Kbps      int    // estimate of what the path carries, 0 while unknown
	RTT       time.Duration
	Loss      float64 // 0…1, of the last second as the peer reported it
	Totals    Totals
}
