package wm

import "encoding/binary"

// rect is a window's place on the screen, in pixels.
type rect struct{ x, y, w, h int }

// covers tells whether nothing of other can be seen behind r.
func (r rect) covers(other rect) bool {
	return r.x <= other.x && r.y <= other.y && r.x+r.w >= other.x+other.w && r.y+r.h >= other.y+other.h
}

// centred is r in the middle of over.
func (r rect) centred(over rect) rect {
	r.x, r.y = over.x+(over.w-r.w)/2, over.y+(over.h-r.h)/2
	return r
}

// within is r moved so that as much of it as can be is on the screen, and its
// beginning is.
func (r rect) within(screen rect) rect {
	r.x, r.y = max(0, min(r.x, screen.w-r.w)), max(0, min(r.y, screen.h-r.h))
	return r
}

// words takes a property of format 32 apart.
func words(value []byte) []uint32 {
	out := make([]uint32, 0, len(value)/4)
	for ; len(value) >= 4; value = value[4:] {
		out = append(out, binary.LittleEndian.Uint32(value))
	}
	return out
}

// sizeHints is what WM_NORMAL_HINTS says that matters here.
type sizeHints struct {
	userPlace, programPlace bool // the place was chosen by the player, by the program
	bounded                 bool // there is a largest size
	maxW, maxH              int  // pixels, at least 1
}

// parseSizeHints reads a WM_NORMAL_HINTS (ICCCM 4.1.2.3) of any length.
func parseSizeHints(v []uint32) (h sizeHints) {
	const usPosition, pPosition, pMaxSize = 1, 4, 32
	if len(v) == 0 {
		return h
	}
	h.userPlace, h.programPlace = v[0]&usPosition != 0, v[0]&pPosition != 0
	if v[0]&pMaxSize != 0 && len(v) >= 9 {
		h.maxW, h.maxH = int(int32(v[7])), int(int32(v[8]))
		h.bounded = h.maxW > 0 && h.maxH > 0
	}
	return h
}

// parseInput reads the input field of a WM_HINTS (ICCCM 4.1.2.4). A window that
// does not speak of it takes the keyboard.
func parseInput(v []uint32) bool {
	const inputHint = 1
	return len(v) < 2 || v[0]&inputHint == 0 || v[1] != 0
}
