//go:build race

package playground

func init() { raceDetector = true }
