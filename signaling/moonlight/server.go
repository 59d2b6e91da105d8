// Package moonlight connects Moonlight clients to sessions: the ports of their
// protocol, and one stream for each client. The layers are packages of their own
// below this one; here they meet, and the session's attachment.
//
// A stream is attached to its session before its client connects, and detached when
// it ends, whoever ended it. Nothing here waits for a program, an encoder or native
// code: /cancel ends the session's context and answers.
//
// It imports media, signaling, and the packages below.
package moonlight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/moonlight/discovery"
	"fenrir/signaling/moonlight/enet"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/nvhttp"
	"fenrir/signaling/moonlight/pairing"
	"fenrir/signaling/moonlight/rtsp"
	"fenrir/signaling/moonlight/udp"
)

// Distances of the ports from that of HTTP.
const (
	httpsPort   = -5
	videoPort   = 9
	controlPort = 10
	audioPort   = 11
	rtspPort    = 21
)

// drainTimeout bounds the goodbyes at the end of Run.
const drainTimeout = 2 * time.Second

// Attach gives a client a place in the session of its launch. It answers at once,
// however busy the session is. A *media.Cause in its error's chain says why not.
type Attach func(t launch.Terms, spec media.PeerSpec) (signaling.Attachment, error)

// Server is the door. Fill the exported fields, which do not change afterwards, call
// Listen, then Run.
type Server struct {
	Address   string // IP address of all ports; "" for every interface
	Port      int    // of HTTP, the others follow from it; 0: each is any that is free
	Host      nvhttp.Host
	Identity  *nvhttp.Identity
	Devices   nvhttp.Devices
	Programs  nvhttp.Programs
	Sessions  nvhttp.Sessions
	Attach    Attach
	Codecs    []media.Codec // that can be encoded, of those that clients decode
	Discovery bool          // make the host known in the local network
	Log       *slog.Logger

	pairings     *pairing.Pending
	pending      launch.Pending
	http         *nvhttp.Server
	rtsp         *rtsp.Server
	control      *enet.Host
	video, audio *udp.Port

	life context.Context // of all streams
	end  context.CancelCauseFunc
	wg   sync.WaitGroup // streams, and launches that wait

	mu      sync.Mutex // guards what follows
	ends    map[*launch.Launch]*ends
	streams map[uint32]*Stream // by connect data
	over    bool
}

// ends are where a launch's pictures and sound go.
type ends struct{ video, audio *udp.Target }

// Listen opens all ports. What it opened is closed when Run returns, or by itself
// when it fails.
func (s *Server) Listen() (err error) {
	s.ends, s.streams = make(map[*launch.Launch]*ends), make(map[uint32]*Stream)
	s.life, s.end = context.WithCancelCause(context.Background())
	var opened []func() error
	defer func() {
		if err != nil {
			s.end(err)
			for _, c := range opened {
				err = errors.Join(err, c())
			}
		}
	}()
	open := func(what string, distance int) (conn *net.UDPConn) {
		if err != nil {
			return nil
		}
		var addr *net.UDPAddr
		if addr, err = net.ResolveUDPAddr("udp", s.at(distance)); err == nil {
			conn, err = net.ListenUDP("udp", addr)
		}
		if err != nil {
			err = fmt.Errorf("moonlight %s: %w", what, err)
			return nil
		}
		opened = append(opened, conn.Close)
		return conn
	}
	video, control, audio := open("video", videoPort), open("control", controlPort), open("audio", audioPort)
	if err != nil {
		return err
	}
	s.video, s.audio = udp.New(video), udp.New(audio)
	s.control = &enet.Host{Conn: control, Accept: s.expected, Peers: s.connected, Authentic: s.authentic}
	s.rtsp = &rtsp.Server{
		Pending: &s.pending, Announced: s.announced, Log: s.Log,
		Offer: rtsp.Offer{Codecs: s.Codecs, Supported: rtsp.SealControl | rtsp.SealVideo | rtsp.SealAudio, Requested: rtsp.SealControl},
		Ports: rtsp.Ports{Video: portOf(video), Control: portOf(control), Audio: portOf(audio)},
	}
	if err = s.rtsp.Listen(s.at(rtspPort)); err != nil {
		return fmt.Errorf("moonlight RTSP: %w", err)
	}
	opened = append(opened, s.rtsp.Close)
	s.pairings = &pairing.Pending{Certificate: s.Identity.Certificate, Key: s.Identity.Key, Trust: s.Devices}
	s.http = &nvhttp.Server{
		Host: s.Host, Identity: s.Identity, Pairings: s.pairings, Devices: s.Devices, Programs: s.Programs, Sessions: s.Sessions,
		Launches: launches{s}, RTSPPort: int(s.rtsp.Addr().Port()), Log: s.Log,
	}
	return s.http.Listen(s.at(0), s.at(httpsPort))
}

// at is the address of a port.
func (s *Server) at(distance int) string {
	port := 0
	if s.Port != 0 {
		port = s.Port + distance
	}
	return net.JoinHostPort(s.Address, strconv.Itoa(port))
}

func portOf(c *net.UDPConn) int { return c.LocalAddr().(*net.UDPAddr).Port }

// Pairings are the devices that wait to be paired.
func (s *Server) Pairings() *pairing.Pending { return s.pairings }

// HTTPAddr is the address of the port that people type.
func (s *Server) HTTPAddr() netip.AddrPort { return s.http.HTTPAddr() }

// HTTPSAddr is the address of the port for paired clients.
func (s *Server) HTTPSAddr() netip.AddrPort { return s.http.HTTPSAddr() }

// Run serves until ctx ends; then it says goodbye to all clients with the cause of
// ctx if that is a *media.Cause, waits for them at most two seconds, and closes the
// ports. The error tells what did not end, or what ended by itself.
func (s *Server) Run(ctx context.Context) error {
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 6)
	var all sync.WaitGroup
	start := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(parts); err != nil {
				failed <- err
			}
		})
	}
	start(s.control.Serve)
	start(s.video.Run)
	start(s.audio.Run)
	start(s.rtsp.Run)
	start(s.http.Run)
	if s.Discovery {
		known := discovery.Advertiser{Name: s.Host.Name, UniqueID: s.Identity.UniqueID, HTTP: s.HTTPAddr(), Log: s.Log}
		start(func(ctx context.Context) error {
			// Without it people type the address: nothing that ends the others.
			if err := known.Run(ctx); err != nil {
				s.Log.Error("moonlight clients of the local network do not find this host by themselves", "err", err)
			}
			return nil
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cause := &media.Cause{Code: media.CauseShutdown}
	errors.As(context.Cause(ctx), &cause)
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.pairings.Close()
	s.pending.Close()
	s.end(cause)
	gone := make(chan struct{})
	go func() { s.wg.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(drainTimeout):
		err = errors.Join(err, errors.New("moonlight streams did not end in time"))
	}
	stop()
	all.Wait() // each part bounds its own end
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// launches is what waits for clients, as nvhttp sees it.
type launches struct{ s *Server }

// Add implements nvhttp.Launches. A stream that the device still has ends: it begins
// anew.
func (l launches) Add(made *launch.Launch) error { return l.s.add(made) }

func (s *Server) add(l *launch.Launch) error {
	var legacy netip.Addr
	if l.CoreVer == 0 {
		legacy = l.From
	}
	video, err := s.video.Enter(l.PingPayload, legacy)
	if err != nil {
		return err
	}
	audio, err := s.audio.Enter(l.PingPayload, legacy)
	if err != nil {
		video.Leave()
		return err
	}
	leave := func() { video.Leave(); audio.Leave() }
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		leave()
		return launch.ErrClosed
	}
	if err := s.pending.Add(l); err != nil {
		s.mu.Unlock()
		leave()
		return err
	}
	var old []*Stream
	for _, other := range s.streams {
		if other.launch.Device == l.Device {
			old = append(old, other)
		}
	}
	s.ends[l] = &ends{video, audio}
	s.wg.Go(func() { // until the launch ends, which its owner sees to
		<-l.Done()
		s.mu.Lock()
		delete(s.ends, l)
		s.mu.Unlock()
		leave()
	})
	s.mu.Unlock()
	for _, other := range old {
		other.finish(&media.Cause{Code: media.CauseSuperseded, Detail: "the same device connected again"})
	}
	return nil
}

// announced begins the stream of a launch.
func (s *Server) announced(l *launch.Launch, c rtsp.Config) error {
	s.mu.Lock()
	to := s.ends[l]
	s.mu.Unlock()
	if to == nil {
		return launch.ErrClosed
	}
	st, err := newStream(s, l, c, to)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.over || s.streams[l.ConnectData] != nil {
		s.mu.Unlock()
		st.att.Detach(&media.Cause{Code: media.CauseShutdown})
		return launch.ErrClosed
	}
	s.streams[l.ConnectData] = st
	s.wg.Go(func() {
		st.Serve(s.life)
		s.mu.Lock()
		delete(s.streams, l.ConnectData)
		s.mu.Unlock()
		select {
		case late := <-st.peer: // it connected when the stream had ended already
			late.Disconnect()
		default:
		}
	})
	s.mu.Unlock()
	return nil
}

func (s *Server) stream(data uint32) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[data]
}

// expected tells whether a control stream belongs to a launch that waits for it.
func (s *Server) expected(data uint32, _ netip.AddrPort) bool {
	return s.stream(data) != nil && s.pending.ByConnectData(data) != nil
}

// connected gives a stream its control stream.
func (s *Server) connected(p *enet.Peer) {
	st := s.stream(p.Data())
	if st == nil || !s.pending.Take(st.launch) {
		p.Disconnect()
		return
	}
	st.peer <- p // it has room for the one that gets the launch
}

// authentic tells whether a message is of the client of that control stream, and no
// copy of an earlier one.
func (s *Server) authentic(data uint32, message []byte) bool {
	st := s.stream(data)
	return st != nil && st.opener.Fresh(message)
}

// Streams is how many clients stream, or are about to.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}
