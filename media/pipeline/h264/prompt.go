package h264

import (
	"bytes"
	"math/bits"
)

// Prompt returns an access unit in Annex B form whose parameter sets tell
// decoders not to hold frames back, and without what encoders write about
// themselves: hundreds of bytes before the picture, which some clients look for in
// the first packet only. When there is nothing to change, that is au itself, and
// nothing is allocated beyond what parsing takes; otherwise it is a copy. A
// parameter set that cannot be read is left as it is. The stream must have no
// reordered frames.
func Prompt(au []byte) []byte {
	var out []byte
	from := 0 // of au, not copied to out yet
	for start, end := nextNAL(au, 0); start < len(au); start, end = nextNAL(au, end) {
		switch au[start] & 0x1f {
		case 1, 5: // parameter sets stand before the picture
			end = len(au)
		case 6:
			next, _ := nextNAL(au, end)
			if chatter(au[start:end]) && next < len(au) {
				out = append(out, au[from:start]...) // with the start code, which the next unit takes
				from = next
			}
		case 7:
			nal := bytes.TrimRight(au[start:end], "\x00")
			if fixed := prompt(nal); fixed != nil {
				out = append(out, au[from:start]...)
				out = append(out, fixed...)
				from = start + len(nal)
			}
		}
	}
	if out == nil {
		return au
	}
	return append(out, au[from:]...)
}

// chatter tells whether a NAL unit is a message of the sort that encoders use for
// their names and settings: user_data_unregistered (ITU-T H.264, D.1.7). They stand
// in units of their own.
func chatter(nal []byte) bool { return len(nal) > 1 && nal[1] == 5 }

// nextNAL finds the NAL unit after position at: it begins at start and ends
// before end, where the next start code is. start is len(b) when there is none.
func nextNAL(b []byte, at int) (start, end int) {
	code := []byte{0, 0, 1}
	i := bytes.Index(b[at:], code)
	if i < 0 || at+i+3 >= len(b) {
		return len(b), len(b)
	}
	start = at + i + 3
	if i = bytes.Index(b[start:], code); i < 0 {
		return start, len(b)
	}
	return start, start + i
}

// prompt returns the parameter set with a bitstream restriction, or nil when it
// needs none or cannot be read.
func prompt(nal []byte) []byte {
	s, err := ParseSPS(nal)
	if err != nil || s.Restriction && s.Reorder == 0 && s.Buffering <= max(s.RefFrames, 1) {
		return nil
	}
	in := &reader{b: unescape(nal[1:])}
	w := &writer{}
	copyBits := func(n int) {
		for range n {
			w.bit(in.bits(1))
		}
	}
	if s.VUI {
		copyBits(s.restrictionAt)
	} else {
		copyBits(s.vuiAt)
		w.bit(1)
		for range 8 { // nothing of aspect, overscan, signal, chroma, timing, two HRDs, structure
			w.bit(0)
		}
	}
	w.bit(1)                  // bitstream_restriction_flag
	w.bit(1)                  // motion_vectors_over_pic_boundaries_flag
	w.ue(0)                   // max_bytes_per_pic_denom: no limit
	w.ue(0)                   // max_bits_per_mb_denom: no limit
	w.ue(16)                  // log2_max_mv_length_horizontal
	w.ue(16)                  // log2_max_mv_length_vertical
	w.ue(0)                   // max_num_reorder_frames
	w.ue(max(s.RefFrames, 1)) // max_dec_frame_buffering, not below max_num_ref_frames
	w.bit(1)                  // rbsp_stop_one_bit
	return escape([]byte{nal[0]}, w.b)
}

// writer writes bits.
type writer struct {
	b []byte
	n int // bits
}

func (w *writer) bit(v uint32) {
	if w.n%8 == 0 {
		w.b = append(w.b, 0)
	}
	if v != 0 {
		w.b[w.n/8] |= 0x80 >> (w.n % 8)
	}
	w.n++
}

// ue writes an Exp-Golomb code.
func (w *writer) ue(v uint) {
	v++
	size := bits.Len(v)
	for range size - 1 {
		w.bit(0)
	}
	for i := size - 1; i >= 0; i-- {
		w.bit(uint32(v >> i & 1))
	}
}
