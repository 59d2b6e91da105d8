package pace

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"fenrir/media"
)

const ms = media.Stamp(time.Millisecond)

// world runs a Pacer in a time of its own: an encoder that takes a while, and a
// program that draws at given moments.
type world struct {
	p      *Pacer
	now    media.Stamp
	encode media.Stamp // time that a frame takes
	small  func(n int) bool
	frames []frame
	out    []media.Stamp // when frames will be done
}

type frame struct {
	at  media.Stamp
	do  Action
	key bool
}

// until lets time pass, with draws at the given moments.
func (w *world) until(end media.Stamp, draws ...media.Stamp) {
	for {
		next := end
		do, key, wake := w.p.Next(w.now)
		if do != Wait {
			if do == Capture {
				w.p.Taken()
			}
			w.p.Sent(w.now, do)
			w.frames = append(w.frames, frame{w.now, do, key})
			w.out = append(w.out, w.now+w.encode)
			continue
		}
		if wake != 0 {
			next = min(next, max(wake, w.now+1))
		}
		if len(draws) > 0 {
			next = min(next, draws[0])
		}
		if len(w.out) > 0 {
			next = min(next, w.out[0])
		}
		if next >= end {
			w.now = end
			return
		}
		w.now = next
		if len(draws) > 0 && draws[0] <= w.now {
			w.p.Changed()
			draws = draws[1:]
		}
		if len(w.out) > 0 && w.out[0] <= w.now {
			w.out = w.out[1:]
			w.p.Done(w.small != nil && w.small(len(w.frames)))
		}
	}
}

func newWorld(fps, depth int) *world {
	return &world{p: New(fps, depth), now: 1000 * ms, encode: 4 * ms}
}

func (w *world) count(do Action, from media.Stamp) (n int) {
	for _, f := range w.frames {
		if f.do == do && f.at >= from {
			n++
		}
	}
	return n
}

func rhythm(from media.Stamp, fps float64, n int, jitter media.Stamp) (draws []media.Stamp) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		at := from + media.Stamp(float64(time.Second)/fps*float64(i))
		if jitter > 0 {
			at += media.Stamp(r.Int64N(int64(jitter)))
		}
		draws = append(draws, at)
	}
	return draws
}

func TestFirstPictureAtOnceAndKey(t *testing.T) {
	w := newWorld(60, 1)
	w.until(w.now + 1)
	if len(w.frames) != 1 || w.frames[0] != (frame{1000 * ms, Capture, true}) {
		t.Fatalf("%+v", w.frames)
	}
}

// TestEveryFrameOfAProgramThatDrawsAtTheLimit: jitter must not halve its rate.
func TestEveryFrameOfAProgramThatDrawsAtTheLimit(t *testing.T) {
	for _, jitter := range []media.Stamp{0, ms, 4 * ms, 8 * ms} {
		w := newWorld(60, 1)
		w.until(2000 * ms)
		w.until(12000*ms, rhythm(2000*ms, 60, 600, jitter)...)
		if n := w.count(Capture, 2000*ms); n < 597 || n > 600 {
			t.Errorf("jitter %v: %d of 600 frames", time.Duration(jitter), n)
		}
	}
}

// TestAPictureInBetweenDelaysNoOther: a click changes something between two
// pictures of a program that draws at the limit.
func TestAPictureInBetweenDelaysNoOther(t *testing.T) {
	w := newWorld(60, 1)
	w.until(2000 * ms)
	draws := rhythm(2000*ms, 60, 600, 0)
	for i := 100; i < 600; i += 100 {
		draws = append(draws, draws[i]+6*ms)
	}
	slices.Sort(draws)
	w.until(12000*ms, draws...)
	late, n := 0, 0
	for _, f := range w.frames {
		if f.do == Capture && f.at >= 2010*ms { // the first one finds the encoder refining
			i, _ := slices.BinarySearch(draws, f.at+1)
			if n++; f.at-draws[i-1] > ms {
				late++
			}
		}
	}
	if n != len(draws)-1 || late > 0 {
		t.Errorf("%d pictures of %d, %d of them late", n, len(draws), late)
	}
}

func TestNeverMoreThanTheLimit(t *testing.T) {
	for _, fps := range []int{10, 30, 60, 120} {
		w := newWorld(fps, 1)
		w.until(2000 * ms)
		w.until(7000*ms, rhythm(2000*ms, 1000, 5000, 0)...)
		if n := w.count(Capture, 2000*ms); n > 5*fps*(catchUp+1)/catchUp+3 || n < 5*fps-2 {
			t.Errorf("%d frames a second allowed: %d frames in 5 s", fps, n)
		}
	}
}

func TestAChangeAfterAPauseIsTakenAtOnce(t *testing.T) {
	w := newWorld(60, 1)
	w.until(5000 * ms)
	w.until(5100*ms, 5050*ms+123)
	for _, f := range w.frames {
		if f.do == Capture && f.at >= 5000*ms {
			if f.at != 5050*ms+123 {
				t.Fatalf("taken %v late", time.Duration(f.at-5050*ms-123))
			}
			return
		}
	}
	t.Fatal("not taken")
}

func TestOnlySoManyAtATime(t *testing.T) {
	for _, depth := range []int{1, 2} {
		w := newWorld(60, depth)
		w.encode = 100 * ms
		w.until(3000*ms, rhythm(1000*ms, 200, 400, 0)...)
		most := 0
		for i := range w.frames {
			n := 0
			for _, g := range w.frames[:i+1] {
				if g.at+w.encode > w.frames[i].at {
					n++
				}
			}
			most = max(most, n)
		}
		if most != depth {
			t.Errorf("depth %d: %d at a time", depth, most)
		}
	}
}

func TestAStillPictureIsRefinedThenKeptAlive(t *testing.T) {
	w := newWorld(60, 1)
	w.small = func(n int) bool { return n > 20 }
	w.until(1050 * ms)
	if n := w.count(Repeat, 0); n != 0 {
		t.Fatalf("%d repeated before it was calm", n)
	}
	w.until(2000 * ms)
	refined := w.count(Repeat, 0)
	if refined < 15 || refined > 30 {
		t.Errorf("%d frames to refine a picture that was good after 20", refined)
	}
	w.until(12000 * ms)
	if n := w.count(Repeat, 2000*ms); n < 9 || n > 11 {
		t.Errorf("%d frames in 10 s of a picture that is good", n)
	}
	for _, f := range w.frames[1:] {
		if f.key {
			t.Errorf("key frame that nobody wanted: %+v", f)
		}
	}
}

func TestRefiningEnds(t *testing.T) {
	w := newWorld(60, 1) // an encoder that always finds something to tell
	w.until(20000 * ms)
	if n := w.count(Repeat, 0); n > maxRefine+20 {
		t.Errorf("%d frames of a still picture in 19 s", n)
	}
}

func TestKeyFrameOfAStillPictureAtOnce(t *testing.T) {
	w := newWorld(60, 1)
	w.small = func(int) bool { return true }
	w.until(5000 * ms)
	n := len(w.frames)
	w.p.WantKey()
	w.until(5001 * ms)
	if len(w.frames) != n+1 || w.frames[n] != (frame{5000 * ms, Repeat, true}) {
		t.Fatalf("%+v", w.frames[n:])
	}
	w.until(7000 * ms)
	for _, f := range w.frames[n+1:] {
		if f.key {
			t.Fatalf("a second key frame: %+v", f)
		}
	}
}

// TestKeyFrameOfAMovingPicture comes before the rate would allow a frame, and
// shows what is new.
func TestKeyFrameOfAMovingPicture(t *testing.T) {
	w := newWorld(10, 1)
	w.until(2000 * ms)
	w.until(2020*ms, 2001*ms, 2010*ms)
	n := len(w.frames)
	w.p.WantKey()
	w.until(2021 * ms)
	if len(w.frames) != n+1 || w.frames[n] != (frame{2020 * ms, Capture, true}) {
		t.Fatalf("%+v", w.frames[n-1:])
	}
}

func TestRateChanges(t *testing.T) {
	w := newWorld(60, 1)
	w.until(2000 * ms)
	at := 2000 * ms
	for _, fps := range []int{20, 1, 120, 60} {
		w.p.SetFPS(fps)
		w.until(at+1000*ms, rhythm(at, 500, 500, 0)...) // to settle
		w.until(at+4000*ms, rhythm(at+1000*ms, 500, 1500, 0)...)
		if n := w.count(Capture, at+1000*ms); n < 3*fps-2 || n > 3*fps*(catchUp+1)/catchUp+3 {
			t.Errorf("%d frames a second: %d in 3 s", fps, n)
		}
		at += 4000 * ms
	}
}

// TestWhoComesBackDoesNotWait: a picture that nobody watched runs at one frame a
// second.
func TestWhoComesBackDoesNotWait(t *testing.T) {
	w := newWorld(1, 1)
	w.until(5500*ms, rhythm(1000*ms, 100, 450, 0)...)
	w.p.SetFPS(60)
	n := len(w.frames)
	w.until(5520*ms, 5501*ms)
	if len(w.frames) == n {
		t.Fatal("still waits for the second to be over")
	}
}

// TestAPressIsAnsweredAtOnce: eight presses a second, each answered by a change at
// any moment between two pictures of a program that draws at the limit.
func TestAPressIsAnsweredAtOnce(t *testing.T) {
	w := newWorld(60, 1)
	w.until(2000 * ms)
	ticks := rhythm(2000*ms, 60, 600, 0)
	var answers, late []media.Stamp
	from := 2000 * ms
	for i := 30; i < 590; i += 7 {
		at := ticks[i] + 5*ms + media.Stamp(i%7)*ms // the encoder has given the last one back
		w.until(at-ms, ticks[indexAt(ticks, from):indexAt(ticks, at-ms)]...)
		w.p.Prompt(w.now)
		end := at + 4*ms
		w.until(end, append(ticks[indexAt(ticks, at-ms):indexAt(ticks, at):indexAt(ticks, at)], at)...)
		answers, from = append(answers, at), end
	}
	taken := map[media.Stamp]bool{}
	for _, f := range w.frames {
		if f.do == Capture {
			taken[f.at] = true
		}
	}
	for _, at := range answers {
		if !taken[at] {
			late = append(late, at)
		}
	}
	if len(late) > 0 {
		t.Errorf("%d of %d answers were not taken at once", len(late), len(answers))
	}
	missed := 0
	for _, at := range ticks[30:580] {
		if !taken[at] {
			missed++
		}
	}
	if missed > 0 {
		t.Errorf("%d of the program's own pictures waited for it", missed)
	}
}

func indexAt(draws []media.Stamp, at media.Stamp) int {
	i, _ := slices.BinarySearch(draws, at)
	return i
}

// TestPressesHaveBounds: a program that draws all the time gets no more out of
// presses than they are worth.
func TestPressesHaveBounds(t *testing.T) {
	w := newWorld(60, 1)
	w.until(2000 * ms)
	for i := range media.Stamp(100) {
		w.p.Prompt(w.now)
		w.until(2050*ms+i*50*ms, rhythm(2000*ms+i*50*ms, 1000, 50, 0)...)
	}
	if n, most := w.count(Capture, 2000*ms), 5*60*(catchUp+1)/catchUp+3+100*extra; n > most {
		t.Errorf("%d pictures in 5 s with 100 presses, want at most %d", n, most)
	}
}
