// Package playground is the program inside the binary: a window with a moving
// scene that shows what reaches it. A newcomer plays with it, and tests measure
// with it: it counts its pictures in a strip of black and white cells (see
// StripCell), echoes keys, pointer, buttons, wheel and text on screen, in its window's
// title (WM_NAME) and as JSON lines (see Event) in the file that the environment
// variable FENRIR_PLAYGROUND_LOG names, and plays a tone on each key press. It promises
// 60 pictures a second on a precise clock, whatever the sound server does, and
// skips and counts pictures when the X server is slow. It is an X11 and PulseAudio client
// like any other program and imports nothing that streams.
package playground

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fenrir/media"
	"fenrir/media/input/keysym"
	"fenrir/server/playground/canvas"
	"fenrir/server/playground/tone"
	"fenrir/server/playground/xwin"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// Mode is what the playground shows.
type Mode string

// The modes.
const (
	Fun     Mode = "fun"     // the wolf (F8)
	Latency Mode = "latency" // the window flips black/white on each key or button press, at once (F9)
	Busy    Mode = "busy"    // game-like motion over the whole picture (F10)
)

// LogVariable names the environment variable with the path of the log file.
const LogVariable = "FENRIR_PLAYGROUND_LOG"

const (
	fps      = 60
	openTime = 10 * time.Second // to connect and to show the window
)

// Main runs the playground until the player quits with Ctrl+Q, ctx ends or the display
// is gone, and returns the exit status: 0 when it was asked to end, 1 when it
// could not go on, 2 for a wrong command line.
func Main(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("fenrir playground", flag.ContinueOnError)
	mode := flags.String("mode", string(Fun), "what to show: fun, latency or busy")
	still := flags.Bool("still", false, "in latency mode, draw nothing between two flips")
	flip := flags.Bool("flip", false, "in busy mode, flip a patch black/white on each key or button press, at once, above the motion")
	verbose := flags.Bool("v", false, "write the events to the standard output too")
	quiet := flags.Bool("quiet", false, "play no tones")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	switch Mode(*mode) {
	case Fun, Latency, Busy:
	default:
		fmt.Fprintf(os.Stderr, "fenrir playground: no mode %q: it is fun, latency or busy\n", *mode)
		return 2
	}
	// xgb prints what it also returns as errors.
	xgb.Logger = log.New(io.Discard, "", 0)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	p := &player{panel: &panel{}, scenes: newScenes(), mode: Mode(*mode), still: *still, flipping: *flip, quiet: *quiet}
	var logs []io.Writer
	if name := os.Getenv(LogVariable); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, "fenrir playground: open log:", err)
			return 1
		}
		defer f.Close()
		logs = append(logs, f)
	}
	if *verbose {
		logs = append(logs, os.Stdout)
	}
	p.echo = newEcho(logs)
	if err := p.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fenrir playground:", err)
		return 1
	}
	return 0
}

// player is the running playground. One goroutine owns it.
type player struct {
	mode     Mode
	still    bool
	flipping bool // busy mode has a patch that flips
	quiet    bool

	win     *xwin.Window
	keymap  keymap
	echo    *echo
	frame   uint32
	skipped uint64
	white   bool    // the flip's colour
	flipped bool    // it is not shown yet
	painted [2]flat // what the two pictures are below the panel
	visible flat    // what the screen is
	dirty   bool    // something to show that must not wait for the clock
	ready   bool
	quit    bool
	shown   []time.Time // of the last second
	tones   *tone.Player
	sound   chan error // news of the sound server, nil: it plays
	pointer xwin.Pointer
	panel   *panel
	scenes  scenes
}

// flat says that a picture is of one colour below the panel, as in latency mode.
type flat struct {
	is            bool
	white         bool
	width, height int
}

// errDisplayGone ends the playground when the X server goes away.
var errDisplayGone = errors.New("the display is gone")

func (p *player) run(ctx context.Context) (err error) {
	open, cancel := context.WithTimeout(ctx, openTime)
	p.win, err = xwin.Open(open, os.Getenv("DISPLAY"), os.Getenv("XAUTHORITY"), "Fenrir playground")
	cancel()
	if err != nil {
		return err
	}
	defer p.win.Close()
	// Round trips to a hung server end with ctx.
	unhang := context.AfterFunc(ctx, p.win.Abort)
	defer unhang()
	if p.keymap, err = readKeymap(p.win.X); err != nil {
		return err
	}
	q, err := xproto.QueryPointer(p.win.X, p.win.Root).Reply()
	if err != nil {
		return fmt.Errorf("where is the pointer: %w", err)
	}
	p.echo.move(q.RootX, q.RootY)
	if err := p.win.SetPointer(p.pointer); err != nil {
		return err
	}
	// The first picture takes longer: it makes what later ones copy. The clock starts after it.
	if err := p.draw(); err != nil {
		return err
	}
	ticks, err := newClock(fps)
	if err != nil {
		return err
	}
	defer ticks.Close()
	if !p.quiet {
		p.sound = make(chan error, 16)
		p.tones = tone.New(func(err error) {
			select {
			case p.sound <- err:
			default: // only the echo misses it
			}
		})
		playing, silence := context.WithCancel(ctx)
		over := make(chan struct{})
		go func() {
			defer close(over)
			p.tones.Run(playing)
		}()
		defer func() {
			silence()
			<-over
		}()
	}
	if err := p.loop(ctx, ticks); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (p *player) loop(ctx context.Context, ticks *clock) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	p.dirty = true
	for !p.quit {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-p.win.Events():
			if !ok {
				return errDisplayGone
			}
			if err := p.handle(ev); err != nil {
				return err
			}
			if err := p.hurry(); err != nil {
				return err
			}
		case missed, ok := <-ticks.C:
			if !ok {
				return errors.New("the clock stopped")
			}
			if err := p.tick(missed); err != nil {
				return err
			}
		case err := <-p.sound:
			detail := "playing"
			if err != nil {
				detail = err.Error()
			}
			p.echo.note(Event{Kind: KindSound, Detail: detail})
		case <-second.C:
			p.echo.note(Event{Kind: KindSecond, Frame: p.frame, Skipped: p.skipped, Mode: string(p.mode)})
		}
		if p.echo.logErr != nil {
			return fmt.Errorf("write log: %w", p.echo.logErr)
		}
	}
	return nil
}

// tick moves the world on by a sixtieth of a second, and by as many more as
// were missed, and shows it.
func (p *player) tick(missed int) error {
	p.skipped += uint64(missed)
	p.scenes.step(p, 1+missed)
	if number, ok := p.echo.unsettled(); ok {
		p.win.Fence(number)
	}
	if p.echo.changed {
		p.echo.changed = false
		title := p.echo.title(p.mode)
		p.win.SetText("WM_NAME", title)
		p.win.SetText("_NET_WM_NAME", title)
	}
	if p.mode == Latency && p.still && !p.dirty {
		return nil
	}
	return p.draw()
}

// draw shows the next picture, or skips it when the server has not finished
// with both of those before.
func (p *player) draw() error {
	pic, err := p.win.Free()
	if err != nil {
		return err
	}
	if pic == nil {
		p.skipped++
		return nil
	}
	p.frame++
	m := canvas.Image{Pix: pic.Pix, Width: pic.Width, Height: pic.Height, Stride: pic.Stride}
	if err := p.panel.fit(m.Width, m.Height); err != nil {
		return err
	}
	want := flat{p.mode == Latency, p.white, m.Width, m.Height}
	rows := m.Height
	if want.is {
		rows = p.panel.bottom()
	}
	if !want.is || p.painted[pic.Index] != want {
		p.scenes.draw(p, m)
	} else {
		p.scenes.paint(p, m, rows)
	}
	strip := p.echo.inStrip(p.mode == Latency || p.patched())
	strip.Frame = p.frame
	strip.draw(m)
	if p.patched() {
		p.patch(m)
	} else {
		p.panel.draw(m, p)
	}
	if p.visible != want || !want.is {
		rows = m.Height
	}
	given := media.Now()
	p.win.Show(pic, 0, 0, m.Width, rows)
	p.painted[pic.Index], p.visible, p.dirty = want, want, false
	now := time.Now()
	p.shown = append(p.shown, now)
	for now.Sub(p.shown[0]) > time.Second {
		p.shown = p.shown[1:]
	}
	p.noteFlip(given)
	if !p.ready {
		p.ready = true
		p.echo.note(Event{Kind: KindReady, Width: m.Width, Height: m.Height, PID: os.Getpid(), Mode: string(p.mode), Frame: p.frame})
	}
	return nil
}

// handle takes one event of the X server in.
func (p *player) handle(ev xgb.Event) error {
	if p.win.Handle(ev) {
		p.dirty = true
		p.echo.note(Event{Kind: KindResize, Width: p.win.Width, Height: p.win.Height})
	}
	switch e := ev.(type) {
	case xproto.MappingNotifyEvent:
		k, err := readKeymap(p.win.X)
		if err != nil {
			return err
		}
		p.keymap = k
		p.echo.note(Event{Kind: KindMapping})
	case xproto.KeyPressEvent:
		sym, repeat := p.echo.keyPress(e, p.keymap)
		p.flip(repeat)
		if p.tones != nil && !repeat {
			p.tones.Play(tone.Pitch(int(e.Detail)))
		}
		if err := p.command(sym, e.State); err != nil {
			return err
		}
		p.scenes.key(sym, true)
	case xproto.KeyReleaseEvent:
		p.echo.keyRelease(e, p.keymap)
		p.scenes.key(p.keymap.sym(e.Detail, 0), false)
	case xproto.ButtonPressEvent:
		real := p.echo.buttonPress(e)
		p.flip(!real)
		p.scenes.button(p.echo.x, p.echo.y, int(e.Detail))
	case xproto.ButtonReleaseEvent:
		p.echo.buttonRelease(e)
	case xproto.ExposeEvent:
		p.visible, p.dirty = flat{}, true
	case xproto.MotionNotifyEvent:
		p.echo.motion(e, p.win.Width, p.win.Height)
	case xproto.ClientMessageEvent:
		if r, ok := xwin.AsRawMotion(ev); ok {
			p.echo.rawMotion(r, p.win.Width, p.win.Height)
		} else if number, ok := xwin.AsFence(ev); ok {
			p.echo.passed(number, p.win.Width, p.win.Height)
		}
	case xproto.FocusInEvent:
		p.echo.note(Event{Kind: KindFocus, Detail: "in"})
	case xproto.FocusOutEvent:
		p.echo.note(Event{Kind: KindFocus, Detail: "out"})
	}
	return nil
}

// flip turns the colour over, unless the press is none of its own.
func (p *player) flip(repeat bool) {
	if (p.mode == Latency || p.patched()) && !repeat {
		p.white = !p.white
		p.flipped, p.dirty = true, true
	}
}

// hurry shows a flip without waiting for the clock. Above motion the patch alone
// is drawn: what is below it waits for its own time.
func (p *player) hurry() error {
	switch {
	case p.mode == Latency && p.dirty:
		return p.draw()
	case !p.patched() || !p.flipped:
		return nil
	}
	pic, err := p.win.Free()
	if pic == nil {
		return err // none is free: the next picture has the flip in it
	}
	p.frame++
	m := canvas.Image{Pix: pic.Pix, Width: pic.Width, Height: pic.Height, Stride: pic.Stride}
	strip := p.echo.inStrip(true)
	strip.Frame = p.frame
	strip.draw(m)
	width, height := p.patch(m)
	given := media.Now()
	p.win.Show(pic, 0, 0, width, height)
	p.painted[pic.Index], p.dirty = flat{}, false
	p.noteFlip(given)
	return nil
}

// patched tells whether the picture has the patch that flips above motion.
func (p *player) patched() bool { return p.mode == Busy && p.flipping }

// patch draws it below the strip and returns the corner up to which both reach.
func (p *player) patch(m canvas.Image) (width, height int) {
	color := canvas.Color(0)
	if p.white {
		color = 0xffffff
	}
	width, height = min(StripWidth, m.Width), min(StripHeight+m.Height/3, m.Height)
	m.Fill(0, StripHeight, width, height-StripHeight, color)
	return width, height
}

// noteFlip logs the moment at which a flip was given to the X server. It is taken before
// that: afterwards the X server may have run, and a frame with the flip be on its way.
func (p *player) noteFlip(given media.Stamp) {
	if !p.flipped {
		return
	}
	p.flipped = false
	detail := "black"
	if p.white {
		detail = "white"
	}
	p.echo.note(Event{Kind: KindFlip, At: given, Frame: p.frame, Detail: detail})
}

// command does what the function keys and Ctrl+Q ask for.
func (p *player) command(sym keysym.Sym, state uint16) error {
	switch sym {
	case keysym.F1:
		p.panel.hidden = !p.panel.hidden
	case keysym.F1 + 6:
		p.pointer = (p.pointer + 1) % xwin.Pointers
		return p.win.SetPointer(p.pointer)
	case keysym.F1 + 7:
		p.change(Fun)
	case keysym.F1 + 8:
		p.change(Latency)
	case keysym.F1 + 9:
		p.change(Busy)
	case 'q', 'Q':
		p.quit = p.quit || state&xproto.ModMaskControl != 0
	}
	return nil
}

func (p *player) change(m Mode) {
	if p.mode == m {
		return
	}
	p.mode, p.dirty, p.white, p.flipped = m, true, false, false
	p.echo.changed = true
	p.echo.note(Event{Kind: KindMode, Mode: string(m)})
}
