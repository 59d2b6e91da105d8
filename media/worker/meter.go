package worker

import (
	"time"

	"fenrir/media"
)

// No healthy worker makes so many units in a second: 240 pictures and 200 packets of
// sound. One that makes more is broken, and would keep the whole server busy.
const unitRate = 1000

// meter lets unitRate units a second pass, and twice as many at once: they pile up
// while this process is stopped.
type meter struct {
	free media.Stamp // until when the units that passed have used the time up
}

// take notes a unit; it returns false when there were too many.
func (m *meter) take(now media.Stamp) bool {
	m.free = max(m.free, now).Add(time.Second / unitRate)
	return m.free.Sub(now) < 2*time.Second
}
