// Package av turns access units and Opus packets into the datagrams that
// Moonlight clients expect: RTP-like headers, Reed-Solomon parity, encryption.
// It works on bytes alone and has no sockets, clocks or goroutines. What is one
// stream's is used by one goroutine at a time.
//
// The layouts and rules come from the description of the Moonlight protocol,
// generation 7.1.431. It imports media, the standard library and
// klauspost/reedsolomon.
package av
