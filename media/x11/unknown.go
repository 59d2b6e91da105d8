package x11

import (
	"encoding/binary"
	"fmt"

	"github.com/jezek/xgb"
)

// unknownError is an error of an extension that Use was not called for.
type unknownError struct {
	seq           uint16
	bad           uint32
	minor         uint16
	majorOfSender byte
}

func newUnknownError(b []byte) xgb.Error {
	return unknownError{
		seq:           binary.LittleEndian.Uint16(b[2:]),
		bad:           binary.LittleEndian.Uint32(b[4:]),
		minor:         binary.LittleEndian.Uint16(b[8:]),
		majorOfSender: b[10],
	}
}

func (e unknownError) SequenceId() uint16 { return e.seq }
func (e unknownError) BadId() uint32      { return e.bad }
func (e unknownError) Error() string {
	return fmt.Sprintf("X error of an extension, request %d.%d, value %#x", e.majorOfSender, e.minor, e.bad)
}
