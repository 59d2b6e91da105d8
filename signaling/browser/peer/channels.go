package peer

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
)

// Labels of the data channels, all made by the client.
const (
	labelInput  = "input"
	labelMotion = "motion"
	labelEvents = "events"
	labelStages = "stages"
)

const (
	maxInputMessage = 4096 // bytes; the largest real one is below 100
	maxBadInputs    = 100  // packets that break the protocol, until the peer is sent away
	maxPongBuffer   = 16 << 10
	maxMoveBuffer   = 4 << 10
	maxEventBuffer  = 256 << 10
)

// channel is one open data channel.
type channel struct {
	label string
	raw   *datachannel.DataChannel
}

// onDataChannel hands channels to Serve once they are open. Called by pion.
func (p *Peer) onDataChannel(dc *webrtc.DataChannel) {
	dc.OnOpen(func() {
		rw, err := dc.Detach()
		if err != nil {
			p.log.Debug("detach data channel", "label", dc.Label(), "err", err)
			return
		}
		raw, ok := rw.(*datachannel.DataChannel)
		if !ok {
			panic("browser: pion's data channel is not what it was")
		}
		select {
		case p.opened <- channel{label: dc.Label(), raw: raw}:
		default: // a client that opens channels faster than they are looked at
			_ = raw.Close() // nothing to do about it
		}
	})
}

// serveChannel reads one channel until it ends.
func (p *Peer) serveChannel(ctx context.Context, c channel) {
	defer func() {
		if err := c.raw.Close(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			p.log.Debug("close data channel", "label", c.label, "err", err)
		}
	}()
	switch p.Spec.Transport {
	case WHEP:
		return
	case MoonlightWeb:
		if c.label == labelControl {
			p.serveControl(c.raw)
		}
		return
	}
	switch c.label {
	case labelInput:
		p.serveInput(ctx, c.raw)
	case labelMotion:
		if p.news.open(&p.news.motion, c.raw) {
			defer p.news.close(&p.news.motion)
			p.serveMotion(c.raw)
		}
	case labelEvents:
		if p.news.open(&p.news.events, c.raw) {
			defer p.news.close(&p.news.events)
			p.readAll(c.raw, func([]byte) error { return nil }) // the client has nothing to say here
		}
	case labelStages:
		if p.meter.Open(c.raw) {
			defer p.meter.Close()
			p.readAll(c.raw, func([]byte) error { return nil }) // nor here
		}
	}
}

// readAll hands every message to f until the channel ends or f returns an error.
func (p *Peer) readAll(raw *datachannel.DataChannel, f func([]byte) error) {
	buf := make([]byte, maxInputMessage)
	for {
		n, _, err := raw.ReadDataChannel(buf)
		if errors.Is(err, io.ErrShortBuffer) {
			err = media.NewCause(media.CauseProtocol, "a data channel message is longer than %d bytes", maxInputMessage)
			p.Leave(err)
		}
		if err != nil {
			return
		}
		if err := f(buf[:n]); err != nil {
			p.Leave(err)
			return
		}
	}
}

// serveInput reads keys, buttons, pads and pings. What the client holds is
// released when it misses its heartbeats and when the channel ends.
func (p *Peer) serveInput(ctx context.Context, raw *datachannel.DataChannel) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release := p.release
	defer release()

	var heard atomic.Int64 // media.Stamp of the last message, 0 until the first
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchHeartbeat(ctx, &heard, release)
	}()
	defer func() { cancel(); <-watched }()

	var reply []byte
	p.readAll(raw, func(msg []byte) error {
		now := media.Now()
		heard.Store(int64(now))
		for len(msg) > 0 {
			c, rest, err := signaling.DecodeControl(msg)
			if err != nil {
				return p.bad(err)
			}
			msg = rest
			if c.Type != signaling.ControlPing {
				if err := p.keys.Packet(c, func(c signaling.Control) error { return p.control(c, now) }); err != nil {
					return err
				}
				continue
			}
			ping, err := signaling.DecodePing(c.Payload)
			if err != nil {
				if err := p.bad(err); err != nil {
					return err
				}
				continue
			}
			if raw.BufferedAmount() < maxPongBuffer {
				reply = signaling.AppendPong(reply[:0], signaling.Pong{Seq: ping.Seq, ClientMs: ping.ClientMs, ServerNs: uint64(now)})
				if _, err := raw.WriteDataChannel(reply, false); err != nil {
					return nil // the next read tells
				}
			}
		}
		return nil
	})
}

// release lets go of what the client holds.
func (p *Peer) release() { p.att.Input(media.Input{Kind: media.ReleaseAll, Received: media.Now()}) }

// control carries out a packet of the channel `input`, whichever way it came. p.keys
// calls it with one after the other, each once.
func (p *Peer) control(c signaling.Control, now media.Stamp) error {
	p.packet++
	switch c.Type {
	case signaling.ControlInput:
		in, err := signaling.DecodeInput(c.Payload)
		if err != nil {
			return p.bad(err)
		}
		in.Number = p.packet
		p.input(in, now)
	case signaling.ControlRequestIDR:
		p.counts.plis.Add(1)
		p.att.RequestKeyFrame()
	case signaling.ControlReleaseAll:
		p.release()
	default:
		return p.bad(signaling.ErrUnknown)
	}
	return nil
}

// watchHeartbeat calls release once for each time that nothing was heard for
// MissedHeartbeats beats.
func watchHeartbeat(ctx context.Context, heard *atomic.Int64, release func()) {
	tick := time.NewTicker(Heartbeat / 2)
	defer tick.Stop()
	var released int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		last := heard.Load()
		if last != 0 && last != released && media.Now().Sub(media.Stamp(last)) > MissedHeartbeats*Heartbeat {
			released = last
			release()
		}
	}
}

// serveMotion reads pointer movement, and copies of what went out on `input`.
func (p *Peer) serveMotion(raw *datachannel.DataChannel) {
	var seq signaling.MotionSequence
	p.readAll(raw, func(msg []byte) error {
		now := media.Now()
		if signaling.IsCopies(msg) {
			c, err := signaling.DecodeCopies(msg)
			if err != nil {
				return p.bad(err)
			}
			return p.keys.Copies(&c, func(c signaling.Control) error { return p.control(c, now) })
		}
		m, err := signaling.DecodeMotion(msg)
		if err != nil {
			return p.bad(err)
		}
		lost := seq.Lost
		for _, in := range seq.Fresh(&m) {
			p.input(in, now)
		}
		p.counts.motionLost.Add(seq.Lost - lost)
		return nil
	})
}

func (p *Peer) input(in media.Input, now media.Stamp) {
	in.Received = now
	p.counts.inputs.Add(1)
	p.att.Input(in)
}

// bad counts a packet that cannot be used. Unknown ones are part of the
// protocol; of broken ones a client may send a few.
func (p *Peer) bad(err error) error {
	p.counts.badInputs.Add(1)
	if errors.Is(err, signaling.ErrUnknown) {
		return nil
	}
	if p.broken.Add(1) > maxBadInputs {
		return media.NewCause(media.CauseProtocol, "too many broken input packets, the last: %v", err)
	}
	return nil
}
