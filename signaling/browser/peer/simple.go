package peer

import (
	"fmt"
	"sync"
	"time"

	"github.com/pion/datachannel"

	"fenrir/media"
	"fenrir/signaling"
)

// labelControl is the data channel of moonlight-web's page, in its simple form:
// ordered and reliable, one control packet a message. We make it.
const labelControl = "moonlight.control"

// simple is that channel, once it is open.
type simple struct {
	mu  sync.Mutex // guards raw
	raw *datachannel.DataChannel
}

// farewell bounds the wait for the page to have heard that it is over.
const farewell = 100 * time.Millisecond

// end tells the page that the stream is over. It returns when the page has heard it,
// or after farewell.
func (s *simple) end() {
	s.mu.Lock()
	raw := s.raw
	s.mu.Unlock()
	if raw == nil {
		return
	}
	heard := make(chan struct{})
	var once sync.Once
	raw.SetBufferedAmountLowThreshold(0)
	raw.OnBufferedAmountLow(func() { once.Do(func() { close(heard) }) })
	if _, err := raw.WriteDataChannel(signaling.AppendTermination(nil, signaling.TerminationNormal), false); err != nil {
		return // it sees the end anyway
	}
	select {
	case <-heard:
	case <-time.After(farewell):
	}
}

// makeControl makes the channel. Called before the first answer.
func (p *Peer) makeControl() error {
	dc, err := p.pc.CreateDataChannel(labelControl, nil)
	if err != nil {
		return fmt.Errorf("make the control channel: %w", err)
	}
	p.onDataChannel(dc)
	return nil
}

// serveControl reads control packets until the channel ends. Clients of this kind
// send no heartbeats: what they hold is released with the channel.
func (p *Peer) serveControl(raw *datachannel.DataChannel) {
	p.simple.mu.Lock()
	p.simple.raw = raw
	p.simple.mu.Unlock()
	defer p.release()
	p.readAll(raw, func(msg []byte) error {
		now := media.Now()
		c, _, err := signaling.DecodeControl(msg)
		if err != nil {
			return p.bad(err)
		}
		switch c.Type {
		case signaling.ControlPing, signaling.ControlStartA, signaling.ControlStartB, signaling.ControlLossStats, signaling.ControlFECStatus:
			return nil
		case signaling.ControlInvalidate:
			c.Type = signaling.ControlRequestIDR
		}
		return p.control(c, now)
	})
}
