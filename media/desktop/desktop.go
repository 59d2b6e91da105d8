package desktop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/desktop/environ"
	"fenrir/media/desktop/quota"
	"fenrir/media/desktop/traces"
	"fenrir/media/desktop/tree"
	"fenrir/media/x11"
)

// The bounds of a desktop's end. Run returns at most termGrace + killGrace after
// ctx ended when the supervisor works, and orphanGrace later when it does not.
const (
	termGrace   = 1500 * time.Millisecond // between SIGTERM and SIGKILL for the program
	killGrace   = 1500 * time.Millisecond // for the rest: kill, reap, remove
	orphanGrace = time.Second             // for Desktop to do the supervisor's work

	teardownBound = termGrace + killGrace
	firstWord     = 20 * time.Second // until the display stands, on a machine that is very busy
)

// ErrLeft is in the chain of errors that name processes which could not be ended.
var ErrLeft = tree.ErrLeft

// Desktop is one session's display, sound server and program. It is used once.
type Desktop struct {
	Exe  string   // our own binary, which calls Main
	Args []string // arguments that make it do so
	Spec media.DesktopSpec
	// Roots are where control groups can be made that hold Spec.Limits; without any,
	// the limits are held by measuring.
	Roots quota.Roots
	Log   *slog.Logger
}

// Run starts everything, tells on what happens, and blocks until ctx ends or the
// desktop is over. on is called from one goroutine and must not block. A
// DesktopProgram event comes for a Spec without a program as well, with PID 0.
//
// When Run returns, every process of the desktop is gone and Spec.Runtime is
// removed, or the error says what is left (ErrLeft). The error is nil when ctx
// ended or the program finished by itself, which DesktopFinished told; otherwise
// it has a *media.Cause with code media.CauseDesktop in its chain.
func (d *Desktop) Run(ctx context.Context, on func(media.DesktopEvent)) error {
	if err := check(d.Spec); err != nil {
		return media.NewCause(media.CauseDesktop, "%v", err)
	}
	if ctx.Err() != nil {
		return nil
	}
	if d.Spec.Kind == media.DisplayExternal && d.Spec.External.Cookie == "" && d.Spec.External.Authority == "" {
		d.Spec.External.Authority = x11.DefaultAuthority() // the supervisor does not have our environment
	}
	p, err := d.start(ctx)
	if err != nil {
		return &failure{media.NewCause(media.CauseDesktop, "the desktop could not be started: %v", err)}
	}
	fatal := p.follow(ctx, on)
	err = p.end(context.WithoutCancel(ctx))
	if fatal != nil && ctx.Err() == nil {
		return errors.Join(fatal, err)
	}
	return err
}

var layoutName = regexp.MustCompile(`^([A-Za-z0-9_,]{1,32})(?:\(([A-Za-z0-9_,-]{0,64})\))?$`)

// check refuses a Spec that cannot work.
func check(s media.DesktopSpec) error {
	const maxSocketPath = 107 // bytes, sockaddr_un
	switch {
	case !traces.ValidSession(s.Session):
		return errors.New("session id is not made of letters, digits, _ and -")
	case !filepath.IsAbs(s.Runtime) || filepath.Clean(s.Runtime) != s.Runtime:
		return errors.New("runtime folder is not an absolute, clean path")
	case len(soundSocket(s.Runtime)) > maxSocketPath:
		return fmt.Errorf("runtime folder's path is too long by %d bytes for a socket", len(soundSocket(s.Runtime))-maxSocketPath)
	case !filepath.IsAbs(s.Home):
		return errors.New("home is not an absolute path")
	case s.Layout != "" && !layoutName.MatchString(s.Layout):
		return fmt.Errorf("keyboard layout %q is not of the form us or de(nodeadkeys)", s.Layout)
	}
	if _, ok := channelMaps[s.Channels]; !ok {
		return fmt.Errorf("no sound card has %d channels", s.Channels)
	}
	switch s.Kind {
	case "", media.DisplayXvfb:
		if s.Width < 1 || s.Width > maxWidth || s.Height < 1 || s.Height > maxHeight {
			return fmt.Errorf("display size %d×%d is not within 1×1 and %d×%d", s.Width, s.Height, maxWidth, maxHeight)
		}
	case media.DisplayExternal:
		if s.External.Name == "" {
			return errors.New("external display has no name")
		}
	default:
		return fmt.Errorf("display kind %q is unknown", s.Kind)
	}
	return nil
}

// failure makes a cause an error of Run.
type failure struct{ cause *media.Cause }

func (f *failure) Error() string {
	if out := strings.TrimSpace(f.cause.Output); out != "" {
		return f.cause.Error() + "\n" + out
	}
	return f.cause.Error()
}
func (f *failure) Unwrap() error { return f.cause }

// supervisor is the running child as its parent sees it.
type supervisor struct {
	d      *Desktop
	cmd    *exec.Cmd
	id     tree.ID
	conn   net.Conn
	owner  traces.Owner // of what is left behind
	babble *tail        // what it printed: nothing, unless it crashed

	news   chan news      // closed at the end of the socket
	ended  chan struct{}  // closed when the process was reaped
	status error          // of the process, valid after ended
	help   sync.WaitGroup // goroutines of this supervisor
}

// start makes the runtime folder and starts the supervisor.
func (d *Desktop) start(ctx context.Context) (_ *supervisor, err error) {
	server, err := tree.Self()
	if err != nil {
		return nil, err
	}
	boot, err := traces.BootID()
	if err != nil {
		return nil, err
	}
	p := &supervisor{
		d: d, babble: &tail{max: 4 << 10}, owner: traces.Owner{Session: d.Spec.Session, Server: server, Boot: boot},
		news: make(chan news, 16), ended: make(chan struct{}),
	}
	if d.Spec.Kind != media.DisplayExternal {
		p.owner.Framebuffer = traces.NewFramebuffer()
	}
	if p.owner.Group, err = d.Roots.Make(d.Spec.Session, d.Spec.Limits); err != nil {
		d.Log.Warn("limits are held without the kernel's help", "session", d.Spec.Session, "err", err)
		p.owner.Group = nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.owner.Group.Remove())
		}
	}()
	if err := traces.Make(d.Spec.Runtime, p.owner); err != nil {
		return nil, fmt.Errorf("make runtime folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, traces.RemoveTree(ctx, d.Spec.Runtime))
		}
	}()

	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "desktop"), os.NewFile(uintptr(fds[1]), "desktop")
	defer theirs.Close()
	p.conn, err = net.FileConn(ours)
	_ = ours.Close() // FileConn has its own descriptor
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.conn.Close())
		}
	}()

	p.cmd = exec.Command(d.Exe, d.Args...)
	p.cmd.Dir = "/"
	p.cmd.Env = append(environ.PassedOn(os.Environ()), tree.Marker+"="+d.Spec.Session,
		"GOMAXPROCS=2", "GOGC=50", "GOMEMLIMIT=24MiB") // it idles: let it be small
	p.cmd.Stderr = p.babble
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.WaitDelay = 500 * time.Millisecond
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	if row, err := tree.Read(p.cmd.Process.Pid); err == nil { // not reaped yet, so its row is there
		p.id = row.ID
	}
	p.help.Go(func() { // ends with the process, which end kills
		defer close(p.ended)
		p.status = p.cmd.Wait()
	})
	p.help.Go(p.listen) // ends with the socket, which end closes
	name := ""
	if u, err := user.Current(); err == nil { // without a name the program gets its number
		name = u.Username
	}
	if err := p.send(order{Start: &start{Spec: d.Spec, Framebuffer: p.owner.Framebuffer, Group: p.owner.Group, User: name}}); err != nil {
		return nil, errors.Join(err, p.end(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// send gives the supervisor an order. It blocks at most half a second.
func (p *supervisor) send(o order) error {
	b, err := encode(o)
	if err != nil {
		return err
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return fmt.Errorf("order supervisor: %w", err)
	}
	if _, err := p.conn.Write(b); err != nil {
		return fmt.Errorf("order supervisor: %w", err)
	}
	return nil
}

// listen reads the supervisor's news until its socket ends.
func (p *supervisor) listen() {
	defer close(p.news)
	s := lines(p.conn)
	for s.Scan() {
		m, err := decode[news](s.Bytes())
		if err != nil {
			m = news{Warn: err.Error()}
		}
		p.news <- m
	}
	if err := s.Err(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
		p.news <- news{Warn: err.Error()}
	}
}

// follow tells what happens until ctx ends or the desktop is over. It returns why
// it is over: nil after the program finished by itself.
func (p *supervisor) follow(ctx context.Context, on func(media.DesktopEvent)) error {
	first := time.NewTimer(firstWord)
	defer first.Stop()
	for {
		select {
		case m, ok := <-p.news:
			switch {
			case !ok:
				return p.died(ctx)
			case m.Fatal != nil:
				return &failure{m.Fatal}
			case m.Warn != "":
				p.d.Log.Warn("desktop", "session", p.d.Spec.Session, "text", m.Warn)
			case m.Event != nil:
				if m.Event.Kind == media.DesktopDisplay {
					first.Stop()
				}
				if ctx.Err() != nil {
					return nil
				}
				on(*m.Event)
				if m.Event.Kind == media.DesktopFinished {
					return nil
				}
			}
		case <-first.C:
			return &failure{media.NewCause(media.CauseDesktop, "no display within %v", firstWord)}
		case <-ctx.Done():
			return nil
		}
	}
}

// died says how the supervisor ended that was not told to.
func (p *supervisor) died(ctx context.Context) error {
	bound := time.NewTimer(time.Second)
	defer bound.Stop()
	how := "hung up"
	select {
	case <-p.ended:
		if how = "ended"; p.status != nil {
			how = p.status.Error()
		}
	case <-bound.C:
	case <-ctx.Done():
	}
	return &failure{&media.Cause{
		Code:   media.CauseDesktop,
		Detail: "the desktop's supervisor died: " + how,
		Output: p.babble.String(),
	}}
}

// end stops the supervisor and makes sure that nothing is left. It blocks at most
// teardownBound + orphanGrace, and a second for goroutines.
func (p *supervisor) end(ctx context.Context) error {
	_ = p.send(order{Stop: true}) // if it cannot hear, it is dead or will be killed
	p.help.Go(func() {            // the reader may wait for us to take its news
		for range p.news {
		}
	})
	bound := time.NewTimer(teardownBound)
	defer bound.Stop()
	select {
	case <-p.ended:
	case <-bound.C:
		p.d.Log.Warn("desktop does not stop, killing it", "session", p.d.Spec.Session)
		_ = p.id.Signal(unix.SIGKILL) // what is left is named below
	}
	_ = p.conn.Close() // nobody is at the other end

	ctx, cancel := context.WithTimeout(ctx, orphanGrace)
	defer cancel()
	killed, err := traces.Clear(ctx, p.d.Spec.Runtime, p.owner)
	if killed > 0 {
		p.d.Log.Warn("desktop left processes behind", "session", p.d.Spec.Session, "killed", killed)
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("%w: supervisor (pid %d)", ErrLeft, p.id.PID))
	}
	p.help.Wait() // the process is gone and the socket closed: nothing holds them
	if said := p.babble.String(); said != "" {
		p.d.Log.Warn("desktop supervisor printed", "session", p.d.Spec.Session, "text", said)
	}
	if err != nil {
		return fmt.Errorf("end desktop: %w", err)
	}
	return nil
}

// Orphan is a desktop of this server that no session owns any more.
type Orphan = traces.Orphan

// ReapOrphans ends and removes what desktops of this server have left under
// runtimeRoot whose session owned does not know: that is there only after an end
// that did not succeed. It blocks for 10 s at most; the error names what is left.
func ReapOrphans(ctx context.Context, runtimeRoot string, owned func(session string) bool, log *slog.Logger) ([]Orphan, error) {
	return traces.ReapOrphans(ctx, runtimeRoot, owned, log)
}

// ReapLeftovers ends and removes what the desktops of dead servers left under
// runtimeRoot, the parent folder of every DesktopSpec.Runtime. It is called when a
// server starts and touches nothing of a server that is alive. It returns how
// many desktops it found, and blocks until they are gone, ctx ends, or 10 s have
// passed; the error names what is left.
func ReapLeftovers(ctx context.Context, runtimeRoot string, log *slog.Logger) (int, error) {
	return traces.Reap(ctx, runtimeRoot, teardownBound, log)
}
