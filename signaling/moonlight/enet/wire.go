// Package enet is the host's side of ENet, the reliable protocol over UDP of
// Moonlight's control stream: as much of it as clients use, and no more. One port
// serves all clients.
//
// ENet proves nothing about who sends: what is sent from another address than a
// client's is taken only when its content is authentic, which its caller decides.
// Nothing is sent to an address that has not shown a number that only a client of
// ours can know, and then no more than came from there.
//
// Facts are from "moonlight protocol", section 10. It imports the standard library
// only.
package enet

import (
	"encoding/binary"
	"errors"
)

var be = binary.BigEndian

// ErrMalformed is what is said of datagrams that are no ENet.
var ErrMalformed = errors.New("not an ENet datagram")

// Bits of a datagram's first number.
const (
	idMask       = 0x0FFF // peer id, as its receiver gave it
	noID         = 0x0FFF // of who has none yet
	sessionShift = 12
	sessionMask  = 3
	compressed   = 0x4000
	hasTime      = 0x8000
)

// command is the kind of a command.
type command uint8

const (
	cmdAcknowledge command = 1 + iota
	cmdConnect
	cmdVerifyConnect
	cmdDisconnect
	cmdPing
	cmdReliable
	cmdUnreliable
	cmdFragment
	cmdUnsequenced
	cmdBandwidth
	cmdThrottle
	cmdUnreliableFragment
)

const (
	commandMask     = 0x0F
	flagUnsequenced = 0x40
	flagAcknowledge = 0x80
	commandHeader   = 4
	wholeConnection = 0xFF // the channel of what concerns all of it
)

// sizes are those of commands with their header, without data.
var sizes = [...]int{
	cmdAcknowledge: 8, cmdConnect: 48, cmdVerifyConnect: 44, cmdDisconnect: 8, cmdPing: 4, cmdReliable: 6,
	cmdUnreliable: 8, cmdFragment: 24, cmdUnsequenced: 8, cmdBandwidth: 12, cmdThrottle: 16, cmdUnreliableFragment: 24,
}

// lengthAt is where commands with data have its length, 0 for others.
var lengthAt = [...]int{cmdReliable: 4, cmdUnreliable: 6, cmdFragment: 6, cmdUnsequenced: 6, cmdUnreliableFragment: 6}

// Bounds of what a datagram may hold.
const (
	maxDatagram = 4096 // bytes, as ENet has it
	maxCommands = 32   // as ENet has it
	leastMTU    = 576
	mostMTU     = 900 // what clients ask for
)

// datagram is one that came, taken apart.
type datagram struct {
	id       uint16
	session  uint8
	sent     uint16 // ms
	timed    bool
	commands []parsed
}

// parsed is one command. Its fields are read from body, which has its header.
type parsed struct {
	kind    command
	flags   uint8
	channel uint8
	seq     uint16
	body    []byte
	data    []byte
}

// parse takes a datagram apart. What it returns aliases b; commands are appended to
// into.
func parse(b []byte, into []parsed) (d datagram, err error) {
	if len(b) < 2 || len(b) > maxDatagram {
		return d, ErrMalformed
	}
	first := be.Uint16(b)
	d.id, d.session, d.timed = first&idMask, uint8(first>>sessionShift)&sessionMask, first&hasTime != 0
	b = b[2:]
	if first&compressed != 0 {
		return d, ErrMalformed
	}
	if d.timed {
		if len(b) < 2 {
			return d, ErrMalformed
		}
		d.sent, b = be.Uint16(b), b[2:]
	}
	for len(b) > 0 {
		c, rest, ok := next(b)
		if !ok || len(into) == maxCommands || c.flags&flagAcknowledge != 0 && !d.timed {
			return d, ErrMalformed
		}
		into, b = append(into, c), rest
	}
	d.commands = into
	return d, nil
}

func next(b []byte) (c parsed, rest []byte, ok bool) {
	if len(b) < commandHeader {
		return c, nil, false
	}
	c = parsed{kind: command(b[0] & commandMask), flags: b[0] &^ commandMask, channel: b[1], seq: be.Uint16(b[2:])}
	if int(c.kind) >= len(sizes) || c.kind == 0 || len(b) < sizes[c.kind] {
		return c, nil, false
	}
	c.body, rest = b[:sizes[c.kind]], b[sizes[c.kind]:]
	if int(c.kind) < len(lengthAt) && lengthAt[c.kind] > 0 {
		n := int(be.Uint16(c.body[lengthAt[c.kind]:]))
		if n > len(rest) {
			return c, nil, false
		}
		c.data, rest = rest[:n], rest[n:]
	}
	return c, rest, true
}

// appendHeader appends a datagram's header.
func appendHeader(dst []byte, id uint16, session uint8, timed bool, sent uint16) []byte {
	first := id | uint16(session)<<sessionShift
	if !timed {
		return be.AppendUint16(dst, first)
	}
	return be.AppendUint16(be.AppendUint16(dst, first|hasTime), sent)
}

func appendCommand(dst []byte, kind command, flags, channel uint8, seq uint16) []byte {
	return be.AppendUint16(append(dst, byte(kind)|flags, channel), seq)
}

// appendAck appends the acknowledgement of a command.
func appendAck(dst []byte, c *parsed, sent uint16) []byte {
	dst = appendCommand(dst, cmdAcknowledge, 0, c.channel, c.seq)
	return be.AppendUint16(be.AppendUint16(dst, c.seq), sent)
}
