package session

import (
	"testing"
	"testing/synctest"
	"time"

	"fenrir/media"
)

// fps is the last frame rate that the workers were told.
func (h *fakeHost) fps() (fps int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.orders {
		if o.Kind == media.OrderFPS {
			fps = o.FPS
		}
	}
	return fps
}

func TestAPeerThatIsAwayCostsNoEncoder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{tick: make(chan struct{})}
		s := start(t, h, testConfig())
		synctest.Wait()
		near, far := attach(t, s, "near-tab-1"), attach(t, s, "far-tab-01")
		near.Estimate(6000)
		far.Estimate(2000)          // enough for every frame
		time.Sleep(2 * time.Second) // virtual
		kbps := func() int { return s.State().Video[0].Kbps }
		if kbps() != 2000 {
			t.Fatalf("kbps = %d, want the slowest player's 2000", kbps())
		}
		far.Away(true)
		time.Sleep(2 * time.Second)
		if kbps() != 6000 {
			t.Errorf("kbps = %d while the slow player is away, want 6000", kbps())
		}
		if h.fps() == 1 {
			t.Error("the encoder slowed down although somebody watches")
		}
		near.Away(true)
		synctest.Wait()
		if h.fps() != 1 {
			t.Errorf("with everybody away the encoder runs at %d frames a second, want 1", h.fps())
		}
		if len(s.State().Peers) != 2 {
			t.Errorf("%d peers, want both to be waited for", len(s.State().Peers))
		}
		for range 100 {
			h.tick <- struct{}{} // nobody keeps these
		}
		synctest.Wait()
		near.Away(false)
		synctest.Wait()
		if h.fps() != 60 {
			t.Errorf("who came back gets %d frames a second, want 60", h.fps())
		}
		if u, err := near.NextVideo(t.Context()); err != nil || !u.Key || u.Frame < 100 {
			t.Errorf("the first frame of who came back: %d, key %v, %v; want a new key frame", u.Frame, u.Key, err)
		}
		far.Detach(&media.Cause{Code: media.CauseICE})
		far.Away(false)
		if h.fps() != 60 || len(s.State().Peers) != 1 {
			t.Errorf("%d frames a second, %d peers after one left that was away", h.fps(), len(s.State().Peers))
		}
		over(t, s)
	})
}

func TestASlowPlayerCostsTheOthersNoFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		fast, slow := attach(t, s, "fast-tab-1"), attach(t, s, "slow-tab-1")
		fast.Estimate(9000)
		slow.Estimate(500)
		time.Sleep(time.Minute) // virtual
		if v := s.State().Video[0]; v.Kbps != 500 {
			t.Errorf("kbps = %d, want the slowest player's 500", v.Kbps)
		}
		if fps := h.fps(); fps != 0 && fps != 60 {
			t.Errorf("the encoder went to %d frames a second because of one slow player", fps)
		}
		fast.Detach(&media.Cause{Code: media.CauseLeft})
		time.Sleep(time.Minute)
		if fps := h.fps(); fps == 0 || fps >= 60 {
			t.Errorf("alone on a slow path, a player is sent %d frames a second, want fewer", fps)
		}
		over(t, s)
	})
}
