package session

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fenrir/media"
)

// moonlight is what a Moonlight client asks for.
func moonlight(id string, width, height int) media.PeerSpec {
	return media.PeerSpec{
		ID: id, Person: media.PersonRef{ID: "u1"}, Transport: "moonlight", Codecs: []media.Codec{media.H264},
		MaxKbps: 12000, Unmeasured: true,
		Video: media.VideoWish{Width: width, Height: height, FPS: 60, Cursor: true},
		Audio: &media.AudioSpec{Kbps: 96, FrameMs: 5, Constant: true},
	}
}

func join(t *testing.T, s *Session, spec media.PeerSpec) *Peer {
	t.Helper()
	p, err := s.Attach(spec, Full)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// workers are the specs of all workers so far.
func (h *fakeHost) workers() []media.Spec {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.specs)
}

// running counts the rungs that have not been sent to rest.
func running(s *Session) (pictures, voices int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rungs {
		switch {
		case r.resting:
		case r.voice:
			voices++
		default:
			pictures++
		}
	}
	return pictures, voices
}

func left(p *Peer) { p.Detach(&media.Cause{Code: media.CauseLeft}) }

func TestBrowsersAloneCostOneWorkerWithoutCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		for i := range 4 {
			p := attach(t, s, fmt.Sprintf("tab-%d-tab", i))
			if f := p.Audio(); f.Channels != 2 || f.FrameMs != 10 || f.Constant {
				t.Errorf("a browser's sound is %+v", f)
			}
		}
		time.Sleep(time.Minute) // virtual
		synctest.Wait()
		w := h.workers()
		if len(w) != 1 {
			t.Fatalf("%d workers, want one", len(w))
		}
		want := media.VideoSpec{Encoder: "x264", Codec: media.H264, FPS: 60, Kbps: 8000, Scale: 100}
		if *w[0].Video != want || *w[0].Audio != *testConfig().Audio {
			t.Errorf("the worker makes %+v and %+v, want %+v and the house's sound", *w[0].Video, *w[0].Audio, want)
		}
		if len(h.sizes) != 0 {
			t.Errorf("the display was told to be %v", h.sizes)
		}
		over(t, s)
	})
}

func TestWhoWantsAnotherStreamGetsAWorkerOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		tab := attach(t, s, "tab-one-1")
		client := join(t, s, moonlight("client-1", 1280, 720))
		tab.audio.begin()
		client.audio.begin()
		synctest.Wait()
		w := h.workers()
		if len(w) != 2 {
			t.Fatalf("%d workers, want two", len(w))
		}
		if v := w[1].Video; v == nil || v.Width != 1280 || v.Height != 720 || !v.Cursor || v.FPS != 60 || v.Kbps != 12000 {
			t.Errorf("the second picture is %+v", v)
		}
		if a := w[1].Audio; a == nil || !a.Constant || a.FrameMs != 5 {
			t.Errorf("the second sound is %+v, want it from the worker of the picture", a)
		}
		for p, ms := range map[*Peer]byte{tab: 10, client: 5} {
			p.RequestKeyFrame()
			time.Sleep(time.Second) // virtual
			if u, err := p.NextAudio(t.Context()); err != nil || u.Data[0] != ms || p.Audio().FrameMs != int(ms) {
				t.Errorf("%s hears packets of %v ms and is told %d, want %d; %v", p.ID(), u.Data, p.Audio().FrameMs, ms, err)
			}
		}

		// The same wishes are one stream; another sound alone is a worker without a picture.
		if same := join(t, s, moonlight("client-2", 1280, 720)); same.rung != client.rung || same.sound != client.sound {
			t.Error("two clients that want the same have two encoders")
		}
		spec := moonlight("client-3", 1280, 720)
		spec.Audio = &media.AudioSpec{Kbps: 256, FrameMs: 5, Channels: 6, Constant: true}
		surround := join(t, s, spec)
		surround.audio.begin()
		synctest.Wait()
		if w = h.workers(); len(w) != 3 || w[2].Video != nil || w[2].Audio.Channels != 6 || surround.rung != client.rung {
			t.Fatalf("workers %+v, want a third for the sound alone", w)
		}
		if f := surround.Audio(); f.Channels != 6 || f.Streams != 6 || f.Coupled != 0 {
			t.Errorf("5.1 is %+v", f)
		}
		if u, err := surround.NextAudio(t.Context()); err != nil || u.Kind != media.Audio {
			t.Errorf("5.1: %v %v", u.Kind, err)
		}
		if len(s.State().Video) != 2 {
			t.Errorf("the state tells of %d encoders, want the two pictures", len(s.State().Video))
		}
		left(surround)
		time.Sleep(15 * time.Second) // virtual
		if pictures, voices := running(s); pictures != 2 || voices != 0 {
			t.Errorf("%d pictures and %d sounds run, want 2 and 0", pictures, voices)
		}
		left(tab)
		time.Sleep(15 * time.Second)
		if pictures, _ := running(s); pictures != 1 {
			t.Errorf("%d pictures run for one client", pictures)
		}
		over(t, s)
	})
}

func TestASessionIsStartedAsItsFirstClientWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		spec := moonlight("client-1", 1280, 720)
		s, err := New(t.Context(), NewID(), Request{
			Owner: media.PersonRef{ID: "u1"}, Width: 1280, Height: 720, FPS: 120, Codecs: spec.Codecs, Video: spec.Video, Audio: spec.Audio,
		}, testConfig(), h.parts(), testEncoders, quiet)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		join(t, s, spec)
		time.Sleep(time.Minute) // virtual
		w := h.workers()
		if len(w) != 1 || w[0].Video.Width != 1280 || w[0].Video.FPS != 60 || !w[0].Audio.Constant {
			t.Errorf("workers %+v, want the client's alone", w)
		}
		if s.State().Phase != media.Running || len(h.sizes) != 0 {
			t.Errorf("%s, display told to be %v", s.State().Phase, h.sizes)
		}
		over(t, s)
	})
}

func TestPicturesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		tab := attach(t, s, "tab-one-1")
		var clients []*Peer
		for i := range maxPictures - 1 {
			clients = append(clients, join(t, s, moonlight(fmt.Sprintf("client-%d", i), 1280, 720-16*i)))
		}
		if _, err := s.Attach(moonlight("client-9", 1280, 400), Full); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Fatalf("one too many: %v, want too-many-sessions", err)
		}
		if _, err := s.Attach(moonlight("client-8", 1280, 720), Full); err != nil {
			t.Errorf("a picture that is made already: %v", err)
		}
		left(clients[1])
		p := join(t, s, moonlight("client-9", 1280, 400)) // at once, without the linger
		synctest.Wait()
		if pictures, _ := running(s); pictures != maxPictures {
			t.Errorf("%d pictures, want %d", pictures, maxPictures)
		}
		for _, p := range []*Peer{tab, p, clients[0], clients[2]} {
			if u, err := p.NextVideo(t.Context()); err != nil || !u.Key {
				t.Errorf("%s: key %v, %v", p.ID(), u.Key, err)
			}
		}
		for i := range maxSounds - 2 {
			spec := moonlight(fmt.Sprintf("sound-%d", i), 1280, 720)
			spec.Audio.Kbps = 100 + i
			join(t, s, spec)
		}
		spec := moonlight("sound-9", 1280, 720)
		spec.Audio.Kbps = 200
		if _, err := s.Attach(spec, Full); !errors.Is(err, &media.Cause{Code: media.CauseTooMany}) {
			t.Errorf("one sound too many: %v, want too-many-sessions", err)
		}
		over(t, s)
	})
}

func TestWishesThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeHost{}, testConfig())
		synctest.Wait()
		for name, change := range map[string]func(*media.PeerSpec){
			"too small":   func(p *media.PeerSpec) { p.Video.Height = 8 },
			"half a size": func(p *media.PeerSpec) { p.Video.Height = 0 },
			"too large":   func(p *media.PeerSpec) { p.Video.Width, p.Video.Height = 7680, 4320 },
			"negative":    func(p *media.PeerSpec) { p.Video.Width, p.Video.Height = -1280, -720 },
			"too fast":    func(p *media.PeerSpec) { p.Video.FPS = 1000 },
			"packet":      func(p *media.PeerSpec) { p.Audio.FrameMs = 7 },
			"channels":    func(p *media.PeerSpec) { p.Audio.Channels = 3 },
			"bitrate":     func(p *media.PeerSpec) { p.Audio.Kbps = 1536 },
		} {
			spec := moonlight("client-1", 1280, 720)
			change(&spec)
			if _, err := s.Attach(spec, Full); !errors.Is(err, &media.Cause{Code: media.CauseNoEncoder}) {
				t.Errorf("%s: %v, want no-encoder", name, err)
			}
		}
		odd := join(t, s, moonlight("client-1", 1281, 721))
		if odd.rung != join(t, s, moonlight("client-2", 1280, 720)).rung {
			t.Error("an odd size is another picture than the even one that is made of it")
		}
		over(t, s)
	})
}

func TestAnUnmeasuredPathTakesItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		tab := attach(t, s, "tab-one-1")
		spec := moonlight("client-1", 1280, 720)
		spec.MaxKbps = 900 // too little for all frames, and the size is kept
		p := join(t, s, spec)
		if p.Target() != 900 || tab.Target() != 8000 {
			t.Errorf("targets %d and %d, want the budget and what browsers begin with", p.Target(), tab.Target())
		}
		time.Sleep(time.Minute) // virtual
		if n := h.count(media.OrderScale); n != 0 {
			t.Error("a picture of a size that was asked for was made smaller")
		}
		if fps := h.fps(); fps != 30 {
			t.Errorf("%d frames a second at 900 kbit/s, want 30", fps)
		}
		p.Estimate(600)
		if p.Target() != 600 {
			t.Errorf("target %d after an estimate, want its 600", p.Target())
		}
		over(t, s)
	})
}

func TestSoundOutlivesThePictureThatCarriedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		attach(t, s, "tab-one-1")
		a := join(t, s, moonlight("client-1", 1280, 720))
		b := join(t, s, moonlight("client-2", 1024, 576))
		if a.sound != b.sound || a.rung == b.rung {
			t.Fatal("want two pictures and one sound")
		}
		synctest.Wait()
		left(a)
		time.Sleep(time.Minute) // virtual
		if pictures, voices := running(s); pictures != 3 || voices != 0 {
			t.Errorf("%d pictures and %d sounds, want the one that carries the sound to stay", pictures, voices)
		}
		s.dropRung(a.rung, errors.New("given up"))
		synctest.Wait()
		if w := h.workers(); len(w) != 4 || w[3].Video != nil || !w[3].Audio.Constant {
			t.Errorf("workers %+v, want the sound to go on by itself", w)
		}
		if b.Context().Err() != nil {
			t.Error("who only heard it was sent away")
		}
		a.rung.cancel(errUnwatched)
		over(t, s)
	})
}

func TestTheDisplayFollowsWhoHasASay(t *testing.T) {
	guest, owner := media.PersonRef{ID: "u2"}, media.PersonRef{ID: "u1"}
	type comer struct {
		who           media.PersonRef
		width, height int
		views         bool
		want          [2]int // of the display afterwards
	}
	first, second := [2]int{1280, 720}, [2]int{1920, 1080}
	for name, comers := range map[string][]comer{
		"the owner alone":              {{owner, 1920, 1080, false, second}},
		"the owner's newest":           {{owner, 1920, 1080, false, second}, {owner, 1280, 800, false, [2]int{1280, 800}}},
		"the owner after a guest":      {{guest, 0, 0, false, first}, {owner, 1920, 1080, false, second}},
		"a guest alone":                {{guest, 1920, 1080, false, second}},
		"a guest with somebody":        {{owner, 0, 0, false, first}, {guest, 1920, 1080, false, first}},
		"a viewer":                     {{owner, 1920, 1080, true, first}},
		"a browser changes nothing":    {{owner, 1920, 1080, false, second}, {owner, 0, 0, false, second}},
		"larger than displays can be":  {{owner, 5120, 1440, false, first}},
		"smaller than displays can be": {{owner, 320, 180, false, first}},
		"the size that it has":         {{owner, 1280, 720, false, first}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &fakeHost{}
				s := start(t, h, testConfig())
				synctest.Wait()
				for i, c := range comers {
					spec := moonlight(fmt.Sprintf("client-%d", i), c.width, c.height)
					spec.Person, spec.ViewOnly = c.who, c.views
					p := join(t, s, spec)
					synctest.Wait()
					if st := s.State(); [2]int{st.Width, st.Height} != c.want {
						t.Errorf("after comer %d the display is %d×%d, want %v", i, st.Width, st.Height, c.want)
					}
					if p.rung.wish.Width != c.width {
						t.Errorf("comer %d is sent a picture %d wide, want %d", i, p.rung.wish.Width, c.width)
					}
				}
				over(t, s)
			})
		})
	}
}

func TestADisplayThatRefusesIsScaled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{noSize: errors.New("no such mode")}
		s := start(t, h, testConfig())
		synctest.Wait()
		p := join(t, s, moonlight("client-1", 1920, 1080))
		synctest.Wait()
		if st := s.State(); st.Width != 1280 || len(h.sizes) != 1 || st.Phase != media.Running {
			t.Errorf("the display is %d wide after %d tries, session %s", st.Width, len(h.sizes), st.Phase)
		}
		if u, err := p.NextVideo(t.Context()); err != nil || !u.Key {
			t.Errorf("key %v, %v", u.Key, err)
		}
		over(t, s)
	})
}
