package record

import (
	"errors"
	"fmt"

	"github.com/jfreymuth/pulse/proto"
)

// ErrNotNull is that a source is not the monitor of a null sink.
var ErrNotNull = errors.New("not the monitor of a null sink")

// Rouse makes a null sink serve a recorder that has just come to its monitor.
// PulseAudio's null sink renders two seconds at a time while nobody asks for
// less, and heeds a new wish only after these; but one that wakes from suspension
// begins with what is wished for then. What plays on it is silent for a moment.
// Sinks of other sorts are left alone, with ErrNotNull. It waits at most Bound for
// each of three answers of the server.
func (r *Recorder) Rouse() error {
	var source proto.GetSourceInfoReply
	err := r.client.Request(&proto.GetSourceInfo{SourceIndex: proto.Undefined, SourceName: r.sound.Source}, &source)
	if err != nil {
		return fmt.Errorf("rouse sink: ask for source: %w", err)
	}
	// The monitor of a sink names that sink, and its driver.
	if source.Driver != "module-null-sink.c" || source.MonitorSourceName == "" {
		return fmt.Errorf("rouse sink: %w", ErrNotNull)
	}
	for _, suspend := range []bool{true, false} {
		err := r.client.Request(&proto.SuspendSink{SinkIndex: proto.Undefined, SinkName: source.MonitorSourceName, Suspend: suspend}, nil)
		if err != nil {
			return fmt.Errorf("rouse sink: suspend it (%v): %w", suspend, err)
		}
	}
	return nil
}
