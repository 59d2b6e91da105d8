//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	endian "encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// arrival is a frame whose last packet has come.
type arrival struct {
	at    float64 // ms of the machine's monotonic clock
	rtp   uint32
	bytes int // payload
}

// receiver is a client without a decoder: it speaks signaling/PROTOCOL.md, counts
// the frames that come whole or not, and can press a button.
type receiver struct {
	t      *testing.T
	ws     *websocket.Conn
	pc     *webrtc.PeerConnection
	input  *webrtc.DataChannel
	ctx    context.Context
	cancel context.CancelFunc
	busy   sync.WaitGroup // the goroutines
	flow   chan struct{}  // closed when the first frame is there
	ready  chan struct{}  // closed when input is open
	joined sync.Once

	mu       sync.Mutex // guards what follows
	answered bool
	early    []webrtc.ICECandidateInit
	frames   int
	octets   int
	last     uint32    // RTP timestamp
	arrivals []arrival // since the last take; at most maxArrivals
	timings  []timing
	stages   [][]byte // messages of the channel of that name
	err      error    // why the conversation ended, nil while it goes on or when we ended it
}

const maxArrivals = 1 << 14

// signal is every message of the websocket at once.
type signal struct {
	Type          string   `json:"type"`
	Version       int      `json:"version,omitempty"`
	Client        string   `json:"client,omitempty"`
	Peer          string   `json:"peer,omitempty"`
	Codecs        []string `json:"codecs,omitempty"`
	ID            int      `json:"id,omitempty"`
	SDP           string   `json:"sdp,omitempty"`
	Candidate     *string  `json:"candidate,omitempty"`
	SDPMid        *string  `json:"sdp_mid,omitempty"`
	SDPMLineIndex *uint16  `json:"sdp_mline_index,omitempty"`
	Frames        int      `json:"frames,omitempty"`
	RTPTimestamp  uint32   `json:"rtp_timestamp,omitempty"`
	Code          string   `json:"code,omitempty"`
	Detail        string   `json:"detail,omitempty"`
}

// receive connects to a session and returns once frames come. It closes with the test, or earlier by close.
func receive(t *testing.T, s *server, sid string) *receiver {
	t.Helper()
	return receiveMany(t, s, sid, 1)[0]
}

// receiveMany connects so many before it waits: they share the next key frame.
func receiveMany(t *testing.T, s *server, sid string, n int) (out []*receiver) {
	t.Helper()
	for range n {
		r, err := dialReceiver(t, s, sid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.close)
		out = append(out, r)
	}
	bound := time.After(20 * time.Second)
	for i, r := range out {
		select {
		case <-r.flow:
		case <-bound:
			t.Fatalf("receiver %d of %d has no frame within 20 s: %v", i+1, n, r.failed())
		}
	}
	return out
}

// dialReceiver sends the offer; whatever it has begun is over after close.
func dialReceiver(t *testing.T, s *server, sid string) (*receiver, error) {
	r := &receiver{t: t, flow: make(chan struct{}), ready: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	ws, err := dialSignal(ctx, s, sid)
	if err != nil {
		r.cancel()
		return nil, err
	}
	r.ws = ws
	if err := r.negotiate(ctx); err != nil {
		r.close()
		return nil, err
	}
	r.busy.Add(2)
	go r.readSignal()
	go r.tellPainted()
	return r, nil
}

// dialSignal opens a session's websocket.
func dialSignal(ctx context.Context, s *server, sid string) (*websocket.Conn, error) {
	// A websocket needs HTTP/1.1. Its connection is no longer the transport's.
	client := &http.Client{Jar: s.http.Jar, Transport: &http.Transport{
		TLSClientConfig: s.http.Transport.(*http.Transport).TLSClientConfig.Clone(),
		TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
	ws, _, err := websocket.Dial(ctx, s.url+"/api/sessions/"+sid+"/signal", &websocket.DialOptions{
		HTTPClient: client, Subprotocols: []string{"fenrir.v1"}, HTTPHeader: http.Header{"Origin": {s.url}},
	})
	if err != nil {
		return nil, fmt.Errorf("open websocket: %w", err)
	}
	ws.SetReadLimit(1 << 20)
	return ws, nil
}

func (r *receiver) negotiate(ctx context.Context) error {
	id := make([]byte, 8)
	rand.Read(id) // never fails
	if err := wsjson.Write(ctx, r.ws, signal{Type: "hello", Version: 1, Client: "bench/1", Peer: hex.EncodeToString(id), Codecs: []string{"h264", "vp8"}}); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	for welcomed := false; !welcomed; {
		var m signal
		if err := wsjson.Read(ctx, r.ws, &m); err != nil {
			return fmt.Errorf("wait for welcome: %w", err)
		}
		if m.Type == "bye" {
			return fmt.Errorf("turned away: %s %s", m.Code, m.Detail)
		}
		welcomed = m.Type == "welcome"
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	e.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(e)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return fmt.Errorf("make peer connection: %w", err)
	}
	r.pc = pc
	pc.OnTrack(r.track)
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		none := ""
		m := signal{Type: "candidate", Candidate: &none}
		if c != nil {
			j := c.ToJSON()
			m.Candidate, m.SDPMid, m.SDPMLineIndex = &j.Candidate, j.SDPMid, j.SDPMLineIndex
		}
		_ = r.write(m) // a websocket that is gone is noticed by its reader
	})
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return fmt.Errorf("add %v transceiver: %w", kind, err)
		}
	}
	no, zero := false, uint16(0)
	if r.input, err = pc.CreateDataChannel("input", nil); err != nil {
		return fmt.Errorf("make data channel: %w", err)
	}
	r.input.OnOpen(func() { close(r.ready) })
	if _, err = pc.CreateDataChannel("motion", &webrtc.DataChannelInit{Ordered: &no, MaxRetransmits: &zero}); err != nil {
		return fmt.Errorf("make data channel: %w", err)
	}
	events, err := pc.CreateDataChannel("events", nil)
	if err != nil {
		return fmt.Errorf("make data channel: %w", err)
	}
	events.OnMessage(func(m webrtc.DataChannelMessage) {
		var e struct {
			Type string `json:"type"`
			timing
		}
		if json.Unmarshal(m.Data, &e) == nil && e.Type == "timing" {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.timings = append(r.timings, e.timing)
		}
	})
	stages, err := pc.CreateDataChannel("stages", &webrtc.DataChannelInit{Ordered: &no, MaxRetransmits: &zero})
	if err != nil {
		return fmt.Errorf("make data channel: %w", err)
	}
	stages.OnMessage(func(m webrtc.DataChannelMessage) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.stages) < maxArrivals {
			r.stages = append(r.stages, m.Data)
		}
	})
	offer, err := pc.CreateOffer(nil)
	if err == nil {
		err = pc.SetLocalDescription(offer)
	}
	if err == nil {
		err = wsjson.Write(ctx, r.ws, signal{Type: "offer", ID: 1, SDP: offer.SDP})
	}
	if err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	return nil
}

func (r *receiver) write(m signal) error {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	return wsjson.Write(ctx, r.ws, m)
}

// readSignal takes the answer and the candidates.
func (r *receiver) readSignal() {
	defer r.busy.Done()
	for {
		var m signal
		err := wsjson.Read(r.ctx, r.ws, &m)
		if err == nil {
			err = r.hear(m)
		}
		if err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.ctx.Err() == nil && r.err == nil {
				r.err = err
			}
			return
		}
	}
}

func (r *receiver) hear(m signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m.Type {
	case "answer":
		if err := r.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: m.SDP}); err != nil {
			return fmt.Errorf("take answer: %w", err)
		}
		r.answered = true
	case "candidate":
		if m.Candidate != nil && *m.Candidate != "" {
			r.early = append(r.early, webrtc.ICECandidateInit{Candidate: *m.Candidate, SDPMid: m.SDPMid, SDPMLineIndex: m.SDPMLineIndex})
		}
	case "bye":
		return fmt.Errorf("bye: %s %s", m.Code, m.Detail)
	}
	if !r.answered {
		return nil
	}
	for _, c := range r.early {
		if err := r.pc.AddICECandidate(c); err != nil {
			return fmt.Errorf("take candidate %q: %w", c.Candidate, err)
		}
	}
	r.early = nil
	return nil
}

// tellPainted does what the protocol asks of every client once a second.
func (r *receiver) tellPainted() {
	defer r.busy.Done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			return
		}
		r.mu.Lock()
		m := signal{Type: "painted", Frames: r.frames, RTPTimestamp: r.last}
		r.mu.Unlock()
		if m.Frames > 0 && r.write(m) != nil {
			return // its reader says why
		}
	}
}

// track reads one track to its end, which pion makes when the connection is closed.
func (r *receiver) track(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	buf, octets := make([]byte, 1600), 0
	var p rtp.Packet
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			return
		}
		if t.Kind() == webrtc.RTPCodecTypeAudio || p.Unmarshal(buf[:n]) != nil {
			continue
		}
		octets += len(p.Payload)
		if !p.Marker {
			continue
		}
		r.mu.Lock()
		r.frames++
		r.octets += octets
		r.last = p.Timestamp
		if len(r.arrivals) < maxArrivals {
			r.arrivals = append(r.arrivals, arrival{monotonic(), p.Timestamp, octets})
		}
		r.mu.Unlock()
		octets = 0
		r.joined.Do(func() { close(r.flow) })
	}
}

// received is what came in a while.
type received struct {
	frames  []arrival
	timings []timing
	stages  [][]byte
}

// take returns what came since the last take.
func (r *receiver) take() received {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := received{r.arrivals, r.timings, r.stages}
	r.arrivals, r.timings, r.stages = nil, nil, nil
	return out
}

// since tells whether a frame has come since a moment.
func (r *receiver) since(at float64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.arrivals)
	return n > 0 && r.arrivals[n-1].at >= at
}

// failed is why the conversation ended, nil while it goes on.
func (r *receiver) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// button presses or releases the left button and returns the moment.
func (r *receiver) button(down bool) (float64, error) {
	magic := uint32(0x08)
	if !down {
		magic = 0x09
	}
	b := endian.LittleEndian.AppendUint16(nil, 0x0206)
	b = endian.LittleEndian.AppendUint16(b, 9)
	b = endian.BigEndian.AppendUint32(b, 5)
	b = endian.LittleEndian.AppendUint32(b, magic)
	b = append(b, 1)
	at := monotonic()
	return at, r.input.Send(b)
}

// close ends the connection and waits for its goroutines. Idempotent.
func (r *receiver) close() {
	if r.ctx.Err() != nil {
		return
	}
	r.cancel()
	r.ws.CloseNow()
	var err error
	if r.pc != nil {
		err = r.pc.GracefulClose()
	}
	r.busy.Wait()
	if err != nil && !errors.Is(err, webrtc.ErrConnectionClosed) {
		r.t.Logf("close receiver: %v", err)
	}
}
