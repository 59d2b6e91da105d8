package session

import (
	"math/rand/v2"
	"testing"
	"time"

	"fenrir/media"
)

// TestJoinsBeginWithAKeyFrame joins a stream a thousand times, at any moment: what
// each viewer gets first is a key frame, and after it every frame in order, or after
// a loss again a key frame. That each of these carries its parameter sets is the
// worker's affair (TestParameterSetsTravelTogether).
func TestJoinsBeginWithAKeyFrame(t *testing.T) {
	asked := false
	f := NewFanout(media.Video, func(urgency) { asked = true })
	type viewer struct {
		*Reader
		stays int    // frames
		next  uint32 // the frame that it can decode
		fresh bool   // it has decoded nothing yet
	}
	var there []*viewer
	joined, decoded := 0, 0
	for frame := uint32(0); joined < 1000 || len(there) > 0; frame++ {
		for joined < 1000 && rand.IntN(3) == 0 {
			joined++
			v := &viewer{Reader: f.NewReader(), stays: 1 + rand.IntN(60), fresh: true}
			v.begin()
			there = append(there, v)
		}
		// The encoder takes up to four frames to heed the wish.
		key := asked && rand.IntN(4) == 0 || frame == 0
		if key {
			asked = false
		}
		now := media.Now().Add(time.Duration(frame) * time.Second / 60)
		f.Write(media.Unit{Kind: media.Video, Codec: media.H264, Key: key, Frame: frame, Stages: media.Stages{Received: now}, Data: []byte{1}})
		stay := there[:0]
		for _, v := range there {
			// Some read late: theirs is a loss, and a wait for the next key frame.
			for rand.IntN(20) != 0 {
				v.mu.Lock()
				waiting := len(v.queue)
				v.mu.Unlock()
				if waiting == 0 {
					break
				}
				u, err := v.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if (v.fresh || u.Frame != v.next) && !u.Key {
					t.Fatalf("frame %d is the first after a gap (expected %d, fresh %v) and no key frame", u.Frame, v.next, v.fresh)
				}
				v.fresh, v.next = false, u.Frame+1
				decoded++
			}
			if v.stays--; v.stays > 0 || v.fresh {
				stay = append(stay, v)
				continue
			}
			v.Close(nil)
		}
		there = stay
	}
	if f.Readers() != 0 || decoded < 5000 {
		t.Errorf("%d readers are left, %d frames were decoded", f.Readers(), decoded)
	}
}
