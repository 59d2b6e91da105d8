package desktop

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"fenrir/media"
	"fenrir/media/desktop/environ"
	"fenrir/media/desktop/quota"
	"fenrir/media/desktop/traces"
	"fenrir/media/desktop/tree"
	"fenrir/media/desktop/wm"
)

// doubt is how long after the program's end the end of its display may show, which
// it was due to then.
const doubt = 50 * time.Millisecond

// stage is the supervisor's knowledge of its desktop.
type stage struct {
	start   start
	keeper  *keeper
	cancel  context.CancelFunc // ends the desktop
	telling sync.Mutex         // held while a message is written, at most a second
	socket  net.Conn

	help     sync.WaitGroup
	null     *os.File // /dev/null
	services struct {
		sync.Mutex // guards list
		list       []*child
	}
}

// serve starts one of our services, with the pipe as its output.
func (s *stage) serve(name string, args, env []string, out *capture, extra ...int) (*child, error) {
	defer out.started()
	path, err := environ.LookUp(name, environ.New(os.Environ(), s.start.Spec.Session)["PATH"], "/")
	if err != nil {
		return nil, err
	}
	c, err := s.keeper.start(fork{
		name: name, path: path, argv: append([]string{name}, args...), env: env, dir: "/",
		files: append([]int{int(s.null.Fd()), out.w, out.w}, extra...),
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.services.Lock()
	s.services.list = slices.DeleteFunc(s.services.list, func(c *child) bool {
		select {
		case <-c.done:
			return true
		default:
			return false
		}
	})
	s.services.list = append(s.services.list, c)
	s.services.Unlock()
	return c, nil
}

// serviceEnv is the environment of our services: as little as they need.
func (s *stage) serviceEnv(more ...string) []string {
	e := environ.New(os.Environ(), s.start.Spec.Session)
	e.Add("HOME="+filepath.Join(s.start.Spec.Runtime, "services"), "TMPDIR="+filepath.Join(s.start.Spec.Runtime, "tmp"))
	e.Add(more...)
	return e.List()
}

// run is the life of the desktop. It returns the supervisor's exit status.
func (s *stage) run(ctx context.Context) int {
	exceeded := make(chan *media.Cause, 1)
	s.help.Go(func() {
		if c := quota.Watch(ctx, s.keeper.pid, s.start.Spec.Limits, s.start.Group); c != nil {
			exceeded <- c
			s.cancel()
			s.keeper.strike()
		}
	})
	cause := s.live(ctx)
	s.cancel()
	s.help.Wait() // all of it sees ctx
	select {
	case cause = <-exceeded:
	default:
	}
	s.services.Lock()
	defer s.services.Unlock()
	if cause != nil {
		s.tell(news{Fatal: cause}) // before the end, which takes its time
	}
	left, err := s.keeper.stop(s.services.list, cause == nil || cause.Code != media.CauseLimit)
	ctx = context.WithoutCancel(ctx)
	// Whoever started us may be gone, and the next server finds no trace of this group.
	err = errors.Join(err, tree.Left(left), s.start.Group.Leave(), s.start.Group.Remove(), traces.RemoveX(traces.ReadNotes(s.start.Spec.Runtime)),
		traces.RemoveTree(ctx, s.start.Framebuffer), traces.RemoveTree(ctx, s.start.Spec.Runtime))
	if err != nil {
		s.warn("end of the desktop: %v", err)
		return 1
	}
	return 0
}

// live brings everything up and watches it until ctx ends, the program is over
// or something that it needs has died: then it says what.
func (s *stage) live(ctx context.Context) *media.Cause {
	spec := s.start.Spec
	fatal := func(format string, args ...any) *media.Cause {
		if ctx.Err() != nil {
			return nil
		}
		cause := media.NewCause(media.CauseDesktop, format, args...)
		for _, arg := range args {
			var d *deathOf
			if err, ok := arg.(error); ok && errors.As(err, &d) {
				cause.Output = d.output
			}
		}
		return cause
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fatal("%v", err)
	}
	s.null = null
	if me, err := tree.Self(); err == nil { // its note is the first, as traces.Notes has it
		err = traces.Note(spec.Runtime, "supervisor", me)
		if err != nil {
			return fatal("runtime folder: %v", err)
		}
	}
	for _, dir := range []string{"run", "tmp", "services", "pulse"} {
		if err := os.Mkdir(filepath.Join(spec.Runtime, dir), 0o700); err != nil {
			return fatal("runtime folder: %v", err)
		}
	}

	s.event(media.DesktopEvent{Kind: media.DesktopStep, Step: media.StepDisplay})
	displayUp, soundSettled := make(chan struct{}), make(chan struct{})
	s.help.Go(func() { s.sound(ctx, displayUp, soundSettled) })
	screen, err := s.openDisplay(ctx)
	if err != nil {
		return fatal("display: %v", err)
	}
	s.watch(ctx, screen)
	s.event(media.DesktopEvent{Kind: media.DesktopDisplay, Display: screen.display, Sound: s.soundAddress()})
	s.event(media.DesktopEvent{Kind: media.DesktopStep, Step: media.StepSound})
	close(displayUp)
	if spec.Kind != media.DisplayExternal { // that one has its own ways
		s.help.Go(func() { s.manageWindows(ctx, screen) })
	}
	if err := s.setLayout(ctx, screen); err != nil {
		return fatal("%v", err)
	}
	patience := time.NewTimer(2 * soundBound) // sound settles within soundBound, if all goes well
	defer patience.Stop()
	select {
	case <-soundSettled: // without sound, which DesktopSilent told, play goes on all the same
	case <-patience.C:
	case <-ctx.Done():
		return nil
	}

	s.event(media.DesktopEvent{Kind: media.DesktopStep, Step: media.StepProgram})
	if len(spec.Program.Command) == 0 {
		s.event(media.DesktopEvent{Kind: media.DesktopProgram})
		select {
		case <-screen.lost:
			return fatal("display: %v", screen.why())
		case <-ctx.Done():
			return nil
		}
	}
	began := time.Now()
	program, out, err := s.startProgram(screen)
	if err != nil {
		if ctx.Err() == nil {
			s.event(media.DesktopEvent{Kind: media.DesktopFinished, Cause: media.NewCause(media.CauseAppFailed, "%v", err)})
		}
		return nil
	}
	s.event(media.DesktopEvent{Kind: media.DesktopProgram, PID: program.PID})
	over := make(chan struct{})
	s.help.Go(func() {
		if program.ended(ctx) && s.keeper.await(ctx) {
			close(over)
		}
	})
	select {
	case <-over:
		// When the display dies, its programs follow: don't blame them.
		select {
		case <-screen.lost:
			return fatal("display: %v", screen.why())
		case <-time.After(doubt):
		case <-ctx.Done():
			return nil
		}
		if c := s.start.Group.Exceeded(spec.Limits); c != nil {
			return c
		}
		s.event(media.DesktopEvent{Kind: media.DesktopFinished, Cause: &media.Cause{
			Code:   media.CauseAppExited,
			Detail: fmt.Sprintf("the program %s after %v", how(program.status), time.Since(began).Round(time.Millisecond)),
			Output: out.last(100 * time.Millisecond),
		}})
		return nil
	case <-screen.lost:
		if c := s.start.Group.Exceeded(spec.Limits); c != nil {
			return c // all of it was ended at once
		}
		return fatal("display: %v", screen.why())
	case <-ctx.Done():
		return nil
	}
}

// manageWindows runs the window manager. A program can do without, so its end is
// not that of the desktop, and a program that replaces it is welcome.
func (s *stage) manageWindows(ctx context.Context, screen *screen) {
	err := wm.Run(ctx, screen.display, slog.New(slog.NewTextHandler(warner{s}, nil)))
	if err == nil || errors.Is(err, wm.ErrTaken) {
		return
	}
	select {
	case <-screen.lost: // which is told as such
	case <-ctx.Done():
	case <-time.After(doubt):
		s.warn("the desktop goes on without a window manager: %v", err)
	}
}

// warner makes warnings of lines of a log.
type warner struct{ stage *stage }

func (w warner) Write(line []byte) (int, error) {
	w.stage.warn("window manager: %s", bytes.TrimSpace(line))
	return len(line), nil
}

// startProgram starts what the player came for.
func (s *stage) startProgram(screen *screen) (*child, *capture, error) {
	spec := s.start.Spec
	if err := os.MkdirAll(spec.Home, 0o700); err != nil {
		return nil, nil, fmt.Errorf("home: %w", environ.Reason(err))
	}
	dir := spec.Program.Dir
	if dir == "" {
		dir = spec.Home
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, nil, fmt.Errorf("working folder: %w", environ.Reason(err))
	} else if !info.IsDir() {
		return nil, nil, errors.New("working folder: not a folder")
	}
	env := forProgram(s.start, screen.display, screen.authority)
	path, err := environ.LookUp(spec.Program.Command[0], env["PATH"], dir)
	if err != nil {
		return nil, nil, err
	}
	out, err := newCapture(4 << 10)
	if err != nil {
		return nil, nil, fmt.Errorf("output pipe: %w", err)
	}
	defer out.started()
	c, err := s.keeper.start(fork{
		name: "program", path: path, argv: spec.Program.Command, env: env.List(), dir: dir, program: true,
		files: []int{int(s.null.Fd()), out.w, out.w},
	})
	if err != nil {
		if errors.Is(err, syscall.ENOENT) {
			err = errors.New("its interpreter is missing") // the file itself was found
		}
		return nil, nil, fmt.Errorf("%s: %w", spec.Program.Command[0], err)
	}
	return c, out, nil
}

// forProgram is the environment of the program on a desktop.
func forProgram(s start, display media.Display, authority string) environ.Vars {
	e := environ.New(os.Environ(), s.Spec.Session)
	name := cmp.Or(s.User, strconv.Itoa(os.Getuid()))
	e.Add(
		"HOME="+s.Spec.Home, "USER="+name, "LOGNAME="+name, "PWD="+cmp.Or(s.Spec.Program.Dir, s.Spec.Home),
		"DISPLAY="+display.Name, "XDG_SESSION_TYPE=x11", "XDG_CURRENT_DESKTOP=Fenrir",
		"XDG_RUNTIME_DIR="+filepath.Join(s.Spec.Runtime, "run"), "TMPDIR="+filepath.Join(s.Spec.Runtime, "tmp"),
		"PULSE_SERVER="+soundServer(s.Spec.Runtime),
		// Nobody listens there: else libdbus starts a bus of its own for the
		// display, which outlives the program.
		"DBUS_SESSION_BUS_ADDRESS=unix:path="+filepath.Join(s.Spec.Runtime, "run", "bus"),
	)
	if authority != "" {
		e["XAUTHORITY"] = authority
	}
	e.Add(s.Spec.Program.Env...)
	e[tree.Marker] = s.Spec.Session // by which it is found again
	return e
}
