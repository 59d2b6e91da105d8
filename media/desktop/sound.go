package desktop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/desktop/tree"
	"fenrir/media/pulse"
)

const (
	sink = "fenrir" // the null sink that programs play into

	soundBound = 3 * time.Second // for the sound server to take connections

	// Between two starts of a sound server that keeps dying.
	firstRetry, lastRetry = 100 * time.Millisecond, 300 * time.Millisecond

	// A sound server is asked so often whether it answers, and has so long for it;
	// one that is silent twice in a row hangs.
	soundEvery    = 500 * time.Millisecond
	soundAnswer   = 600 * time.Millisecond
	soundPatience = 2
	// A sound server that lived so long is trusted again.
	steady = 30 * time.Second
)

// channelMaps are the loudspeakers of a session's sound card. Programs find two of
// them unless the session was started for more: what they then do with more is
// theirs to know.
var channelMaps = map[int]string{
	0: "channels=2 channel_map=front-left,front-right",
	2: "channels=2 channel_map=front-left,front-right",
	6: "channels=6 channel_map=front-left,front-right,front-center,lfe,rear-left,rear-right",
	8: "channels=8 channel_map=front-left,front-right,front-center,lfe,rear-left,rear-right,side-left,side-right",
}

// surroundConfig makes the server leave stereo what it is on a card with more
// loudspeakers: it comes from the front ones alone. By default it would come from all
// of them, and louder to whom these are mixed down for again.
const surroundConfig = "remixing-use-all-sink-channels = no\n"

func soundSocket(runtime string) string { return filepath.Join(runtime, "pulse", "native") }
func soundServer(runtime string) string { return "unix:" + soundSocket(runtime) }

// sound keeps a sound server running until ctx ends, always on the same socket.
// settled is closed when the first one takes connections or turns out not to;
// events wait for display.
func (s *stage) sound(ctx context.Context, display <-chan struct{}, settled chan<- struct{}) {
	retry := firstRetry
	silent := false
	settle := sync.OnceFunc(func() { close(settled) })
	for ctx.Err() == nil {
		began := time.Now()
		err := s.soundOnce(ctx, func() {
			select {
			case <-display:
			case <-ctx.Done():
				return
			}
			silent = false
			s.event(media.DesktopEvent{Kind: media.DesktopSound, Sound: s.soundAddress()})
			settle()
		})
		if ctx.Err() != nil {
			return
		}
		if !silent {
			select {
			case <-display:
			case <-ctx.Done():
				return
			}
			silent = true
			s.event(media.DesktopEvent{Kind: media.DesktopSilent})
			settle()
		}
		s.warn("sound server: %v", err)
		if time.Since(began) > steady {
			retry = firstRetry
		}
		wait := time.NewTimer(retry)
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
		retry = min(2*retry, lastRetry)
	}
}

// soundOnce starts a sound server, calls ready when it takes connections, and
// returns why it ended, or nil when ctx did; then the server is left running.
func (s *stage) soundOnce(ctx context.Context, ready func()) error {
	runtime := s.start.Spec.Runtime
	socket := soundSocket(runtime)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed
		return err
	}
	out, err := newCapture(2 << 10)
	if err != nil {
		return err
	}
	folder := filepath.Dir(socket)
	env := []string{"XDG_RUNTIME_DIR=" + folder, "PULSE_RUNTIME_PATH=" + folder, "PULSE_STATE_PATH=" + folder,
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(folder, "bus")}
	if s.start.Spec.Channels > 2 {
		config := filepath.Join(folder, "daemon.conf")
		if err := os.WriteFile(config, []byte(surroundConfig), 0o600); err != nil {
			return fmt.Errorf("configure sound server: %w", err)
		}
		env = append(env, "PULSE_CONFIG="+config)
	}
	server, err := s.serve("pulseaudio", []string{
		"-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disallow-exit=yes",
		"--log-target=stderr", "--log-level=error",
		"-L", "module-null-sink sink_name=" + sink + " rate=48000 " + channelMaps[s.start.Spec.Channels],
		// Who may open the folder may connect. Neither cookies, which each HOME would
		// need, nor the credentials of the socket, which clients other than libpulse
		// send too early for the server to see them (SO_PASSCRED is set after accept).
		"-L", "module-native-protocol-unix socket=" + socket + " auth-anonymous=1",
	}, s.serviceEnv(env...), out)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, soundBound)
	defer cancel()
	if !s.connectable(bounded, socket, server) {
		if ctx.Err() != nil {
			return nil
		}
		_ = server.Signal(unix.SIGKILL) // it hangs, or is gone already
		if !server.ended(ctx) {
			return nil
		}
		return fmt.Errorf("no connection within %v, %s: %s", soundBound, how(server.status), out.last(100*time.Millisecond))
	}
	ready()
	if hung := s.listens(ctx, server); hung != nil {
		_ = server.Signal(unix.SIGKILL) // or it has just gone
		if !server.ended(ctx) {
			return nil
		}
		return hung
	}
	if !server.ended(ctx) {
		return nil
	}
	return fmt.Errorf("%s: %s", how(server.status), out.last(100*time.Millisecond))
}

// listens asks the sound server again and again whether it answers. It returns why
// it does not, or nil when it ended or ctx did. The kernel takes connections for a
// server that hangs, so one has to speak to it.
func (s *stage) listens(ctx context.Context, server *child) error {
	tick := time.NewTicker(soundEvery)
	defer tick.Stop()
	for silent := 0; ; {
		select {
		case <-tick.C:
		case <-server.done:
			return nil
		case <-ctx.Done():
			return nil
		}
		if p, err := tree.Read(server.PID); err == nil && p.State == 'T' {
			if silent++; silent >= soundPatience { // no need to wait for its answer
				return errors.New("is stopped")
			}
			continue
		}
		answered := make(chan error, 1)
		go func() { answered <- shake(soundSocket(s.start.Spec.Runtime)) }() // ends within soundAnswer
		var err error
		select {
		case err = <-answered:
		case <-ctx.Done():
			return nil
		}
		if silent++; err == nil {
			silent = 0
		}
		if silent >= soundPatience {
			return fmt.Errorf("does not answer: %w", err)
		}
	}
}

// shake shakes hands with a sound server and hangs up.
func shake(socket string) error {
	conn, err := net.DialTimeout("unix", socket, soundAnswer)
	if err != nil {
		return err
	}
	c, err := pulse.New(conn, pulse.Login{Bound: soundAnswer}, func(any) {})
	if err != nil {
		return err
	}
	c.Close()
	return nil
}

// connectable waits until a service takes connections; it returns false when it
// ended or ctx did.
func (s *stage) connectable(ctx context.Context, socket string, server *child) bool {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	var d net.Dialer
	for {
		if conn, err := d.DialContext(ctx, "unix", socket); err == nil {
			_ = conn.Close() // nothing was said
			return true
		}
		select {
		case <-tick.C:
		case <-server.done:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// soundAddress is where the session's sound server is, or will be.
func (s *stage) soundAddress() media.Sound {
	return media.Sound{Server: soundServer(s.start.Spec.Runtime), Source: sink + ".monitor", Channels: s.start.Spec.Channels}
}
