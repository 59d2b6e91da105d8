package media

import "time"

// EventKind says what an Event tells.
type EventKind string

// The events of a server's life. They are part of the API: never rename one.
const (
	EventSessionStarted  EventKind = "session-started"
	EventSessionRunning  EventKind = "session-running"  // the program runs and a frame of it was encoded
	EventSessionEnded    EventKind = "session-ended"    // Why: code of the cause
	EventWorkerRestarted EventKind = "worker-restarted" // Why: what became of the one before; Output: its last words
	EventPeerAttached    EventKind = "peer-attached"
	EventPeerGone        EventKind = "peer-gone"    // Why: code of the cause
	EventPeerBlack       EventKind = "peer-black"   // frames are sent and none is painted. Why: what is done about it
	EventPeerPainted     EventKind = "peer-painted" // it paints again
	EventHealth          EventKind = "health"       // Why: "ok" or "failing"; Detail: the check and what it found
	EventOrphan          EventKind = "orphan"       // something without an owner was found. Why: what sort of thing
)

// Event is something that an operator may want to hear of as it happens.
type Event struct {
	Seq     uint64    `json:"seq"` // counts up from 1 in one life of the server
	At      time.Time `json:"at"`
	Kind    EventKind `json:"kind"`
	Session string    `json:"session,omitempty"`
	App     string    `json:"app,omitempty"`   // id of the session's program
	Owner   string    `json:"owner,omitempty"` // id of the session's owner
	Peer    string    `json:"peer,omitempty"`
	Why     string    `json:"why,omitempty"`    // stable, kebab-case
	Detail  string    `json:"detail,omitempty"` // for people
	Output  string    `json:"output,omitempty"` // last words of a process, at most 4 KiB
	Frames  uint64    `json:"frames,omitempty"` // that a worker had encoded which was replaced
}

// Paint is what a client and its door know of the client's picture.
type Paint struct {
	Frames  uint64 // painted since the client connected
	Sent    uint64 // frames sent to it since then
	Visible bool   // the picture is on a screen, the client can count, and the path to it works: what is sent should be painted
}

// Picture says whether a peer sees what it is sent.
type Picture string

// What is known of a peer's picture.
const (
	PictureUnknown Picture = "unknown" // it does not tell
	PictureHidden  Picture = "hidden"  // it is on no screen
	PictureOK      Picture = "ok"
	PictureBlack   Picture = "black" // frames are sent and none was painted for seconds
)
