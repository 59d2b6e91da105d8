//go:build !faults

package main

import (
	"os"

	"fenrir/media/pipeline"
)

// workerArgs start a media worker for a session of an app.
func workerArgs(string) []string { return []string{"media-worker"} }

// mediaWorker is the life of a media worker.
func mediaWorker([]string) int { return pipeline.Main(os.NewFile(3, "parent")) }
