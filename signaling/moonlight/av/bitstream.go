package av

import (
	"bytes"

	"fenrir/media"
)

// Kinds of NAL units that matter here.
const (
	avcSEI, hevcSEI = 6, 39
	avcLastSlice    = 5  // 1…5 are slices
	hevcLastSlice   = 31 // 0…31 are slices
)

// TrimSEI appends an access unit without supplemental information to dst. Encoders
// put their own name before the first slice, some hundred bytes, and clients look
// for the slice in the first packet only. What has none, and other codecs than H.264
// and H.265, is returned as it is, not copied.
func TrimSEI(dst []byte, codec media.Codec, data []byte) []byte {
	if codec != media.H264 && codec != media.H265 || !hasSEI(codec, data) {
		return data
	}
	eachNAL(data, func(start, nal, end int) bool {
		if kind, _ := kindOf(codec, data[nal:end]); kind != seiOf(codec) {
			dst = append(dst, data[start:end]...)
		}
		return true
	})
	return dst
}

func hasSEI(codec media.Codec, data []byte) (found bool) {
	eachNAL(data, func(_, nal, end int) bool {
		kind, slice := kindOf(codec, data[nal:end])
		found = kind == seiOf(codec)
		return !found && !slice
	})
	return found
}

// SliceAt is where the first slice of an access unit of H.264 or H.265 begins, its
// start code included; -1 if there is none. Clients find a key frame only when that
// lies in the first packet.
func SliceAt(codec media.Codec, data []byte) int {
	at := -1
	eachNAL(data, func(start, nal, end int) bool {
		if _, slice := kindOf(codec, data[nal:end]); slice {
			at = start
		}
		return at < 0
	})
	return at
}

func seiOf(codec media.Codec) int {
	if codec == media.H265 {
		return hevcSEI
	}
	return avcSEI
}

// kindOf is the type of a NAL unit, -1 of an empty one.
func kindOf(codec media.Codec, nal []byte) (kind int, slice bool) {
	switch {
	case len(nal) == 0:
		return -1, false
	case codec == media.H265:
		kind = int(nal[0] >> 1 & 0x3F)
		return kind, kind <= hevcLastSlice
	}
	kind = int(nal[0] & 0x1F)
	return kind, kind >= 1 && kind <= avcLastSlice
}

// eachNAL calls f with where each NAL unit's start code, it itself, and the next
// start code begin, until f returns false.
func eachNAL(data []byte, f func(start, nal, end int) bool) {
	start, nal := nextStart(data, 0)
	for nal >= 0 {
		next, after := nextStart(data, nal)
		end := next
		if after < 0 {
			end = len(data)
		}
		if !f(start, nal, end) {
			return
		}
		start, nal = next, after
	}
}

// nextStart finds the next start code of three or four bytes, and what follows it;
// -1 for none.
func nextStart(data []byte, from int) (start, nal int) {
	i := bytes.Index(data[from:], []byte{0, 0, 1})
	if i < 0 {
		return len(data), -1
	}
	start = from + i
	nal = start + 3
	if start > from && data[start-1] == 0 {
		start--
	}
	return start, nal
}
