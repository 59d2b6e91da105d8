package browser

import (
	"fmt"
	"net"
	"strconv"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

type networkType = webrtc.NetworkType

// socketBuffer is asked for each UDP socket, bytes. A key frame for some peers
// at once is a burst of a few megabytes; the kernel gives what it allows.
const socketBuffer = 4 << 20

// portAttempts is how often a port is drawn when ":0" must be the same one on
// several interfaces.
const portAttempts = 16

func (s *Server) listenUDP() error {
	host, port, err := splitAddr(s.Network.UDP)
	if err != nil {
		return err
	}
	log := pionLog{s.Log}.NewLogger("ice")
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		addr, err := net.ResolveUDPAddr("udp", s.Network.UDP)
		if err != nil {
			return err
		}
		conn, err := net.ListenUDP("udp", addr)
		if err != nil {
			return err
		}
		setBuffers(conn)
		s.udp = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: log})
		s.udpAddr = conn.LocalAddr()
		s.networks = append(s.networks, webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6)
		return nil
	}

	// One socket for each interface, so that answers leave from the address
	// that was asked. Interfaces that appear later are not served.
	opts := []ice.UDPMuxFromPortOption{
		ice.UDPMuxFromPortWithReadBufferSize(socketBuffer),
		ice.UDPMuxFromPortWithWriteBufferSize(socketBuffer),
		ice.UDPMuxFromPortWithLogger(log),
	}
	if s.Network.Loopback {
		opts = append(opts, ice.UDPMuxFromPortWithLoopback())
	}
	if f := s.Network.Interfaces; f != nil {
		opts = append(opts, ice.UDPMuxFromPortWithInterfaceFilter(f))
	}
	if host == "0.0.0.0" {
		opts = append(opts, ice.UDPMuxFromPortWithNetworks(ice.NetworkTypeUDP4))
	}
	var mux *ice.MultiUDPMuxDefault
	for try := 0; ; try++ {
		p := port
		if p == 0 {
			if p, err = freeUDPPort(); err != nil {
				return err
			}
		}
		mux, err = ice.NewMultiUDPMuxFromPort(p, opts...)
		if err == nil {
			port = p
			break
		}
		if port != 0 || try == portAttempts {
			return err
		}
	}
	if len(mux.GetListenAddresses()) == 0 {
		_ = mux.Close() // it holds nothing
		return fmt.Errorf("no network interface to listen on")
	}
	s.udp, s.udpAddr = mux, &net.UDPAddr{IP: net.ParseIP(host), Port: port}
	s.networks = append(s.networks, webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6)
	return nil
}

func (s *Server) listenTCP() error {
	l, err := net.Listen("tcp", s.Network.TCP)
	if err != nil {
		return err
	}
	s.tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{
		Listener:                     l,
		Logger:                       pionLog{s.Log}.NewLogger("ice"),
		ReadBufferSize:               64,      // packets
		WriteBufferSize:              1 << 20, // bytes for each connection; packets beyond are lost, as on UDP
		FirstStunBindTimeout:         connectTimeout,
		AliveDurationForConnFromStun: connectTimeout,
	})
	s.tcpAddr = l.Addr()
	s.networks = append(s.networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	return nil
}

func (s *Server) closeSockets() {
	if s.udp != nil {
		if err := s.udp.Close(); err != nil {
			s.Log.Warn("close media port", "network", "udp", "err", err)
		}
	}
	if s.tcp != nil {
		if err := s.tcp.Close(); err != nil {
			s.Log.Warn("close media port", "network", "tcp", "err", err)
		}
	}
}

func splitAddr(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q: %w", p, err)
	}
	return host, int(n), nil
}

func freeUDPPort() (int, error) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		return 0, err
	}
	port := c.LocalAddr().(*net.UDPAddr).Port
	return port, c.Close()
}

func setBuffers(c *net.UDPConn) {
	// Best effort: without the buffers bursts are more likely to be lost, and NACK repairs that.
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
}
