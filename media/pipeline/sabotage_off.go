//go:build cgo && !faults

package pipeline

// sabotage does nothing: this binary has no faults on purpose.
func (*codec) sabotage() {}
