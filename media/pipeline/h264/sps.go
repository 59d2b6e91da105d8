// Package h264 reads the sequence parameter sets of H.264 streams and makes them
// tell decoders not to hold frames back. It imports the standard library only.
//
// Without max_num_reorder_frames = 0 in the VUI a decoder may have to assume
// that frames are reordered, and shows each of them several frames late
// (ITU-T H.264, E.2.1). Not every encoder writes it.
package h264

import (
	"errors"
	"fmt"
)

// ErrSyntax is why a parameter set cannot be read.
var ErrSyntax = errors.New("h264: bad sequence parameter set")

// SPS is what matters here of a sequence parameter set.
type SPS struct {
	Profile     uint8 // profile_idc
	Constraints uint8 // constraint_set0_flag is the highest bit
	Level       uint8 // level_idc
	RefFrames   uint  // max_num_ref_frames
	Width       int   // of the picture as shown, pixels
	Height      int
	VUI         bool
	Signal      bool // colour_description_present_flag; the next four are 0 without it
	FullRange   bool // video_full_range_flag
	Primaries   uint8
	Transfer    uint8
	Matrix      uint8
	Restriction bool // bitstream_restriction_flag; what follows is 0 without it
	Reorder     uint // max_num_reorder_frames
	Buffering   uint // max_dec_frame_buffering

	vuiAt         int // bit of vui_parameters_present_flag
	restrictionAt int // bit of bitstream_restriction_flag, when there is a VUI
}

// Prompt tells whether a decoder may show every frame as soon as it is decoded.
func (s SPS) Prompt() bool { return s.Restriction && s.Reorder == 0 && s.Buffering <= 1 }

// ParseSPS reads a NAL unit of type 7, its header byte included, without start code.
func ParseSPS(nal []byte) (SPS, error) {
	if len(nal) < 4 || nal[0]&0x1f != 7 {
		return SPS{}, fmt.Errorf("%w: no such NAL unit", ErrSyntax)
	}
	return parse(&reader{b: unescape(nal[1:])})
}

func parse(r *reader) (s SPS, err error) {
	s.Profile, s.Constraints, s.Level = uint8(r.bits(8)), uint8(r.bits(8)), uint8(r.bits(8))
	r.ue() // seq_parameter_set_id
	chroma := uint(1)
	switch s.Profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		if chroma = r.ue(); chroma == 3 {
			r.bits(1) // separate_colour_plane_flag
		}
		r.ue()             // bit_depth_luma_minus8
		r.ue()             // bit_depth_chroma_minus8
		r.bits(1)          // qpprime_y_zero_transform_bypass_flag
		if r.bits(1) > 0 { // seq_scaling_matrix_present_flag
			lists := 8
			if chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.bits(1) > 0 {
					scalingList(r, i)
				}
			}
		}
	}
	r.ue() // log2_max_frame_num_minus4
	switch r.ue() {
	case 0:
		r.ue() // log2_max_pic_order_cnt_lsb_minus4
	case 1:
		r.bits(1) // delta_pic_order_always_zero_flag
		r.ue()    // offset_for_non_ref_pic, signed
		r.ue()    // offset_for_top_to_bottom_field, signed
		n := r.ue()
		for range min(n, 256) {
			r.ue()
		}
	}
	s.RefFrames = r.ue()
	r.bits(1) // gaps_in_frame_num_value_allowed_flag
	s.Width = 16 * (int(r.ue()&0xffff) + 1)
	mapUnits := int(r.ue()&0xffff) + 1
	frameOnly := r.bits(1)
	s.Height = 16 * mapUnits * (2 - int(frameOnly))
	if frameOnly == 0 {
		r.bits(1) // mb_adaptive_frame_field_flag
	}
	r.bits(1)          // direct_8x8_inference_flag
	if r.bits(1) > 0 { // frame_cropping_flag
		unitX, unitY := 1, 2-int(frameOnly)
		if chroma == 1 || chroma == 2 {
			unitX = 2
		}
		if chroma == 1 {
			unitY *= 2
		}
		s.Width -= unitX * (int(r.ue()&0xffff) + int(r.ue()&0xffff))
		s.Height -= unitY * (int(r.ue()&0xffff) + int(r.ue()&0xffff))
	}
	s.vuiAt = r.at
	if s.VUI = r.bits(1) > 0; s.VUI {
		vui(r, &s)
	}
	if r.over {
		return SPS{}, fmt.Errorf("%w: it ends too early", ErrSyntax)
	}
	return s, nil
}

func scalingList(r *reader, i int) {
	size := 16
	if i >= 6 {
		size = 64
	}
	last, next := 8, 8
	for range size {
		if next != 0 {
			code := r.ue()
			delta := int((code + 1) / 2)
			if code%2 == 0 {
				delta = -delta
			}
			next = (last + delta + 256) % 256
		}
		if next != 0 {
			last = next
		}
	}
}

func vui(r *reader, s *SPS) {
	if r.bits(1) > 0 && r.bits(8) == 255 { // aspect_ratio_idc Extended_SAR
		r.bits(32)
	}
	if r.bits(1) > 0 { // overscan_info_present_flag
		r.bits(1)
	}
	if r.bits(1) > 0 { // video_signal_type_present_flag
		r.bits(3)
		full := r.bits(1) > 0
		if s.Signal = r.bits(1) > 0; s.Signal { // colour_description_present_flag
			s.FullRange, s.Primaries, s.Transfer, s.Matrix = full, uint8(r.bits(8)), uint8(r.bits(8)), uint8(r.bits(8))
		}
	}
	if r.bits(1) > 0 { // chroma_loc_info_present_flag
		r.ue()
		r.ue()
	}
	if r.bits(1) > 0 { // timing_info_present_flag
		r.bits(32)
		r.bits(32)
		r.bits(1)
	}
	hrd := false
	for range 2 { // NAL, then VCL
		if r.bits(1) > 0 {
			hrd = true
			n := r.ue()
			r.bits(8)
			for range min(n, 31) + 1 {
				r.ue()
				r.ue()
				r.bits(1)
			}
			r.bits(20)
		}
	}
	if hrd {
		r.bits(1) // low_delay_hrd_flag
	}
	r.bits(1) // pic_struct_present_flag
	s.restrictionAt = r.at
	if s.Restriction = r.bits(1) > 0; s.Restriction {
		r.bits(1) // motion_vectors_over_pic_boundaries_flag
		for range 4 {
			r.ue() // max_bytes_per_pic_denom … log2_max_mv_length_vertical
		}
		s.Reorder, s.Buffering = r.ue(), r.ue()
	}
}

// reader reads bits; past the end there are zeros, and over is set.
type reader struct {
	b    []byte
	at   int
	over bool
}

func (r *reader) bits(n int) uint32 {
	var v uint32
	for range n {
		v <<= 1
		if r.at >= 8*len(r.b) {
			r.over = true
		} else if r.b[r.at/8]&(0x80>>(r.at%8)) != 0 {
			v |= 1
		}
		r.at++
	}
	return v
}

// ue reads an Exp-Golomb code.
func (r *reader) ue() uint {
	zeros := 0
	for r.bits(1) == 0 {
		if zeros++; zeros > 32 || r.over {
			r.over = true
			return 0
		}
	}
	return 1<<zeros - 1 + uint(r.bits(zeros))
}

// unescape takes emulation prevention bytes out.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	zeros := 0
	for _, c := range b {
		if zeros >= 2 && c == 3 {
			zeros = 0
			continue
		}
		if out = append(out, c); c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return out
}

// escape puts emulation prevention bytes in.
func escape(to, b []byte) []byte {
	zeros := 0
	for _, c := range b {
		if zeros >= 2 && c <= 3 {
			to = append(to, 3)
			zeros = 0
		}
		if to = append(to, c); c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return to
}
