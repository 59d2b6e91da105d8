//go:build e2e

package e2e

import (
	endian "encoding/binary"
	"testing"
)

// frameTimes are what the server tells of one frame on the stages channel
// (PROTOCOL.md), in ms of the machine's monotonic clock.
type frameTimes struct{ captured, sent float64 }

const (
	stagesHeader = 12
	stagesFrame  = 28
)

// frameStages reads messages of the stages channel: frames by RTP timestamp. What
// is too short is left out.
func frameStages(messages [][]byte) map[uint32]frameTimes {
	out := map[uint32]frameTimes{}
	for _, m := range messages {
		if len(m) < stagesHeader {
			continue
		}
		now, frames := float64(endian.LittleEndian.Uint64(m[4:]))/1000, int(m[2])
		for m = m[stagesHeader:]; frames > 0 && len(m) >= stagesFrame; frames, m = frames-1, m[stagesFrame:] {
			field := func(i int) float64 { return float64(endian.LittleEndian.Uint32(m[4*i:])) / 1000 }
			captured := now - field(1)
			out[endian.LittleEndian.Uint32(m)] = frameTimes{captured, captured + field(3) + field(4) + field(5) + field(6)}
		}
	}
	return out
}

func TestFrameStages(t *testing.T) {
	m := endian.LittleEndian.AppendUint16(nil, 7)
	m = append(m, 2, 0)
	m = endian.LittleEndian.AppendUint64(m, 5_000_000)
	for _, frame := range [][]uint32{{90, 20_000, 100, 1000, 2000, 300, 400}, {91, 10_000, 1<<32 - 1, 1, 2, 3, 4}} {
		for _, v := range frame {
			m = endian.LittleEndian.AppendUint32(m, v)
		}
	}
	got := frameStages([][]byte{m, m[:len(m)-1], {1}, nil})
	if len(got) != 2 || got[90] != (frameTimes{4980, 4983.7}) || got[91] != (frameTimes{4990, 4990.01}) {
		t.Errorf("got %+v", got)
	}
}
