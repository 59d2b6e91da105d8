//go:build cgo

package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fenrir/media"
)

// lengths counts packets by their length. Called with mu held.
func (r *arrivals) lengths() map[int]int {
	out := map[int]int{}
	for _, u := range r.audio {
		out[len(u.Data)]++
	}
	return out
}

// TestPacketsOfOneLength: they have it in silence and with sound, and none is left out.
func TestPacketsOfOneLength(t *testing.T) {
	for _, spec := range []media.AudioSpec{
		{Kbps: 96, FrameMs: 5, Constant: true},
		{Kbps: 96, FrameMs: 10, Constant: true},
		{Kbps: 256, FrameMs: 5, Channels: 6, Constant: true},
		{Kbps: 450, FrameMs: 10, Channels: 8, Constant: true},
	} {
		t.Run(fmt.Sprintf("%d channels, %d ms", spec.Channels, spec.FrameMs), func(t *testing.T) {
			server := newSoundServer(t)
			server.channels = spec.Channels
			server.start()
			r, _ := begin(t, media.Spec{Session: "test", Sound: server.where(), Audio: &spec})
			second := 1000 / spec.FrameMs
			r.until(t, 10*time.Second, "packets of silence", func() bool { return len(r.audio) > second })
			server.play("front-left,front-right", 1000, 1700)
			r.until(t, 10*time.Second, "packets of sound", func() bool { return len(r.audio) > 3*second })
			r.mu.Lock()
			defer r.mu.Unlock()
			want := spec.Kbps * spec.FrameMs / 8
			if l := r.lengths(); len(l) != 1 || l[want] == 0 {
				t.Errorf("packets by their length: %v, want all of %d bytes", l, want)
			}
			packets := r.audio[len(r.audio)-second:]
			took := packets[second-1].Stages.Captured.Sub(packets[0].Stages.Captured)
			if want := time.Duration(second-1) * time.Duration(spec.FrameMs) * time.Millisecond; took < want*9/10 || took > want*11/10 {
				t.Errorf("%d packets take %v, want %v", second, took, want)
			}
			heard := hearAll(t, packets, spec.Format())
			left, right := heard[0][4800:], heard[1][4800:]
			if l, r := loudness(left, 1000), loudness(right, 1700); l < 10000 || r < 10000 || loudness(left, 1700) > l/30 {
				t.Errorf("stereo comes with %.0f and %.0f of 12000", l, r)
			}
			for i, samples := range heard[2:] {
				if v := max(loudness(samples[4800:], 1000), loudness(samples[4800:], 1700)); v > 100 {
					t.Errorf("loudspeaker %d plays %.0f of what came in stereo", i+2, v)
				}
			}
		})
	}
}

var speakers = []string{"front-left", "front-right", "front-center", "lfe", "rear-left", "rear-right", "side-left", "side-right"}

// TestEveryLoudspeakerPlaysItsOwn: what clients are told of the packets leads each channel
// to where it belongs.
func TestEveryLoudspeakerPlaysItsOwn(t *testing.T) {
	hz := []int{400, 700, 1000, 60, 1300, 1600, 1900, 2200} // low frequencies are all that the fourth plays
	for spec, kbps := range map[media.AudioSpec]int{
		{FrameMs: 5, Channels: 6, Constant: true}:  256,
		{FrameMs: 10, Channels: 6, Constant: true}: 256,
		{FrameMs: 5, Channels: 8, Constant: true}:  450,
		{FrameMs: 20, Channels: 8}:                 450,
	} {
		spec.Kbps = kbps
		t.Run(fmt.Sprintf("%d channels, %d ms", spec.Channels, spec.FrameMs), func(t *testing.T) {
			server := newSoundServer(t)
			server.channels = spec.Channels
			server.start()
			server.play(strings.Join(speakers[:spec.Channels], ","), hz[:spec.Channels]...)
			r, _ := begin(t, media.Spec{Session: "test", Sound: server.where(), Audio: &spec})
			second := 1000 / spec.FrameMs
			r.until(t, 10*time.Second, "2 s of sound", func() bool { return len(r.audio) > 2*second })
			r.mu.Lock()
			defer r.mu.Unlock()
			for i, samples := range hearAll(t, r.audio[len(r.audio)-second:], spec.Format()) {
				samples = samples[len(samples)/10:]
				for j, f := range hz[:spec.Channels] {
					switch v := loudness(samples, float64(f)); {
					case i == j && v < 8000:
						t.Errorf("%s plays its own tone with %.0f of 12000", speakers[i], v)
					case i != j && v > 400:
						t.Errorf("%s plays the tone of %s with %.0f", speakers[i], speakers[j], v)
					}
				}
			}
		})
	}
}

// TestStereoOfACardWithMore: who listens in stereo to a card with more loudspeakers hears
// programs of either sort.
func TestStereoOfACardWithMore(t *testing.T) {
	server := newSoundServer(t)
	server.channels = 8
	server.start()
	r, _ := begin(t, media.Spec{Session: "test", Sound: server.where(), Audio: &media.AudioSpec{Kbps: 128, FrameMs: 10}})
	last := func() (left, right []float64) {
		r.mu.Lock()
		n := len(r.audio)
		r.mu.Unlock()
		r.until(t, 10*time.Second, "1.5 s of sound", func() bool {
			return len(r.audio) > n+150 && len(r.audio[len(r.audio)-100].Data) > silence
		})
		r.mu.Lock()
		defer r.mu.Unlock()
		heard := hearAll(t, r.audio[len(r.audio)-100:], media.AudioSpec{}.Format())
		return heard[0][4800:], heard[1][4800:]
	}
	r.until(t, 10*time.Second, "sound", func() bool { return len(r.audio) > 0 })
	server.play("front-left,front-right", 1000, 1700)
	left, right := last()
	t.Logf("stereo: %.0f and %.0f of 12000", loudness(left, 1000), loudness(right, 1700))
	if l, r := loudness(left, 1000), loudness(right, 1700); l < 11000 || r < 11000 || loudness(left, 1700) > l/20 || loudness(right, 1000) > r/20 {
		t.Errorf("stereo comes as %.0f and %.0f of 12000", l, r)
	}
	server.play("rear-left,rear-right", 600, 2300)
	left, right = last()
	t.Logf("back: %.0f and %.0f of 12000", loudness(left, 600), loudness(right, 2300))
	if l, r := loudness(left, 600), loudness(right, 2300); l < 5000 || r < 5000 {
		t.Errorf("what plays at the back comes as %.0f and %.0f of 12000", l, r)
	}
	server.play("front-center", 2700)
	left, right = last()
	t.Logf("centre: %.0f and %.0f of 12000", loudness(left, 2700), loudness(right, 2700))
	if l, r := loudness(left, 2700), loudness(right, 2700); l < 7000 || r < 7000 {
		t.Errorf("the centre comes as %.0f and %.0f of 12000", l, r)
	}
	server.play("mono", 3100)
	left, right = last()
	t.Logf("mono: %.0f and %.0f of 12000", loudness(left, 3100), loudness(right, 3100))
	if l, r := loudness(left, 3100), loudness(right, 3100); l < 5000 || r < 5000 {
		t.Errorf("mono comes as %.0f and %.0f of 12000", l, r)
	}
}

// TestListenersWithMoreThanTheCard hear stereo from the front, and 7.1 in 5.1 all of it.
func TestListenersWithMoreThanTheCard(t *testing.T) {
	for _, c := range []struct {
		card, channels int
		play           string
		left, right    int // loudspeakers that it comes from
	}{
		{0, 6, "front-left,front-right", 0, 1},
		{6, 8, "rear-left,rear-right", 4, 5},
		{8, 6, "side-left,side-right", 4, 5},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.channels, c.card), func(t *testing.T) {
			server := newSoundServer(t)
			server.channels = c.card
			server.start()
			spec := media.AudioSpec{Kbps: 256, FrameMs: 10, Channels: c.channels, Constant: true}
			r, _ := begin(t, media.Spec{Session: "test", Sound: server.where(), Audio: &spec})
			server.play(c.play, 1000, 1700)
			r.until(t, 10*time.Second, "2 s of sound", func() bool { return len(r.audio) > 200 })
			r.mu.Lock()
			defer r.mu.Unlock()
			for i, samples := range hearAll(t, r.audio[len(r.audio)-100:], spec.Format()) {
				l, r := loudness(samples[4800:], 1000), loudness(samples[4800:], 1700)
				if (l > 8000) != (i == c.left) || (r > 8000) != (i == c.right) || i != c.left && l > 400 || i != c.right && r > 400 {
					t.Errorf("%s plays %.0f and %.0f of 12000", speakers[i], l, r)
				}
			}
		})
	}
}
