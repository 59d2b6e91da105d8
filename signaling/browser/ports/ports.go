// Package ports holds the sockets that all peers share: one UDP port and one
// TCP port (ICE-TCP), and what pion has to know of the network around them.
//
// It imports signaling/tcp and pion.
package ports

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"

	"fenrir/signaling/tcp"
)

// Config says where peers reach this machine.
type Config struct {
	UDP        string                         // listen address, one port for all peers: ":8443", "127.0.0.1:0"; "" for none
	TCP        string                         // the same for ICE-TCP, for networks that block UDP; "" for none
	NAT1To1    []string                       // public addresses that forward to this machine, same ports; offered besides the local ones
	Loopback   bool                           // offer loopback addresses too
	Interfaces func(name string) (offer bool) // nil offers all
}

// Ports are open sockets. Close closes them.
type Ports struct {
	cfg      Config
	log      *slog.Logger
	udp      ice.UDPMux // nil without Config.UDP
	tcp      ice.TCPMux // nil without Config.TCP
	udpAddr  net.Addr
	tcpAddr  net.Addr
	networks []webrtc.NetworkType
	external []netip.Addr
}

// Listen opens the ports.
func Listen(cfg Config, log *slog.Logger) (*Ports, error) {
	if cfg.UDP == "" && cfg.TCP == "" {
		return nil, errors.New("neither a UDP nor a TCP address to listen on")
	}
	p := &Ports{cfg: cfg, log: log}
	for _, text := range cfg.NAT1To1 {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("public address: %w", err)
		}
		p.external = append(p.external, a.Unmap())
	}
	if cfg.UDP != "" {
		if err := p.listenUDP(); err != nil {
			return nil, fmt.Errorf("listen for media on udp %s: %w", cfg.UDP, err)
		}
	}
	if cfg.TCP != "" {
		if err := p.listenTCP(); err != nil {
			p.Close()
			return nil, fmt.Errorf("listen for media on tcp %s: %w", cfg.TCP, err)
		}
	}
	return p, nil
}

// UDPAddr is the address of the UDP port, nil without one.
func (p *Ports) UDPAddr() net.Addr { return p.udpAddr }

// TCPAddr is the address of the TCP port, nil without one.
func (p *Ports) TCPAddr() net.Addr { return p.tcpAddr }

// socketBuffer is asked for each UDP socket, bytes. A key frame for some peers
// at once is a burst of a few megabytes; the kernel gives what it allows.
const socketBuffer = 4 << 20

// stunTimeout is how long a TCP connection may take to say which peer it is for.
const stunTimeout = 5 * time.Second

// maxTCP bounds the connections of all peers and strangers together.
const maxTCP = 1024

// How pion watches a path: silence until it counts as broken, more silence
// until it counts as failed.
const (
	Disconnected = 3 * time.Second
	Failed       = 10 * time.Second
	keepAlive    = time.Second
)

// MaxMessage bounds one message on a data channel, both ways, bytes.
const MaxMessage = 256 << 10

// portAttempts is how often a port is drawn when ":0" must be the same one on
// several interfaces.
const portAttempts = 16

func (p *Ports) listenUDP() error {
	host, port, err := splitAddr(p.cfg.UDP)
	if err != nil {
		return err
	}
	log := Logger{p.log}.NewLogger("ice")
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		addr, err := net.ResolveUDPAddr("udp", p.cfg.UDP)
		if err != nil {
			return err
		}
		conn, err := net.ListenUDP("udp", addr)
		if err != nil {
			return err
		}
		setBuffers(conn)
		p.udp = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: log})
		p.udpAddr = conn.LocalAddr()
		p.networks = append(p.networks, webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6)
		return nil
	}

	// One socket for each interface, so that answers leave from the address
	// that was asked. Interfaces that appear later are not served.
	opts := []ice.UDPMuxFromPortOption{
		ice.UDPMuxFromPortWithReadBufferSize(socketBuffer),
		ice.UDPMuxFromPortWithWriteBufferSize(socketBuffer),
		ice.UDPMuxFromPortWithLogger(log),
	}
	if p.cfg.Loopback {
		opts = append(opts, ice.UDPMuxFromPortWithLoopback())
	}
	if f := p.cfg.Interfaces; f != nil {
		opts = append(opts, ice.UDPMuxFromPortWithInterfaceFilter(f))
	}
	if host == "0.0.0.0" {
		opts = append(opts, ice.UDPMuxFromPortWithNetworks(ice.NetworkTypeUDP4))
	}
	var mux *ice.MultiUDPMuxDefault
	for try := 0; ; try++ {
		drawn := port
		if drawn == 0 {
			if drawn, err = freeUDPPort(); err != nil {
				return err
			}
		}
		mux, err = ice.NewMultiUDPMuxFromPort(drawn, opts...)
		if err == nil {
			port = drawn
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
	p.udp, p.udpAddr = mux, &net.UDPAddr{IP: net.ParseIP(host), Port: port}
	p.networks = append(p.networks, webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6)
	return nil
}

func (p *Ports) listenTCP() error {
	l, err := tcp.Listen(p.cfg.TCP, maxTCP, p.log)
	if err != nil {
		return err
	}
	p.tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{
		Listener:                     promptListener{l},
		Logger:                       Logger{p.log}.NewLogger("ice"),
		ReadBufferSize:               64,        // packets
		WriteBufferSize:              192 << 10, // bytes for each connection, a large frame; packets beyond are lost, as on UDP
		FirstStunBindTimeout:         stunTimeout,
		AliveDurationForConnFromStun: stunTimeout,
	})
	p.tcpAddr = l.Addr()
	p.networks = append(p.networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	return nil
}

// Close closes the ports. Peers that still use them lose their path.
func (p *Ports) Close() {
	if p.udp != nil {
		if err := p.udp.Close(); err != nil {
			p.log.Warn("close media port", "network", "udp", "err", err)
		}
	}
	if p.tcp != nil {
		if err := p.tcp.Close(); err != nil {
			p.log.Warn("close media port", "network", "tcp", "err", err)
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

// Settings are pion's for a connection over these ports.
func (p *Ports) Settings() webrtc.SettingEngine {
	var e webrtc.SettingEngine
	e.LoggerFactory = Logger{p.log}
	e.DetachDataChannels()
	e.SetICETimeouts(Disconnected, Failed, keepAlive)
	e.SetNetworkTypes(p.networks)
	e.SetIncludeLoopbackCandidate(p.cfg.Loopback)
	if p.cfg.Interfaces != nil {
		e.SetInterfaceFilter(p.cfg.Interfaces)
	}
	if p.udp != nil {
		e.SetICEUDPMux(p.udp)
	}
	if p.tcp != nil {
		e.SetICETCPMux(p.tcp)
	}
	// The server never dials: a client must not make it connect anywhere.
	e.DisableActiveTCP(true)
	// Names like x.local need a socket of their own to be resolved; browsers
	// that hide behind them are found as peer-reflexive.
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetSCTPMaxMessageSize(MaxMessage)
	// The client begins with DTLS, because it knows half a round trip before we do
	// that there is a path, and has its keys last, which costs nobody anything: it is
	// we who send. Its address was proved by ICE already; asking for a cookie as well
	// would cost another round trip. The error is for roles that do not exist.
	_ = e.SetAnsweringDTLSRole(webrtc.DTLSRoleServer)
	e.SetDTLSInsecureSkipHelloVerify(true)
	return e
}

// External is what a local candidate looks like from outside: one candidate for
// each public address of its family. pion can rewrite candidates by itself, but
// then two interfaces behind one address end each other's TCP; for ICE it is
// enough that the client hears of the address.
func (p *Ports) External(c *webrtc.ICECandidate) (out []*webrtc.ICECandidate) {
	local, err := netip.ParseAddr(c.Address)
	if err != nil || c.Typ != webrtc.ICECandidateTypeHost {
		return nil
	}
	for i, a := range p.external {
		if a.Is4() != local.Unmap().Is4() {
			continue
		}
		e := *c
		e.Address = a.String()
		e.Foundation = fmt.Sprintf("%s%d", c.Foundation, i)
		e.Priority = c.Priority - 1<<8*uint32(i+1) // local addresses first
		out = append(out, &e)
	}
	return out
}
