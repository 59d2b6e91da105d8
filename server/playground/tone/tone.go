// Package tone plays short tones through a PulseAudio-compatible sound server.
// It promises that asking for a tone never blocks, whatever the server does, and
// that it comes back by itself after the server did. It imports media/pulse and
// jfreymuth/pulse's protocol package.
package tone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jfreymuth/pulse/proto"

	"fenrir/media/pulse"
)

const (
	ioLimit     = 2 * time.Second        // for one message to or from the server
	retryFirst  = 100 * time.Millisecond // pause before another try to connect
	retryLast   = time.Second
	bufferBytes = 2 * rate / 50  // 20 ms wait at the server at most
	startBytes  = 2 * rate / 200 // 5 ms are enough to begin

	silentFor = time.Second // until the stream is closed; longer than a tone
	none      = -1          // no stream
)

// Player plays tones. Make it with New; the goroutine that calls Run owns it.
type Player struct {
	wishes chan float64
	state  func(error)
}

// New makes a player that tells state, from Run's goroutine, when it reached the
// sound server (nil) and when and why it lost it.
func New(state func(error)) *Player {
	return &Player{wishes: make(chan float64, 16), state: state}
}

// Play asks for a tone of the given pitch in Hz. It never blocks; a tone that
// cannot sound at once is dropped. It may be called from any goroutine.
func (p *Player) Play(pitch float64) {
	select {
	case p.wishes <- pitch:
	default:
	}
}

// Run plays until ctx ends, connecting as often as it takes.
func (p *Player) Run(ctx context.Context) {
	pause := retryFirst
	said := ""
	for ctx.Err() == nil {
		began := time.Now()
		err := p.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > retryLast {
			pause = retryFirst
		}
		if err.Error() != said || pause == retryFirst {
			said = err.Error()
			p.state(err)
		}
		wait := time.NewTimer(pause)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				wait.Stop()
				return
			case <-wait.C:
				waiting = false
			case <-p.wishes: // nobody can hear it
			}
		}
		pause = min(2*pause, retryLast)
	}
}

// errServerGone ends a connection.
var errServerGone = errors.New("the sound server closed the connection")

// connection plays over one connection, until that ends.
func (p *Player) connection(ctx context.Context) error {
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	more := make(chan struct{}, 1)
	var room atomic.Int64 // bytes that the server has asked for
	var playing atomic.Int64
	playing.Store(none)
	c, err := pulse.New(conn, pulse.Login{Bound: ioLimit, Cookie: cookie(), Props: props}, func(msg any) {
		switch m := msg.(type) {
		case *proto.PlaybackStreamKilled:
			conn.Close()
		case *proto.Request:
			if int64(m.StreamIndex) != playing.Load() { // of a stream that is closed, or that tells how much in its reply
				return
			}
			room.Add(int64(m.Length))
			select {
			case more <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	// The client's reader must be gone before this returns: it is ours.
	defer c.Close()
	p.state(nil)
	m := &mixer{}
	buf := make([]byte, bufferBytes)
	silent := time.NewTimer(silentFor)
	defer silent.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.Gone():
			return errServerGone
		case pitch := <-p.wishes:
			m.add(pitch)
			silent.Reset(silentFor)
			if playing.Load() == none {
				stream, err := open(c)
				if err != nil {
					return err
				}
				room.Store(int64(stream.Missing))
				playing.Store(int64(stream.StreamIndex))
			}
		case <-more:
		case <-silent.C:
			// A stream that plays nothing keeps the server at work all the same, in
			// steps as short as its buffer, even one that is paused.
			if stream := playing.Swap(none); stream != none {
				if err := c.Request(&proto.DeletePlaybackStream{StreamIndex: uint32(stream)}, nil); err != nil {
					return fmt.Errorf("close the stream at the sound server: %w", err)
				}
			}
		}
		for playing.Load() != none && room.Load() >= startBytes {
			n := m.read(buf[:min(room.Load(), bufferBytes)&^1])
			if n == 0 {
				break
			}
			room.Add(-int64(n))
			if err := c.Send(uint32(playing.Load()), buf[:n]); err != nil {
				return fmt.Errorf("play: %w", err)
			}
		}
	}
}

// props tell the server's user what plays.
var props = proto.PropList{
	"application.name": proto.PropListString("Fenrir playground"),
	"media.name":       proto.PropListString("tones"),
	"media.role":       proto.PropListString("game"),
}

// open makes a stream that starts with the first few milliseconds that it is given
// and is silent when it is given nothing.
func open(c *pulse.Conn) (*proto.CreatePlaybackStreamReply, error) {
	var reply proto.CreatePlaybackStreamReply
	err := c.Request(&proto.CreatePlaybackStream{
		SampleSpec:            proto.SampleSpec{Format: proto.FormatInt16LE, Channels: 1, Rate: rate},
		ChannelMap:            proto.ChannelMap{proto.ChannelMono},
		SinkIndex:             proto.Undefined,
		BufferMaxLength:       2 * bufferBytes,
		BufferTargetLength:    bufferBytes,
		BufferPrebufferLength: startBytes,
		BufferMinimumRequest:  startBytes,
		ChannelVolumes:        proto.ChannelVolumes{0x10000},
		AdjustLatency:         true,
		Properties:            props,
	}, &reply)
	if err != nil {
		return nil, fmt.Errorf("open a stream at the sound server: %w", err)
	}
	return &reply, nil
}

// cookie is PulseAudio's shared secret; servers with auth-anonymous take any.
func cookie() []byte {
	name := os.Getenv("PULSE_COOKIE")
	if name == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return make([]byte, 256)
		}
		name = filepath.Join(dir, "pulse", "cookie")
	}
	b, err := os.ReadFile(name)
	if err != nil || len(b) != 256 {
		return make([]byte, 256)
	}
	return b
}

// dial connects to the first server of PULSE_SERVER that answers, or to the
// user's own.
func dial(ctx context.Context) (net.Conn, error) {
	servers := strings.Fields(os.Getenv("PULSE_SERVER"))
	if len(servers) == 0 {
		servers = []string{"unix:" + filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "pulse", "native")}
	}
	ctx, cancel := context.WithTimeout(ctx, ioLimit)
	defer cancel()
	err := errors.New("no sound server named in PULSE_SERVER")
	for _, s := range servers {
		network, address := endpoint(s)
		var d net.Dialer
		c, derr := d.DialContext(ctx, network, address)
		if derr == nil {
			return c, nil
		}
		err = fmt.Errorf("reach the sound server: %w", derr)
	}
	return nil, err
}

// endpoint takes a server's name apart: "unix:/path", "/path", "tcp:host:port", "{machine}…".
func endpoint(server string) (network, address string) {
	if strings.HasPrefix(server, "{") {
		_, server, _ = strings.Cut(server, "}")
	}
	network, address, found := strings.Cut(server, ":")
	switch {
	case strings.HasPrefix(server, "/"):
		return "unix", server
	case found && network == "unix":
		return network, address
	case found && (network == "tcp" || network == "tcp4" || network == "tcp6"):
	default:
		network, address = "tcp", server
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "4713")
	}
	return network, address
}
