package signaling

// Cursor is the message `cursor` on the data channel `events`: the picture of
// the pointer, which the page draws. Width 0 hides it.
type Cursor struct {
	Serial uint32 `json:"serial"` // changes with every picture
	Width  int    `json:"width"`  // pixels
	Height int    `json:"height"`
	HotX   int    `json:"hot_x"`
	HotY   int    `json:"hot_y"`
	PNG    []byte `json:"png"` // base64 on the wire
}

// Timing is the message `timing` on the data channel `events`, once a second:
// what the frames sent in it cost on the server. Durations are medians in
// milliseconds; a stage that no frame of the second went through is 0.
type Timing struct {
	Frames    int     `json:"frames"`     // frames sent
	KeyFrames int     `json:"key_frames"` // key frames among them
	WaitMs    float64 `json:"wait_ms"`    // change on the display → capture begins
	CaptureMs float64 `json:"capture_ms"` // 0 while one pass captures and converts
	ConvertMs float64 `json:"convert_ms"` // capture begins → pixels in the encoder's format
	EncodeMs  float64 `json:"encode_ms"`  // → access unit
	WireMs    float64 `json:"wire_ms"`    // → read by the server process
	SendMs    float64 `json:"send_ms"`    // → last packet handed to the network
	Kbps      float64 `json:"kbps"`       // video payload sent in the second
	Target    int     `json:"kbps_target"`
	Estimate  int     `json:"kbps_estimate"` // what the path carries, 0 while unknown
	Packets   uint64  `json:"packets"`       // RTP packets sent in the second, retransmissions included
	Resent    uint64  `json:"resent"`        // retransmissions among them
	Width     int     `json:"width"`         // of the newest frame
	Height    int     `json:"height"`
	Encoder   string  `json:"encoder"` // media.Encoder.Name, "" while unknown

	// One point of the line that turns RTP timestamps of the video into capture
	// times: at ServerMs on the server's monotonic clock, which pongs tell, the
	// RTP clock of 90 kHz stood at RTPTimestamp.
	RTPTimestamp uint32  `json:"rtp_timestamp"`
	ServerMs     float64 `json:"server_ms"`
}

// Type of each event.
func (Cursor) Type() string { return "cursor" }
func (Timing) Type() string { return "timing" }
