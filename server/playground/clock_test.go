package playground

import (
	"testing"
	"time"
)

func TestClockCountsWhatNobodyTook(t *testing.T) {
	const rate = 200
	began := time.Now()
	c, err := newClock(rate)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ticks := 0
	for time.Since(began) < 600*time.Millisecond {
		ticks += 1 + <-c.C
		if ticks < rate/4 {
			continue
		}
		// A slow consumer: half of the ticks pass while it is busy.
		for busy := time.Now(); time.Since(busy) < 9*time.Millisecond; {
		}
	}
	last := time.Now()
	ticks += 1 + <-c.C
	if most := int(time.Since(began).Seconds() * rate); ticks > most {
		t.Errorf("%d ticks within the time of %d", ticks, most)
	}
	// One tick may wait in the channel, with those behind it not yet counted.
	if least := int(last.Sub(began).Seconds()*rate) - rate/10; ticks < least {
		t.Errorf("%d ticks, want at least %d", ticks, least)
	}
}
