// Package rtpstream turns units into RTP packets of one peer: packetisation,
// timestamps from capture times, header extensions, and the counts that sender
// reports need.
//
// It imports media and pion.
package rtpstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
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
	number  uint8
	fecSSRC uint32 // of parity packets, 0 when not negotiated
	fecType uint8
}

// Header extensions that a Track sends where they were negotiated.
const (
	URIPlayoutDelay   = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
	URIAbsCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
)

// MimeTypes are pion's names of our codecs.
var MimeTypes = map[media.Codec]string{
	media.H264: webrtc.MimeTypeH264,
	media.H265: webrtc.MimeTypeH265,
	media.AV1:  webrtc.MimeTypeAV1,
	media.VP8:  webrtc.MimeTypeVP8,
	media.VP9:  webrtc.MimeTypeVP9,
	media.Opus: webrtc.MimeTypeOpus,
}

// Track is the sending end of one RTP stream of one peer; pion calls it a
// TrackLocal. pion binds it when negotiation is done; until then what is sent
// goes nowhere.
type Track struct {
	kind  media.Kind
	mime  string
	bound atomic.Pointer[binding]

	// What follows belongs to who calls Send.
	cut    packetizer
	push   func([]byte) error // is t.pushed, made once
	header rtp.Header
	seq    uint16
	delay  [3]byte  // header extension: playout delay
	at     [16]byte // header extension: absolute capture time
	number [2]byte  // header extension: the place for the congestion control's number
	now    struct { // the unit that is being sent
		ctx      context.Context // of the call
		to       *binding
		captured media.Stamp
		pending  []byte  // a payload that waits to be known as the last or not
		begun    bool    // its first packet is out
		left     int     // packets to come after this block, as estimated
		block    int     // packets of this block, as estimated
		share    float64 // parity packets for each of them
	}
	parity  *parity // nil until there is need of it
	fec     rtp.Header
	scratch [128]byte // a header

	pace    pace
	playout atomic.Uint32 // 24 bits: least and most delay, 10 ms each
	share   atomic.Uint32 // parity packets for 1000 others
	made    atomic.Uint64 // parity packets

	clocks sync.Mutex // guards what follows; never held over I/O
	video  videoClock
	audio  audioClock

	packets, octets atomic.Uint64
}

// NewTrack makes the track for units of one codec. Sequence numbers and
// timestamps begin at random.
func NewTrack(codec media.Codec) (*Track, error) {
	t := &Track{
		kind: media.Video, mime: MimeTypes[codec], seq: uint16(rand.Uint32()),
		header: rtp.Header{Version: 2, Extensions: make([]rtp.Extension, 0, 4)},
	}
	t.video.offset = rand.Uint32()
	t.audio.due = rand.Uint32()
	if codec == media.Opus {
		t.kind = media.Audio
		return t, nil
	}
	var err error
	t.cut, err = newPacketizer(codec)
	t.push = t.pushed
	return t, err
}

// Bind is called by pion with what was negotiated.
func (t *Track) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
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
		case URIPlayoutDelay:
			b.playout = uint8(e.ID)
		case URIAbsCaptureTime:
			b.capture = uint8(e.ID)
		case sdp.TransportCCURI:
			b.number = uint8(e.ID)
		}
	}
	for _, c := range ctx.CodecParameters() {
		if strings.EqualFold(c.MimeType, webrtc.MimeTypeFlexFEC03) && ctx.SSRCForwardErrorCorrection() != 0 {
			b.fecSSRC, b.fecType = uint32(ctx.SSRCForwardErrorCorrection()), uint8(c.PayloadType)
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
func (t *Track) Unbind(webrtc.TrackLocalContext) error {
	t.bound.Store(nil)
	return nil
}

// ID, RID, StreamID and Kind describe the track to pion.
func (t *Track) ID() string       { return t.kind.String() }
func (t *Track) RID() string      { return "" }
func (t *Track) StreamID() string { return streamID }
func (t *Track) Kind() webrtc.RTPCodecType {
	if t.kind == media.Audio {
		return webrtc.RTPCodecTypeAudio
	}
	return webrtc.RTPCodecTypeVideo
}

// Sent is how many packets and payload bytes went out, without retransmissions.
func (t *Track) Sent() (packets, octets uint64) { return t.packets.Load(), t.octets.Load() }

// SetPlayoutDelay tells receivers how long they may hold a frame back so that
// what the path delays or has to send again comes in time: at least and at most,
// up to 40 s in steps of 10 ms. Zero for both, as it begins, is to show each at once.
func (t *Track) SetPlayoutDelay(least, most time.Duration) {
	const step, top = 10 * time.Millisecond, 1<<12 - 1
	lo, hi := min((least+step-1)/step, top), min((most+step-1)/step, top)
	t.playout.Store(uint32(lo)<<12 | uint32(hi))
}

// SetPace bounds how fast the packets of a large frame follow each other, bit/s;
// 0, as it begins, is not at all.
func (t *Track) SetPace(bps int) { t.pace.rate.Store(int64(bps)) }

// SetParity asks for so many parity packets for each packet of video, 0…1, from
// the next frame on, and then at least one for each frame. Only where the client
// negotiated FlexFEC are there any.
func (t *Track) SetParity(share float64) {
	t.share.Store(uint32(min(max(share, 0), 1) * 1000))
}

// Parity is how many parity packets went out.
func (t *Track) Parity() uint64 { return t.made.Load() }

// Repairs tells whether the client takes parity packets.
func (t *Track) Repairs() bool {
	b := t.bound.Load()
	return b != nil && b.fecSSRC != 0
}

// SSRC is that of the stream, once it is bound.
func (t *Track) SSRC() (ssrc uint32, ok bool) {
	if b := t.bound.Load(); b != nil {
		return b.ssrc, true
	}
	return 0, false
}

// RTPTime is where the stream's clock stands at a moment: units captured then
// have that timestamp.
func (t *Track) RTPTime(now media.Stamp) uint32 {
	t.clocks.Lock()
	defer t.clocks.Unlock()
	if t.kind == media.Audio {
		return t.audio.at(now)
	}
	return t.video.at(now)
}

// Report is the sender report for now; ok is false while nothing was sent.
func (t *Track) Report(now media.Stamp) (r *rtcp.SenderReport, ok bool) {
	ssrc, bound := t.SSRC()
	packets, octets := t.Sent()
	if !bound || packets == 0 {
		return nil, false
	}
	return &rtcp.SenderReport{
		SSRC: ssrc, NTPTime: NTP(now), RTPTime: t.RTPTime(now),
		PacketCount: uint32(packets), OctetCount: uint32(octets),
	}, true
}

// ErrUnit is wrapped by Send's error for a unit that cannot be packetised.
var ErrUnit = errors.New("unit cannot be packetised")

// Send packetises one unit and sends it; one call at a time. It blocks as long as
// the socket does, which for UDP and for pion's TCP is not at all, and for a frame
// that is too large to be sent at once up to 60 ms, or until ctx ends.
func (t *Track) Send(ctx context.Context, u *media.Unit) error {
	b := t.bound.Load()
	if b == nil {
		return nil
	}
	at := u.Stages.Captured
	if at == 0 {
		at = u.Stages.Received
	}
	if t.kind == media.Audio {
		n := opusSamples(u.Data)
		if n == 0 || len(u.Data) > payloadMTU {
			return fmt.Errorf("sound of %d bytes: %w", len(u.Data), ErrUnit)
		}
		t.clocks.Lock()
		ts := t.audio.next(at, u.Frame, n)
		t.clocks.Unlock()
		t.begin(b, ts, at)
		return t.write(u.Data, false)
	}
	t.clocks.Lock()
	ts := t.video.next(at)
	t.clocks.Unlock()
	t.begin(b, ts, at)
	t.now.ctx, t.pace.slept = ctx, 0
	t.protect(b, len(u.Data))
	if err := t.cut.packetize(u, t.push); err != nil {
		return err
	}
	if t.now.pending == nil {
		return fmt.Errorf("%s of %d bytes: %w", u.Codec, len(u.Data), ErrUnit)
	}
	if err := t.write(t.now.pending, true); err != nil {
		return err
	}
	return t.flushParity()
}

// protect plans the parity packets of a frame of so many bytes.
func (t *Track) protect(b *binding, size int) {
	t.now.share = 0
	share := t.share.Load()
	if share == 0 || b.fecSSRC == 0 {
		return
	}
	if t.parity == nil {
		t.parity = &parity{ssrc: b.fecSSRC, payload: b.fecType, seq: uint16(rand.Uint32())}
	}
	t.now.share, t.now.left = float64(share)/1000, size/(payloadMTU-4)+1
	t.beginParity()
}

// beginParity begins the next block of the frame: of as few as have room for their
// parity, all of about one size.
func (t *Track) beginParity() {
	room := min(max(int(maxParity/t.now.share), 1), maxBlock)
	left := max(t.now.left, 1)
	blocks := (left + room - 1) / room
	t.now.block = (left + blocks - 1) / blocks
	t.now.left -= t.now.block
	t.parity.begin(int(math.Ceil(float64(t.now.block) * t.now.share)))
}

// flushParity sends the parity packets of a block.
func (t *Track) flushParity() error {
	if t.now.share == 0 {
		return nil
	}
	for i := 0; ; i++ {
		t.fec.Version, t.fec.SSRC = 2, t.header.SSRC
		payload, ok := t.parity.next(i, &t.fec, t.header.Timestamp)
		if !ok {
			return nil
		}
		if _, err := t.now.to.out.WriteRTP(&t.fec, payload); err != nil {
			return err
		}
		t.made.Add(1)
	}
}

func (t *Track) begin(b *binding, ts uint32, captured media.Stamp) {
	t.now.to, t.now.captured, t.now.pending, t.now.begun = b, captured, nil, false
	t.header.SSRC, t.header.PayloadType, t.header.Timestamp = b.ssrc, b.payload, ts
}

// pushed takes the next payload of the unit and sends the one before.
func (t *Track) pushed(payload []byte) error {
	before := t.now.pending
	t.now.pending = payload
	if before == nil {
		return nil
	}
	return t.write(before, false)
}

// write sends one packet, the unit's first one with the header extensions.
func (t *Track) write(payload []byte, marker bool) error {
	h := &t.header
	h.SequenceNumber, h.Marker = t.seq, marker
	h.Extension, h.ExtensionProfile, h.Extensions = false, 0, h.Extensions[:0]
	if !t.now.begun {
		t.now.begun = true
		if err := t.extend(t.now.to, t.now.captured); err != nil {
			return err
		}
	}
	if id := t.now.to.number; id != 0 && t.kind == media.Video {
		// The number itself comes later; its place is here so that parity knows it.
		if err := h.SetExtension(id, t.number[:]); err != nil {
			return fmt.Errorf("packet number: %w", err)
		}
	}
	t.seq++
	if t.kind == media.Video && t.now.share > 0 {
		if err := t.addParity(h, payload); err != nil {
			return err
		}
	}
	if t.kind == media.Video {
		if err := t.pace.wait(t.now.ctx, len(payload)); err != nil {
			return err
		}
	}
	if _, err := t.now.to.out.WriteRTP(h, payload); err != nil {
		return err
	}
	t.packets.Add(1)
	t.octets.Add(uint64(len(payload)))
	return nil
}

// addParity takes a packet into the parity of its block.
func (t *Track) addParity(h *rtp.Header, payload []byte) error {
	n, err := h.MarshalTo(t.scratch[:])
	if err != nil {
		return fmt.Errorf("header for parity: %w", err)
	}
	// There may be a few packets more than estimated: they are the last block's.
	if t.parity.count == maxBlock || t.parity.count == t.now.block && t.now.left > 0 {
		if err := t.flushParity(); err != nil {
			return err
		}
		t.beginParity()
	}
	t.parity.add(t.scratch[:n], payload)
	return nil
}

// extend adds the playout delay, of which 0/0 tells browsers to show frames at
// once, and the capture time.
func (t *Track) extend(b *binding, captured media.Stamp) error {
	if b.playout != 0 {
		d := t.playout.Load()
		t.delay = [3]byte{byte(d >> 16), byte(d >> 8), byte(d)}
		if err := t.header.SetExtension(b.playout, t.delay[:]); err != nil {
			return fmt.Errorf("playout delay: %w", err)
		}
	}
	if b.capture != 0 && captured != 0 {
		binary.BigEndian.PutUint64(t.at[:], NTP(captured))
		// The second half is the offset between the clock of the capturing
		// system and ours: none, they are one. Browsers need it to be there.
		if err := t.header.SetExtension(b.capture, t.at[:]); err != nil {
			return fmt.Errorf("capture time: %w", err)
		}
	}
	return nil
}

// NTP is s as a 64-bit NTP timestamp.
func NTP(s media.Stamp) uint64 {
	const epoch = 2208988800 // seconds from 1900 to 1970
	w := s.Wall()
	return uint64(w.Unix()+epoch)<<32 | uint64(w.Nanosecond())<<32/1e9
}
