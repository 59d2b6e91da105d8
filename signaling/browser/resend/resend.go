// Package resend answers the requests of one peer for lost packets (NACK), on
// the retransmission stream (RTX, RFC 4588) where there is one.
//
// It is our own because losses that come late are freezes: a request is answered
// on the goroutine that reads it, one that comes again after half a round trip
// is answered again, on a lossy path an answer goes out twice, and what
// all of this may cost is bounded by what the path carries.
//
// It imports media, pion/interceptor, pion/rtp and pion/rtcp.
package resend

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"fenrir/media"
)

const (
	minHistory = 512                    // packets; powers of two
	maxHistory = 4096                   // 5 MB
	youth      = 700 * time.Millisecond // what is to be kept if maxHistory allows
	minAgain   = 5 * time.Millisecond   // between two answers for one packet
	burst      = 100 * time.Millisecond // of the budget that may be spent at once
	maxPacket  = 1460
	rtxHeader  = 2 // bytes: the original sequence number
)

// Tuning is what a Responder has to know of the path.
type Tuning struct {
	RTT    time.Duration
	Budget int // bit/s that answers may take, 0 for no bound
	Copies int // of each answer, at least 1
}

// Responder is a pion interceptor of one PeerConnection. It must come behind
// the congestion control, which numbers what it sends.
type Responder struct {
	interceptor.NoOp

	mu      sync.Mutex // guards what follows
	streams map[uint32]*stream

	tuning  atomic.Pointer[Tuning]
	budget  bucket
	gone    atomic.Int64 // the media.Stamp before which nothing is sent again,
	renewed atomic.Int64 // and the one before which nothing is missed
	refused atomic.Uint64
	onLoss  func()
}

// New makes a Responder. onLoss is called when a packet that was asked for cannot
// be sent again, so that what it belongs to stays broken; it must not block.
func New(onLoss func()) *Responder {
	r := &Responder{streams: make(map[uint32]*stream), onLoss: onLoss}
	r.Tune(Tuning{})
	return r
}

// NewInterceptor lets a Responder be its own interceptor.Factory.
func (r *Responder) NewInterceptor(string) (interceptor.Interceptor, error) { return r, nil }

// Tune tells what is known of the path now.
func (r *Responder) Tune(t Tuning) {
	t.Copies = max(t.Copies, 1)
	r.tuning.Store(&t)
}

// Forget makes that nothing of what was sent so far is sent again: it would only fill
// a full path. Whoever asks for it is refused.
func (r *Responder) Forget() { r.gone.Store(int64(media.Now())) }

// Renew tells that a key frame is going to be sent: nothing from before is missed, and
// who asks for it gets no answer.
func (r *Responder) Renew() { r.renewed.Store(int64(media.Now())) }

// Refused is how many packets were asked for that could not be sent again: too
// old, forgotten, or beyond the budget.
func (r *Responder) Refused() uint64 { return r.refused.Load() }

// BindLocalStream keeps what is sent on a stream that may be asked for again.
func (r *Responder) BindLocalStream(info *interceptor.StreamInfo, writer interceptor.RTPWriter) interceptor.RTPWriter {
	if !asksAgain(info) {
		return writer
	}
	s := &stream{
		to: writer, rtxSSRC: info.SSRCRetransmission, rtxPayload: info.PayloadTypeRetransmission,
		rtxSeq: uint16(rand.Uint32()), ring: make([]slot, minHistory),
	}
	r.mu.Lock()
	r.streams[info.SSRC] = s
	r.mu.Unlock()
	ssrc := info.SSRC
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		if h.SSRC == ssrc {
			s.keep(h, payload)
		}
		return writer.Write(h, payload, a)
	})
}

func asksAgain(info *interceptor.StreamInfo) bool {
	for _, f := range info.RTCPFeedback {
		if f.Type == "nack" && f.Parameter == "" {
			return true
		}
	}
	return false
}

// UnbindLocalStream forgets a stream.
func (r *Responder) UnbindLocalStream(info *interceptor.StreamInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, info.SSRC)
}

// BindRTCPReader answers the requests among the peer's reports.
func (r *Responder) BindRTCPReader(reader interceptor.RTCPReader) interceptor.RTCPReader {
	buf := make([]byte, rtxHeader+maxPacket) // one goroutine reads
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
			if nack, ok := p.(*rtcp.TransportLayerNack); ok {
				r.answer(nack, buf)
			}
		}
		return n, a, nil
	})
}

// Pad sends the last n packets of a stream again, with these attributes: bytes
// that do no harm where there is a retransmission stream, and none otherwise.
func (r *Responder) Pad(ssrc uint32, n int, a interceptor.Attributes) {
	r.mu.Lock()
	s := r.streams[ssrc]
	r.mu.Unlock()
	if s == nil || s.rtxSSRC == 0 {
		return
	}
	buf := make([]byte, rtxHeader+maxPacket)
	now := media.Now()
	last := s.last()
	for i := range n {
		h, payload, fate := s.again(last-uint16(i), now, 0, 0, 0, buf)
		if fate != granted {
			return
		}
		if _, err := s.to.Write(&h, payload, a); err != nil {
			return // no path just now
		}
	}
}

func (r *Responder) answer(nack *rtcp.TransportLayerNack, buf []byte) {
	r.mu.Lock()
	s := r.streams[nack.MediaSSRC]
	r.mu.Unlock()
	if s == nil {
		return
	}
	t := r.tuning.Load()
	before := r.refused.Load()
	for _, pair := range nack.Nacks {
		pair.Range(func(seq uint16) bool {
			now := media.Now()
			for range t.Copies {
				h, payload, fate := s.again(seq, now, media.Stamp(r.gone.Load()), media.Stamp(r.renewed.Load()), max(t.RTT/2, minAgain), buf)
				if fate == refused {
					r.refused.Add(1)
				}
				if fate != granted {
					break
				}
				if !r.budget.take(now, len(payload), t.Budget) {
					r.refused.Add(1)
					break
				}
				if _, err := s.to.Write(&h, payload, nil); err != nil {
					return false // no path just now; the peer asks again
				}
			}
			return true
		})
	}
	if r.refused.Load() != before {
		r.onLoss()
	}
}

// stream is what was sent on one stream.
type stream struct {
	to         interceptor.RTPWriter
	rtxSSRC    uint32
	rtxPayload uint8

	mu     sync.Mutex // guards what follows
	rtxSeq uint16
	newest uint16
	ring   []slot // by sequence number
}

// slot is a packet that was sent.
type slot struct {
	at    media.Stamp // 0: never used
	again media.Stamp // when it was last sent again
	seq   uint16
	head  int    // bytes of data that are RTP header
	data  []byte // reused
}

func (s *stream) keep(h *rtp.Header, payload []byte) {
	head := h.MarshalSize()
	if head+len(payload) > maxPacket {
		return
	}
	now := media.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.ring[int(h.SequenceNumber)%len(s.ring)]
	if c.at != 0 && now.Sub(c.at) < youth && len(s.ring) < maxHistory {
		s.grow()
		c = &s.ring[int(h.SequenceNumber)%len(s.ring)]
	}
	if cap(c.data) < maxPacket {
		c.data = make([]byte, maxPacket)
	}
	c.data = c.data[:head+len(payload)]
	if _, err := h.MarshalTo(c.data); err != nil {
		c.at = 0
		return
	}
	copy(c.data[head:], payload)
	c.at, c.again, c.seq, c.head = now, 0, h.SequenceNumber, head
	s.newest = h.SequenceNumber
}

// last is the newest sequence number.
func (s *stream) last() uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

func (s *stream) grow() {
	ring := make([]slot, 2*len(s.ring))
	for _, c := range s.ring {
		ring[int(c.seq)%len(ring)] = c
	}
	s.ring = ring
}

// fate is what becomes of a request.
type fate uint8

const (
	granted  fate = iota
	needless      // it was answered a moment ago, or a key frame makes up for it
	refused
)

// again is a packet as it is to be sent again, its payload in buf: refused when it is
// not known or older than gone, needless when it is older than renewed or was sent again
// less than gap ago. The first copy of an answer opens the door for the others, which
// come within the same moment.
func (s *stream) again(seq uint16, now, gone, renewed media.Stamp, gap time.Duration, buf []byte) (h rtp.Header, payload []byte, f fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.ring[int(seq)%len(s.ring)]
	if c.at == 0 || c.seq != seq {
		return h, nil, refused
	}
	switch {
	case renewed != 0 && c.at < renewed, c.again != 0 && c.again != now && now.Sub(c.again) < gap:
		return h, nil, needless
	case gone != 0 && c.at < gone:
		return h, nil, refused
	}
	c.again = now
	// A copy: the slot may be used again before this is sent.
	head := buf[:copy(buf, c.data[:c.head])]
	payload = buf[c.head:c.head]
	if _, err := h.Unmarshal(head); err != nil {
		return h, nil, refused
	}
	if s.rtxSSRC == 0 || s.rtxPayload == 0 {
		return h, append(payload, c.data[c.head:]...), granted
	}
	payload = binary.BigEndian.AppendUint16(payload, seq)
	payload = append(payload, c.data[c.head:]...)
	h.SSRC, h.PayloadType, h.SequenceNumber = s.rtxSSRC, s.rtxPayload, s.rtxSeq
	s.rtxSeq++
	return h, payload, granted
}

// bucket bounds a rate.
type bucket struct {
	mu   sync.Mutex // guards what follows
	full media.Stamp
}

// take tells whether so many bytes may be sent now at a rate of bps.
func (b *bucket) take(now media.Stamp, size, bps int) bool {
	if bps == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full < now {
		b.full = now
	}
	if b.full.Sub(now) > burst {
		return false
	}
	b.full = b.full.Add(time.Duration(size*8) * time.Second / time.Duration(bps))
	return true
}
