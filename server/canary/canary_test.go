package canary

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// blocked is an encoder that can be made to block, as a library would that waits
// for a lock that nobody gives back.
type blocked struct {
	on     atomic.Bool
	deaf   atomic.Bool // ignores its context, too
	free   chan struct{}
	trials atomic.Int32
}

func (b *blocked) try(ctx context.Context) error {
	b.trials.Add(1)
	switch {
	case b.deaf.Load():
		<-b.free
		return errors.New("too late")
	case b.on.Load():
		<-ctx.Done()
		return errors.New("no answer")
	}
	select {
	case <-time.After(300 * time.Millisecond): // virtual: what a trial takes
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestABlockTurnsTheAnswerWithinAMinuteAndBack(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := &blocked{free: make(chan struct{})}
			var turns []bool
			c := &Canary{Try: b.try, Proven: func() time.Time { return time.Time{} }, Changed: func(a Answer) { turns = append(turns, a.OK) }}
			c.Begin(nil, time.Second)
			if a := c.Last(); !a.OK || a.By != ByStart {
				t.Errorf("at first: %+v", a)
			}
			ctx, cancel := context.WithCancel(t.Context())
			over := make(chan error, 1)
			go func() { over <- c.Run(ctx) }()
			time.Sleep(5 * time.Minute) // virtual
			if n := b.trials.Load(); n != 9 && n != 10 {
				t.Errorf("%d trials in five minutes, want one each half minute", n)
			}
			b.on.Store(true)
			b.deaf.Store(deaf)
			began := time.Now()
			for c.Last().OK {
				time.Sleep(time.Second) // virtual
				if time.Since(began) > time.Minute {
					t.Fatal("still green a minute after the block")
				}
			}
			if a := c.Last(); a.Detail == "" || a.By != ByTrial {
				t.Errorf("the answer: %+v", a)
			}
			asked := time.Now()
			c.Last()
			if time.Since(asked) != 0 {
				t.Error("asking waits")
			}
			if deaf { // one hung trial is enough
				n := b.trials.Load()
				time.Sleep(10 * time.Minute) // virtual
				if b.trials.Load() != n {
					t.Errorf("%d more trials while one hangs", b.trials.Load()-n)
				}
			}
			b.on.Store(false)
			b.deaf.Store(false)
			close(b.free)
			time.Sleep(time.Minute + time.Second) // virtual
			if !c.Last().OK || !slices.Equal(turns, []bool{false, true}) {
				t.Errorf("after the block: %+v, turns %v", c.Last(), turns)
			}
			cancel()
			if err := <-over; err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
	}
}

func TestASessionIsTheBetterCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blocked{}
		var frame atomic.Int64
		c := &Canary{Try: b.try, Proven: func() time.Time { return time.Unix(0, frame.Load()) }}
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- c.Run(ctx) }()
		for range 300 {
			frame.Store(time.Now().UnixNano())
			time.Sleep(time.Second) // virtual
		}
		if n := b.trials.Load(); n != 0 || c.Last().By != BySession || !c.Last().OK {
			t.Errorf("%d trials while a session encodes, answer %+v", n, c.Last())
		}
		time.Sleep(time.Minute) // virtual: the session is over
		if n, failed := c.Trials(); n == 0 || failed != 0 || c.Last().By != ByTrial {
			t.Errorf("%d trials afterwards, %d failed, answer %+v", n, failed, c.Last())
		}
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}
