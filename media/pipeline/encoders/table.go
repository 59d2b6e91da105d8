package encoders

import "fenrir/media"

// infinite is the number of frames between key frames that x264 takes for never.
// Elements with a smaller range are told their most.
const infinite = "1073741824"

var (
	h264Profiles = []string{"constrained-baseline", "baseline", "main", "high"} // every browser's hardware decodes the first
	h265Profiles = []string{"main"}

	parseH264 = []string{"h264parse config-interval=-1"}
	parseH265 = []string{"h265parse config-interval=-1"}
	parseAV1  = []string{"av1parse"}
)

// Table is all entries, in the order of preference within a codec.
//
// Measured at 720p60, 10 Mbit/s and game-like motion, CPU time a frame (of one
// thread) and PSNR: x264enc ultrafast 6.4 ms, 36.4 dB (fenrirx264enc needs a quarter less); VP8 at speed 12 10.9 ms, 35.4 dB,
// at speed 6 20 ms, 36.0 dB; VP9 at speed 9 24.8 ms, 35.1 dB; AV1 (libaom 3.6 at speed
// 10) 56 ms; OpenH264 18 ms, and its rate control is not kept. So VP8 is the
// royalty-free codec in software, and OpenH264 no replacement for x264.
func Table() []Entry {
	return append(hardware(), software()...)
}

func hardware() []Entry {
	return []Entry{
		{Name: "nvenc-h264", Family: "nvenc", Codec: media.H264, Hardware: true, Elements: nvenc("h264", h264Profiles, parseH264)},
		{Name: "nvenc-h265", Family: "nvenc", Codec: media.H265, Hardware: true, Elements: nvenc("h265", h265Profiles, parseH265)},
		{Name: "nvenc-av1", Family: "nvenc", Codec: media.AV1, Hardware: true, Elements: nvenc("av1", nil, parseAV1)},
		{Name: "vaapi-h264", Family: "vaapi", Codec: media.H264, Hardware: true, Elements: vaapi("h264", h264Profiles, parseH264)},
		{Name: "vaapi-h265", Family: "vaapi", Codec: media.H265, Hardware: true, Elements: vaapi("h265", h265Profiles, parseH265)},
		{Name: "vaapi-av1", Family: "vaapi", Codec: media.AV1, Hardware: true, Elements: vaapi("av1", nil, parseAV1)},
	}
}

// nvenc is the generations of NVIDIA's elements. The newer ones are named after
// how they find the GPU; nv…enc exists in both and knows other presets in each.
// Pictures go to the GPU once and stay there.
func nvenc(codec string, profiles, after []string) (elements []Element) {
	for _, factory := range []string{"nvcuda" + codec + "enc", "nvautogpu" + codec + "enc", "nv" + codec + "enc"} {
		e := Element{
			Factory: factory, Format: "NV12", Before: []string{"cudaupload"}, Profiles: profiles, After: after, Depth: 2,
			Props: []Prop{
				prop("preset", "p3", "low-latency-hq", "low-latency"), prop("tune", "ultra-low-latency", "low-latency"),
				prop("rc-mode", "cbr", "cbr-ld-hq"), prop("multi-pass", "two-pass-quarter"),
				prop("zerolatency", "true"), prop("zero-reorder-delay", "true"),
				prop("bframes", "0"), prop("b-frames", "0"), prop("b-adapt", "false"), prop("i-adapt", "false"),
				prop("rc-lookahead", "0"), prop("gop-size", "-1", "0"), prop("strict-gop", "true"),
				prop("aud", "false"), prop("repeat-sequence-header", "true"), prop("cabac", "false"),
			},
			Live: []Prop{prop("bitrate", "{kbps}"), prop("max-bitrate", "{kbps}"), prop("vbv-buffer-size", "{frame-kbit}")},
		}
		if factory == "nvautogpu"+codec+"enc" {
			e.Before = nil // it takes system memory, on whichever GPU it finds
		}
		elements = append(elements, e)
	}
	return elements
}

// vaapi is the elements for VA-API: of the present plugin, for the low-power unit
// where that is the only one, and of the plugin that came before.
func vaapi(codec string, profiles, after []string) []Element {
	props := []Prop{
		prop("rate-control", "cbr"), prop("b-frames", "0"), prop("max-bframes", "0"), prop("ref-frames", "1"), prop("refs", "1"),
		prop("key-int-max", infinite, "1024"), prop("keyframe-period", infinite, "4294967295"),
		prop("target-usage", "6"), prop("quality-level", "6"), prop("aud", "false"), prop("cabac", "false"), prop("dct8x8", "false"),
	}
	live := []Prop{prop("bitrate", "{kbps}"), prop("cpb-size", "{frame-kbit}"), prop("cpb-length", "{frame-ms}")}
	var elements []Element
	for _, factory := range []string{"va" + codec + "enc", "va" + codec + "lpenc", "vaapi" + codec + "enc"} {
		elements = append(elements, Element{Factory: factory, Format: "NV12", Props: props, Live: live, Profiles: profiles, After: after, Depth: 2})
	}
	return elements
}

func software() []Entry {
	return []Entry{
		{
			Name: "x264", Family: "software", Codec: media.H264,
			// The first is ours, package x264; GStreamer's own is for machines whose
			// libx264 is another than that which ours was built for.
			Elements: []Element{{
				Factory: "fenrirx264enc", Format: "I420", Ordered: true,
				Props: []Prop{prop("speed-preset", "{x264-preset}"), prop("threads", "{threads}")},
			}, {
				Factory: "x264enc", Format: "I420",
				Props: []Prop{
					prop("tune", "zerolatency"), prop("speed-preset", "{x264-preset}"), prop("pass", "cbr"),
					prop("bframes", "0"), prop("rc-lookahead", "0"), prop("sync-lookahead", "0"), prop("mb-tree", "false"),
					prop("key-int-max", infinite), prop("ref", "1"), prop("cabac", "false"), prop("dct8x8", "false"),
					prop("byte-stream", "true"), prop("aud", "false"), prop("insert-vui", "true"),
					prop("sliced-threads", "true"), prop("threads", "{threads}"),
					prop("option-string", "scenecut=0:lookahead-threads=1"),
				},
				Live:     []Prop{prop("bitrate", "{x264-kbps}"), prop("vbv-buf-capacity", "{x264-vbv-ms}")},
				Profiles: h264Profiles[:2],
			}},
		},
		{
			Name: "vp8", Family: "software", Codec: media.VP8,
			Elements: []Element{{
				Factory: "vp8enc", Format: "I420",
				Props: []Prop{
					prop("deadline", "1"), prop("cpu-used", "-12"), prop("threads", "{vp8-threads}"), prop("token-partitions", "2"),
					prop("lag-in-frames", "0"), prop("end-usage", "cbr"), prop("keyframe-mode", "disabled"), prop("keyframe-max-dist", infinite),
					prop("buffer-size", "100"), prop("buffer-initial-size", "50"), prop("buffer-optimal-size", "60"),
					prop("undershoot", "100"), prop("overshoot", "15"), prop("max-intra-bitrate", "300"),
					prop("max-quantizer", "58"), prop("static-threshold", "0"), prop("dropframe-threshold", "0"),
				},
				Live: []Prop{prop("target-bitrate", "{bps}")},
				// libvpx bounds the size of a frame by the quantizer only, which after a pause
				// is at its best: the first change would take a tenth of a second to send.
				Moods: map[Mood][]Prop{
					Beginning: {prop("min-quantizer", "24")}, Moving: {prop("min-quantizer", "4")}, Still: {prop("min-quantizer", "8")},
				},
			}},
		},
	}
}
