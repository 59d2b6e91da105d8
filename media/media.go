// Package media is the vocabulary that the rooms of Fenrir share: encoded
// units, the orders given to a media worker, what a display is, what an input
// event is, and why something ended. It holds values and no behaviour that
// could block. It imports the standard library only.
package media

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

// Stamp is a moment on the machine's CLOCK_MONOTONIC in nanoseconds. Stamps of
// different Fenrir processes on one machine can be compared and subtracted;
// stamps of different machines cannot.
type Stamp int64

// origin ties Go's monotonic clock, which has no readable zero, to CLOCK_MONOTONIC.
var origin = func() struct {
	at   time.Time
	base Stamp
} {
	var ts syscall.Timespec
	const clockMonotonic = 1
	at := time.Now()
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic("media: CLOCK_MONOTONIC cannot be read: " + errno.Error())
	}
	return struct {
		at   time.Time
		base Stamp
	}{at, Stamp(ts.Nano())}
}()

// Now is the present moment.
func Now() Stamp { return origin.base + Stamp(time.Since(origin.at)) }

// Sub returns s−t.
func (s Stamp) Sub(t Stamp) time.Duration { return time.Duration(s - t) }

// Add returns the moment d after s.
func (s Stamp) Add(d time.Duration) Stamp { return s + Stamp(d) }

// Wall is the moment as wall-clock time, as this machine's clock reads now.
func (s Stamp) Wall() time.Time { return time.Now().Add(time.Duration(s - Now())) }

// Codec names a compression format with its WebRTC name in lower case.
type Codec string

// The codecs that Fenrir can send.
const (
	H264 Codec = "h264"
	H265 Codec = "h265"
	AV1  Codec = "av1"
	VP8  Codec = "vp8"
	VP9  Codec = "vp9"
	Opus Codec = "opus"
)

// Kind tells the two sorts of Unit apart.
type Kind uint8

// The kinds of Unit.
const (
	Video Kind = 1
	Audio Kind = 2
)

func (k Kind) String() string {
	switch k {
	case Video:
		return "video"
	case Audio:
		return "audio"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Stages are the moments of one unit on its way through the media worker.
// A zero Stamp means that the stage does not apply (audio has only Captured
// and Encoded; a frame sent again without any change on screen has no Damage).
type Stages struct {
	Damage    Stamp // the display reported the change that this frame shows
	Captured  Stamp // reading the framebuffer began; RTP timestamps derive from it
	Converted Stamp // pixels stand in the encoder's format
	Encoded   Stamp // the encoder handed the access unit out
	Emitted   Stamp // the worker wrote it to its socket
	Received  Stamp // the parent read it; set by worker.Process
}

// Unit is one access unit (Annex B for H.264/H.265, a temporal unit of OBUs for
// AV1, one frame for VP8/VP9) or one Opus packet. It is immutable once emitted:
// all readers share Data.
type Unit struct {
	Kind   Kind
	Codec  Codec
	Key    bool   // decoding can start here (always true for audio)
	Frame  uint32 // counts units of this kind within one worker life, from 0
	Width  uint16 // pixels, video only
	Height uint16 // pixels, video only
	Stages Stages
	Data   []byte
}

// Display says how to reach an X display.
type Display struct {
	Name        string // ":7"
	Cookie      string // MIT-MAGIC-COOKIE-1 as 32 hex digits, empty when the display asks for none; a secret
	Authority   string // path of an Xauthority file holding the cookie, for programs that are started on the display; empty when none is needed
	Framebuffer string // path of Xvfb's -fbdir XWD file, empty when pixels must be read through X
	Width       int    // pixels, at the time of writing; the X server has the last word
	Height      int
}

// Sound says how to reach a PulseAudio-compatible sound server.
type Sound struct {
	Server string // "unix:/…/pulse/native"
	Source string // name of the monitor source to record
	// Channels are those of the card that it belongs to: 2, 6 or 8; 0 is 2.
	Channels int `json:",omitempty"`
}

// Spec is all that a media worker needs to know. It travels over the worker's
// socket, never in argv or environment: Display holds a secret.
type Spec struct {
	Session string // for log lines
	Display Display
	Sound   Sound
	Video   *VideoSpec // nil: no video
	Audio   *AudioSpec // nil: no audio
}

// VideoSpec asks for one encoded video stream of the display.
type VideoSpec struct {
	Encoder string // Encoder.Name of an entry that the probe found working
	Codec   Codec
	FPS     int  // upper bound of frames a second, 1…240
	Kbps    int  // initial bitrate, kbit/s
	Scale   int  // percent of the display's width and height, 25…100; 0 is 100
	Cursor  bool // composite the cursor into the picture (for clients that cannot draw it)
	// Width and Height are those of the picture, even; 0: the display's, in the scale
	// above. The display is shown in it as large as it fits, with black bars beside it.
	Width  int `json:",omitempty"`
	Height int `json:",omitempty"`
}

// OrderKind says what an Order asks for.
type OrderKind string

// The orders that a worker understands.
const (
	OrderKeyFrame OrderKind = "key-frame" // next frame is an IDR; a frame is made at once even on a static screen
	OrderBitrate  OrderKind = "bitrate"   // Kbps, applied without restart
	OrderFPS      OrderKind = "fps"       // FPS, applied without restart
	OrderScale    OrderKind = "scale"     // Scale; the encoder begins anew with a key frame
	OrderPrompt   OrderKind = "prompt"    // somebody pressed something: the answer to it need not wait for its turn by the frame rate
	OrderStop     OrderKind = "stop"      // end politely
)

// Order is one message from the session to its media worker.
type Order struct {
	Kind  OrderKind
	Kbps  int `json:",omitempty"`
	FPS   int `json:",omitempty"`
	Scale int `json:",omitempty"` // percent of the display's width and height, 25…100
}

// ReportKind says what a Report tells.
type ReportKind string

// The reports of a worker.
const (
	ReportReady     ReportKind = "ready"     // pipelines play; Encoder, Element filled
	ReportHeartbeat ReportKind = "heartbeat" // at least every 100 ms while the media loops make progress
	ReportSound     ReportKind = "sound"     // SoundOK tells whether audio flows from the sound server
	ReportResized   ReportKind = "resized"   // the display changed size: Width, Height
	ReportFailed    ReportKind = "failed"    // the worker gives up: Cause says why; it exits afterwards
)

// Report is one message from a media worker about itself.
type Report struct {
	Kind    ReportKind
	Encoder string `json:",omitempty"`
	Element string `json:",omitempty"` // the GStreamer element in use, "fenrirx264enc"
	SoundOK bool   `json:",omitempty"`
	Width   int    `json:",omitempty"`
	Height  int    `json:",omitempty"`
	Counts  Counts `json:",omitzero"`
	Cause   *Cause `json:",omitempty"`
}

// Counts are totals since the worker started.
type Counts struct {
	Damaged  uint64 // damage events seen
	Captured uint64 // frames read from the display
	Repeated uint64 // frames encoded again without damage (quality steps, keep-alive, key frames on request)
	Encoded  uint64 // access units out of the encoder
	Dropped  uint64 // frames or units dropped because a stage was busy
}

// Sink takes what a Source produces. Its methods never block and may be called
// from one goroutine at a time.
type Sink interface {
	Unit(Unit)
	Report(Report)
}

// Cause says why a session, a peer or a worker ended or was refused. It is an
// error and serves as the cause of a cancelled context.
type Cause struct {
	Code   string `json:"code"`             // stable, kebab-case, one of the Cause… constants or an API code
	Detail string `json:"detail,omitempty"` // for people: one sentence without secrets
	Output string `json:"output,omitempty"` // last lines that the program printed, at most 4 KiB
}

func (c *Cause) Error() string {
	if c.Detail == "" {
		return c.Code
	}
	return c.Code + ": " + c.Detail
}

// Is makes errors.Is(err, &Cause{Code: x}) compare codes only.
func (c *Cause) Is(target error) bool {
	t, ok := target.(*Cause)
	return ok && t.Code == c.Code
}

// Codes of causes that travel to clients. They are part of the API: never
// rename one. The page has a message and a way on for each.
const (
	CauseUser        = "ended-by-user"      // the owner or an admin ended the session
	CauseIdle        = "idle"               // nobody was attached for the idle timeout
	CauseMaxAge      = "max-age"            // the session reached its maximum age
	CauseShutdown    = "server-shutdown"    // the server is going down
	CauseAppExited   = "app-exited"         // the program ended by itself
	CauseAppFailed   = "app-failed"         // the program could not be started
	CauseDesktop     = "desktop-failed"     // the display or its supervisor died
	CauseLimit       = "limit-exceeded"     // the program took more processes or memory than a session may
	CauseMedia       = "media-failed"       // the media worker failed over and over
	CauseNoEncoder   = "no-encoder"         // no encoder for what was asked, or the asked-for one does not work
	CauseNoSlot      = "no-encoder-slot"    // all hardware encoder slots are taken
	CauseSuperseded  = "superseded"         // the same client connected again elsewhere
	CauseRevoked     = "revoked"            // the grant or login behind the peer was taken away
	CauseLeft        = "left"               // the peer said goodbye
	CauseLost        = "connection-lost"    // the peer's connection broke
	CauseICE         = "ice-failed"         // no network path to the peer
	CauseNegotiation = "negotiation-failed" // offer or answer could not be used
	CauseProtocol    = "protocol-error"     // the peer sent what the protocol forbids
	CauseVersion     = "version-mismatch"   // protocol versions do not overlap
	CauseSessionGone = "session-not-found"  // no such session, or not yours
	CauseTooMany     = "too-many-sessions"  // a limit of sessions or peers is reached
	CauseNoPicture   = "no-picture"         // frames are sent, and the client paints none
)

// NewCause formats a Cause.
func NewCause(code, format string, args ...any) *Cause {
	return &Cause{Code: code, Detail: fmt.Sprintf(format, args...)}
}
