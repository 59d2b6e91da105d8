package media

// InputKind says which fields of an Input are meant.
type InputKind uint8

// The kinds of input. Values are internal; on the wire they are Moonlight
// control packets (package signaling decodes and encodes those).
const (
	KeyDown      InputKind = iota + 1 // Key, Modifiers
	KeyUp                             // Key, Modifiers
	Text                              // Text
	PointerMove                       // X, Y in 0…W, 0…H (absolute)
	PointerDelta                      // DX, DY (relative, pixels)
	ButtonDown                        // Button
	ButtonUp                          // Button
	ScrollV                           // DY in 1/120 notch, positive away from the user (up)
	ScrollH                           // DX in 1/120 notch, positive to the right
	Touch                             // Contact
	Pen                               // Contact
	PadArrival                        // Pad
	PadState                          // Pad
	PadTouch                          // Pad, Contact
	PadMotion                         // Pad
	PadBattery                        // Pad
	ReleaseAll                        // everything the peer holds goes up; made by us, not on the wire
)

// Modifier bits of Input.Modifiers, as Moonlight sends them.
const (
	ModShift uint8 = 1
	ModCtrl  uint8 = 2
	ModAlt   uint8 = 4
	ModMeta  uint8 = 8
)

// Button numbers of Input.Button, as Moonlight sends them.
const (
	ButtonLeft uint8 = iota + 1
	ButtonMiddle
	ButtonRight
	ButtonX1
	ButtonX2
)

// Input is one input event of one peer, decoded and bounds-checked.
type Input struct {
	Kind      InputKind
	Key       uint16 // Windows virtual-key code of the physical position on a US board (1…254)
	Modifiers uint8  // Mod… bits that the client believes to be down
	Button    uint8  // Button… numbers
	X, Y      int    // absolute position
	W, H      int    // reference size of X and Y, both > 0
	DX, DY    int
	Text      string // valid UTF-8, 1…32 bytes
	Contact   Contact
	Pad       Pad
	Received  Stamp  // when the server read it
	Peer      string // whose it is; set by the session
	Number    uint32 // of the peer's own counting, for its Injection; 0: nobody wants to know
}

// Injection tells when a numbered input reached the display.
type Injection struct {
	Peer     string
	Number   uint32
	Received Stamp
	Injected Stamp // right before it was written to the X server: what it causes comes later
}

// Contact is one finger or pen tip.
type Contact struct {
	Event    uint8  // 0 hover 1 down 2 up 3 move 4 cancel 5 button 6 leave 7 cancel-all
	Tool     uint8  // pen only: 1 pen, 2 eraser
	Buttons  uint8  // pen only
	Rotation uint16 // degrees, 0xFFFF unknown
	Tilt     uint8  // pen only: degrees from upright 0…90, 0xFF unknown
	ID       uint32
	X, Y     float32 // 0…1 of the picture
	Pressure float32 // 0…1
	Major    float32 // contact area, 0…1
	Minor    float32
}

// Pad is what a gamepad packet carries.
type Pad struct {
	Number     uint8 // 0…15
	ActiveMask uint16
	Type       uint8 // 0 unknown 1 Xbox 2 PlayStation 3 Nintendo 4 Steam
	Caps       uint16
	Buttons    uint32
	LT, RT     uint8
	LX, LY     int16
	RX, RY     int16
	Touchpad   uint8 // PadTouch: which of the pad's touchpads
	Motion     uint8 // 1 accelerometer (m/s²) 2 gyroscope (deg/s)
	Vector     [3]float32
	Battery    uint8 // state
	Percent    uint8 // 0…100, 0xFF unknown
}

// CursorImage is the picture of the pointer.
type CursorImage struct {
	Serial     uint32 // changes with every image
	Width      int    // pixels, 0 when the cursor is hidden
	Height     int
	HotX, HotY int
	PNG        []byte // empty when the cursor is hidden
}

// CursorMove is where the pointer stands on the display, in its pixels.
type CursorMove struct{ X, Y int }
