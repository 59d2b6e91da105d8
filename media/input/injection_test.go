package input

import (
	"context"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/media/screen/screentest"

	"github.com/jezek/xgb/xproto"
)

// What is told of an input is told once it happened, with a moment before it did.
func TestNumberedInputsAreToldWhenTheyAreInjected(t *testing.T) {
	d, _ := screentest.Xvfb(t, 320, 200)
	o := observe(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	in, told, done := make(chan media.Input), make(chan *media.Injection, 8), make(chan error, 1)
	go func() {
		done <- (&Devices{Log: quietLog()}).Run(ctx, d, in, func(n media.Note) {
			if n.Injected != nil {
				told <- n.Injected
			}
		})
	}()
	received := media.Now()
	for _, ev := range []media.Input{
		{Kind: media.KeyDown, Key: 0x41, Number: 1, Peer: "me", Received: received},
		{Kind: media.KeyDown, Key: 0x41, Number: 2, Peer: "me", Received: received}, // is down
		{Kind: media.KeyUp, Key: 0x41, Received: received},                          // nobody asks
		{Kind: media.KeyDown, Key: 0xFF, Number: 3, Peer: "me", Received: received}, // no such key
		{Kind: media.ScrollV, DY: 60, Number: 4, Peer: "me", Received: received},    // half a notch
		{Kind: media.ScrollV, DY: 60, Number: 5, Peer: "me", Received: received},
	} {
		in <- ev
	}
	if _, ok := o.next().(xproto.KeyPressEvent); !ok {
		t.Error("the first event is no key press")
	}
	seen := media.Now()
	for _, want := range []uint32{1, 5} {
		select {
		case got := <-told:
			if got.Number != want || got.Peer != "me" || got.Received != received || got.Injected < received || want == 1 && got.Injected > seen {
				t.Errorf("got %+v, want number %d", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("nothing is told of number %d", want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Errorf("more is told: %+v", <-told)
	}
}
