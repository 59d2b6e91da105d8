package media

import "time"

// Phase is where a session stands in its life. It only moves forwards.
type Phase string

// The phases of a session.
const (
	Starting Phase = "starting"
	Running  Phase = "running"
	Ending   Phase = "ending"
	Ended    Phase = "ended"
)

// Step names what a starting session is doing.
type Step string

// The steps of a start, in order.
const (
	StepDisplay Step = "display" // the X server starts
	StepSound   Step = "sound"   // the sound server starts
	StepProgram Step = "program" // the program starts
	StepPicture Step = "picture" // waiting for the first encoded frame
)

// SessionState is a snapshot of a session as the API and the signaling show it.
type SessionState struct {
	ID       string       `json:"id"`
	App      AppRef       `json:"app"`
	Owner    PersonRef    `json:"owner"`
	Phase    Phase        `json:"phase"`
	Step     Step         `json:"step,omitempty"`  // while starting
	Progress float64      `json:"progress"`        // 0…1 while starting, 1 afterwards
	Cause    *Cause       `json:"cause,omitempty"` // when ending or ended
	Width    int          `json:"width"`           // pixels of the display
	Height   int          `json:"height"`
	FPS      int          `json:"fps"`      // upper bound
	MaxKbps  int          `json:"max_kbps"` // upper bound of the video bitrate
	Layout   string       `json:"layout"`   // XKB layout, "us", "de", …
	Video    []VideoState `json:"video"`    // one per running encoder
	Audio    string       `json:"audio"`    // "off", "starting", "ok", "lost"
	Program  ProgramState `json:"program"`
	Peers    []PeerState  `json:"peers"`
	Restarts int          `json:"worker_restarts"` // times that a media worker had to be replaced
	Created  time.Time    `json:"created"`
	IdleAt   *time.Time   `json:"idle_deadline,omitempty"` // when nobody is attached: then it ends
	EndsAt   *time.Time   `json:"age_deadline,omitempty"`  // maximum age
}

// AppRef names a program of the catalogue.
type AppRef struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

// PersonRef names a person.
type PersonRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// ProgramState is the process that the player came for.
type ProgramState struct {
	PID int `json:"pid,omitempty"` // 0 until it runs
}

// VideoState is one running encoder of a session.
type VideoState struct {
	Codec    Codec  `json:"codec"`
	Encoder  string `json:"encoder"` // Encoder.Name
	Element  string `json:"element"`
	Hardware bool   `json:"hardware"`
	Reason   string `json:"reason"` // why this one was chosen, one sentence
	Kbps     int    `json:"kbps"`   // present target
}

// PeerState is one attached connection.
type PeerState struct {
	ID        string    `json:"id"`
	Person    PersonRef `json:"person"`
	Transport string    `json:"transport"` // "webrtc", "whep", "moonlight"
	Codec     Codec     `json:"codec"`
	Grant     GrantBits `json:"grant"`
	Since     time.Time `json:"since"`
	Picture   Picture   `json:"picture"` // whether it sees what it is sent
}

// GrantBits is what a peer may do, besides watching.
type GrantBits struct {
	Keyboard bool `json:"keyboard"`
	Pointer  bool `json:"pointer"`
	Pads     bool `json:"pads"`
}

// PeerSpec is what a door tells of a connection that wants to attach.
type PeerSpec struct {
	ID        string // the client's own id, stable over reconnects of one tab, 8…64 of [A-Za-z0-9_-]; empty: one is made
	Person    PersonRef
	Transport string
	Codecs    []Codec // video codecs that the client can decode, most wanted first; not empty
	MaxKbps   int     // the client's own cap, 0: none
	ViewOnly  bool
	// Unmeasured: nobody measures the path to this client, which takes MaxKbps until
	// Estimate says otherwise. Else nothing is known of it until then.
	Unmeasured bool
	Video      VideoWish  // zero: what a browser is sent
	Audio      *AudioSpec // nil: what a browser is sent
}

// VideoWish is what a client wants of its picture. Clients that want the same
// and decode the same codec share one encoder.
type VideoWish struct {
	// Width and Height are of the picture that is sent, 16…7680 pixels, at most those of
	// 3840×2160 in all; odd ones are made even. 0: those of the display, and a client that
	// follows when they change.
	Width, Height int
	FPS           int  // upper bound of frames a second, 1…240; 0: the session's. The session's bounds it, too
	Cursor        bool // the cursor is part of the picture: the client cannot draw it
}

// Note is something that a peer should know. Exactly one field is set.
// Only the newest of each sort is kept for a slow reader, of injections the
// newest few.
type Note struct {
	State    *SessionState
	Cursor   *CursorImage
	Move     *CursorMove
	Notice   *Cause     // something went wrong and nothing ends
	Injected *Injection // of an input of this peer
}
