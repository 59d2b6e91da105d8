package media

// DesktopEventKind says what happened in a session's desktop.
type DesktopEventKind string

// The events of a desktop, in the order of a normal life.
const (
	DesktopStep     DesktopEventKind = "step"     // Step begins
	DesktopDisplay  DesktopEventKind = "display"  // the display answers: Display filled, and Sound with the address where the sound server is or will be
	DesktopSound    DesktopEventKind = "sound"    // the sound server answers (again): Sound filled
	DesktopSilent   DesktopEventKind = "silent"   // the sound server died; it is being started again
	DesktopProgram  DesktopEventKind = "program"  // the program runs: PID filled
	DesktopFinished DesktopEventKind = "finished" // the program ended by itself: Cause (app-exited or app-failed, with its last output)
)

// DesktopEvent is news from a session's desktop.
type DesktopEvent struct {
	Kind    DesktopEventKind
	Step    Step    `json:",omitempty"`
	Display Display `json:",omitzero"`
	Sound   Sound   `json:",omitzero"`
	PID     int     `json:",omitempty"`
	Cause   *Cause  `json:",omitempty"`
}

// DisplayKind selects what a desktop draws on.
type DisplayKind string

// The kinds of display.
const (
	DisplayXvfb     DisplayKind = "xvfb"     // an own Xvfb per session
	DisplayExternal DisplayKind = "external" // an X display that exists already and is not ours to end
)

// DesktopSpec is all that a desktop needs to know. It travels over the desktop's
// socket, never in argv or environment.
type DesktopSpec struct {
	Session  string      // session id
	Kind     DisplayKind // DisplayXvfb when empty
	External Display     // for DisplayExternal
	Width    int         // pixels, 640…3840
	Height   int         // pixels, 360…2160
	Layout   string      // XKB layout with optional variant in brackets, "us", "de", "de(nodeadkeys)"
	Runtime  string      // the session's private folder (0700), made and removed by the desktop
	Home     string      // the program's HOME; made when missing, never removed
	Limits   Limits
	Program  Program
	// Channels are those of the sound card that programs see: 2, 6 (5.1) or 8 (7.1);
	// 0 is 2. Every listener can have it in any of these.
	Channels int `json:",omitempty"`
}

// Limits bound what the processes of a desktop take: display, sound server and
// program together. A desktop that exceeds one of the first two is ended with
// CauseLimit. Zero means no limit.
type Limits struct {
	Tasks     int // processes and threads
	MemoryMiB int // resident and swapped out
	Files     int // open files of one process
	CPUWeight int // share of the processors when these are scarce, 1…10000; 100 is what everybody else has
}

// Program is what to run on a desktop.
type Program struct {
	Title   string
	Command []string // argv, Command[0] looked up in PATH
	Env     []string // KEY=VALUE, added to the small clean environment that every program gets
	Dir     string   // working folder; Home when empty
}
