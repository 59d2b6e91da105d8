// Package nvhttp is what a Moonlight client sees of Fenrir before it streams: the
// HTTP and HTTPS ports with server info, pairing, the list of programs and their
// pictures, launch, resume and cancel. Each answer is XML within HTTP 200, as
// clients want it. Facts are from "moonlight protocol", sections 3 to 8.
//
// A client is who holds the key of a paired certificate; over plain HTTP nobody
// knows who it is, and it is told nothing that is not for everybody.
//
// It imports media, signaling/tcp, and boxart, launch and pairing of this door.
package nvhttp
