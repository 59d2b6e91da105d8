// Package pipeline is the inside of a media worker, a process of its own: it
// reads a display when it changes, encodes pictures and sound with GStreamer,
// and writes them to its parent. Its calls into native code may hang or crash;
// nobody outside the process waits for them, and the parent kills it when it
// falls silent. It is the only importer of go-gst.
//
// Without cgo the package builds, and its functions say that they cannot work.
package pipeline
