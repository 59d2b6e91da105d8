package session

import (
	"testing"
	"time"
)

func TestFramesGoFirstThenSize(t *testing.T) {
	var s stair
	now := time.Unix(1000, 0)
	all := steps(60)
	// hold keeps a bitrate for some seconds, as the session's clock does.
	hold := func(kbps int, seconds float64) (st step) {
		for range int(seconds * 10) {
			now = now.Add(100 * time.Millisecond)
			st = s.walk(now, all, kbps, 1280, 720)
		}
		return st
	}
	for i, c := range []struct {
		kbps    int
		seconds float64
		want    step
	}{
		{8000, 10, step{60, 100}},
		{900, 1, step{60, 100}}, // a moment is no reason
		{8000, 1, step{60, 100}},
		{1000, 10, step{30, 100}}, // half the frames
		{500, 10, step{30, 75}},   // then the size
		{100, 20, step{30, 50}},
		{800, 3, step{30, 50}},
		{800, 10, step{30, 75}}, // up a step at a time
		{1000, 20, step{30, 75}},
		{1500, 20, step{30, 100}},
		{1700, 20, step{30, 100}}, // with some room
		{4000, 20, step{60, 100}},
	} {
		if got := hold(c.kbps, c.seconds); got != c.want {
			t.Fatalf("%d: at %d kbit/s for %v s: %+v, want %+v", i, c.kbps, c.seconds, got, c.want)
		}
	}
}

func TestStepsNeedLessAndLess(t *testing.T) {
	for _, fps := range []int{24, 30, 50, 60, 120, 240} {
		all := steps(fps)
		if all[0] != (step{fps, 100}) {
			t.Errorf("%d: the first step is %+v", fps, all[0])
		}
		for i := 1; i < len(all); i++ {
			if a, b := all[i-1].needs(1920, 1080), all[i].needs(1920, 1080); b >= a {
				t.Errorf("%d: step %d needs %d kbit/s, the one before %d", fps, i, b, a)
			}
		}
	}
}
