//go:build cgo && race

package pipeline

// underRace: the race detector makes drawing slow and memory large.
const underRace = true
