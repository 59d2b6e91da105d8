// Package signaling is what the doors share: the codec of input packets, the
// messages of the websocket protocol (PROTOCOL.md beside this file), and what
// a door asks of a session on behalf of one connection. It imports media only.
package signaling

import (
	"context"

	"fenrir/media"
)

// Attachment is one connection's place in a session. A door gets one from its
// Attach function and calls Detach when the connection is over, whoever ended it.
// No method but the Next… ones blocks.
type Attachment interface {
	// ID is the peer's id, unique within the session.
	ID() string
	// Codec is the video codec that this peer will be sent. It never changes.
	Codec() media.Codec
	// Audio is how the packets of NextAudio are made. It never changes.
	Audio() media.AudioFormat
	// Grant is what the peer may do now.
	Grant() media.GrantBits
	// Context ends when the peer must go: session over, superseded, revoked.
	// context.Cause is then a *media.Cause.
	Context() context.Context
	// NextVideo blocks until a unit for this peer is there, or ctx or Context
	// ends. The first one is a key frame, and so is the first after a loss. Units
	// are kept from the first call on: it is made when they can be sent.
	NextVideo(ctx context.Context) (media.Unit, error)
	// NextAudio is the same for Opus packets; a slow reader loses the oldest.
	NextAudio(ctx context.Context) (media.Unit, error)
	// NextNote blocks until there is news for the client, or ctx or Context ends.
	// The first notes tell the present state and cursor. Injections are of this
	// peer's own inputs that have a Number.
	NextNote(ctx context.Context) (media.Note, error)
	// Input hands an event to the session's devices if the grant allows it.
	// What it does not allow is counted and dropped.
	Input(media.Input)
	// RequestKeyFrame asks for one; requests of all peers are coalesced to at
	// most one per 500 ms and encoder.
	RequestKeyFrame()
	// Estimate tells the bitrate, kbit/s, that the path to this peer carries.
	Estimate(kbps int)
	// Away tells that nothing reaches the client, or that it does again. Who is away
	// gets no media, costs no encoder and holds no bitrate down; the first frame
	// afterwards is a key frame.
	Away(bool)
	// Painted tells what is known of the client's picture, about once a second.
	// A client that is sent frames and paints none is helped; notes tell how.
	Painted(media.Paint)
	// Target is the bitrate, kbit/s, that the encoder of this peer is asked for now.
	Target() int
	// Detach ends the attachment; what the peer held is released. Idempotent,
	// the first cause wins.
	Detach(cause *media.Cause)
}
