package congestion

import (
	"time"

	"fenrir/media"
)

// packet is one that was sent.
type packet struct {
	seq      uint16
	size     int
	frame    uint32
	at       media.Stamp // 0: slot never used
	first    bool        // of its frame
	received bool
	lost     bool
}

// historySize is how many sent packets can be told about: 1.6 s at 50 Mbit/s.
// A power of two.
const historySize = 8192

// history keeps the packets sent last, by sequence number.
type history struct {
	ring    []packet
	frame   uint32
	unheard int // packets since the last feedback
}

func newHistory() history { return history{ring: make([]packet, historySize)} }

func (h *history) add(seq uint16, size int, frame uint32, at media.Stamp) {
	h.ring[seq%historySize] = packet{seq: seq, size: size, frame: frame, at: at, first: frame != 0 && frame != h.frame}
	if frame != 0 {
		h.frame = frame
	}
	h.unheard++
}

func (h *history) get(seq uint16) *packet {
	p := &h.ring[seq%historySize]
	if p.at == 0 || p.seq != seq {
		return nil
	}
	return p
}

func (h *history) acked() { h.unheard = 0 }

// rateMeter measures a bitrate over a sliding window. A pause starts a new
// window, so that the first moments after it are not taken for a trickle;
// unless whole is set.
type rateMeter struct {
	window time.Duration
	whole  bool

	samples []rateSample // a queue; head is the index of its first
	head    int
	sum     int
	begun   media.Stamp // start of activity without a pause
}

type rateSample struct {
	at   media.Stamp
	size int
}

const (
	ratePause   = 100 * time.Millisecond
	rateMinSpan = 100 * time.Millisecond
	sinceLeast  = 50 * time.Millisecond
	sinceSpan   = 250 * time.Millisecond
)

func (m *rateMeter) add(at media.Stamp, size int) {
	if n := len(m.samples); m.begun == 0 || n > m.head && at.Sub(m.samples[n-1].at) > ratePause {
		m.begun = at
	}
	m.samples = append(m.samples, rateSample{at, size})
	m.sum += size
	m.trim(at)
}

func (m *rateMeter) trim(now media.Stamp) {
	for m.head < len(m.samples)-1 && now.Sub(m.samples[m.head].at) > m.window {
		m.sum -= m.samples[m.head].size
		m.head++
	}
	if m.head > 1024 && m.head > len(m.samples)/2 {
		n := copy(m.samples, m.samples[m.head:])
		m.samples, m.head = m.samples[:n], 0
	}
}

// rate is the bitrate up to the last sample, bit/s.
func (m *rateMeter) rate() float64 {
	if len(m.samples) == m.head {
		return 0
	}
	return m.at(m.samples[len(m.samples)-1].at)
}

// since is the bitrate of what came after start, bit/s. ok is false while that is
// too little to say.
func (m *rateMeter) since(start media.Stamp) (bps float64, ok bool) {
	if len(m.samples) == m.head {
		return 0, false
	}
	last := m.samples[len(m.samples)-1].at
	start = max(start, last.Add(-sinceSpan))
	sum := 0
	for i := len(m.samples) - 1; i >= m.head && m.samples[i].at > start; i-- {
		sum += m.samples[i].size
	}
	span := last.Sub(start)
	return float64(sum) * 8 / span.Seconds(), span >= sinceLeast
}

// at is the bitrate up to now, bit/s.
func (m *rateMeter) at(now media.Stamp) float64 {
	if len(m.samples) == m.head {
		return 0
	}
	m.trim(now)
	span := m.window
	if !m.whole {
		span = min(max(now.Sub(m.begun), rateMinSpan), m.window)
	}
	sum := m.sum
	if last := m.samples[len(m.samples)-1]; now.Sub(last.at) > m.window {
		sum -= last.size // trim keeps one
	}
	return float64(sum) * 8 / span.Seconds()
}
