package media

// Encoder is one row of what the probe found about an entry of the encoder table.
type Encoder struct {
	Name     string `json:"name"`   // stable: "nvenc-h264", "vaapi-h264", "x264", "vp8", …
	Family   string `json:"family"` // "nvenc", "vaapi" or "software": what config's `encoder` selects
	Codec    Codec  `json:"codec"`
	Hardware bool   `json:"hardware"`
	Element  string `json:"element"` // the GStreamer element that was tried
	Works    bool   `json:"works"`   // a frame was really encoded
	Reason   string `json:"reason"`  // why not, or "" when it works
	TookMs   int    `json:"took_ms"` // time of the probe
	// GPU is the NVML index ("0") or UUID of the NVIDIA GPU that encodes, which
	// gpu.Slots counts encoder slots by; empty for every other encoder.
	GPU string `json:"gpu,omitempty"`
}
