package session

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fenrir/media"
)

func TestInputIsCheckedAgainstTheGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		viewer, err := s.Attach(media.PeerSpec{ID: "viewer-1", Person: media.PersonRef{ID: "u1"}, Codecs: []media.Codec{media.H264}, ViewOnly: true}, Full)
		if err != nil {
			t.Fatal(err)
		}
		for kind := media.KeyDown; kind <= media.PadBattery; kind++ {
			viewer.Input(media.Input{Kind: kind, Key: 0x41, Button: 1})
		}
		synctest.Wait()
		if got := h.taken(); len(got) != 0 {
			t.Errorf("a viewer's inputs reached the devices: %+v", got)
		}
		if viewer.denied.Load() == 0 {
			t.Error("denied inputs are not counted")
		}
		over(t, s)
	})
}

// injections are the notes of that sort that wait for p.
func injections(t *testing.T, p *Peer) (numbers []uint32) {
	t.Helper()
	synctest.Wait()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // virtual
		n, err := p.NextNote(ctx)
		cancel()
		if err != nil {
			return numbers
		}
		if n.Injected != nil {
			numbers = append(numbers, n.Injected.Number)
			if n.Injected.Peer != p.ID() || n.Injected.Injected != n.Injected.Received+1 {
				t.Errorf("%s is told %+v", p.ID(), n.Injected)
			}
		}
	}
}

func TestInjectionsAreToldToWhoseTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, &fakeHost{}, testConfig())
		synctest.Wait()
		a, b := attach(t, s, "player-1"), attach(t, s, "player-2")
		a.Input(media.Input{Kind: media.KeyDown, Key: 0x41, Number: 1, Received: 10})
		b.Input(media.Input{Kind: media.ButtonDown, Button: 1, Number: 7, Received: 11})
		a.Input(media.Input{Kind: media.KeyDown, Key: 0x41, Number: 2, Received: 12}) // is down already: nothing happens
		a.Input(media.Input{Kind: media.ScrollV, DY: 120, Received: 13})              // nobody asks
		a.Input(media.Input{Kind: media.KeyUp, Key: 0x41, Number: 3, Received: 14})
		if got := injections(t, a); !slices.Equal(got, []uint32{1, 3}) {
			t.Errorf("the first player is told of %v, want 1 and 3", got)
		}
		if got := injections(t, b); !slices.Equal(got, []uint32{7}) {
			t.Errorf("the second player is told of %v, want 7", got)
		}
		// Who does not read is told of the newest few in the end.
		for i := range uint32(3 * maxInjections) {
			a.Input(media.Input{Kind: media.ScrollV, DY: 120, Number: 100 + i, Received: 15})
		}
		if got := injections(t, a); len(got) != maxInjections || got[len(got)-1] != 99+3*maxInjections {
			t.Errorf("a slow player is told of %d, the last %v", len(got), got)
		}
		over(t, s)
	})
}

func TestWhatAPeerHoldsIsReleasedWhenItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{}
		s := start(t, h, testConfig())
		synctest.Wait()
		a, b := attach(t, s, "tab-aaaa"), attach(t, s, "tab-bbbb")
		a.Input(media.Input{Kind: media.KeyDown, Key: 'A'})
		a.Input(media.Input{Kind: media.KeyDown, Key: 'A'}) // auto-repeat
		a.Input(media.Input{Kind: media.KeyDown, Key: 'W'})
		a.Input(media.Input{Kind: media.ButtonDown, Button: 1})
		b.Input(media.Input{Kind: media.KeyDown, Key: 'W'})
		b.Input(media.Input{Kind: media.KeyUp, Key: 'Q'}) // never held
		a.Detach(&media.Cause{Code: media.CauseLost})
		a.Input(media.Input{Kind: media.KeyDown, Key: 'Z'}) // gone
		synctest.Wait()
		ups := map[uint16]int{}
		buttons := 0
		for _, in := range h.taken() {
			switch in.Kind {
			case media.KeyUp:
				ups[in.Key]++
			case media.ButtonUp:
				buttons++
			case media.KeyDown:
				if in.Key == 'Z' {
					t.Error("a peer that is gone still types")
				}
			}
		}
		if ups['A'] != 1 || ups['W'] != 0 || ups['Q'] != 0 || buttons != 1 {
			t.Errorf("releases = %v, buttons %d; want A once, W kept for the other peer, one button", ups, buttons)
		}
		b.Detach(&media.Cause{Code: media.CauseLost})
		synctest.Wait()
		in := h.taken()
		if last := in[len(in)-1]; last.Kind != media.KeyUp || last.Key != 'W' {
			t.Errorf("last input = %+v, want W released", last)
		}
		over(t, s)
	})
}

func TestHungDisplayKeepsReleasesAndMergesMotion(t *testing.T) {
	q := newInputs()
	for i := range 10000 {
		q.put(media.Input{Kind: media.PointerMove, X: i})
	}
	for i := range 1000 {
		q.put(media.Input{Kind: media.PointerDelta, DX: 1, DY: -i % 2})
	}
	for range 3000 {
		q.put(media.Input{Kind: media.KeyDown, Key: 'A'})
	}
	q.put(media.Input{Kind: media.KeyUp, Key: 'A'})
	if q.queue[0].X != 9999 || q.queue[1].DX != 1000 {
		t.Errorf("motion was not merged: %+v %+v", q.queue[0], q.queue[1])
	}
	if last := q.queue[len(q.queue)-1]; last.Kind != media.KeyUp || len(q.queue) > maxInputs+1 {
		t.Errorf("queue of %d ends with %+v, want a bounded queue that ends with the release", len(q.queue), last)
	}
}
