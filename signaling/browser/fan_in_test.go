package browser

import (
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
)

// TestManyWritersOneWebsocket has everything that writes to a websocket write at
// once: news, answers, candidates, pongs. The race detector watches; every
// message arrives whole.
func TestManyWritersOneWebsocket(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				select {
				case att.notes <- media.Note{State: &media.SessionState{ID: "s1", Restarts: i}}:
				case <-att.ctx.Done():
					return
				}
			}
		})
	}
	for range 6 { // each one is answered, with candidates
		c.offer(&webrtc.OfferOptions{ICERestart: true})
	}
	wg.Wait()
	c.send(signaling.Bye{Code: media.CauseLeft})
	if bye := c.bye(); bye.Code != media.CauseLeft { // reading fails on a message that is none
		t.Errorf("bye %+v", bye)
	}
}

// TestEveryViewerSeesEveryCursor: cursors are no stream that one viewer takes
// from another.
func TestEveryViewerSeesEveryCursor(t *testing.T) {
	b := newBench(t)
	const viewers, cursors = 4, 5
	clients := make([]*client, viewers)
	for i := range clients {
		clients[i] = b.connect(func(c *clientConfig) { c.peer = "viewer-" + strconv.Itoa(i) })
		clients[i].offer(nil)
		clients[i].until(webrtc.PeerConnectionStateConnected)
	}
	for serial := uint32(1); serial <= cursors; serial++ {
		for i, c := range clients {
			if serial > 1 {
				b.session.get("viewer-" + strconv.Itoa(i)).notes <- media.Note{Cursor: &media.CursorImage{Serial: serial}}
			}
			for got := uint32(0); got != serial; {
				e := get(t, c.onEvent, "cursor")
				var head struct {
					Type   string
					Serial uint32
				}
				must(t, json.Unmarshal(e, &head))
				if head.Type == "cursor" {
					got = head.Serial
				}
			}
		}
	}
}

// TestKeysSurviveLoss loses every tenth packet both ways. What the client holds
// and what the session holds is the same a second after the last event.
func TestKeysSurviveLoss(t *testing.T) {
	b := newBench(t)
	net := newLossy(t, 10)
	c := b.connect(func(c *clientConfig) { c.engine = net.install })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	c.open(c.input)
	att := b.session.get("tab-00000001")
	net.small.Store(true)
	const events = 300
	var last time.Time
	for i := range events {
		kind := media.KeyDown
		if i%2 == 1 {
			kind = media.KeyUp
		}
		must(t, c.input.Send(packet(t, media.Input{Kind: kind, Key: uint16('A' + i/2%20)})))
		last = time.Now()
		time.Sleep(2 * time.Millisecond) // somebody who types
	}
	for i := range events {
		in := get(t, att.inputs, "key")
		if in.Kind == media.ReleaseAll {
			t.Fatal("everything was released meanwhile")
		}
		if want := uint16('A' + i/2%20); in.Key != want || (in.Kind == media.KeyUp) != (i%2 == 1) {
			t.Fatalf("event %d is %+v", i, in)
		}
	}
	t.Logf("all %d events were there %v after the last, %d packets were lost", events, time.Since(last).Round(time.Millisecond), net.dropped.Load())
	if took := time.Since(last); took > time.Second {
		t.Errorf("it took %v until the state was the same", took)
	}
	if net.dropped.Load() < 20 {
		t.Errorf("%d packets were lost: is this a test?", net.dropped.Load())
	}
}
