package worker

import (
	"testing"
	"time"

	"fenrir/media"
)

func TestMeter(t *testing.T) {
	var m meter
	now := media.Now()
	for i := range 10 * 500 { // ten seconds of more than any worker makes
		if !m.take(now.Add(time.Duration(i) * 2 * time.Millisecond)) {
			t.Fatalf("unit %d of a steady stream is one too many", i)
		}
	}
	now = now.Add(20 * time.Second)
	n := 0
	for n < 1<<20 && m.take(now.Add(time.Duration(n)*time.Microsecond)) {
		n++
	}
	if n < 2*unitRate-2 || n > 2*unitRate+10 {
		t.Errorf("a flood was stopped after %d units", n)
	}
}
