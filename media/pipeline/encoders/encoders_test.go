package encoders

import (
	"strings"
	"testing"

	"fenrir/media"
)

func TestTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	families := map[string]bool{"nvenc": true, "vaapi": true, "software": false}
	codecs := map[media.Codec]int{}
	for _, e := range Table() {
		if seen[e.Name] {
			t.Errorf("two entries are called %s", e.Name)
		}
		seen[e.Name] = true
		if hardware, ok := families[e.Family]; !ok || hardware != e.Hardware {
			t.Errorf("%s: family %q, hardware %v", e.Name, e.Family, e.Hardware)
		}
		if Caps(e.Codec) == "" {
			t.Errorf("%s: no caps for %s", e.Name, e.Codec)
		}
		if len(e.Elements) == 0 {
			t.Errorf("%s has no elements", e.Name)
		}
		if !e.Hardware {
			codecs[e.Codec]++
		}
		for _, el := range e.Elements {
			if el.Format != "I420" && el.Format != "NV12" {
				t.Errorf("%s: format %q cannot be made", el.Factory, el.Format)
			}
			if el.Ordered {
				if len(el.Live) > 0 || len(el.Moods) > 0 || el.Depth > 1 {
					t.Errorf("%s: what it is told with each picture is told by other ways, too", el.Factory)
				}
			} else if len(el.Live) == 0 || el.Live[0].Name != "bitrate" && el.Live[0].Name != "target-bitrate" {
				t.Errorf("%s: its bitrate cannot be changed", el.Factory)
			}
			set := map[string]bool{}
			for _, p := range append(append([]Prop{}, el.Props...), el.Live...) {
				if set[p.Name] {
					t.Errorf("%s: %s is set twice", el.Factory, p.Name)
				}
				set[p.Name] = true
				if len(p.Values) == 0 {
					t.Errorf("%s: %s without a value", el.Factory, p.Name)
				}
				for _, v := range p.Values {
					filled := Params{Kbps: 8000, FPS: 60, Cores: 2, Pixels: 1280 * 720}.Fill(v)
					if filled == "" || strings.ContainsAny(filled, "{}") {
						t.Errorf("%s: %s = %q is filled in as %q", el.Factory, p.Name, v, filled)
					}
				}
			}
		}
	}
	if codecs[media.H264] != 1 || codecs[media.VP8] != 1 {
		t.Errorf("software entries: %v", codecs)
	}
	if e, ok := Find("x264"); !ok || e.Codec != media.H264 {
		t.Error("x264 is not found")
	}
	if _, ok := Find("nothing"); ok {
		t.Error("nothing is found")
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	p := Params{Kbps: 6000, FPS: 60, Cores: 2, Pixels: 1280 * 720}
	for in, want := range map[string]string{
		"{kbps}": "6000", "{bps}": "6000000", "{frame-kbit}": "100", "{frame-ms}": "16", "{x264-vbv-ms}": "18", "{x264-kbps}": "6600",
		"{threads}": "2", "{x264-preset}": "ultrafast", "{vp8-threads}": "1", "plain": "plain",
	} {
		if got := p.Fill(in); got != want {
			t.Errorf("%s is filled in as %s, want %s", in, got, want)
		}
	}
	for _, fps := range []int{1, 24, 30, 60, 120, 144, 240} {
		p.FPS = fps
		if ms := p.Fill("{x264-vbv-ms}"); ms == "0" {
			t.Errorf("no buffer at %d frames a second", fps)
		}
	}
}

// TestPresetsGrowWithTheMachine: more cores a pixel, a slower preset.
func TestPresetsGrowWithTheMachine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cores, w, h, fps int
		want             string
	}{
		{2, 1280, 720, 60, "ultrafast"}, {8, 1280, 720, 60, "superfast"}, {16, 1280, 720, 60, "veryfast"},
		{16, 1920, 1080, 60, "superfast"}, {16, 3840, 2160, 60, "ultrafast"}, {64, 3840, 2160, 60, "superfast"},
	} {
		if got := (Params{Kbps: 1, FPS: c.fps, Cores: c.cores, Pixels: c.w * c.h}).Fill("{x264-preset}"); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
