package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fenrir/media"
)

// teller remembers what it is told.
type teller struct {
	mu     sync.Mutex
	events []media.Event
}

func (r *teller) tell(ev media.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
}

// whys are the reasons of all events of a kind.
func (r *teller) whys(kind media.EventKind) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		if ev.Kind == kind {
			out = append(out, ev.Why)
		}
	}
	return out
}

// watched is a session with its teller. Its worker makes key frames on request
// and lives until it is ended.
func watched(t *testing.T) (*Session, *fakeHost, *teller) {
	t.Helper()
	h, r := &fakeHost{}, &teller{}
	parts := h.parts()
	parts.Tell = r.tell
	s, err := New(t.Context(), NewID(), Request{App: media.AppRef{ID: "playground"}, Owner: media.PersonRef{ID: "u1"}, Width: 1280, Height: 720, FPS: 60},
		testConfig(), parts, testEncoders, quiet)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return s, h, r
}

// reporter reports for a peer, in totals.
type reporter struct {
	p             *Peer
	sent, painted uint64
}

func (r *reporter) report(sent, painted uint64, visible bool) {
	r.sent += sent
	r.painted += painted
	r.p.Painted(media.Paint{Sent: r.sent, Frames: r.painted, Visible: visible})
}

// notices takes all notices that wait for a peer.
func notices(p *Peer) (codes []string) {
	for {
		p.box.mu.Lock()
		n := p.box.notice
		p.box.notice = nil
		p.box.mu.Unlock()
		if n == nil {
			return codes
		}
		codes = append(codes, n.Code)
	}
}

func TestABlackPeerIsToldThenGetsAKeyFrameThenAnotherWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h, told := watched(t)
		r := reporter{p: attach(t, s, "tab-one-1")}
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		keys, lives := h.count(media.OrderKeyFrame), h.lives
		tick := func(painted uint64) {
			r.report(60, painted, true)
			synctest.Wait()
			time.Sleep(time.Second) // virtual
			synctest.Wait()
		}
		for range 5 {
			tick(0)
		}
		if n := notices(r.p); len(n) != 0 || h.count(media.OrderKeyFrame) != keys {
			t.Errorf("before 5 s: notices %v, %d key frames", n, h.count(media.OrderKeyFrame)-keys)
		}
		tick(0)
		if n := notices(r.p); !slices.Equal(n, []string{"no-picture"}) || h.count(media.OrderKeyFrame) != keys+1 {
			t.Errorf("after 5 s: notices %v, %d key frames; want one of each", n, h.count(media.OrderKeyFrame)-keys)
		}
		if got := s.State().Peers[0].Picture; got != media.PictureBlack {
			t.Errorf("picture = %s, want black", got)
		}
		if h.lives != lives {
			t.Error("the worker was replaced before 8 s")
		}
		for range 3 {
			tick(0)
		}
		if h.lives != lives+1 || s.State().Restarts != 1 || s.State().Phase != media.Running {
			t.Errorf("after 8 s: %d new lives, state %+v; want one", h.lives-lives, s.State())
		}
		if got := told.whys(media.EventWorkerRestarted); !slices.Equal(got, []string{"unpainted"}) {
			t.Errorf("restarts told: %v", got)
		}
		if got := told.whys(media.EventPeerBlack); !slices.Equal(got, []string{"key-frame", "worker-restart"}) {
			t.Errorf("told of the peer: %v", got)
		}
		for range 10 { // nothing helps: not again within a minute
			tick(0)
		}
		if h.lives != lives+1 {
			t.Errorf("%d new lives within a minute, want one", h.lives-lives)
		}
		for range 600 {
			tick(0)
		}
		if h.lives != lives+restartTries {
			t.Errorf("%d new lives in ten minutes, want the breaker at %d", h.lives-lives, restartTries)
		}
		tick(60)
		if got := s.State().Peers[0].Picture; got != media.PictureOK {
			t.Errorf("picture = %s after a painted frame, want ok", got)
		}
		if got := told.whys(media.EventPeerPainted); len(got) != 1 {
			t.Errorf("told of the end: %v", got)
		}
		for range 12 { // another time is another chance
			tick(0)
		}
		if h.lives != lives+restartTries+1 {
			t.Errorf("%d new lives after it had painted again, want %d", h.lives-lives, restartTries+1)
		}
		over(t, s)
	})
}

func TestWhoIsNotBlack(t *testing.T) {
	for name, look := range map[string]func(r *reporter, n int){
		"paints":               func(r *reporter, n int) { r.report(60, 59, true) },
		"paints slowly":        func(r *reporter, n int) { r.report(60, uint64(n%4/3), true) },
		"static screen":        func(r *reporter, n int) { r.report(uint64(max(0, 60-60*n)), uint64(max(0, 60-60*n)), true) },
		"hidden tab":           func(r *reporter, n int) { r.report(60, 0, false) },
		"slept and woke":       func(r *reporter, n int) { time.Sleep(10 * time.Second); r.report(600, 0, true) },
		"hidden now and again": func(r *reporter, n int) { r.report(60, 0, n%4 != 0) },
		"never says":           func(*reporter, int) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, h, told := watched(t)
				r := reporter{p: attach(t, s, "tab-one-1")}
				for n := range 60 {
					look(&r, n)
					time.Sleep(time.Second) // virtual
				}
				synctest.Wait()
				if got := told.whys(media.EventPeerBlack); len(got) != 0 || h.lives != 1 || len(notices(r.p)) != 0 {
					t.Errorf("told %v, %d lives; want nothing", got, h.lives)
				}
				over(t, s)
			})
		})
	}
}

func TestOneBlackPeerCostsTheOthersNothing(t *testing.T) {
	for name, other := range map[string]func(r *reporter){
		"that paints":     func(r *reporter) { r.report(60, 60, true) },
		"that never says": func(*reporter) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, h, told := watched(t)
				broken, fine := reporter{p: attach(t, s, "tab-one-1")}, reporter{p: attach(t, s, "tab-two-2")}
				for range 120 {
					broken.report(60, 0, true)
					other(&fine)
					time.Sleep(time.Second) // virtual
				}
				synctest.Wait()
				if h.lives != 1 {
					t.Errorf("the worker had %d lives, want 1", h.lives)
				}
				if got := told.whys(media.EventPeerBlack); !slices.Equal(got, []string{"key-frame"}) {
					t.Errorf("told %v, want a key frame for the broken one", got)
				}
				if len(notices(fine.p)) != 0 || len(notices(broken.p)) == 0 {
					t.Error("the wrong one was told")
				}
				over(t, s)
			})
		})
	}
}

func TestAReconnectDoesNotForgetTheBlackness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h, _ := watched(t)
		r := reporter{p: attach(t, s, "tab-one-1")}
		for n := range 12 {
			if n == 4 {
				r = reporter{p: attach(t, s, "tab-one-1")} // the same tab
			}
			r.report(60, 0, true)
			time.Sleep(time.Second) // virtual
		}
		synctest.Wait()
		if h.lives != 2 {
			t.Errorf("the worker had %d lives, want 2: a client that connects again every few seconds sees as little", h.lives)
		}
		over(t, s)
	})
}

// spoken is an error as package worker makes it.
type spoken struct{ error }

func (spoken) Output() string  { return "the very last" }
func (s spoken) Unwrap() error { return s.error }

type silent struct{}

func (silent) Error() string  { return "silent" }
func (silent) Reason() string { return "silent" }

func TestEventsTellALife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, told := &fakeHost{}, &teller{}
		h.source = func(ctx context.Context, n int, _ <-chan media.Order, sink media.Sink) error {
			if n == 2 {
				return spoken{silent{}}
			}
			sink.Unit(media.Unit{Kind: media.Video, Key: true})
			if n == 1 {
				return errors.New("who knows")
			}
			<-ctx.Done()
			return nil
		}
		parts := h.parts()
		parts.Tell = told.tell
		s, err := New(t.Context(), NewID(), Request{App: media.AppRef{ID: "playground"}, Owner: media.PersonRef{ID: "u1"}}, testConfig(), parts, testEncoders, quiet)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual
		p := attach(t, s, "tab-one-1")
		p.Detach(media.NewCause(media.CauseLeft, "the client left"))
		over(t, s)
		var kinds []media.EventKind
		for _, ev := range told.events {
			kinds = append(kinds, ev.Kind)
			if ev.Session != string(s.ID()) || ev.App != "playground" || ev.Owner != "u1" || ev.At.IsZero() {
				t.Errorf("an event of nobody: %+v", ev)
			}
		}
		for _, want := range []media.EventKind{media.EventSessionStarted, media.EventSessionRunning, media.EventPeerAttached, media.EventPeerGone, media.EventSessionEnded} {
			if !slices.Contains(kinds, want) {
				t.Errorf("told %v, want %s among them", kinds, want)
			}
		}
		if got := told.whys(media.EventWorkerRestarted); !slices.Equal(got, []string{"died", "silent"}) {
			t.Errorf("restarts: %v", got)
		}
		if got := told.whys(media.EventSessionEnded); !slices.Equal(got, []string{media.CauseUser}) {
			t.Errorf("ends: %v", got)
		}
		for _, ev := range told.events {
			if ev.Why == "silent" && (ev.Output != "the very last") {
				t.Errorf("the last words are missing: %+v", ev)
			}
		}
	})
}

func TestMediaFailedHasTheLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		h.source = func(context.Context, int, <-chan media.Order, media.Sink) error {
			return spoken{errors.New("segfault")}
		}
		s := start(t, h, testConfig())
		<-s.Done()
		var c *media.Cause
		if !errors.As(s.Err(), &c) || c.Code != media.CauseMedia || c.Output != "the very last" {
			t.Errorf("cause = %+v, want media-failed with the last words", c)
		}
	})
}
