package desktop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"fenrir/media"
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
	path, err := lookUp(name, newEnvironment(os.Environ(), s.start.Spec.Session)["PATH"], "/")
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
	e := newEnvironment(os.Environ(), s.start.Spec.Session)
	e.add("HOME="+filepath.Join(s.start.Spec.Runtime, "services"), "TMPDIR="+filepath.Join(s.start.Spec.Runtime, "tmp"))
	e.add(more...)
	return e.list()
}

// run is the life of the desktop. It returns the supervisor's exit status.
func (s *stage) run(ctx context.Context) int {
	cause := s.live(ctx)
	s.cancel()
	s.help.Wait() // all of it sees ctx
	s.services.Lock()
	defer s.services.Unlock()
	if cause != nil {
		s.tell(news{Fatal: cause}) // before the end, which takes its time
	}
	left, err := s.keeper.stop(s.services.list)
	ctx = context.WithoutCancel(ctx)
	err = errors.Join(err, leftError(left), removeX(readNotes(s.start.Spec.Runtime)),
		removeTree(ctx, s.start.Framebuffer), removeTree(ctx, s.start.Spec.Runtime))
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
	if self, err := self(); err == nil { // its note is the first: awaitSupervisor
		err = noteStarted(spec.Runtime, "supervisor", self)
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
	s.event(media.DesktopEvent{Kind: media.DesktopDisplay, Display: screen.display})
	s.event(media.DesktopEvent{Kind: media.DesktopStep, Step: media.StepSound})
	close(displayUp)
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
		if program.ended(ctx) && s.keeper.await(ctx, s.keeper.programs) {
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
		s.event(media.DesktopEvent{Kind: media.DesktopFinished, Cause: &media.Cause{
			Code:   media.CauseAppExited,
			Detail: fmt.Sprintf("the program %s after %v", how(program.status), time.Since(began).Round(time.Millisecond)),
			Output: out.last(100 * time.Millisecond),
		}})
		return nil
	case <-screen.lost:
		return fatal("display: %v", screen.why())
	case <-ctx.Done():
		return nil
	}
}

// startProgram starts what the player came for.
func (s *stage) startProgram(screen *screen) (*child, *capture, error) {
	spec := s.start.Spec
	if err := os.MkdirAll(spec.Home, 0o700); err != nil {
		return nil, nil, fmt.Errorf("home: %w", reason(err))
	}
	dir := spec.Program.Dir
	if dir == "" {
		dir = spec.Home
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, nil, fmt.Errorf("working folder: %w", reason(err))
	} else if !info.IsDir() {
		return nil, nil, errors.New("working folder: not a folder")
	}
	env := forProgram(os.Environ(), s.start, screen.display, screen.authority)
	path, err := lookUp(spec.Program.Command[0], env["PATH"], dir)
	if err != nil {
		return nil, nil, err
	}
	out, err := newCapture(4 << 10)
	if err != nil {
		return nil, nil, fmt.Errorf("output pipe: %w", err)
	}
	defer out.started()
	c, err := s.keeper.start(fork{
		name: "program", path: path, argv: spec.Program.Command, env: env.list(), dir: dir, program: true,
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
