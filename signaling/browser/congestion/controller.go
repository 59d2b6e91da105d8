package congestion

import (
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"

	"fenrir/media"
)

// Report is what is known of the path.
type Report struct {
	Known   bool // the peer sends feedback; without it the rest is zero
	Bitrate int  // to be sent, bit/s, everything included
	RTT     time.Duration
	Loss    float64     // 0…1
	Stray   float64     // 0…1, of it what no queue on the path explains
	Full    bool        // the path carries less than was sent
	Floods  uint64      // how often so much was lost at once that only a new beginning helps
	Drowned media.Stamp // when the newest packet was sent of those that floods took
	Packets uint64      // sent so far, retransmissions included
	Resent  uint64      // retransmissions among them
	Parity  uint64      // and parity packets
}

// Controller is an Estimator as pion interceptor of one PeerConnection: it
// numbers all packets that leave, and reads the peer's feedback. It must be the
// first in the registry, next to the network, so that it sees retransmissions.
type Controller struct {
	interceptor.NoOp
	onFeedback func(Report)

	mu      sync.Mutex // guards what follows
	est     *Estimator
	next    uint16
	packets uint64
	resent  uint64
	parity  uint64
	ref     int64 // reference time of the last feedback, unwrapped, 64 ms
	refSet  bool
	scratch []Arrival
}

// Train marks, as an attribute, a packet that follows a frame at once and belongs
// to its packet train, whatever it carries.
type Train struct{}

// NewController makes one. onFeedback is called after each report of the peer,
// from pion's goroutines, one at a time; it must not block or call back.
func NewController(cfg Config, onFeedback func(Report)) *Controller {
	return &Controller{est: New(cfg), onFeedback: onFeedback}
}

// NewInterceptor lets a Controller be its own interceptor.Factory.
func (c *Controller) NewInterceptor(string) (interceptor.Interceptor, error) { return c, nil }

// Report is what is known now.
func (c *Controller) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.report()
}

func (c *Controller) report() Report {
	r := Report{Known: c.est.Known(), Packets: c.packets, Resent: c.resent, Parity: c.parity}
	if r.Known {
		r.Bitrate, r.RTT, r.Loss, r.Floods = c.est.Bitrate(), c.est.RTT(), c.est.Loss(), c.est.Floods()
		r.Stray, r.Full, r.Drowned = c.est.Stray(), c.est.Full(), c.est.Drowned()
	}
	return r
}

// Blind tells whether frames are too small to show what more the path carries,
// so that a packet train is worth its bytes.
func (c *Controller) Blind() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.est.Blind(media.Now())
}

// Tick is called about once a second; a peer that fell silent is noticed then.
func (c *Controller) Tick() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.est.Tick(media.Now())
	return c.report()
}

// BindLocalStream numbers the packets of one stream.
func (c *Controller) BindLocalStream(info *interceptor.StreamInfo, writer interceptor.RTPWriter) interceptor.RTPWriter {
	var id uint8
	for _, e := range info.RTPHeaderExtensions {
		if e.URI == sdp.TransportCCURI && e.ID > 0 && e.ID < 15 {
			id = uint8(e.ID)
		}
	}
	video := strings.HasPrefix(strings.ToLower(info.MimeType), "video/")
	var frame, timestamp uint32 // guarded by c.mu
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		// What SetExtension will make of the header: 4 bytes for the first
		// extension and 3 for this one, at most.
		size := h.MarshalSize() + 7 + len(payload)
		c.mu.Lock()
		seq := c.next
		c.packets++
		of := uint32(0)
		switch {
		case h.SSRC == info.SSRCForwardErrorCorrection && h.SSRC != 0:
			c.parity++
		case h.SSRC != info.SSRC:
			c.resent++
			if a != nil && a.Get(Train{}) != nil {
				of = frame
			}
		case video:
			if frame == 0 || h.Timestamp != timestamp {
				frame, timestamp = max(frame+1, 1), h.Timestamp
			}
			of = frame
		}
		if id != 0 {
			c.next++
			c.est.Sent(seq, size, of, media.Now())
		}
		c.mu.Unlock()
		if id != 0 {
			if err := h.SetExtension(id, binary.BigEndian.AppendUint16(nil, seq)); err != nil {
				return 0, err
			}
		}
		return writer.Write(h, payload, a)
	})
}

// BindRTCPReader reads the peer's feedback.
func (c *Controller) BindRTCPReader(reader interceptor.RTCPReader) interceptor.RTCPReader {
	return interceptor.RTCPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := reader.Read(b, a)
		if err != nil {
			return 0, nil, err
		}
		if a == nil {
			a = make(interceptor.Attributes)
		}
		packets, err := a.GetRTCPPackets(b[:n])
		if err != nil {
			return n, a, nil // garbage; not ours to judge
		}
		for _, p := range packets {
			if fb, ok := p.(*rtcp.TransportLayerCC); ok {
				c.feedback(fb)
			}
		}
		return n, a, nil
	})
}

func (c *Controller) feedback(fb *rtcp.TransportLayerCC) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scratch = c.arrivals(fb, c.scratch[:0])
	c.est.Feedback(media.Now(), c.scratch)
	if c.onFeedback != nil {
		c.onFeedback(c.report())
	}
}

// arrivals unpacks a report; what is inconsistent in it ends it.
func (c *Controller) arrivals(fb *rtcp.TransportLayerCC, out []Arrival) []Arrival {
	ref := int64(fb.ReferenceTime & 0xFFFFFF)
	if c.refSet {
		// 24 bits wrap around; take the nearest.
		ref = c.ref + ((ref-c.ref+1<<23)&0xFFFFFF - 1<<23)
	}
	c.ref, c.refSet = ref, true
	at := time.Duration(ref) * 64 * time.Millisecond
	seq, left := fb.BaseSequenceNumber, int(fb.PacketStatusCount)
	deltas := fb.RecvDeltas
	take := func(symbol uint16) bool {
		if left == 0 {
			return false
		}
		left--
		arrival := Arrival{Seq: seq}
		seq++
		switch symbol {
		case rtcp.TypeTCCPacketReceivedSmallDelta, rtcp.TypeTCCPacketReceivedLargeDelta:
			if len(deltas) == 0 {
				left = 0
				return false
			}
			at += time.Duration(deltas[0].Delta) * time.Microsecond
			deltas = deltas[1:]
			arrival.Received, arrival.At = true, at
		case rtcp.TypeTCCPacketReceivedWithoutDelta:
			return true // received, but nobody knows when
		}
		out = append(out, arrival)
		return true
	}
	for _, chunk := range fb.PacketChunks {
		switch chunk := chunk.(type) {
		case *rtcp.RunLengthChunk:
			for range chunk.RunLength {
				if !take(chunk.PacketStatusSymbol) {
					break
				}
			}
		case *rtcp.StatusVectorChunk:
			for _, s := range chunk.SymbolList {
				if !take(s) {
					break
				}
			}
		}
	}
	return out
}
