package browser

import (
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
)

func TestWhatIsPaintedIsPassedOnWithWhatWasSent(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.send(signaling.Painted{Frames: 0, Visible: true}) // before there is a path nothing can be expected
	att := b.session.get("tab-00000001")
	if p := get(t, att.paints, "report"); p.Visible {
		t.Errorf("without a path: %+v", p)
	}
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	start(t, att, 10*time.Millisecond, 500)
	for range 20 {
		get(t, c.video, "video")
	}
	c.send(signaling.Painted{Frames: 7, Visible: true})
	if p := get(t, att.paints, "report"); p.Frames != 7 || !p.Visible || p.Sent == 0 {
		t.Errorf("got %+v, want 7 painted of what was sent", p)
	}
	c.send(signaling.Painted{Frames: 7})
	if p := get(t, att.paints, "report"); p.Visible {
		t.Errorf("a hidden tab: %+v", p)
	}
	att.notes <- media.Note{Notice: media.NewCause(media.CauseNoPicture, "because")}
	for {
		if e, ok := get(t, c.messages, "notice").(signaling.Error); ok {
			if e.Code != "no-picture" || e.Detail != "because" {
				t.Errorf("got %+v", e)
			}
			return
		}
	}
}

// TestAClientThatReportsNothingIsSentAway is row 38: its media part is dead.
func TestAClientThatReportsNothingIsSentAway(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for seconds
	b := newBench(t)
	c := b.connect(func(c *clientConfig) { c.silent = true })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	start(t, b.session.get("tab-00000001"), 10*time.Millisecond, 500)
	began := time.Now()
	for {
		bye, ok := get(t, c.messages, "bye").(signaling.Bye)
		if !ok {
			continue
		}
		if took := time.Since(began); bye.Code != "no-picture" || !bye.Retry || took < 9*time.Second || took > 13*time.Second {
			t.Errorf("after %v: %+v, want no-picture with another try after 10 s", took, bye)
		}
		return
	}
}
