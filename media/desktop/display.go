package desktop

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jezek/xgb/xproto"

	"fenrir/media"
	"fenrir/media/desktop/traces"
	"fenrir/media/x11"
)

const (
	xvfb = "Xvfb"

	// The largest display: Xvfb cannot grow beyond the size that it starts with.
	maxWidth, maxHeight = 3840, 2160

	displayBound = 10 * time.Second // for Xvfb to take connections
	layoutBound  = 3 * time.Second

	// A display is asked so often whether it answers, and has so long for it; one
	// that is silent so many times in a row hangs.
	askEvery  = time.Second
	askAnswer = x11.ReplyBound
	patience  = 2
)

// screen is a display that works.
type screen struct {
	display   media.Display
	authority string          // file with the cookie, for programs
	lost      <-chan struct{} // closed when the display is gone
	why       func() error    // after lost
}

// openDisplay starts or attaches to the display and gives it its size.
func (s *stage) openDisplay(ctx context.Context) (*screen, error) {
	if s.start.Spec.Kind == media.DisplayExternal {
		return s.attach(ctx)
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	cookie := hex.EncodeToString(secret[:])
	authority, err := s.writeAuthority(cookie)
	if err != nil {
		return nil, err
	}
	folder := s.start.Framebuffer
	if folder == "" {
		folder = filepath.Join(s.start.Spec.Runtime, "framebuffer")
	}
	sc, err := s.startXvfb(ctx, folder, cookie, authority)
	if err != nil && folder == s.start.Framebuffer && ctx.Err() == nil && errors.As(err, new(*deathOf)) {
		s.warn("Xvfb does not start with its framebuffer in %s, trying the runtime folder: %v", folder, err)
		sc, err = s.startXvfb(ctx, filepath.Join(s.start.Spec.Runtime, "framebuffer"), cookie, authority)
	}
	return sc, err
}

func (s *stage) writeAuthority(cookie string) (string, error) {
	content, err := x11.AuthorityEntry(cookie)
	if err != nil {
		return "", err
	}
	file := filepath.Join(s.start.Spec.Runtime, "Xauthority")
	return file, os.WriteFile(file, content, 0o600)
}

// deathOf is that a service ended which should not.
type deathOf struct {
	name   string
	status syscall.WaitStatus
	output string // last lines that it printed
}

func (d *deathOf) Error() string { return d.name + " " + how(d.status) }

// startXvfb returns when the display takes connections and has its size.
func (s *stage) startXvfb(ctx context.Context, folder, cookie, authority string) (*screen, error) {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	number, err := traces.LockDisplay(s.start.Spec.Runtime)
	if err != nil {
		return nil, err
	}
	out, err := newCapture(2 << 10)
	if err != nil {
		return nil, err
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		out.started()
		return nil, err
	}
	defer ready.Close()
	server, err := s.serve(xvfb, []string{
		":" + strconv.Itoa(number),
		"-displayfd", "3", // where it says that it is ready
		"-screen", "0", fmt.Sprintf("%dx%dx24", maxWidth, maxHeight),
		"-fbdir", folder, "-auth", authority,
		"-nolisten", "tcp", "-nolisten", "local", // the file's permissions would not guard an abstract socket
		"-noreset", "-dpi", "96", "-s", "0",
	}, s.serviceEnv(), out, int(tell.Fd()))
	_ = tell.Close() // Xvfb has its own descriptor
	if err != nil {
		return nil, err
	}
	died := func() error {
		return &deathOf{xvfb, server.status, out.last(100 * time.Millisecond)}
	}

	bounded, cancel := context.WithTimeoutCause(ctx, displayBound, fmt.Errorf("does not come up within %v", displayBound))
	defer cancel()
	if err := ready.SetReadDeadline(time.Now().Add(displayBound)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		soon, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if server.ended(soon) {
			return nil, died()
		}
		return nil, errors.Join(err, context.Cause(bounded))
	}
	d := media.Display{
		Name: ":" + strconv.Itoa(number), Cookie: cookie, Authority: authority,
		Framebuffer: filepath.Join(folder, "Xvfb_screen0"),
		Width:       s.start.Spec.Width, Height: s.start.Spec.Height,
	}
	conn, err := x11.Dial(bounded, d)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := x11.SetSize(bounded, conn, d.Width, d.Height); err != nil {
		return nil, err
	}
	return &screen{
		display: d, authority: authority, lost: server.done,
		why: died,
	}, nil
}

// attach looks at a display that exists. The connection stays open: its end is
// how the display's end shows.
func (s *stage) attach(ctx context.Context) (*screen, error) {
	d := s.start.Spec.External
	conn, err := x11.Dial(ctx, d)
	if err != nil {
		return nil, err
	}
	s.help.Go(func() {
		<-ctx.Done()
		conn.Close()
	})
	size, err := x11.Reply(ctx, conn, xproto.GetGeometry(conn.X, xproto.Drawable(conn.Root())))
	if err != nil {
		return nil, err
	}
	d.Width, d.Height = int(size.Width), int(size.Height)
	if d.Authority == "" && d.Cookie != "" {
		if d.Authority, err = s.writeAuthority(d.Cookie); err != nil {
			return nil, err
		}
	}
	return &screen{
		display: d, authority: d.Authority, lost: conn.Done(),
		why: func() error { return fmt.Errorf("%s is gone: %w", d.Name, conn.Err()) },
	}, nil
}

// watch makes a display that hangs lost, as one that is gone.
func (s *stage) watch(ctx context.Context, sc *screen) {
	gone, why := sc.lost, sc.why
	lost := make(chan struct{})
	var hung error // written before lost is closed
	sc.lost = lost
	sc.why = func() error {
		if hung != nil {
			return hung
		}
		return why()
	}
	s.help.Go(func() {
		if hung = ask(ctx, sc.display, gone); hung != nil || ctx.Err() == nil {
			close(lost)
		}
	})
}

// ask asks a display again and again whether it answers, until that is gone or ctx
// ends; else it returns why it does not. A program that keeps the server to itself
// (GrabServer) makes others wait just as a hung one does, and is borne with as long.
func ask(ctx context.Context, display media.Display, gone <-chan struct{}) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var conn *x11.Conn
	hangUp := func() {}
	defer func() { hangUp() }()
	for silent := 0; ; {
		if conn == nil {
			life, cancel := context.WithCancel(ctx)
			bound := time.AfterFunc(askAnswer, cancel)
			conn, _ = x11.Dial(life, display) // nil: it did not answer
			bound.Stop()
			hangUp = func() {
				cancel()
				if conn != nil {
					conn.Close()
				}
			}
		}
		answered := false
		if conn != nil {
			_, err := x11.Reply(ctx, conn, xproto.GetInputFocus(conn.X)) // within x11.ReplyBound
			answered = err == nil
		}
		if silent++; answered {
			silent = 0
		} else {
			hangUp()
			conn = nil
		}
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		if silent >= patience {
			return fmt.Errorf("%s does not answer within %v", display.Name, askAnswer)
		}
		select {
		case <-tick.C:
		case <-gone:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// setLayout gives the display its keyboard layout. That of a display that is not
// ours stays as it is, and Xvfb has "us" from the start.
func (s *stage) setLayout(ctx context.Context, sc *screen) error {
	layout := s.start.Spec.Layout
	if layout == "" || layout == "us" || s.start.Spec.Kind == media.DisplayExternal {
		return nil
	}
	m := layoutName.FindStringSubmatch(layout)
	if m == nil {
		return fmt.Errorf("keyboard layout %q is malformed", layout)
	}
	out, err := newCapture(2 << 10)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, layoutBound, fmt.Errorf("not set within %v", layoutBound))
	defer cancel()
	c, err := s.serve("setxkbmap", []string{"-layout", m[1], "-variant", m[2]},
		s.serviceEnv("DISPLAY="+sc.display.Name, "XAUTHORITY="+sc.authority), out)
	if err != nil {
		return err
	}
	if !c.ended(ctx) {
		return fmt.Errorf("keyboard layout %s: %w", layout, context.Cause(ctx))
	}
	if !c.status.Exited() || c.status.ExitStatus() != 0 {
		return fmt.Errorf("keyboard layout %s is not known: %s", layout, out.last(100*time.Millisecond))
	}
	return nil
}
