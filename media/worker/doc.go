// Package worker is the parent's side of a media worker: it starts the process
// that captures and encodes, hands orders to it, reads units and reports from
// it, and takes it away when it hangs, lies or is told to go. However the
// child behaves, Process.Run returns within its bounds.
//
// It imports media, media/wire and the standard library, and calls no C.
package worker
