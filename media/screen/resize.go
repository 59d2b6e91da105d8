package screen

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"fenrir/media"
	"fenrir/media/x11"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/xproto"
)

// ErrFixed is returned by Resize for displays that cannot have the wanted size.
var ErrFixed = errors.New("the display cannot have this size")

// modePrefix begins the names of modes that Resize made, and may take away again.
const modePrefix = "fenrir-"

// Resize gives the display another size, in pixels, through RandR: Xvfb takes
// any size up to the one that it was started with. It blocks at most ResizeBound.
// The display has its old or its new size when it returns an error.
func Resize(ctx context.Context, display media.Display, width, height int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ResizeBound, ErrBound)
	defer cancel()
	c, err := x11.Dial(ctx, display)
	if err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	defer c.Close()
	if err := ResizeOn(ctx, c, width, height); err != nil {
		return fmt.Errorf("resize display %s to %d×%d: %w", display.Name, width, height, err)
	}
	return nil
}

// ResizeOn is Resize over a connection that exists already.
func ResizeOn(ctx context.Context, c *x11.Conn, width, height int) error {
	if width < 1 || height < 1 || width > 32767 || height > 32767 {
		return fmt.Errorf("%w: not a size", ErrFixed)
	}
	if err := c.Use(ctx, "RANDR"); err != nil {
		return fmt.Errorf("%w: %w", ErrFixed, err)
	}
	r := &resizer{root: c.Root(), width: uint16(width), height: uint16(height)}
	_, err := x11.Do(ctx, c, func(x *xgb.Conn) (struct{}, error) { return struct{}{}, r.run(x) })
	return err
}

type resizer struct {
	root          xproto.Window
	width, height uint16
	resources     *randr.GetScreenResourcesReply
	output        randr.Output
	crtc          randr.Crtc
	outputModes   []randr.Mode
}

func (r *resizer) run(x *xgb.Conn) error {
	// RandR 1.2 is what clients must say that they know, or modes are hidden from them.
	if _, err := randr.QueryVersion(x, 1, 3).Reply(); err != nil {
		return fmt.Errorf("ask for RandR's version: %w", err)
	}
	limits, err := randr.GetScreenSizeRange(x, r.root).Reply()
	if err != nil {
		return fmt.Errorf("ask for the range of sizes: %w", err)
	}
	if r.width < limits.MinWidth || r.height < limits.MinHeight || r.width > limits.MaxWidth || r.height > limits.MaxHeight {
		return fmt.Errorf("%w: it can be %d×%d to %d×%d", ErrFixed, limits.MinWidth, limits.MinHeight, limits.MaxWidth, limits.MaxHeight)
	}
	// Others see the change as a whole.
	xproto.GrabServer(x)
	defer xproto.UngrabServer(x)
	if err := r.look(x); err != nil {
		return err
	}
	now, err := xproto.GetGeometry(x, xproto.Drawable(r.root)).Reply()
	if err != nil {
		return fmt.Errorf("ask for the size: %w", err)
	}
	if now.Width == r.width && now.Height == r.height {
		return nil
	}
	mode, err := r.mode(x)
	if err != nil {
		return err
	}
	// The output must fit into the screen at every moment.
	if wide, high := max(now.Width, r.width), max(now.Height, r.height); wide != now.Width || high != now.Height {
		if err := r.screen(x, wide, high); err != nil {
			return err
		}
		now.Width, now.Height = wide, high
	}
	set, err := randr.SetCrtcConfig(x, r.crtc, xproto.TimeCurrentTime, r.resources.ConfigTimestamp, 0, 0, mode, randr.RotationRotate0, []randr.Output{r.output}).Reply()
	if err != nil {
		return fmt.Errorf("%w: set mode: %w", ErrFixed, err)
	}
	if set.Status != randr.SetConfigSuccess {
		return fmt.Errorf("%w: set mode: refused with status %d", ErrFixed, set.Status)
	}
	if now.Width != r.width || now.Height != r.height {
		if err := r.screen(x, r.width, r.height); err != nil {
			return err
		}
	}
	r.tidy(x, mode)
	now, err = xproto.GetGeometry(x, xproto.Drawable(r.root)).Reply()
	if err != nil {
		return fmt.Errorf("ask for the size: %w", err)
	}
	if now.Width != r.width || now.Height != r.height {
		return fmt.Errorf("%w: it is %d×%d", ErrFixed, now.Width, now.Height)
	}
	return nil
}

// look finds the one output that shows the screen.
func (r *resizer) look(x *xgb.Conn) (err error) {
	if r.resources, err = randr.GetScreenResources(x, r.root).Reply(); err != nil {
		return fmt.Errorf("ask for outputs: %w", err)
	}
	lit := 0
	for _, o := range r.resources.Outputs {
		info, err := randr.GetOutputInfo(x, o, r.resources.ConfigTimestamp).Reply()
		if err != nil {
			return fmt.Errorf("ask for an output: %w", err)
		}
		if info.Crtc == 0 {
			continue
		}
		lit++
		r.output, r.crtc, r.outputModes = o, info.Crtc, info.Modes
	}
	switch lit {
	case 0:
		return fmt.Errorf("%w: it has no lit output", ErrFixed)
	case 1:
		return nil
	}
	return fmt.Errorf("%w: it has %d monitors", ErrFixed, lit)
}

// mode finds or makes a mode of the wanted size on the output.
func (r *resizer) mode(x *xgb.Conn) (randr.Mode, error) {
	for _, m := range r.resources.Modes {
		if m.Width != r.width || m.Height != r.height {
			continue
		}
		for _, have := range r.outputModes {
			if have == randr.Mode(m.Id) {
				return have, nil
			}
		}
	}
	name := fmt.Sprintf("%s%dx%d", modePrefix, r.width, r.height)
	info := randr.ModeInfo{
		Width: r.width, Height: r.height,
		HsyncStart: r.width, HsyncEnd: r.width, Htotal: r.width,
		VsyncStart: r.height, VsyncEnd: r.height, Vtotal: r.height,
		DotClock: 60 * uint32(r.width) * uint32(r.height),
		NameLen:  uint16(len(name)),
	}
	made, err := randr.CreateMode(x, r.root, info, name).Reply()
	if err != nil {
		return 0, fmt.Errorf("%w: make mode: %w", ErrFixed, err)
	}
	if err := randr.AddOutputModeChecked(x, r.output, made.Mode).Check(); err != nil {
		return 0, fmt.Errorf("%w: add mode: %w", ErrFixed, err)
	}
	return made.Mode, nil
}

// screen sets the size of the whole screen; its millimetres are such that it has 96 dpi.
func (r *resizer) screen(x *xgb.Conn, width, height uint16) error {
	err := randr.SetScreenSizeChecked(x, r.root, width, height, uint32(width)*254/960, uint32(height)*254/960).Check()
	if err != nil {
		return fmt.Errorf("%w: set size: %w", ErrFixed, err)
	}
	return nil
}

// tidy takes away modes that earlier calls made. What cannot be taken away does
// no harm, so errors are left to the server.
func (r *resizer) tidy(x *xgb.Conn, used randr.Mode) {
	names := string(r.resources.Names)
	for _, m := range r.resources.Modes {
		if int(m.NameLen) > len(names) {
			return
		}
		name := names[:m.NameLen]
		names = names[m.NameLen:]
		if randr.Mode(m.Id) != used && strings.HasPrefix(name, modePrefix) {
			randr.DeleteOutputMode(x, r.output, randr.Mode(m.Id))
			randr.DestroyMode(x, randr.Mode(m.Id))
		}
	}
}
