//go:build faults

package main

import (
	"os"

	"fenrir/media/fault"
	"fenrir/media/pipeline"
)

// workerArgs start a media worker for a session of an app, with the fault that it
// is to have.
func workerArgs(app string) []string {
	if f := fault.For(app); f != "" {
		return []string{"media-worker", f}
	}
	return []string{"media-worker"}
}

// mediaWorker is the life of a media worker.
func mediaWorker(args []string) int {
	conn := os.NewFile(3, "parent")
	if len(args) > 0 {
		return fault.Main(args[0], conn, pipeline.Main)
	}
	return pipeline.Main(conn)
}
