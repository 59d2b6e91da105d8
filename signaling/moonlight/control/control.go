// Package control is what goes over a Moonlight client's control stream: the
// sealing of messages in both directions, and those messages that browsers do not
// have. Inputs and the rest are those of package signaling.
//
// Facts are from "moonlight protocol", sections 10.4 and 11. It imports media,
// signaling and launch.
package control

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/moonlight/launch"
)

var be, le = binary.BigEndian, binary.LittleEndian

// What can be wrong with a sealed message.
var (
	ErrSealed = errors.New("not a message of this client")        // forged, damaged, or of another one
	ErrReplay = errors.New("a message that came before")          // or that is older than what is remembered
	ErrSpent  = errors.New("no more messages can be sealed here") // 2^32 are
)

const (
	sealedType = 1
	outer      = 4 // type and length
	sealedHead = outer + 4 + 16
	tagAt      = outer + 4
	tagSize    = 16
)

// way is one direction of a stream.
type way struct {
	aead   cipher.AEAD
	letter byte // of who sends
	legacy bool
}

func newWay(key launch.Key, legacy bool, letter byte) (way, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return way{}, fmt.Errorf("control key: %w", err)
	}
	w := way{letter: letter, legacy: legacy}
	if legacy {
		w.aead, err = cipher.NewGCMWithNonceSize(block, 16)
	} else {
		w.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		return way{}, fmt.Errorf("control key: %w", err)
	}
	return w, nil
}

// nonce is that of a message. Clients that know no better one repeat theirs after
// 256 messages.
func (w way) nonce(seq uint32, room *[16]byte) []byte {
	clear(room[:])
	if w.legacy {
		room[0] = byte(seq)
		return room[:]
	}
	le.PutUint32(room[:], seq)
	room[10], room[11] = w.letter, 'C'
	return room[:12]
}

// Sealer seals what is sent to one client.
type Sealer struct {
	way way
	seq uint64 // of the next message
}

// NewSealer makes one. legacy is for clients that announced no better way.
func NewSealer(key launch.Key, legacy bool) (*Sealer, error) {
	w, err := newWay(key, legacy, 'H')
	return &Sealer{way: w}, err
}

// Seal appends a control packet to dst as it goes over the wire.
func (s *Sealer) Seal(dst, packet []byte) ([]byte, error) {
	if s.seq > math.MaxUint32 {
		return dst, ErrSpent
	}
	seq := uint32(s.seq)
	s.seq++
	dst = le.AppendUint16(dst, sealedType)
	dst = le.AppendUint16(dst, uint16(sealedHead-outer+len(packet)))
	dst = le.AppendUint32(dst, seq)
	tag := len(dst)
	dst = append(dst, make([]byte, tagSize)...)
	text := len(dst)
	var room [16]byte
	dst = s.way.aead.Seal(dst, s.way.nonce(seq, &room), packet, nil)
	copy(dst[tag:], dst[len(dst)-tagSize:])
	return dst[:text+len(packet)], nil
}

// Opener opens what comes from one client. Fresh may be called from any goroutine,
// Open from one at a time.
type Opener struct {
	way    way
	newest atomic.Int64 // number of a message, -1 before the first
	seen   uint64       // of the 64 up to the newest, bit 0 is the newest
}

// NewOpener makes one.
func NewOpener(key launch.Key, legacy bool) (*Opener, error) {
	w, err := newWay(key, legacy, 'C')
	o := &Opener{way: w}
	o.newest.Store(-1)
	return o, err
}

// open decrypts without regard to what came before.
func (o *Opener) open(message []byte) (packet []byte, seq uint32, err error) {
	if len(message) < sealedHead || le.Uint16(message) != sealedType || int(le.Uint16(message[2:])) != len(message)-outer {
		return nil, 0, ErrSealed
	}
	seq = le.Uint32(message[outer:])
	sealed := append(append(make([]byte, 0, len(message)), message[sealedHead:]...), message[tagAt:tagAt+tagSize]...)
	var room [16]byte
	packet, err = o.way.aead.Open(sealed[:0], o.way.nonce(seq, &room), sealed, nil)
	if err != nil {
		return nil, 0, ErrSealed
	}
	return packet, seq, nil
}

// Fresh tells whether a message was sealed by the client, after all that were opened
// so far: nobody can have it from before. Of a legacy client's that cannot be told.
func (o *Opener) Fresh(message []byte) bool {
	_, seq, err := o.open(message)
	return err == nil && (o.way.legacy || int64(seq) > o.newest.Load())
}

// Open opens a message once. Messages of different channels overtake each other; one
// that is more than 63 older than the newest is not told from one that came before.
// With a legacy client, whose nonces repeat, nothing is.
func (o *Opener) Open(message []byte) ([]byte, error) {
	packet, seq, err := o.open(message)
	if err != nil || o.way.legacy {
		return packet, err
	}
	age := o.newest.Load() - int64(seq)
	switch {
	case age < 0:
		o.seen = o.seen<<min(-age, 64) | 1
		o.newest.Store(int64(seq))
	case age >= 64 || o.seen>>age&1 == 1:
		return nil, ErrReplay
	default:
		o.seen |= 1 << age
	}
	return packet, nil
}

// Packets of clients that browsers do not send.
const (
	LongTermAck signaling.ControlType = 0x0350
)

// Invalid says which frames a client lacks, by their numbers, both included.
type Invalid struct{ First, Last uint32 }

// DecodeInvalid reads the payload of a signaling.ControlInvalidate.
func DecodeInvalid(p []byte) (Invalid, error) {
	if len(p) < 24 {
		return Invalid{}, fmt.Errorf("invalidation: %w", signaling.ErrShort)
	}
	v := Invalid{le.Uint32(p), le.Uint32(p[8:])}
	if v.Last < v.First {
		return Invalid{}, fmt.Errorf("invalidation of %d to %d: %w", v.First, v.Last, signaling.ErrRange)
	}
	return v, nil
}

// FECStatus is what a client says about a block of a frame that lacked packets.
type FECStatus struct {
	Frame                        uint32
	Data, Parity                 int // packets that the block had
	ReceivedData, ReceivedParity int
	Block, Blocks                int
}

// DecodeFECStatus reads the payload of a signaling.ControlFECStatus.
func DecodeFECStatus(p []byte) (FECStatus, error) {
	if len(p) < 21 {
		return FECStatus{}, fmt.Errorf("FEC status: %w", signaling.ErrShort)
	}
	n := func(at int) int { return int(be.Uint16(p[at:])) }
	return FECStatus{Frame: be.Uint32(p), Data: n(10), Parity: n(12), ReceivedData: n(14), ReceivedParity: n(16), Block: int(p[19]), Blocks: int(p[20])}, nil
}

// reasonFailed is shown by clients as a number: something went wrong here.
const reasonFailed uint32 = 0x800E0001

// Reason is what a client is told at the end of its stream. What somebody wanted is a
// normal end; for the rest clients have a dialog.
func Reason(cause *media.Cause) uint32 {
	switch cause.Code {
	case media.CauseUser, media.CauseIdle, media.CauseMaxAge, media.CauseShutdown, media.CauseAppExited, media.CauseSuperseded,
		media.CauseRevoked, media.CauseLeft:
		return signaling.TerminationNormal
	}
	return reasonFailed
}
