package moonlight

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var be, le = binary.BigEndian, binary.LittleEndian

// gcm seals or opens with the tag in front of the text.
func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys here have 16 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func nonce(seq uint32, from, what byte) []byte {
	n := append(le.AppendUint32(nil, seq), make([]byte, 8)...)
	n[10], n[11] = from, what
	return n
}

func seal(key, nonce, text []byte) []byte {
	b := gcm(key).Seal(nil, nonce, text, nil)
	return append(bytes.Clone(b[len(text):]), b[:len(text)]...)
}

func open(key, nonce, sealed []byte) ([]byte, error) {
	if len(sealed) < 16 {
		return nil, errors.New("too short for a seal")
	}
	return gcm(key).Open(nil, nonce, append(bytes.Clone(sealed[16:]), sealed[:16]...), nil)
}

// talk is the sequence of RTSP requests.
type talk struct {
	addr    string
	key     []byte
	seq     uint32
	session string
}

// ask sends one request on a connection of its own.
func (t *talk) ask(ctx context.Context, method, target, headers, body string) (map[string]string, string, error) {
	t.seq++
	text := fmt.Sprintf("%s %s RTSP/1.0\r\nCSeq: %d\r\nX-GS-ClientVersion: 14\r\nHost: 0.0.0.0\r\n%s", method, target, t.seq, headers)
	if t.session != "" {
		text += "Session: " + t.session + "\r\n"
	}
	if body != "" {
		text += fmt.Sprintf("Content-type: application/sdp\r\nContent-length: %d\r\n", len(body))
	}
	text += "\r\n" + body
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return nil, "", err
	}
	b := be.AppendUint32(be.AppendUint32(nil, 1<<31|uint32(len(text))), t.seq)
	if _, err := conn.Write(append(b, seal(t.key, nonce(t.seq, 'C', 'R'), []byte(text))...)); err != nil {
		return nil, "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if err != nil {
		return nil, "", err
	}
	if len(answer) < 24 || be.Uint32(answer)&^(1<<31) != uint32(len(answer)-24) {
		return nil, "", fmt.Errorf("%s is answered with %d bytes", method, len(answer))
	}
	plain, err := open(t.key, nonce(be.Uint32(answer[4:]), 'H', 'R'), answer[8:])
	if err != nil {
		return nil, "", err
	}
	head, body, _ := strings.Cut(string(plain), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	if !strings.HasPrefix(lines[0], "RTSP/1.0 200 ") {
		return nil, "", fmt.Errorf("%s is answered %s", method, lines[0])
	}
	got := map[string]string{}
	for _, l := range lines[1:] {
		k, v, _ := strings.Cut(l, ": ")
		got[k] = v
	}
	return got, body, nil
}

// Stream is a running one. Its fields are counted as it goes.
type Stream struct {
	Frames, Keys, Lost, Repaired, Sounds, SoundRepaired atomic.Int64
	Datagrams                                           atomic.Int64

	client *Client
	l      *launched
	ports  Ports
	enet   *enet
	video  chan []byte // access units
	sound  chan []byte // Opus packets
	dead   chan struct{}
	once   sync.Once

	mu      sync.Mutex // guards what follows
	reason  uint32     // of the termination
	sealed  uint32     // next number
	latency []float64  // since the last take

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Video are the access units; those nobody takes are lost.
func (s *Stream) Video() <-chan []byte { return s.video }

// Sound are the Opus packets.
func (s *Stream) Sound() <-chan []byte { return s.sound }

const maxLatencies = 1 << 14

// TakeLatencies are the times from capture to the network that the server told of
// each frame since the last call, ms.
func (s *Stream) TakeLatencies() []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.latency
	s.latency = nil
	return out
}

// Ports are where a server listens.
type Ports struct{ TCP, UDP []int }

// Ports are those of the stream and its negotiation.
func (s *Stream) Ports() Ports { return s.ports }

// Done is closed when the server has ended the stream, or is gone.
func (s *Stream) Done() <-chan struct{} { return s.dead }

// Reason is the server's for the end, 0 if it said none.
func (s *Stream) Reason() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

func serverPort(h map[string]string) (int, error) {
	_, text, ok := strings.Cut(h["Transport"], "server_port=")
	if !ok {
		return 0, fmt.Errorf("no port in %v", h)
	}
	return strconv.Atoi(text)
}

// Stream launches and goes through everything until the control stream is there.
func (c *Client) Stream(ctx context.Context, m Mode) (*Stream, error) {
	l, err := c.launch(ctx, m)
	if err != nil {
		return nil, err
	}
	t := &talk{addr: net.JoinHostPort(c.Host, strconv.Itoa(l.port)), key: l.key}
	if _, _, err := t.ask(ctx, "OPTIONS", "rtsp://0.0.0.0:"+strconv.Itoa(l.port), "", ""); err != nil {
		return nil, err
	}
	_, offer, err := t.ask(ctx, "DESCRIBE", "rtsp://0.0.0.0:"+strconv.Itoa(l.port), "Accept: application/sdp\r\n", "")
	if err != nil {
		return nil, err
	}
	if !strings.Contains(offer, "surround-params=21101") {
		return nil, fmt.Errorf("the server offers %q", offer)
	}
	var ports [3]int
	var ping, data string
	for i, name := range []string{"audio/0/0", "video/0/0", "control/13/0"} {
		h, _, err := t.ask(ctx, "SETUP", "streamid="+name, "Transport: unicast;X-GS-ClientPort=50000-50001\r\n", "")
		if err == nil {
			ports[i], err = serverPort(h)
		}
		if err != nil {
			return nil, err
		}
		t.session, _, _ = strings.Cut(h["Session"], ";")
		ping, data = ping+h["X-SS-Ping-Payload"], h["X-SS-Connect-Data"]
	}
	number, err := strconv.ParseUint(data, 10, 32)
	if err != nil || len(ping) != 32 {
		return nil, fmt.Errorf("ping %q, connect data %q", ping, data)
	}
	s := &Stream{client: c, l: l, ports: Ports{TCP: []int{c.Port, c.https, l.port}, UDP: ports[:]}, video: make(chan []byte, 256), sound: make(chan []byte, 1024), dead: make(chan struct{})}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	err = s.listen(running, c.Host, ports[0], ping[:16], s.hearSound())
	if err == nil {
		err = s.announce(ctx, t, m)
	}
	if err == nil {
		_, _, err = t.ask(ctx, "PLAY", "/", "", "")
	}
	if err == nil {
		s.enet, err = dialENet(ctx, net.JoinHostPort(c.Host, strconv.Itoa(ports[2])), uint32(number))
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.wg.Go(func() { s.listenControl(running) })
	for _, first := range [][]byte{{2, 3, 2, 0, 0, 0}, {7, 3, 1, 0, 0}} {
		if err := s.send(0, first); err != nil {
			s.Close()
			return nil, err
		}
	}
	if err := s.listen(running, c.Host, ports[1], ping[16:], s.hearVideo()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stream) announce(ctx context.Context, t *talk, m Mode) error {
	packet := 1024
	if m.Seal&2 != 0 {
		packet -= 32
	}
	flags, channels := 135, max(m.Channels, 2)
	if m.Seal&4 != 0 {
		flags |= 0x20
	}
	var b strings.Builder
	b.WriteString("v=0\r\no=android 0 14 IN IPv4 127.0.0.1\r\ns=NVIDIA Streaming Client\r\n")
	for _, a := range []struct {
		name  string
		value int
	}{
		{"x-ml-general.featureFlags", 3}, {"x-ss-general.encryptionEnabled", m.Seal | 1}, {"x-nv-video[0].clientViewportWd", m.Width},
		{"x-nv-video[0].clientViewportHt", m.Height}, {"x-nv-video[0].maxFPS", m.FPS}, {"x-nv-video[0].packetSize", packet},
		{"x-ml-video.configuredBitrateKbps", m.Kbps}, {"x-nv-general.featureFlags", flags}, {"x-nv-general.useReliableUdp", 13},
		{"x-nv-vqos[0].fec.minRequiredFecPackets", 2}, {"x-nv-vqos[0].bitStreamFormat", 0}, {"x-nv-audio.surround.numChannels", channels},
		{"x-nv-aqos.packetDuration", 5},
	} {
		fmt.Fprintf(&b, "a=%s:%d \r\n", a.name, a.value)
	}
	b.WriteString("t=0 0\r\nm=video 0  \r\n")
	_, _, err := t.ask(ctx, "ANNOUNCE", "streamid=control/13/0", "", b.String())
	return err
}

// listen opens a media socket, pings from it, and hands what comes to hear.
func (s *Stream) listen(ctx context.Context, host string, port int, ping string, hear func([]byte)) error {
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(host), Port: port})
	if err != nil {
		return err
	}
	_ = conn.SetReadBuffer(2 << 20) // the kernel gives what it allows
	lose, dice := s.l.mode.Lose, rand.New(rand.NewPCG(uint64(port), 1))
	s.wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && dice.Float64() >= lose {
				s.Datagrams.Add(1)
				hear(b[:n])
			}
		}
	})
	s.wg.Go(func() {
		defer conn.Close()
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for n := uint32(1); ; n++ {
			_, _ = conn.Write(be.AppendUint32([]byte(ping), n)) // the next one may come through
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// send seals a control packet and sends it reliably.
func (s *Stream) send(channel uint8, packet []byte) error {
	s.mu.Lock()
	seq := s.sealed
	s.sealed++
	s.mu.Unlock()
	b := le.AppendUint16(le.AppendUint16(nil, 1), uint16(20+len(packet)))
	return s.enet.send(channel, append(le.AppendUint32(b, seq), seal(s.l.key, nonce(seq, 'C', 'C'), packet)...))
}

// Input sends an input packet of a kind.
func (s *Stream) Input(channel uint8, kind uint32, body []byte) error {
	p := le.AppendUint16(le.AppendUint16(nil, 0x0206), uint16(8+len(body)))
	p = le.AppendUint32(be.AppendUint32(p, uint32(4+len(body))), kind)
	return s.send(channel, append(p, body...))
}

// Key presses a key, by its Windows code, or lets it go.
func (s *Stream) Key(code uint16, down bool) error {
	kind := uint32(3)
	if !down {
		kind = 4
	}
	return s.Input(2, kind, append(le.AppendUint16([]byte{0}, 0x8000|code), 0, 0, 0))
}

// Button presses a mouse button, or lets it go.
func (s *Stream) Button(n uint8, down bool) error {
	kind := uint32(8)
	if !down {
		kind = 9
	}
	return s.Input(3, kind, []byte{n})
}

// MoveTo moves the pointer to a place in a picture of w×h.
func (s *Stream) MoveTo(x, y, w, h int) error {
	b := be.AppendUint16(be.AppendUint16(nil, uint16(x)), uint16(y))
	return s.Input(3, 5, be.AppendUint16(be.AppendUint16(append(b, 0, 0), uint16(w-1)), uint16(h-1)))
}

// RequestIDR asks for a key frame.
func (s *Stream) RequestIDR() error { return s.send(1, []byte{2, 3, 2, 0, 0, 0}) }

// listenControl pings and hears what the server says, until it is over.
func (s *Stream) listenControl(ctx context.Context) {
	defer s.once.Do(func() { close(s.dead) })
	ping := []byte{0, 2, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0}
	s.wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = s.send(0, ping) // the end is noticed elsewhere
			case <-s.dead:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	s.enet.run(ctx, func(m []byte) {
		if len(m) < 8 || le.Uint16(m) != 1 {
			return
		}
		p, err := open(s.l.key, nonce(le.Uint32(m[4:]), 'H', 'C'), m[8:])
		if err == nil && len(p) >= 8 && le.Uint16(p) == 0x0109 {
			s.mu.Lock()
			s.reason = be.Uint32(p[4:])
			s.mu.Unlock()
		}
	})
}

// Close leaves: the server is told, what runs goes on.
func (s *Stream) Close() {
	if s.enet != nil {
		s.enet.leave()
	}
	s.stop()
	s.wg.Wait()
}
