package rtpstream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"

	"fenrir/media"
)

// timeFrames measures how long each of some frames takes to be sent.
func timeFrames(t *testing.T, bps int, sizes ...int) (took []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		tr := newBound(t, media.H264, func(*rtp.Header, []byte) (int, error) { return 0, nil })
		tr.SetPace(bps)
		tr.pace.free = media.Now() // of the bubble, whose clock is elsewhere
		for _, n := range sizes {
			u := sampleUnit(media.H264, n)
			begin := time.Now()
			if err := tr.Send(t.Context(), &u); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(begin))
			time.Sleep(16667*time.Microsecond - min(time.Since(begin), 16*time.Millisecond))
		}
	})
	return took
}

func TestUsualFramesLeaveAtOnceAndLargeOnesSpread(t *testing.T) {
	// 8 Mbit/s and 60 frames a second are 16 kB a frame; packets go at 20 Mbit/s.
	took := timeFrames(t, 20_000_000, 16_000, 16_000, 16_000, 16_000, 80_000, 16_000, 2_000_000)
	for i, d := range took[:4] {
		if d != 0 {
			t.Errorf("frame %d of 16 kB took %v", i, d)
		}
	}
	if d := took[4]; d < 15*time.Millisecond || d > 32*time.Millisecond {
		t.Errorf("80 kB at 20 Mbit/s took %v, want about 20 ms", d)
	}
	if d := took[6]; d > paceMost+paceStep {
		t.Errorf("a monster took %v, want at most %v", d, paceMost)
	}
	if d := timeFrames(t, 0, 2_000_000)[0]; d != 0 {
		t.Errorf("without a pace a frame took %v", d)
	}
}

func TestNothingPacesBeyondTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := errors.New("ended")
		ctx, cancel := context.WithCancelCause(t.Context())
		sent := 0
		tr := newBound(t, media.H264, func(*rtp.Header, []byte) (int, error) {
			sent++
			return 0, nil
		})
		tr.SetPace(1_000_000)
		tr.pace.free = media.Now()
		time.AfterFunc(5*time.Millisecond, func() { cancel(ended) })
		began, u := time.Now(), sampleUnit(media.H264, 200_000)
		if err := tr.Send(ctx, &u); !errors.Is(err, ended) {
			t.Errorf("got %v, want %v", err, ended)
		}
		if took := time.Since(began); took != 5*time.Millisecond || sent == 0 {
			t.Errorf("it came back after %v and %d packets, want some packets and 5 ms", took, sent)
		}
	})
}
