package input

import (
	"testing"

	"fenrir/media"
)

// TestEveryKindReachesTheDisplayOrIsCounted sends one input of every kind there
// is, and one of a kind that there is not.
func TestEveryKindReachesTheDisplayOrIsCounted(t *testing.T) {
	in, o, _, _, dev, _ := bench(t, 640, 360)
	seen := map[media.InputKind]int{ // events on the display
		media.KeyDown: 1, media.KeyUp: 1, media.Text: 2, media.PointerMove: 1, media.PointerDelta: 1,
		media.ButtonDown: 1, media.ButtonUp: 1, media.ScrollV: 2, media.ScrollH: 2, media.ReleaseAll: 0,
	}
	for kind := media.KeyDown; kind <= media.ReleaseAll+1; kind++ {
		in <- media.Input{Kind: kind, Key: 'A', Text: "b", X: 10, Y: 20, W: 640, H: 360, DX: 120, DY: 120, Button: media.ButtonLeft}
		events, known := seen[kind]
		for range events {
			o.next()
		}
		if kind == media.ReleaseAll {
			continue // it had nothing to release
		}
		in <- media.Input{Kind: media.KeyDown, Key: 'Z'} // after it, the one before has been handled
		in <- media.Input{Kind: media.KeyUp, Key: 'Z'}
		o.next()
		o.next()
		if n := dev.Counts().Unsupported[kind]; (n == 1) == known || n > 1 {
			t.Errorf("kind %d: seen %v, counted %d times; want one of both", kind, known, n)
		}
	}
	o.quiet()
}
