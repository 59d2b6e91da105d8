//go:build cgo

package pipeline

import (
	"errors"
	"fmt"

	"github.com/jfreymuth/pulse/proto"

	"fenrir/media"
)

// errNotNull is that a source is not the monitor of a null sink.
var errNotNull = errors.New("not the monitor of a null sink")

// rouse makes a null sink serve a recorder that has just come to its monitor.
// PulseAudio's null sink renders two seconds at a time while nobody asks for
// less, and heeds a new wish only after these; but one that wakes from suspension
// begins with what is wished for then. What plays on it is silent for a moment.
// Sinks of other sorts are left alone. It waits at most a second for each of a
// few answers of the server.
func rouse(sound media.Sound) error {
	c, conn, err := proto.Connect(sound.Server)
	if err != nil {
		return fmt.Errorf("rouse sink: %w", err)
	}
	defer conn.Close()
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
