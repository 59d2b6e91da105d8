//go:build cgo

package pipeline

import (
	"testing"
	"time"

	"fenrir/media"
)

func TestFirstPicture(t *testing.T) {
	d := xvfb(t, 1280, 720)
	b := newBrush(t, d)
	began := time.Now()
	r, orders := begin(t, videoSpec(d, "x264", media.H264))
	r.until(t, 10*time.Second, "first unit", func() bool { return len(r.video) > 0 })
	t.Log("first unit after", time.Since(began))
	for i := range 200 {
		b.fill(uint32(i)*0x010203, i*3, i*2, 300, 200)
		n := len(r.video)
		r.until(t, time.Second, "frame", func() bool { return len(r.video) > n })
	}
	orders <- media.Order{Kind: media.OrderKeyFrame}
	time.Sleep(3 * time.Second)
	for i, u := range r.video {
		s := u.Stages
		t.Log(i, u.Frame, u.Key, u.Width, u.Height, len(u.Data), "dmg-cap", s.Captured.Sub(s.Damage), "conv", s.Converted.Sub(s.Captured), "enc", s.Encoded.Sub(s.Converted), "wire", s.Received.Sub(s.Emitted))
	}
	t.Log(r.reports[len(r.reports)-1])
}
