// Package wire frames what travels over a media worker's socket: units and
// reports from the child to its parent, one spec and then orders from the
// parent to the child. It imports package media and the standard library.
//
// A message is a 32-bit little-endian length of what follows it, one byte that
// names its type, and the body. A unit's body is a header of fixed size, all
// integers little-endian, then the unit's bytes; the body of every other
// message is JSON.
package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"fenrir/media"
)

// Limits of a message's body.
const (
	MaxUnit    = 32 << 20 // bytes of a unit's Data
	MaxControl = 64 << 10 // bytes of JSON
)

// ErrMalformed is why a Reader gives up: what came is no message of this
// protocol, or none that may travel in this direction.
var ErrMalformed = errors.New("malformed message")

// ErrTooLarge is why a Writer refuses: the message is over the limits.
var ErrTooLarge = errors.New("message too large")

// Type names what a message carries.
type Type uint8

// The types of message.
const (
	TypeUnit   Type = 1 // child → parent
	TypeReport Type = 2 // child → parent
	TypeSpec   Type = 3 // parent → child, the first message
	TypeOrder  Type = 4 // parent → child
)

// Message is one of media.Unit, media.Report, media.Spec and media.Order.
type Message any

const (
	prefix     = 5 // length and type
	unitHeader = 1 + 1 + 1 + 1 + 4 + 2 + 2 + 6*8
	keyFlag    = 1
)

// codecs are the numbers of codecs on the wire. Both ends are one binary.
var codecs = [...]media.Codec{1: media.H264, 2: media.H265, 3: media.AV1, 4: media.VP8, 5: media.VP9, 6: media.Opus}

func codecNumber(c media.Codec) byte {
	for n, name := range codecs {
		if name == c && n > 0 {
			return byte(n)
		}
	}
	return 0
}

// Writer writes messages, each with one call of the system where the kernel
// takes it at once. Its methods may be called from several goroutines; they
// block as long as the other side does not read, at most until the deadline.
type Writer struct {
	mu    sync.Mutex // guards what follows; held while writing, which is its purpose
	w     io.Writer
	bound time.Duration
	head  [prefix + unitHeader]byte
	bufs  [2][]byte
	iov   net.Buffers
	err   error
}

// NewWriter returns a Writer on w. If bound is positive, w must have
// SetWriteDeadline, as net.Conn has, and each message must be taken within it.
func NewWriter(w io.Writer, bound time.Duration) *Writer { return &Writer{w: w, bound: bound} }

// Unit writes a unit. Its Data is neither copied nor kept. The error is
// ErrTooLarge, after which the Writer can go on, or final.
func (w *Writer) Unit(u media.Unit) error {
	if len(u.Data) > MaxUnit {
		return fmt.Errorf("%w: unit of %d bytes", ErrTooLarge, len(u.Data))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	le := binary.LittleEndian
	b := le.AppendUint32(w.head[:0], uint32(1+unitHeader+len(u.Data)))
	b = append(b, byte(TypeUnit))
	flags := byte(0)
	if u.Key {
		flags = keyFlag
	}
	b = append(b, byte(u.Kind), codecNumber(u.Codec), flags, 0)
	b = le.AppendUint32(b, u.Frame)
	b = le.AppendUint16(b, u.Width)
	b = le.AppendUint16(b, u.Height)
	for _, s := range [...]media.Stamp{u.Stages.Damage, u.Stages.Captured, u.Stages.Converted, u.Stages.Encoded, u.Stages.Emitted, u.Stages.Received} {
		b = le.AppendUint64(b, uint64(s))
	}
	return w.write(b, u.Data)
}

// Report writes a report.
func (w *Writer) Report(r media.Report) error { return w.control(TypeReport, r) }

// Spec writes the spec.
func (w *Writer) Spec(s media.Spec) error { return w.control(TypeSpec, s) }

// Order writes an order.
func (w *Writer) Order(o media.Order) error { return w.control(TypeOrder, o) }

func (w *Writer) control(t Type, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(body) > MaxControl {
		return fmt.Errorf("%w: %d bytes of JSON", ErrTooLarge, len(body))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b := binary.LittleEndian.AppendUint32(w.head[:0], uint32(1+len(body)))
	return w.write(append(b, byte(t)), body)
}

// write sends head and body. After an error, which may have cut a message in
// two, nothing is written any more.
func (w *Writer) write(head, body []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.bound > 0 {
		if d, ok := w.w.(interface{ SetWriteDeadline(time.Time) error }); ok {
			if err := d.SetWriteDeadline(time.Now().Add(w.bound)); err != nil {
				w.err = fmt.Errorf("write message: %w", err)
				return w.err
			}
		}
	}
	w.bufs = [2][]byte{head, body}
	w.iov = w.bufs[:]
	_, err := w.iov.WriteTo(w.w)
	w.bufs[1] = nil // not kept
	if err != nil {
		w.err = fmt.Errorf("write message: %w", err)
	}
	return w.err
}

// Reader reads messages. One goroutine at a time may use it.
type Reader struct {
	r      *bufio.Reader
	accept uint // bits of Types
}

// NewReader returns a Reader on r that takes messages of the given types only.
func NewReader(r io.Reader, accept ...Type) *Reader {
	// A unit's bytes beyond the buffer go straight into their own slice.
	rd := &Reader{r: bufio.NewReaderSize(r, 4<<10)}
	for _, t := range accept {
		rd.accept |= 1 << t
	}
	return rd
}

// Next returns the next message. It blocks until one is there. The error is
// io.EOF when the other side closed the socket between two messages, wraps
// ErrMalformed when it sent what is no message, and is final in any case.
func (r *Reader) Next() (Message, error) {
	var head [prefix]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read message: %w", err)
	}
	size := int64(binary.LittleEndian.Uint32(head[:])) - 1
	t := Type(head[4])
	if t > TypeOrder || r.accept&(1<<t) == 0 {
		return nil, fmt.Errorf("%w: type %d", ErrMalformed, t)
	}
	if t == TypeUnit {
		return r.unit(size)
	}
	if size < 0 || size > MaxControl {
		return nil, fmt.Errorf("%w: length %d", ErrMalformed, size)
	}
	body := make([]byte, size)
	if err := r.full(body); err != nil {
		return nil, err
	}
	switch t {
	case TypeReport:
		return decode[media.Report](body)
	case TypeSpec:
		return decode[media.Spec](body)
	}
	return decode[media.Order](body)
}

// full fills b from the middle of a message, where the end is never expected.
func (r *Reader) full(b []byte) error {
	_, err := io.ReadFull(r.r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}

func decode[T any](body []byte) (Message, error) {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return v, nil
}

func (r *Reader) unit(size int64) (Message, error) {
	if size < unitHeader || size > unitHeader+MaxUnit {
		return nil, fmt.Errorf("%w: unit of length %d", ErrMalformed, size)
	}
	var h [unitHeader]byte
	if err := r.full(h[:]); err != nil {
		return nil, err
	}
	u := media.Unit{Kind: media.Kind(h[0]), Key: h[2] == keyFlag}
	if u.Kind != media.Video && u.Kind != media.Audio {
		return nil, fmt.Errorf("%w: unit of %v", ErrMalformed, u.Kind)
	}
	if n := int(h[1]); n == 0 || n >= len(codecs) {
		return nil, fmt.Errorf("%w: unit of codec %d", ErrMalformed, n)
	}
	if h[2]&^keyFlag != 0 || h[3] != 0 {
		return nil, fmt.Errorf("%w: unit with unknown flags", ErrMalformed)
	}
	u.Codec = codecs[h[1]]
	if (u.Codec == media.Opus) != (u.Kind == media.Audio) {
		return nil, fmt.Errorf("%w: unit of %v in %s", ErrMalformed, u.Kind, u.Codec)
	}
	le := binary.LittleEndian
	u.Frame, u.Width, u.Height = le.Uint32(h[4:]), le.Uint16(h[8:]), le.Uint16(h[10:])
	for i, s := range [...]*media.Stamp{&u.Stages.Damage, &u.Stages.Captured, &u.Stages.Converted, &u.Stages.Encoded, &u.Stages.Emitted, &u.Stages.Received} {
		*s = media.Stamp(le.Uint64(h[12+8*i:]))
	}
	u.Data = make([]byte, size-unitHeader)
	if err := r.full(u.Data); err != nil {
		return nil, err
	}
	return u, nil
}
