package browser

import (
	"net"
	"sync/atomic"
	"testing"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// lossy makes a client's UDP socket lose every n-th large packet that arrives,
// once small is set every n-th of any size both ways, and everything while cut
// is set.
type lossy struct {
	cut     atomic.Bool
	small   atomic.Bool
	t       *testing.T
	every   uint64
	seen    atomic.Uint64
	dropped atomic.Uint64
}

func newLossy(t *testing.T, every uint64) *lossy { return &lossy{t: t, every: every} }

func (l *lossy) install(e *webrtc.SettingEngine) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(l.t, err)
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: lossyConn{conn, l}})
	l.t.Cleanup(func() { mux.Close() })
	e.SetICEUDPMux(mux)
}

type lossyConn struct {
	net.PacketConn
	l *lossy
}

func (c lossyConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := c.PacketConn.ReadFrom(b)
		if err == nil && c.l.cut.Load() {
			continue
		}
		if err == nil && (n > 500 || c.l.small.Load()) && c.l.seen.Add(1)%c.l.every == 0 {
			c.l.dropped.Add(1)
			continue
		}
		return n, addr, err
	}
}

func (c lossyConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.l.cut.Load() {
		return len(b), nil
	}
	if c.l.small.Load() && c.l.seen.Add(1)%c.l.every == 0 {
		c.l.dropped.Add(1)
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}
