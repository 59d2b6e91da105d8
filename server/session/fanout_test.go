package session

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"fenrir/media"
)

func TestNewReaderStartsWithKeyFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{tick: make(chan struct{})}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		h.tick <- struct{}{}
		u, err := p.NextVideo(t.Context())
		if err != nil || !u.Key {
			t.Fatalf("first unit: key %v, err %v, want a key frame", u.Key, err)
		}
		over(t, s)
		for err == nil { // what was queued
			_, err = p.NextVideo(t.Context())
		}
		if !errors.Is(err, &media.Cause{Code: media.CauseUser}) {
			t.Errorf("after the end: %v, want the session's cause", err)
		}
	})
}

// TestAClientThatConnectsSlowlyBeginsAtOnce: what is made while a client connects is
// neither kept nor lost to it, and its key frame is asked for when it can be sent, so
// that a slow path's client does not wait for the gap between key frames.
func TestAClientThatConnectsSlowlyBeginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{tick: make(chan struct{})}
		s := start(t, h, testConfig())
		synctest.Wait()
		other := attach(t, s, "tab-other")
		if _, err := other.NextVideo(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.tick <- struct{}{}
		if _, err := other.NextVideo(t.Context()); err != nil {
			t.Fatal(err)
		}
		other.RequestKeyFrame() // within the gap: it waits
		p := attach(t, s, "tab-one-1")
		for range 20 {
			time.Sleep(time.Second / 60) // virtual
			h.tick <- struct{}{}
		}
		synctest.Wait()
		keys := h.count(media.OrderKeyFrame)
		began := time.Now()
		u, err := p.NextVideo(t.Context())
		if err != nil || !u.Key || u.Frame < 20 {
			t.Errorf("the first unit: frame %d, key %v, %v; want a new key frame", u.Frame, u.Key, err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it waited %v for its key frame", took)
		}
		if p.video.Dropped() != 0 || p.audio.Dropped() != 0 {
			t.Errorf("%d frames and %d packets of sound were lost while it connected, want none", p.video.Dropped(), p.audio.Dropped())
		}
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		if n := h.count(media.OrderKeyFrame) - keys; n != 1 {
			t.Errorf("%d key frames were ordered, want one for both", n)
		}
		over(t, s)
	})
}

// TestNewcomersDoNotFloodTheOthersWithKeyFrames has a client come and go without a
// pause.
func TestNewcomersDoNotFloodTheOthersWithKeyFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		before := h.count(media.OrderKeyFrame)
		began := time.Now()
		for time.Since(began) < 10*time.Second { // virtual
			p := attach(t, s, "tab-one-1")
			if u, err := p.NextVideo(t.Context()); err != nil || !u.Key {
				t.Fatalf("key %v, %v", u.Key, err)
			}
			p.Detach(&media.Cause{Code: media.CauseLeft})
			time.Sleep(10 * time.Millisecond)
		}
		if n := h.count(media.OrderKeyFrame) - before; n > 32 {
			t.Errorf("%d key frames in 10 s, want two a second and one more", n)
		}
		over(t, s)
	})
}

func TestNothingWaitsLongerThanATenthOfASecond(t *testing.T) {
	for _, kind := range []media.Kind{media.Video, media.Audio} {
		asked := 0
		f := NewFanout(kind, func(urgency) { asked++ })
		r := f.NewReader()
		r.begin()
		asked = 0
		at := media.Stamp(1e12)
		for i := range 100 {
			f.Write(media.Unit{Kind: kind, Key: i == 0, Frame: uint32(i), Stages: media.Stages{Received: at}})
			if n := len(r.queue); n > 0 && at.Sub(r.queue[0].Stages.Received) > maxWaiting {
				t.Fatalf("%v waits for %v", kind, at.Sub(r.queue[0].Stages.Received))
			}
			at = at.Add(10 * time.Millisecond)
		}
		if kind == media.Video && (asked != 1 || len(r.queue) != 0) {
			t.Errorf("a reader that fell behind: %d key frames asked for, %d units wait", asked, len(r.queue))
		}
		if kind == media.Audio && (len(r.queue) != 11 || r.queue[10].Frame != 99) {
			t.Errorf("%d packets of sound wait", len(r.queue))
		}
		if r.Dropped() < 80 {
			t.Errorf("%v: %d dropped", kind, r.Dropped())
		}
	}
}

func TestSlowReaderDoesNotDisturbOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{tick: make(chan struct{})}
		s := start(t, h, testConfig())
		synctest.Wait()
		slow, fast := attach(t, s, "slow-tab-1"), attach(t, s, "fast-tab-1")
		slow.video.begin()
		got := 0
		for i := range 200 {
			if i > 0 {
				h.tick <- struct{}{}
			}
			synctest.Wait()
			if _, err := fast.NextVideo(t.Context()); err != nil {
				t.Fatal(err)
			}
			got++
		}
		if fast.video.Dropped() != 0 || got != 200 {
			t.Errorf("fast reader got %d and lost %d, want 200 and 0", got, fast.video.Dropped())
		}
		u, err := slow.NextVideo(t.Context())
		if err != nil || !u.Key || slow.video.Dropped() == 0 {
			t.Errorf("slow reader: key %v, lost %d, err %v; want a key frame after losses", u.Key, slow.video.Dropped(), err)
		}
		over(t, s)
	})
}
