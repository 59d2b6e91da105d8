package session

import (
	"testing"
	"testing/synctest"
	"time"

	"fenrir/media"
)

// TestAPressPromptsTheEncoder: presses are answered out of turn, at most one in
// 50 ms; what is no press, or not allowed, is not.
func TestAPressPromptsTheEncoder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h, _ := watched(t)
		player := attach(t, s, "tab-one-1")
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		step := func(want int, ins ...media.Input) {
			t.Helper()
			for _, in := range ins {
				player.Input(in)
			}
			synctest.Wait()
			if n := h.count(media.OrderPrompt); n != want {
				t.Errorf("after %v: %d prompts, want %d", ins, n, want)
			}
			time.Sleep(promptGap) // virtual
		}
		down, up := media.Input{Kind: media.KeyDown, Key: 30}, media.Input{Kind: media.KeyUp, Key: 30}
		step(1, down)
		step(1, down) // held: nothing new is pressed
		step(1, up)
		step(1, media.Input{Kind: media.PointerMove, X: 1})
		step(2, down, up, media.Input{Kind: media.ButtonDown, Button: 1})
		player.Detach(&media.Cause{Code: media.CauseLeft})
		viewer, err := s.Attach(media.PeerSpec{ID: "tab-two-2", Codecs: []media.Codec{media.H264}, ViewOnly: true}, Full)
		if err != nil {
			t.Fatal(err)
		}
		viewer.Input(down)
		synctest.Wait()
		if n := h.count(media.OrderPrompt); n != 2 {
			t.Errorf("a viewer's key: %d prompts, want 2", n)
		}
		s.End(&media.Cause{Code: media.CauseUser})
		<-s.Done()
	})
}
