//go:build cgo

package pipeline

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jfreymuth/pulse/proto"

	"fenrir/media"
)

// errNotNull is that a source is not the monitor of a null sink.
var errNotNull = errors.New("not the monitor of a null sink")

// rouseBound is how long the sound server may take for one answer.
const rouseBound = time.Second

// rouse makes a null sink serve a recorder that has just come to its monitor.
// PulseAudio's null sink renders two seconds at a time while nobody asks for
// less, and heeds a new wish only after these; but one that wakes from suspension
// begins with what is wished for then. What plays on it is silent for a moment.
// Sinks of other sorts are left alone. It waits at most a second for each of a
// few answers of the server.
func rouse(sound media.Sound) error {
	path, ok := strings.CutPrefix(sound.Server, "unix:")
	if !ok {
		return nil // not a desktop's of ours
	}
	conn, err := net.DialTimeout("unix", path, rouseBound)
	if err != nil {
		return fmt.Errorf("rouse sink: %w", err)
	}
	defer conn.Close()
	c := &proto.Client{Callback: func(any) {}} // without one it panics when the server dies
	c.SetTimeout(rouseBound)
	c.Open(conn)
	auth := proto.AuthReply{}
	if err := c.Request(&proto.Auth{Version: c.Version(), Cookie: make([]byte, 256)}, &auth); err != nil {
		return fmt.Errorf("rouse sink: introduce ourselves: %w", err)
	}
	c.SetVersion(auth.Version)
	var source proto.GetSourceInfoReply
	err = c.Request(&proto.SetClientName{Props: proto.PropList{"application.name": proto.PropListString("fenrir")}}, &proto.SetClientNameReply{})
	if err == nil {
		err = c.Request(&proto.GetSourceInfo{SourceIndex: proto.Undefined, SourceName: sound.Source}, &source)
	}
	if err != nil {
		return fmt.Errorf("rouse sink: ask for source: %w", err)
	}
	// The monitor of a sink names that sink, and its driver.
	if source.Driver != "module-null-sink.c" || source.MonitorSourceName == "" {
		return fmt.Errorf("rouse sink: %w", errNotNull)
	}
	for _, suspend := range []bool{true, false} {
		err := c.Request(&proto.SuspendSink{SinkIndex: proto.Undefined, SinkName: source.MonitorSourceName, Suspend: suspend}, nil)
		if err != nil {
			return fmt.Errorf("rouse sink: suspend it (%v): %w", suspend, err)
		}
	}
	return nil
}
