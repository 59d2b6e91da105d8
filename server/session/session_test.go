package session

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fenrir/media"
)

func TestStartRunsThroughItsSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		st := s.State()
		if st.Phase != media.Running || st.Program.PID != 4711 || st.Progress != 1 {
			t.Errorf("state = %+v, want running with pid 4711", st)
		}
		if len(st.Video) != 1 || st.Video[0].Encoder != "x264" || !strings.Contains(st.Video[0].Reason, "no NVIDIA driver") {
			t.Errorf("video = %+v, want x264 with the reason why not nvenc", st.Video)
		}
		if len(h.specs) != 1 || h.specs[0].Sound.Server != "unix:/somewhere" {
			t.Errorf("the worker was told %+v, want the address of a sound server that is not up yet", h.specs)
		}
		over(t, s)
		if got := s.State(); got.Phase != media.Ended || got.Cause.Code != media.CauseUser {
			t.Errorf("after the end: %+v", got)
		}
		if len(h.released) != 1 || h.released[0] != nil {
			t.Errorf("encoder slot releases = %v, want one without error", h.released)
		}
	})
}

func TestKeyFrameRequestsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		synctest.Wait()
		for range 1000 {
			p.RequestKeyFrame()
		}
		time.Sleep(2 * time.Second) // virtual
		synctest.Wait()
		if got := h.count(media.OrderKeyFrame); got != 2 {
			t.Errorf("key frames ordered = %d, want 2: the join and one for all requests", got)
		}
		over(t, s)
	})
}

func TestWorkerDeathLeavesTheProgramAndThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		die := make(chan struct{})
		h.source = func(ctx context.Context, n int, orders <-chan media.Order, sink media.Sink) error {
			sink.Unit(media.Unit{Kind: media.Video, Key: true, Frame: 0, Data: []byte{byte(n)}})
			select {
			case <-ctx.Done():
				return nil
			case <-die:
				return errors.New("killed")
			}
		}
		s := start(t, h, testConfig())
		p := attach(t, s, "tab-one-1")
		p.video.begin()
		synctest.Wait()
		for i := range 5 {
			die <- struct{}{}
			synctest.Wait()
			time.Sleep(time.Second) // virtual
			u, err := p.NextVideo(t.Context())
			if err != nil || !u.Key {
				t.Fatalf("after death %d: key %v, err %v", i+1, u.Key, err)
			}
		}
		if st := s.State(); st.Phase != media.Running || st.Program.PID != 4711 || st.Restarts != 5 {
			t.Errorf("state = %+v, want running, same program, 5 restarts", st)
		}
		over(t, s)
	})
}

func TestBarrenWorkersEndTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		h.source = func(context.Context, int, <-chan media.Order, media.Sink) error { return errors.New("segfault") }
		s := start(t, h, testConfig())
		<-s.Done()
		if !errors.Is(s.Err(), &media.Cause{Code: media.CauseMedia}) || !strings.Contains(s.Err().Error(), "segfault") {
			t.Errorf("cause = %v, want media-failed with the last error", s.Err())
		}
		if h.lives != breakerLives {
			t.Errorf("worker lives = %d, want %d", h.lives, breakerLives)
		}
	})
}

func TestHungTaskIsNamedAndDoesNotHoldTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		stuck := make(chan struct{})
		h.desktop.run = func(ctx context.Context, on func(media.DesktopEvent)) error {
			up(on)
			<-stuck // ignores its context
			return nil
		}
		s := start(t, h, testConfig())
		synctest.Wait()
		began := time.Now()
		s.End(&media.Cause{Code: media.CauseUser})
		<-s.Done()
		if took := time.Since(began); took > testConfig().Budget {
			t.Errorf("done after %v, want at most %v", took, testConfig().Budget)
		}
		if err := s.Teardown(); err == nil || !strings.Contains(err.Error(), "desktop") {
			t.Errorf("teardown = %v, want the desktop named", err)
		}
		close(stuck)
		synctest.Wait()
	})
}

func TestFirstCauseWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeHost{}, testConfig())
		s.End(&media.Cause{Code: media.CauseIdle})
		s.End(&media.Cause{Code: media.CauseUser})
		<-s.Done()
		if !errors.Is(s.Err(), &media.Cause{Code: media.CauseIdle}) {
			t.Errorf("cause = %v, want idle", s.Err())
		}
	})
}

func TestIdleSessionEndsAndAnAttachedOneDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		time.Sleep(time.Hour) // virtual
		if s.Err() != nil {
			t.Fatalf("ended with a peer attached: %v", s.Err())
		}
		p.Detach(&media.Cause{Code: media.CauseLeft})
		began := time.Now()
		<-s.Done()
		if !errors.Is(s.Err(), &media.Cause{Code: media.CauseIdle}) {
			t.Errorf("cause = %v, want idle", s.Err())
		}
		if took := time.Since(began); took < 5*time.Minute || took > 5*time.Minute+2*time.Second {
			t.Errorf("ended %v after the last peer left, want 5m", took)
		}
	})
}

func TestEncoderRestsWhenNobodyWatchesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "tab-one-1")
		synctest.Wait()
		p.Detach(&media.Cause{Code: media.CauseLeft})
		time.Sleep(12 * time.Second) // virtual
		synctest.Wait()
		if v := s.State().Video; len(v) != 0 {
			t.Fatalf("encoders after the linger = %+v, want none", v)
		}
		p = attach(t, s, "tab-one-1")
		if u, err := p.NextVideo(t.Context()); err != nil || !u.Key {
			t.Errorf("after the rest: key %v, err %v", u.Key, err)
		}
		if n := len(h.specs); n != 2 || h.specs[1].Audio == nil {
			t.Errorf("second worker life: %d specs, audio %v; want audio with it", n, h.specs[n-1].Audio)
		}
		over(t, s)
	})
}

func TestPeersShareOneEncoderAndGetAnotherOnlyWhenTheyMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		a := attach(t, s, "tab-aaaa")
		b := attach(t, s, "tab-bbbb", media.VP8, media.H264)
		if a.rung != b.rung {
			t.Error("two peers that decode one codec have two encoders")
		}
		c := attach(t, s, "tab-cccc", media.VP8)
		if c.rung == a.rung || c.Codec() != media.VP8 {
			t.Errorf("a VP8-only peer got %s", c.Codec())
		}
		if u, err := c.NextVideo(t.Context()); err != nil || u.Codec != media.VP8 {
			t.Errorf("unit %v %v", u.Codec, err)
		}
		if c.rung.sound != nil {
			t.Error("the second encoder records the sound as well")
		}
		if _, err := s.Attach(media.PeerSpec{ID: "tab-dddd", Codecs: []media.Codec{media.AV1}}, Full); !errors.Is(err, &media.Cause{Code: media.CauseNoEncoder}) {
			t.Errorf("AV1-only peer: %v, want no-encoder", err)
		}
		synctest.Wait()
		over(t, s)
	})
}

func TestSamePeerIdSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeHost{}, testConfig())
		first := attach(t, s, "tab-one-1")
		second := attach(t, s, "tab-one-1")
		if !errors.Is(context.Cause(first.Context()), &media.Cause{Code: media.CauseSuperseded}) {
			t.Errorf("first peer's cause = %v", context.Cause(first.Context()))
		}
		first.Detach(&media.Cause{Code: media.CauseLeft})
		if second.Context().Err() != nil || len(s.State().Peers) != 1 {
			t.Error("the late goodbye of the first took the second along")
		}
		if _, err := s.Attach(media.PeerSpec{ID: "tab-one-1", Person: media.PersonRef{ID: "u2"}, Codecs: []media.Codec{media.H264}}, Full); err == nil {
			t.Error("another person superseded a peer by guessing its id")
		}
		over(t, s)
	})
}

func TestBitrateFollowsTheSlowestPlayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := attach(t, s, "player-1")
		v, err := s.Attach(media.PeerSpec{ID: "viewer-1", Codecs: []media.Codec{media.H264}, ViewOnly: true}, Full)
		if err != nil {
			t.Fatal(err)
		}
		v.Estimate(600)
		p.Estimate(4000)
		synctest.Wait()
		kbps := func() int { return s.State().Video[0].Kbps }
		if kbps() != 4000 || p.Target() != 4000 || v.Target() != 4000 {
			t.Errorf("kbps = %d, told %d and %d, want the player's 4000", kbps(), p.Target(), v.Target())
		}
		p.Estimate(100)
		if kbps() != 500 {
			t.Errorf("kbps = %d, want the minimum 500", kbps())
		}
		p.Estimate(90000)
		p.Estimate(90001)
		time.Sleep(3 * time.Second) // virtual
		if kbps() != 9216 {
			t.Errorf("kbps = %d, want the 9216 that 720p60 can use", kbps())
		}
		wish := 90000
		if err := s.Change(t.Context(), Change{MaxKbps: &wish}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // virtual
		p.Estimate(90000)
		if kbps() != 20000 {
			t.Errorf("kbps = %d, want the maximum 20000 for who asks for more", kbps())
		}
		over(t, s)
	})
}

func TestForcedHardwareThatFailsIsAnError(t *testing.T) {
	e := testEncoders
	e.Want = "nvenc"
	_, err := e.Choose([]media.Codec{media.H264, media.VP8})
	var cause *media.Cause
	if !errors.As(err, &cause) || cause.Code != media.CauseNoEncoder || !strings.Contains(cause.Detail, "no NVIDIA driver") {
		t.Errorf("err = %v, want no-encoder with the reason", err)
	}
	if _, err := New(t.Context(), NewID(), Request{}, testConfig(), (&fakeHost{}).parts(), e, quiet); !errors.Is(err, &media.Cause{Code: media.CauseNoEncoder}) {
		t.Errorf("New: %v", err)
	}
}

func TestHardwareWinsWhereItWorks(t *testing.T) {
	e := testEncoders
	e.Found = append([]media.Encoder{}, e.Found...)
	e.Found = append(e.Found, media.Encoder{Name: "nvenc-av1", Family: "nvenc", Codec: media.AV1, Hardware: true, Works: true})
	c, err := e.Choose([]media.Codec{media.H264, media.AV1})
	if err != nil || c.Encoder.Name != "nvenc-av1" {
		t.Errorf("choice = %+v, %v", c, err)
	}
}

func TestRegistryLimitsAndRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		g := &Registry{
			Config: testConfig, Encoders: func() Encoders { return testEncoders }, Log: quiet,
			MaxTotal: 3, PerPerson: 2,
		}
		create := func(owner string) (*Session, error) {
			return g.Create(t.Context(), Request{Owner: media.PersonRef{ID: owner}, Width: 640, Height: 360, FPS: 30}, func(ID) (Parts, error) { return h.parts(), nil })
		}
		a, err := create("u1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := create("u1"); err != nil {
			t.Fatal(err)
		}
		if _, err := create("u1"); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Errorf("third of one person: %v", err)
		}
		if _, err := create("u2"); err != nil {
			t.Fatal(err)
		}
		if _, err := create("u3"); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Errorf("fourth of all: %v", err)
		}
		a.End(&media.Cause{Code: media.CauseUser})
		if _, err := create("u1"); err != nil {
			t.Errorf("beside one that is ending: %v", err)
		}
		if _, err := create("u1"); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Errorf("third of one person, beside one that is ending: %v", err)
		}
		<-a.Done()
		synctest.Wait()
		if _, err := g.Get(a.ID()); !errors.Is(err, ErrUnknown) {
			t.Errorf("ended session is still there: %v", err)
		}
		if st, ok := g.Past(a.ID()); !ok || st.Cause.Code != media.CauseUser {
			t.Errorf("past = %+v %v", st, ok)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := create("u9"); !errors.Is(err, &media.Cause{Code: media.CauseShutdown}) {
			t.Errorf("create after close: %v", err)
		}
		synctest.Wait()
	})
}
