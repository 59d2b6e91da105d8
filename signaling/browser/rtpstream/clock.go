package rtpstream

import (
	"time"

	"fenrir/media"
)

// videoClock turns capture times into RTP time, 90 kHz. It is a straight line,
// so that anyone who knows one point of it can date every frame.
type videoClock struct {
	offset uint32
	last   uint32
	begun  bool
}

// at is the RTP time of s, without regard to what was sent.
func (c *videoClock) at(s media.Stamp) uint32 { return c.offset + uint32(int64(s)*9/100_000) }

// next is the timestamp of a frame captured at s: never that of the frame before.
func (c *videoClock) next(s media.Stamp) uint32 {
	ts := c.at(s)
	if c.begun && int32(ts-c.last) <= 0 {
		ts = c.last + 1
	}
	c.last, c.begun = ts, true
	return ts
}

// audioClock gives Opus packets timestamps of 48 kHz that advance by exactly
// the duration of each packet, unless packets are missing. The sound card's
// clock may drift from ours for ever: at tells the present relation.
type audioClock struct {
	due      uint32 // timestamp of the next packet, if nothing is missing
	captured media.Stamp
	frame    uint32
	span     uint32 // samples of the last packet
	begun    bool
	lag      float64 // samples by which the RTP time trails the capture time, smoothed
}

// audioGap is how much later than expected a packet may be captured until
// sound is missing between it and the one before.
const audioGap = 60 * time.Millisecond

// samples is a moment as a count of 48 kHz samples.
func samples(s media.Stamp) int64 { return int64(s) * 6 / 125_000 }

// at is the RTP time of s.
func (c *audioClock) at(s media.Stamp) uint32 { return uint32(samples(s) - int64(c.lag)) }

// next is the timestamp of packet number frame with n samples, captured at s.
func (c *audioClock) next(s media.Stamp, frame, n uint32) uint32 {
	if !c.begun {
		c.begun = true
		c.lag = float64(uint32(samples(s)) - c.due)
	} else {
		late := s.Sub(c.captured) - time.Duration(c.span)*time.Second/48_000
		if missing := frame != c.frame+1 && late > 0; missing || late > audioGap {
			c.due += uint32(samples(media.Stamp(late)))
		}
	}
	ts := c.due
	// One value of lag is as jittery as the sound server; the mean is not.
	off := float64(int32(uint32(samples(s)) - ts - uint32(int64(c.lag))))
	if off > 48*40 || off < -48*40 {
		c.lag += off
	} else {
		c.lag += off / 64
	}
	c.due, c.captured, c.frame, c.span = ts+n, s, frame, n
	return ts
}

// opusSamples is the duration of an Opus packet in samples of 48 kHz (RFC 6716,
// section 3.1), 0 for what is no Opus packet.
func opusSamples(p []byte) uint32 {
	if len(p) == 0 {
		return 0
	}
	config := p[0] >> 3
	var frame uint32
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		frame = [...]uint32{480, 960, 1920, 2880}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		frame = [...]uint32{480, 960}[config&1]
	default: // CELT: 2.5, 5, 10, 20 ms
		frame = [...]uint32{120, 240, 480, 960}[config&3]
	}
	switch p[0] & 3 {
	case 0:
		return frame
	case 1, 2:
		return 2 * frame
	}
	if len(p) < 2 {
		return 0
	}
	return frame * uint32(p[1]&0x3F)
}
