package peer

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAPeerIsGivenUpForTheFirstReason(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		p    *Peer
		want time.Duration // from now; 0: never
		code string
	}{
		"no offer yet":                 {&Peer{started: now}, OfferTimeout, media.CauseNegotiation},
		"offered, not connected":       {&Peer{started: now.Add(-time.Hour), offeredAt: now}, ConnectTimeout, media.CauseICE},
		"media flows":                  {&Peer{started: now, offeredAt: now, streaming: true}, 0, ""},
		"the path is broken":           {&Peer{started: now, offeredAt: now, streaming: true, brokenAt: now}, RestartTimeout, media.CauseICE},
		"no websocket":                 {&Peer{started: now, offeredAt: now, streaming: true, orphanedAt: now}, OrphanGrace, media.CauseLost},
		"neither path nor websocket":   {&Peer{started: now, offeredAt: now, streaming: true, brokenAt: now.Add(-20 * time.Second), orphanedAt: now}, RestartTimeout - 20*time.Second, media.CauseICE},
		"no websocket, broken shortly": {&Peer{started: now, offeredAt: now, streaming: true, brokenAt: now, orphanedAt: now}, OrphanGrace, media.CauseLost},
	} {
		at, why := tt.p.deadline()
		switch {
		case tt.want == 0:
			if !at.IsZero() {
				t.Errorf("%s: given up at %v because of %v", name, at, why)
			}
		case at.IsZero() || at.Sub(now) != tt.want || why.Code != tt.code:
			t.Errorf("%s: given up after %v because of %v, want %v and %s", name, at.Sub(now), why, tt.want, tt.code)
		}
	}
}

func TestHeartbeatsThatStopReleaseOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var heard atomic.Int64
		var released atomic.Int32
		go watchHeartbeat(ctx, &heard, func() { released.Add(1) })
		time.Sleep(time.Minute) // of the bubble's clock: nothing was ever heard
		if n := released.Load(); n != 0 {
			t.Errorf("released %d times before the first message", n)
		}
		for range 20 {
			heard.Store(int64(media.Now()))
			time.Sleep(Heartbeat)
		}
		if n := released.Load(); n != 0 {
			t.Errorf("released %d times while heartbeats came", n)
		}
		time.Sleep(time.Minute)
		if n := released.Load(); n != 1 {
			t.Errorf("released %d times after they stopped, want once", n)
		}
		heard.Store(int64(media.Now()))
		time.Sleep(time.Minute)
		if n := released.Load(); n != 2 {
			t.Errorf("released %d times after they stopped again, want twice", n)
		}
	})
}

func TestBitrateDefaults(t *testing.T) {
	for _, tt := range []struct{ in, want Bitrate }{
		{Bitrate{}, Bitrate{300, 8000, 100_000}},
		{Bitrate{Max: 5000}, Bitrate{300, 5000, 5000}},
		{Bitrate{Min: 9000}, Bitrate{9000, 9000, 100_000}},
		{Bitrate{1, 2, 3}, Bitrate{1, 2, 3}},
	} {
		if got := tt.in.WithDefaults(); got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.in, got, tt.want)
		}
	}
}
