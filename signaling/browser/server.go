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
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/legs"
	"fenrir/signaling/browser/peer"
	"fenrir/signaling/browser/ports"
)

// Attach finds a session and attaches a client to it. It answers at once,
// however busy the session is. Its error, when a *media.Cause is in its chain,
// is told to the client.
type Attach func(ctx context.Context, sessionID string, spec media.PeerSpec) (signaling.Attachment, error)

// Network says where peers reach this server.
type Network struct {
	UDP        string                         // listen address, one port for all peers: ":8443", "127.0.0.1:0"; "" for none
	TCP        string                         // the same for ICE-TCP, for networks that block UDP; "" for none
	NAT1To1    []string                       // public addresses that forward to this machine, same ports; offered besides the local ones
	ICEServers func(peer string) []ICEServer  // what clients are told; called for each one, so that credentials may be short-lived; nil for none
	Loopback   bool                           // offer loopback addresses too
	Interfaces func(name string) (offer bool) // nil offers all
}

// ICEServer is what a client is told about STUN and TURN.
type ICEServer = signaling.ICEServer

// Bitrate bounds what the congestion control asks of encoders, kbit/s.
type Bitrate = peer.Bitrate

// Server serves any number of peers. Fill the exported fields, call Listen,
// then Run; the handlers may be called from Listen on. The exported fields are
// not changed after Listen.
type Server struct {
	Attach   Attach
	Log      *slog.Logger // nil: slog.Default()
	Network  Network
	Bitrate  Bitrate
	MaxPeers int          // 0: 256
	Latency  legs.Watcher // nil: nobody is told

	ports    *ports.Ports
	stopping chan struct{} // closed when Run ends

	mu      sync.Mutex // guards what follows
	stopped bool
	peers   map[*peer.Peer]struct{}
	players map[string]*player // by resource id
	gone    Totals             // of peers that ended

	wg sync.WaitGroup // one for each Peer.Serve, and for each connection that still closes
}

// Times that the protocol promises.
const (
	helloTimeout    = 5 * time.Second
	attachTimeout   = time.Second // of Attach, which does not wait for anything slow
	pingInterval    = 20 * time.Second
	pingTimeout     = 10 * time.Second
	writeTimeout    = 5 * time.Second
	closeTimeout    = 500 * time.Millisecond // of the websocket's goodbye
	drainTimeout    = 3 * time.Second        // of Run, for its peers
	defaultMaxPeers = 256
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
	s.Bitrate = s.Bitrate.WithDefaults()
	s.stopping = make(chan struct{})
	s.peers = make(map[*peer.Peer]struct{})
	s.players = make(map[string]*player)
	n := s.Network
	s.ports, err = ports.Listen(ports.Config{
		UDP: n.UDP, TCP: n.TCP, NAT1To1: n.NAT1To1, Loopback: n.Loopback, Interfaces: n.Interfaces,
	}, s.Log)
	return err
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
	s.ports.Close()
	return err
}

// UDPAddr is the address of the UDP port, nil without one.
func (s *Server) UDPAddr() net.Addr { return s.ports.UDPAddr() }

// TCPAddr is the address of the TCP port, nil without one.
func (s *Server) TCPAddr() net.Addr { return s.ports.TCPAddr() }

// Peers is how many peers are connected or connecting.
func (s *Server) Peers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers)
}

// attach asks for a place in the session and counts the peer in. Who gets a
// peer calls leave when it has ended.
func (s *Server) attach(ctx context.Context, sessionID string, spec media.PeerSpec, sig peer.Signal) (*peer.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	att, err := s.Attach(ctx, sessionID, spec)
	if err != nil {
		return nil, err
	}
	p := &peer.Peer{
		Session: sessionID, Spec: spec, Attachment: att, Signal: sig,
		Ports: s.ports, Bitrate: s.Bitrate, Latency: s.Latency, Stopping: s.stopping, Closing: &s.wg, Log: s.Log,
	}
	if err = p.Prepare(); err == nil {
		err = s.enter(p)
	}
	if err != nil {
		att.Detach(peer.CauseOf(err))
		return nil, err
	}
	return p, nil
}

// enter counts p in.
func (s *Server) enter(p *peer.Peer) error {
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

// leave counts a peer out that has ended.
func (s *Server) leave(p *peer.Peer) {
	s.mu.Lock()
	delete(s.peers, p)
	s.gone.Add(p.Stats().Totals)
	s.mu.Unlock()
	s.wg.Done()
}

func (s *Server) iceServers(peer string) []signaling.ICEServer {
	if s.Network.ICEServers == nil {
		return []signaling.ICEServer{}
	}
	return s.Network.ICEServers(peer)
}
