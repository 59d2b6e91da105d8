//go:build cgo && !race

package pipeline

const underRace = false
