package peer

import (
	"math"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/signaling/browser/congestion"
)

// What is sent again fills a path that is full already: that is given up once, when the
// path begins to be full, however often it is said to be.
func TestAFullPathIsNotFilledWithOldPackets(t *testing.T) {
	var r repair
	begin := time.Now()
	for _, c := range []struct {
		after time.Duration
		full  bool
		want  bool
	}{
		{0, false, false},
		{50 * time.Millisecond, true, true},
		{100 * time.Millisecond, true, false},
		{550 * time.Millisecond, true, false}, // for half a second and more, without a pause
		{900 * time.Millisecond, false, false},
		{1000 * time.Millisecond, true, false}, // a moment's relief is none
		{1600 * time.Millisecond, true, true},
	} {
		forget, key := r.judge(congestion.Report{Known: true, Full: c.full}, begin.Add(c.after), 0)
		if forget != c.want || key {
			t.Errorf("after %v: forgotten %v, key frame %v", c.after, forget, key)
		}
	}
}

// A flood asks for a key frame, once, unless one was sent after what it took.
func TestAFloodAsksForOneKeyFrame(t *testing.T) {
	var r repair
	for i, c := range []struct {
		floods        uint64
		drowned, sent media.Stamp
		want          bool
	}{
		{0, 0, 0, false},
		{1, 100, 50, true},
		{1, 100, 50, false}, // the same report again
		{2, 200, 210, false},
		{3, 210, 210, true}, // the key frame itself
	} {
		forget, key := r.judge(congestion.Report{Known: true, Floods: c.floods, Drowned: c.drowned}, time.Now(), c.sent)
		if key != c.want || forget {
			t.Errorf("%d: key frame %v, forgotten %v", i, key, forget)
		}
	}
}

func TestAKeyFrameOnItsWayIsNotAskedForAgain(t *testing.T) {
	const ms = media.Stamp(time.Millisecond)
	var k keyFrames
	if !k.ask(1000 * ms) {
		t.Error("the first was not asked for")
	}
	if k.ask(1199 * ms) {
		t.Error("asked for again while it is on its way")
	}
	if !k.ask(1200 * ms) {
		t.Error("not asked for again although none came")
	}
	k.send(1210 * ms)
	if !k.ask(1211 * ms) {
		t.Error("what was lost after the key frame asks for none")
	}
}

func TestFramesGetSmallerWhereMoreIsLost(t *testing.T) {
	last := math.MaxInt
	for _, loss := range []float64{0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3} {
		kbps := whole(loss, false)
		if kbps > last || kbps < 3000 || whole(loss, true) < kbps {
			t.Errorf("%.3f lost: %d kbit/s after %d", loss, kbps, last)
		}
		last = kbps
	}
	for repairs, want := range map[bool]int{false: 4000, true: 6000} {
		if got := whole(0.05, repairs); got != want {
			t.Errorf("one in twenty lost, parity %t: %d kbit/s", repairs, got)
		}
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
		{0.005, 20 * ms, true, true, 0, 0.06, 1},
		{0.05, 20 * ms, true, true, 0, 0.40, 2}, // nobody waits where parity does it
		{0.05, 150 * ms, true, true, 0, 0.40, 2},
		{0.05, 20 * ms, true, false, 45 * ms, 0, 2},
		{0.05, 150 * ms, true, false, 85 * ms, 0, 2}, // and where there is none, nobody waits for ever
		{0.4, 150 * ms, true, true, 0, 0.6, 2},
	} {
		hold, parity, copies := mend(c.loss, c.rtt, c.lossy, c.repairs)
		if hold != c.hold || math.Abs(parity-c.parity) > 1e-9 || copies != c.copies {
			t.Errorf("%+v: %v, %v, %d", c, hold, parity, copies)
		}
	}
}
