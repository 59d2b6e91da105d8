package playground

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"fenrir/media"
	"fenrir/media/input/keysym"
	"fenrir/server/playground/xwin"

	"github.com/jezek/xgb/xproto"
)

// Event is one line of the log: what the playground saw. Fields that do not
// belong to the kind are absent.
type Event struct {
	Seq  uint64      `json:"seq"`  // counts lines from 1
	At   media.Stamp `json:"t_ns"` // CLOCK_MONOTONIC when the playground saw it
	Kind string      `json:"kind"` // one of the Kind… constants
	Time uint32      `json:"x_ms,omitempty"`

	Keycode int    `json:"keycode,omitempty"` // X keycode
	Keysym  string `json:"keysym,omitempty"`  // under the modifiers of the moment
	Char    string `json:"char,omitempty"`    // what the key types, dead keys applied
	State   uint16 `json:"state,omitempty"`   // X modifier mask before the event
	Repeat  bool   `json:"repeat,omitempty"`

	Button int     `json:"button,omitempty"` // X button: 1 left, 2 middle, 3 right, 8, 9
	X      int     `json:"x"`                // pointer, pixels
	Y      int     `json:"y"`
	DX     float64 `json:"dx,omitempty"` // raw: pixels; wheel: notches to the right
	DY     float64 `json:"dy,omitempty"` // raw: pixels; wheel: notches up

	Text    string `json:"text,omitempty"` // all that was typed so far, at most its last 64 characters
	Mode    string `json:"mode,omitempty"`
	Width   int    `json:"width,omitempty"`
	Height  int    `json:"height,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Frame   uint32 `json:"frame,omitempty"`   // newest picture shown
	Skipped uint64 `json:"skipped,omitempty"` // pictures not made because the X server was slow
	Detail  string `json:"detail,omitempty"`
}

// The kinds of events in the log.
const (
	KindReady      = "ready" // first picture shown: PID, Width, Height, Mode
	KindKeyDown    = "key-down"
	KindKeyUp      = "key-up"
	KindText       = "text" // after each change of the typed text: Text
	KindButtonDown = "button-down"
	KindButtonUp   = "button-up"
	KindWheel      = "wheel"  // one notch: DX or DY ±1
	KindMotion     = "motion" // X, Y
	KindRaw        = "raw"    // relative motion: DX, DY, not stopped by the screen's edges
	KindMode       = "mode"
	KindFlip       = "flip" // a flip was given to the X server: Detail black or white, Frame
	KindResize     = "resize"
	KindFocus      = "focus" // Detail: in, out
	KindMapping    = "mapping"
	KindSound      = "sound"  // Detail: playing, or why not
	KindSecond     = "second" // once a second: Frame, Skipped
)

// keyEcho is a key press as the panel shows it.
type keyEcho struct {
	code int
	sym  string
	char string
	down bool
}

// echo turns X events into what is shown, logged and put into the strip.
type echo struct {
	log     []io.Writer
	logErr  error
	seq     uint64
	strip   Strip   // Events, Kind, Value of the newest event
	shown   Strip   // of the one in the strip now
	stays   int     // pictures that it still stays for when others wait
	queue   []Strip // those that wait, oldest first
	keys    []keyEcho
	held    map[int]bool
	text    string
	compose composer
	buttons map[int]int // presses
	down    map[int]bool
	wheelV  int
	wheelH  int
	sumX    float64
	sumY    float64
	x, y    int
	raw     *xwin.RawMotion // not yet known whether relative
	raws    uint32          // of raw motions there were so many
	fenced  uint32          // and so many when the last fence was asked for
	changed bool            // since the title was written
	recent  []string
}

const (
	keysShown = 6
	textShown = 64
)

func newEcho(log []io.Writer) *echo {
	return &echo{log: log, held: map[int]bool{}, buttons: map[int]int{}, down: map[int]bool{}}
}

// note writes a line of the log, of now unless the event says when. The first writer that fails
// is reported by the caller.
func (e *echo) note(ev Event) {
	e.seq++
	ev.Seq, ev.X, ev.Y = e.seq, e.x, e.y
	if ev.At == 0 {
		ev.At = media.Now()
	}
	if len(e.log) == 0 {
		return
	}
	line, err := json.Marshal(ev)
	if err != nil {
		panic("playground: event cannot be marshalled: " + err.Error()) // plain fields only
	}
	line = append(line, '\n')
	for _, w := range e.log {
		if _, err := w.Write(line); err != nil && e.logErr == nil {
			e.logErr = err
		}
	}
}

// mark counts an event in the strip.
func (e *echo) mark(kind StripKind, value uint32, short string) {
	e.strip.Events++
	e.strip.Kind, e.strip.Value = kind, value
	e.queue = append(e.queue, e.strip)
	if len(e.queue) > stripWaiting {
		e.queue = append(e.queue[:0], e.queue[1:]...)
	}
	e.changed = true
	e.recent = append(e.recent, short)
	if len(e.recent) > 12 {
		e.recent = e.recent[1:]
	}
}

// inStrip is the event to show in the next picture: each one for stripPictures
// pictures when others wait behind it, the newest at once when hurry is set.
func (e *echo) inStrip(hurry bool) Strip {
	if n := len(e.queue); n > 0 && (hurry || e.stays <= 0) {
		next := 0
		if hurry {
			next = n - 1
		}
		e.shown, e.stays = e.queue[next], stripPictures
		e.queue = append(e.queue[:0], e.queue[next+1:]...)
	}
	e.stays--
	return e.shown
}

// title is the window's name: what happened lately, newest last, for those who
// read it with xprop.
func (e *echo) title(mode Mode) string {
	return fmt.Sprintf("Fenrir playground [%s] events=%d text=%q %s", mode, e.strip.Events, e.text, strings.Join(e.recent, " "))
}

// keyPress takes a key press in and returns what it means and whether it is an auto-repeat.
func (e *echo) keyPress(ev xproto.KeyPressEvent, k keymap) (keysym.Sym, bool) {
	e.move(ev.RootX, ev.RootY)
	code := int(ev.Detail)
	sym := k.sym(ev.Detail, ev.State)
	char := e.compose.press(sym)
	repeat := e.held[code]
	e.held[code] = true
	e.note(Event{Kind: KindKeyDown, Time: uint32(ev.Time), Keycode: code, Keysym: sym.Name(), Char: char, State: ev.State, Repeat: repeat})
	e.mark(StripKeyDown, uint32(code), fmt.Sprintf("key+%d:%s", code, sym.Name()))
	if !repeat {
		e.keys = append(e.keys, keyEcho{code, sym.Name(), char, true})
		if len(e.keys) > keysShown {
			e.keys = e.keys[1:]
		}
	}
	const command = xproto.ModMaskControl | xproto.ModMask1 | xproto.ModMask4
	switch {
	case sym == keysym.BackSpace && e.text != "":
		_, n := utf8.DecodeLastRuneInString(e.text)
		e.type_(e.text[:len(e.text)-n], 8)
	case sym == keysym.Return && e.text != "":
		e.type_("", '\n')
	case char != "" && ev.State&command == 0:
		r, _ := utf8.DecodeLastRuneInString(char)
		e.type_(e.text+char, r)
	}
	return sym, repeat
}

// type_ sets the typed text, whose newest character is r.
func (e *echo) type_(text string, r rune) {
	for utf8.RuneCountInString(text) > textShown {
		_, n := utf8.DecodeRuneInString(text)
		text = text[n:]
	}
	e.text = text
	e.note(Event{Kind: KindText, Text: text})
	e.mark(StripText, uint32(r), fmt.Sprintf("text:%q", r))
}

func (e *echo) keyRelease(ev xproto.KeyReleaseEvent, k keymap) {
	e.move(ev.RootX, ev.RootY)
	code := int(ev.Detail)
	delete(e.held, code)
	for i := range e.keys {
		if e.keys[i].code == code {
			e.keys[i].down = false
		}
	}
	sym := k.sym(ev.Detail, ev.State)
	e.note(Event{Kind: KindKeyUp, Time: uint32(ev.Time), Keycode: code, Keysym: sym.Name(), State: ev.State})
	e.mark(StripKeyUp, uint32(code), fmt.Sprintf("key-%d", code))
}

// buttonPress tells whether it was a real button and not the wheel.
func (e *echo) buttonPress(ev xproto.ButtonPressEvent) bool {
	e.move(ev.RootX, ev.RootY)
	b := int(ev.Detail)
	e.buttons[b]++
	if b >= 4 && b <= 7 {
		turn := Event{Kind: KindWheel, Time: uint32(ev.Time), Button: b}
		switch b {
		case 4:
			turn.DY = 1
		case 5:
			turn.DY = -1
		case 6:
			turn.DX = -1
		case 7:
			turn.DX = 1
		}
		e.wheelV += int(turn.DY)
		e.wheelH += int(turn.DX)
		e.note(turn)
		e.mark(StripWheel, uint32(b), fmt.Sprintf("wheel%d", b))
		return false
	}
	e.down[b] = true
	e.note(Event{Kind: KindButtonDown, Time: uint32(ev.Time), Button: b})
	e.mark(StripButtonDown, uint32(b), fmt.Sprintf("button+%d", b))
	return true
}

func (e *echo) buttonRelease(ev xproto.ButtonReleaseEvent) {
	e.move(ev.RootX, ev.RootY)
	b := int(ev.Detail)
	if b >= 4 && b <= 7 {
		return // a notch is one event
	}
	delete(e.down, b)
	e.note(Event{Kind: KindButtonUp, Time: uint32(ev.Time), Button: b})
	e.mark(StripButtonUp, uint32(b), fmt.Sprintf("button-%d", b))
}

// rawMotion takes raw motion in. The X server says the position in raw events of
// absolute devices, and sends them before the pointer's own motion: what the
// pointer does then decides which it was.
func (e *echo) rawMotion(r xwin.RawMotion, width, height int) {
	e.settle(e.x, e.y, width, height)
	e.raw = &r
	e.raws++
}

// motion takes the pointer's own motion in.
func (e *echo) motion(m xproto.MotionNotifyEvent, width, height int) {
	e.settle(int(m.RootX), int(m.RootY), width, height)
	e.move(m.RootX, m.RootY)
	e.note(Event{Kind: KindMotion, Time: uint32(m.Time), State: m.State})
}

// settle decides on the raw motion that waits, now that the pointer is known
// to stand at x, y.
func (e *echo) settle(x, y, width, height int) {
	if e.raw == nil {
		return
	}
	r := *e.raw
	e.raw = nil
	clamp := func(from int, d float64, size int) int {
		return min(max(int(math.Floor(float64(from)+d)), 0), size-1)
	}
	near := func(a, b int) bool { return a-b <= 1 && b-a <= 1 }
	if !near(clamp(e.x, r.DX, width), x) || !near(clamp(e.y, r.DY, height), y) {
		return // a position
	}
	e.sumX += r.DX
	e.sumY += r.DY
	e.note(Event{Kind: KindRaw, Time: uint32(r.Time), DX: r.DX, DY: r.DY})
}

func (e *echo) move(x, y int16) { e.x, e.y = int(x), int(y) }

// unsettled tells, once for each, of raw motion that nothing has followed so far:
// perhaps the pointer stands at an edge, perhaps what follows is on its way. A
// fence behind it tells these apart, which no clock can.
func (e *echo) unsettled() (number uint32, ok bool) {
	if e.raw == nil || e.fenced == e.raws {
		return 0, false
	}
	e.fenced = e.raws
	return e.raws, true
}

// passed decides on that raw motion: nothing came between it and its fence.
func (e *echo) passed(number uint32, width, height int) {
	if number == e.raws {
		e.settle(e.x, e.y, width, height)
	}
}
