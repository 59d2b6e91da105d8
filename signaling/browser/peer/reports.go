package peer

import (
	"io"
	"sync"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v5/packetio"
	"github.com/pion/webrtc/v4"
)

// Bytes that wait to be read at most; what comes then is lost. They are pion's own bounds.
const (
	rtcpWaits = 100_000
	rtpWaits  = 1_000_000
)

// reports is where what the client reports waits for its readers. pion gives the
// sender of a track what is addressed to the track's own stream, and nobody what is
// addressed to its retransmissions, its parity, or to no stream of ours. But browsers address
// their feedback on the path to the stream whose packet came last, whichever that was: on
// a lossy path two of five reports went unread. And pion takes extended reports, by which
// they ask for the round trip, for addressed to who sent them: none was ever
// read. Both are put with those of the video.
type reports struct {
	mu    sync.Mutex // guards what follows
	read  map[uint32]bool
	video uint32 // the stream of the video, 0 while there is none
	main  packets
}

// reads tells that the reports on a stream are read by its track's sender. It is to
// be called before the connection stands.
func (r *reports) reads(ssrc uint32, kind webrtc.RTPCodecType) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == nil {
		r.read = make(map[uint32]bool)
	}
	r.read[ssrc] = true
	if kind == webrtc.RTPCodecTypeVideo {
		r.video = ssrc
	}
}

// buffer is a webrtc.SettingEngine's BufferFactory. pion closes what it returns.
func (r *reports) buffer(kind packetio.BufferPacketType, ssrc uint32) io.ReadWriteCloser {
	b := packets{packetio.NewBuffer()}
	if kind != packetio.RTCPBufferPacket {
		b.SetLimitSize(rtpWaits)
		return b
	}
	b.SetLimitSize(rtcpWaits)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ssrc == r.video {
		r.main = b
	}
	if !r.read[ssrc] {
		return stray{b, r}
	}
	return b
}

// packets is a packetio.Buffer of packets without attributes.
type packets struct{ *packetio.Buffer }

func (p packets) Read(b []byte) (int, error) {
	n, _, err := p.Buffer.Read(b, nil)
	return n, err
}

func (p packets) Write(b []byte) (int, error) { return p.Buffer.Write(b, nil) }

// stray is the buffer of a stream that nobody reads.
type stray struct {
	packets
	of *reports
}

// Write hands feedback on the path and extended reports on, and lets go of the rest: it
// does not concern that stream alone, or nobody. It never fails, because that ends the connection.
func (s stray) Write(b []byte) (int, error) {
	var h rtcp.Header
	if err := h.Unmarshal(b); err != nil {
		return len(b), nil
	}
	switch {
	case h.Type == rtcp.TypeTransportSpecificFeedback && h.Count == rtcp.FormatTCC:
	case h.Type == rtcp.TypeExtendedReport:
	default:
		return len(b), nil
	}
	s.of.mu.Lock()
	main := s.of.main
	s.of.mu.Unlock()
	if main.Buffer != nil {
		_, _ = main.Write(b) // full or closed: lost like any that the network loses
	}
	return len(b), nil
}
