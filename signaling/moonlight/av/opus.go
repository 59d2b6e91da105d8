package av

import "errors"

// ErrOpus is returned for what is no Opus packet, or one that does not fit.
var ErrOpus = errors.New("not an Opus packet that can be padded to that size")

const maxOpusFrames = 48

// PadOpus appends packet to dst, padded to size bytes as RFC 6716, 3.2.5, has it:
// decoders hear no difference.
func PadOpus(dst, packet []byte, size int) ([]byte, error) {
	if len(packet) < 1 || len(packet) > size {
		return dst, ErrOpus
	}
	if len(packet) == size {
		return append(dst, packet...), nil
	}
	toc, count, body := packet[0], byte(1), packet[1:]
	switch toc & 3 {
	case 1: // two frames of one size
		count = 2
	case 2: // two frames, the length of the first before both
		count = 2 | 0x80
	case 3:
		if len(body) < 1 {
			return dst, ErrOpus
		}
		var ok bool
		if count, body, ok = unpad(body); !ok {
			return dst, ErrOpus
		}
	}
	more := size - 2 - len(body)
	if more < 0 {
		return dst, ErrOpus // one byte short of what the other form needs: it had no padding
	}
	dst = append(dst, toc|3)
	if more == 0 {
		dst = append(dst, count)
		return append(dst, body...), nil
	}
	// Each byte of the length but the last stands for 254 bytes, and for itself.
	lengths := (more + 254) / 255
	zeros := more - lengths
	dst = append(dst, count|0x40)
	for range lengths - 1 {
		dst = append(dst, 255)
	}
	dst = append(dst, byte(zeros-254*(lengths-1)))
	dst = append(dst, body...)
	return append(dst, make([]byte, zeros)...), nil
}

// unpad takes the padding off what follows the first byte of a packet of any
// number of frames. count is the byte with their number, without padding.
func unpad(body []byte) (count byte, rest []byte, ok bool) {
	count, rest = body[0], body[1:]
	if n := count & 0x3F; n < 1 || n > maxOpusFrames {
		return 0, nil, false
	}
	if count&0x40 == 0 {
		return count, rest, true
	}
	padding := 0
	for {
		if len(rest) == 0 {
			return 0, nil, false
		}
		n := int(rest[0])
		rest = rest[1:]
		if n < 255 {
			padding += n
			break
		}
		padding += 254
	}
	if padding > len(rest) {
		return 0, nil, false
	}
	return count &^ 0x40, rest[:len(rest)-padding], true
}
