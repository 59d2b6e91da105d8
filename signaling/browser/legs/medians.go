package legs

import (
	"slices"
	"sync"
	"time"

	"fenrir/media"
	"fenrir/signaling"
)

// medians collects what frames cost, a second at a time.
type medians struct {
	mu     sync.Mutex // guards what follows
	stages [stageCount][]time.Duration
	frames int
	keys   int
	bytes  int
	width  int
	height int
	begun  media.Stamp
}

const (
	stageWait = iota
	stageConvert
	stageEncode
	stageWire
	stageSend
	stageCount
)

// sent notes a frame whose last packet was written at the given moment.
func (m *medians) sent(u *media.Unit, at media.Stamp) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &u.Stages
	for stage, span := range [stageCount][2]media.Stamp{
		stageWait:    {s.Damage, s.Captured},
		stageConvert: {s.Captured, s.Converted},
		stageEncode:  {s.Converted, s.Encoded},
		stageWire:    {s.Encoded, s.Received},
		stageSend:    {s.Received, at},
	} {
		if span[0] != 0 && span[1] >= span[0] {
			m.stages[stage] = append(m.stages[stage], span[1].Sub(span[0]))
		}
	}
	if m.begun == 0 {
		m.begun = at
	}
	m.frames++
	if u.Key {
		m.keys++
	}
	m.bytes += len(u.Data)
	m.width, m.height = int(u.Width), int(u.Height)
}

// second returns what was collected since the last call and starts anew.
// rtp is the video stream's RTP time at now.
func (m *medians) second(rtp uint32, now media.Stamp) signaling.Timing {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ms [stageCount]float64
	for i, d := range m.stages {
		if len(d) > 0 {
			slices.Sort(d)
			ms[i] = float64(d[len(d)/2].Microseconds()) / 1000
		}
		m.stages[i] = d[:0]
	}
	t := signaling.Timing{
		Frames: m.frames, KeyFrames: m.keys, Width: m.width, Height: m.height,
		WaitMs: ms[stageWait], ConvertMs: ms[stageConvert], EncodeMs: ms[stageEncode], WireMs: ms[stageWire], SendMs: ms[stageSend],
		RTPTimestamp: rtp, ServerMs: float64(now) / 1e6,
	}
	if span := now.Sub(m.begun); m.begun != 0 && span > 0 {
		t.Kbps = float64(m.bytes) * 8 / 1000 / span.Seconds()
	}
	m.frames, m.keys, m.bytes, m.begun = 0, 0, 0, now
	return t
}
