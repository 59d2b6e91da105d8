package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"fenrir/media"
	"fenrir/media/x11"
)

// LayoutBound is how long SetLayout may take.
const LayoutBound = 3 * time.Second

// ErrLayout is returned by SetLayout for names that are no layout.
var ErrLayout = errors.New("no such keyboard layout")

var layoutName = regexp.MustCompile(`^([A-Za-z0-9_-]{1,32})(?:\(([A-Za-z0-9_-]{1,32})\))?$`)

// setLayout runs setxkbmap on the display. The name is an XKB layout with an
// optional variant in brackets: "us", "de", "de(nodeadkeys)".
func setLayout(ctx context.Context, display media.Display, layout string) error {
	m := layoutName.FindStringSubmatch(layout)
	if m == nil {
		return fmt.Errorf("%w: %q", ErrLayout, layout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, LayoutBound, errors.New("setxkbmap took too long"))
	defer cancel()
	authority, remove, err := authorityOf(display)
	if err != nil {
		return fmt.Errorf("set keyboard layout: %w", err)
	}
	defer remove()
	cmd := exec.CommandContext(ctx, "setxkbmap", "-display", display.Name,
		"-rules", "evdev", "-model", "pc105", "-layout", m[1], "-variant", m[2], "-option", "")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "XAUTHORITY=" + authority, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 200 * time.Millisecond
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("set keyboard layout %s: %w", layout, context.Cause(ctx))
	case bytes.Contains(out, []byte("Error loading new keyboard description")):
		return fmt.Errorf("%w: %q", ErrLayout, layout)
	}
	return fmt.Errorf("set keyboard layout %s: %w: %s", layout, err, strings.TrimSpace(string(out[:min(len(out), 400)])))
}

// authorityOf is the path of a file with the display's cookie, for programs:
// the one that exists, or one made for the moment.
func authorityOf(display media.Display) (path string, remove func(), err error) {
	if display.Authority != "" || display.Cookie == "" {
		return display.Authority, func() {}, nil
	}
	entry, err := x11.AuthorityEntry(display.Cookie)
	if err != nil {
		return "", nil, err
	}
	f, err := os.CreateTemp("", "fenrir-authority-") // 0600
	if err != nil {
		return "", nil, err
	}
	_, err = f.Write(entry)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", nil, errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), func() { _ = os.Remove(f.Name()) }, nil // what stays is in the temporary folder
}
