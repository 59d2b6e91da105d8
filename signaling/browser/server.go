// Package browser connects browsers (and WHEP players) to sessions: websocket
// signaling, HTTP signaling, and one pion PeerConnection for each client.
//
// All peers share one UDP port and one TCP port. A peer is attached to its
// session before a PeerConnection is made, and detached when it ends, whoever
// ended it. Nothing here waits for a program, an encoder or native code.
//
// It imports media, signaling, pion and coder/websocket.
package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/pion/ice/v4"

	"fenrir/media"
	"fenrir/signaling"
)

// Attach finds a session and attaches a client to it. It answers at once,
// however busy the session is. Its error, when a *media.Cause is in its chain,
// is told to the client.
type Attach func(ctx context.Context, sessionID string, spec media.PeerSpec) (signaling.Attachment, error)

// Network says where peers reach this server.
type Network struct {
	UDP        string                         // listen address, one port for all peers: ":8443", "127.0.0.1:0"; "" for none
	TCP        string                         // the same for ICE-TCP, for networks that block UDP; "" for none
	NAT1To1    []string                       // public addresses that forward to this machine; candidates name them instead of the local ones
	ICEServers func(peer string) []ICEServer  // what clients are told; called for each one, so that credentials may be short-lived; nil for none
	Loopback   bool                           // offer loopback addresses too
	Interfaces func(name string) (offer bool) // nil offers all
}

// ICEServer is what a client is told about STUN and TURN.
type ICEServer = signaling.ICEServer

// Bitrate bounds what the congestion control asks of encoders, kbit/s.
type Bitrate struct {
	Min, Start, Max int // zero values: 300, 8000, 100000
}

// Server serves any number of peers. Fill the exported fields, call Listen,
// then Run; the handlers may be called from Listen on. The exported fields are
// not changed after Listen.
type Server struct {
	Attach   Attach
	Log      *slog.Logger // nil: slog.Default()
	Network  Network
	Bitrate  Bitrate
	MaxPeers int // 0: 256

	udp      ice.UDPMux // nil without Network.UDP
	tcp      ice.TCPMux // nil without Network.TCP
	udpAddr  net.Addr
	tcpAddr  net.Addr
	networks []networkType

	stopping chan struct{} // closed when Run ends

	mu      sync.Mutex // guards what follows
	stopped bool
	peers   map[*Peer]struct{}
	whep    map[string]*Peer // by resource id
	gone    Totals           // of peers that ended

	wg sync.WaitGroup // one for each Peer.Serve, and for each connection that still closes
}

// ErrStopped is returned by handlers of a Server that is stopping or has stopped.
var ErrStopped = errors.New("browser server has stopped")

// Timing that the protocol promises.
const (
	helloTimeout     = 5 * time.Second
	pingInterval     = 20 * time.Second
	pingTimeout      = 10 * time.Second
	writeTimeout     = 5 * time.Second
	closeTimeout     = 500 * time.Millisecond // of the websocket's goodbye
	offerTimeout     = 15 * time.Second       // from welcome to the first offer
	connectTimeout   = 15 * time.Second       // from an offer to media flowing
	iceDisconnected  = 3 * time.Second        // silence until the path counts as broken
	iceFailed        = 10 * time.Second       // more silence until it counts as failed
	iceKeepAlive     = time.Second
	restartTimeout   = 25 * time.Second // broken path until the peer is given up
	orphanGrace      = 10 * time.Second // media without a websocket
	heartbeat        = 500 * time.Millisecond
	missedHeartbeats = 4
	peerCloseTimeout = 300 * time.Millisecond
	slowClose        = 2 * time.Second // of a peer connection: worth a warning
	drainTimeout     = 3 * time.Second // of Run, for its peers
	defaultMaxPeers  = 256
)

// Listen opens the ports. What it opened is closed when Run returns, or by
// itself when it fails.
func (s *Server) Listen() (err error) {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if s.MaxPeers == 0 {
		s.MaxPeers = defaultMaxPeers
	}
	s.Bitrate = s.Bitrate.withDefaults()
	s.stopping = make(chan struct{})
	s.peers = make(map[*Peer]struct{})
	s.whep = make(map[string]*Peer)
	defer func() {
		if err != nil {
			s.closeSockets()
		}
	}()
	if s.Network.UDP == "" && s.Network.TCP == "" {
		return errors.New("neither a UDP nor a TCP address to listen on")
	}
	if s.Network.UDP != "" {
		if err := s.listenUDP(); err != nil {
			return fmt.Errorf("listen for media on udp %s: %w", s.Network.UDP, err)
		}
	}
	if s.Network.TCP != "" {
		if err := s.listenTCP(); err != nil {
			return fmt.Errorf("listen for media on tcp %s: %w", s.Network.TCP, err)
		}
	}
	return nil
}

// Run serves until ctx ends, then says goodbye to all peers with the cause of
// ctx if that is a *media.Cause, otherwise with media.CauseShutdown, waits at
// most 3 s for them and closes the ports. The error tells what did not end.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	close(s.stopping)

	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-time.After(drainTimeout):
		err = fmt.Errorf("%d peers did not end within %v", s.Peers(), drainTimeout)
	}
	s.closeSockets()
	return err
}

// UDPAddr is the address of the UDP port, nil without one.
func (s *Server) UDPAddr() net.Addr { return s.udpAddr }

// TCPAddr is the address of the TCP port, nil without one.
func (s *Server) TCPAddr() net.Addr { return s.tcpAddr }

// Peers is how many peers are connected or connecting.
func (s *Server) Peers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers)
}

// enter counts p in; the caller calls leave when p has ended.
func (s *Server) enter(p *Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return media.NewCause(media.CauseShutdown, "the server is going down")
	}
	if len(s.peers) >= s.MaxPeers {
		return media.NewCause(media.CauseTooMany, "the server has as many viewers as it takes, %d", s.MaxPeers)
	}
	s.peers[p] = struct{}{}
	s.wg.Add(1)
	return nil
}

func (s *Server) leave(p *Peer) {
	s.mu.Lock()
	delete(s.peers, p)
	if p.resource != "" {
		delete(s.whep, p.resource)
	}
	s.gone.add(p.stats().Totals)
	s.mu.Unlock()
	s.wg.Done()
}

func (b Bitrate) withDefaults() Bitrate {
	if b.Min == 0 {
		b.Min = 300
	}
	if b.Max == 0 {
		b.Max = 100_000
	}
	if b.Start == 0 {
		b.Start = 8000
	}
	b.Start = min(max(b.Start, b.Min), b.Max)
	return b
}
