package browser

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
)

// streamID puts both tracks of a peer into one MediaStream, so that browsers
// keep them in sync.
const streamID = "fenrir"

// binding is what negotiation gave a track. It is replaced, never changed.
type binding struct {
	out     webrtc.TrackLocalWriter
	ssrc    uint32
	payload uint8
	playout uint8 // header extension ids, 0 when not negotiated
	capture uint8
}

// track is the sending end of one RTP stream. pion binds it when negotiation
// is done; until then packets go nowhere.
type track struct {
	kind  media.Kind
	mime  string
	bound atomic.Pointer[binding]
	count *counts

	mu     sync.Mutex // guards what follows: one unit is written at a time
	header rtp.Header
	seq    uint16
	delay  [3]byte  // header extension: playout delay, 0/0
	at     [16]byte // header extension: absolute capture time

	// For sender reports; read by another goroutine.
	packets, octets atomic.Uint32
}

func newTrack(kind media.Kind, codec media.Codec, seq uint16, c *counts) *track {
	t := &track{kind: kind, mime: mimeTypes[codec], count: c, seq: seq}
	t.header = rtp.Header{Version: 2, Extensions: make([]rtp.Extension, 0, 4)}
	return t
}

// Bind is called by pion with what was negotiated.
func (t *track) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	codec, ok := chooseFormat(t.mime, ctx.CodecParameters())
	if !ok {
		return webrtc.RTPCodecParameters{}, fmt.Errorf("%s was not negotiated: %w", t.mime, webrtc.ErrUnsupportedCodec)
	}
	b := &binding{out: ctx.WriteStream(), ssrc: uint32(ctx.SSRC()), payload: uint8(codec.PayloadType)}
	for _, e := range ctx.HeaderExtensions() {
		if e.ID < 1 || e.ID > 14 {
			continue // would need two-byte headers
		}
		switch e.URI {
		case uriPlayoutDelay:
			b.playout = uint8(e.ID)
		case uriAbsCaptureTime:
			b.capture = uint8(e.ID)
		}
	}
	t.bound.Store(b)
	return codec, nil
}

// chooseFormat picks among the negotiated formats of one codec the one that
// every decoder takes: for H.264 constrained baseline, otherwise the first.
func chooseFormat(mime string, from []webrtc.RTPCodecParameters) (best webrtc.RTPCodecParameters, ok bool) {
	for _, c := range from {
		if !strings.EqualFold(c.MimeType, mime) {
			continue
		}
		if !ok || strings.Contains(strings.ToLower(c.SDPFmtpLine), "profile-level-id=42e0") && !strings.Contains(strings.ToLower(best.SDPFmtpLine), "profile-level-id=42e0") {
			best, ok = c, true
		}
	}
	return best, ok
}

// Unbind is called by pion when the sender stops.
func (t *track) Unbind(webrtc.TrackLocalContext) error {
	t.bound.Store(nil)
	return nil
}

// ID, RID, StreamID and Kind describe the track to pion.
func (t *track) ID() string       { return t.kind.String() }
func (t *track) RID() string      { return "" }
func (t *track) StreamID() string { return streamID }
func (t *track) Kind() webrtc.RTPCodecType {
	if t.kind == media.Audio {
		return webrtc.RTPCodecTypeAudio
	}
	return webrtc.RTPCodecTypeVideo
}

// write sends the payloads of one unit: the marker on the last packet when
// marker is set, the header extensions on the first. The first error ends it.
func (t *track) write(payloads [][]byte, ts uint32, marker bool, captured media.Stamp) error {
	b := t.bound.Load()
	if b == nil || len(payloads) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &t.header
	h.SSRC, h.PayloadType, h.Timestamp = b.ssrc, b.payload, ts
	var octets int
	for i, p := range payloads {
		h.SequenceNumber = t.seq
		h.Marker = marker && i == len(payloads)-1
		h.Extension, h.ExtensionProfile, h.Extensions = false, 0, h.Extensions[:0]
		if i == 0 {
			if err := t.extend(b, captured); err != nil {
				return err
			}
		}
		t.seq++
		if _, err := b.out.WriteRTP(h, p); err != nil {
			return err
		}
		octets += len(p)
	}
	t.packets.Add(uint32(len(payloads)))
	t.octets.Add(uint32(octets))
	t.count.packets.Add(uint64(len(payloads)))
	t.count.bytes.Add(uint64(octets))
	return nil
}

// extend adds the playout delay 0/0, which tells browsers to show frames at
// once, and the capture time.
func (t *track) extend(b *binding, captured media.Stamp) error {
	if b.playout != 0 {
		if err := t.header.SetExtension(b.playout, t.delay[:]); err != nil {
			return fmt.Errorf("playout delay: %w", err)
		}
	}
	if b.capture != 0 && captured != 0 {
		binary.BigEndian.PutUint64(t.at[:], ntp(captured))
		// The second half is the offset between the clock of the capturing
		// system and ours: none, they are one. Browsers need it to be there.
		if err := t.header.SetExtension(b.capture, t.at[:]); err != nil {
			return fmt.Errorf("capture time: %w", err)
		}
	}
	return nil
}

// ntp is s as a 64-bit NTP timestamp.
func ntp(s media.Stamp) uint64 {
	const epoch = 2208988800 // seconds from 1900 to 1970
	w := s.Wall()
	return uint64(w.Unix()+epoch)<<32 | uint64(w.Nanosecond())<<32/1e9
}
