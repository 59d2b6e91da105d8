package events

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestListenersHearEverythingInOrder(t *testing.T) {
	var h Hub
	h.Publish(media.Event{Kind: media.EventSessionStarted, Session: "s_1"})
	h.Publish(media.Event{Kind: media.EventWorkerRestarted, Session: "s_1", Why: "silent"})
	all, stopAll, err := h.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer stopAll()
	late, stopLate, err := h.Listen(1)
	if err != nil {
		t.Fatal(err)
	}
	defer stopLate()
	h.Publish(media.Event{Kind: media.EventWorkerRestarted, Why: "silent"})
	for _, c := range []struct {
		next func(context.Context) (media.Event, error)
		want []uint64
	}{{all, []uint64{1, 2, 3}}, {late, []uint64{2, 3}}} {
		for _, seq := range c.want {
			if ev, err := c.next(t.Context()); err != nil || ev.Seq != seq || ev.At.IsZero() {
				t.Errorf("got %+v, %v; want number %d", ev, err, seq)
			}
		}
	}
	if got := h.Counts(); got[Count{media.EventWorkerRestarted, "silent"}] != 2 || got[Count{media.EventSessionStarted, ""}] != 1 {
		t.Errorf("counts: %v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if ev, err := all(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v; want nothing", ev, err)
	}
}

func TestASlowListenerIsCutOffAndHoldsNobodyUp(t *testing.T) {
	var h Hub
	slow, stop, err := h.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	fast, stopFast, err := h.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer stopFast()
	for i := range 10 * Queue {
		h.Publish(media.Event{Kind: media.EventHealth})
		if ev, err := fast(t.Context()); err != nil || ev.Seq != uint64(i+1) {
			t.Fatalf("the fast one: %+v, %v", ev, err)
		}
	}
	if _, err := slow(t.Context()); !errors.Is(err, ErrSlow) {
		t.Errorf("the slow one: %v, want ErrSlow", err)
	}
	if len(h.past) != Remembered {
		t.Errorf("%d events are remembered, want %d", len(h.past), Remembered)
	}
}

func TestListenersAreFew(t *testing.T) {
	var h Hub
	var stops []func()
	for range Listeners {
		_, stop, err := h.Listen(0)
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	if _, _, err := h.Listen(0); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v, want ErrFull", err)
	}
	for _, stop := range stops {
		stop()
	}
	if _, stop, err := h.Listen(0); err != nil {
		t.Error(err)
	} else {
		stop()
	}
}

func TestManyAtOnce(t *testing.T) {
	var h Hub
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				h.Publish(media.Event{Kind: media.EventOrphan, Why: "desktop"})
			}
		})
		all.Go(func() {
			next, stop, err := h.Listen(0)
			if err != nil {
				t.Error(err)
				return
			}
			defer stop()
			last := uint64(0)
			for range 100 {
				ev, err := next(t.Context())
				if errors.Is(err, ErrSlow) {
					return
				}
				if err != nil || ev.Seq <= last {
					t.Errorf("number %d after %d, %v", ev.Seq, last, err)
					return
				}
				last = ev.Seq
			}
		})
	}
	all.Wait()
	if n := h.Counts()[Count{media.EventOrphan, "desktop"}]; n != 8000 {
		t.Errorf("counted %d, want 8000", n)
	}
}
