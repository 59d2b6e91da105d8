package peer

import (
	"math"
	"testing"
	"time"
)

func TestFramesGetSmallerWhereMoreIsLost(t *testing.T) {
	last := math.MaxInt
	for _, loss := range []float64{0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3} {
		kbps := whole(loss)
		if kbps > last || kbps < 3000 {
			t.Errorf("%.3f lost: %d kbit/s after %d", loss, kbps, last)
		}
		last = kbps
	}
	if got := whole(0.05); got != 4000 {
		t.Errorf("one in twenty lost: %d kbit/s", got)
	}
}

func TestWhatIsDoneAboutLosses(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		loss           float64
		rtt            time.Duration
		lossy, repairs bool
		hold           time.Duration
		parity         float64
		copies         int
	}{
		{0, 20 * ms, false, true, 0, 0, 1}, // a clean path costs nothing
		{0.01, 20 * ms, true, true, 45 * ms, 0.06, 1},
		{0.05, 20 * ms, true, true, 45 * ms, 0.125, 2},
		{0.05, 20 * ms, true, false, 45 * ms, 0, 2},
		{0.05, 150 * ms, true, true, 20 * ms, 0.2, 2}, // far away parity has to do
		{0.05, 150 * ms, true, false, 85 * ms, 0, 2},  // and where there is none, nobody waits for ever
		{0.4, 150 * ms, true, true, 20 * ms, 0.5, 2},
	} {
		hold, parity, copies := mend(c.loss, c.rtt, c.lossy, c.repairs)
		if hold != c.hold || parity != c.parity || copies != c.copies {
			t.Errorf("%+v: %v, %v, %d", c, hold, parity, copies)
		}
	}
}
