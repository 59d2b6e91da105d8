package x11

import (
	"context"
	"errors"
	"fmt"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/xproto"
)

// ErrSize is why SetSize refuses: the display cannot be that large, or cannot
// change its size at all.
var ErrSize = errors.New("x11: display does not take this size")

// SetSize makes the display's first output width×height pixels large through
// RandR, with a mode made for it when there is none. It returns when the display
// has that size, each request bounded by ReplyBound.
func SetSize(ctx context.Context, c *Conn, width, height int) error {
	if err := setSize(ctx, c, width, height); err != nil {
		return fmt.Errorf("set display size %d×%d: %w", width, height, err)
	}
	return nil
}

func setSize(ctx context.Context, c *Conn, width, height int) error {
	if width < 1 || height < 1 || width > 32767 || height > 32767 {
		return ErrSize
	}
	if err := c.Use(ctx, "RANDR"); err != nil {
		return err
	}
	if _, err := Reply(ctx, c, randr.QueryVersion(c.X, 1, 4)); err != nil {
		return fmt.Errorf("agree on RandR version: %w", err)
	}
	most, err := Reply(ctx, c, randr.GetScreenSizeRange(c.X, c.Root()))
	if err != nil {
		return fmt.Errorf("ask for size range: %w", err)
	}
	if width > int(most.MaxWidth) || height > int(most.MaxHeight) || width < int(most.MinWidth) || height < int(most.MinHeight) {
		return fmt.Errorf("%w: largest is %d×%d", ErrSize, most.MaxWidth, most.MaxHeight)
	}
	res, err := Reply(ctx, c, randr.GetScreenResourcesCurrent(c.X, c.Root()))
	if err != nil {
		return fmt.Errorf("ask for outputs: %w", err)
	}
	output, crtc, err := firstOutput(ctx, c, res)
	if err != nil {
		return err
	}
	now, err := Reply(ctx, c, xproto.GetGeometry(c.X, xproto.Drawable(c.Root())))
	if err != nil {
		return fmt.Errorf("ask for size: %w", err)
	}
	mode, err := modeFor(ctx, c, res, output, width, height)
	if err != nil {
		return err
	}
	// The screen holds the output at every moment: it grows before and shrinks
	// after it.
	between := func(w, h int) error {
		if w == int(now.Width) && h == int(now.Height) {
			return nil
		}
		now.Width, now.Height = uint16(w), uint16(h)
		const tenthMm = 254 // of 1/96 inch, as -dpi 96 has it
		mm := func(px int) uint32 { return uint32(max(1, (px*tenthMm/96+5)/10)) }
		err := Check(ctx, c, randr.SetScreenSizeChecked(c.X, c.Root(), uint16(w), uint16(h), mm(w), mm(h)))
		if err != nil {
			return fmt.Errorf("set screen size: %w", err)
		}
		return nil
	}
	if err := between(max(width, int(now.Width)), max(height, int(now.Height))); err != nil {
		return err
	}
	set, err := Do(ctx, c, func(x *xgb.Conn) (*randr.SetCrtcConfigReply, error) {
		return randr.SetCrtcConfig(x, crtc, xproto.TimeCurrentTime, res.ConfigTimestamp, 0, 0, mode,
			randr.RotationRotate0, []randr.Output{output}).Reply()
	})
	if err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	if set.Status != randr.SetConfigSuccess {
		return fmt.Errorf("%w: mode refused with status %d", ErrSize, set.Status)
	}
	if now, err = Reply(ctx, c, xproto.GetGeometry(c.X, xproto.Drawable(c.Root()))); err != nil {
		return fmt.Errorf("ask for size: %w", err)
	}
	return between(width, height)
}

// firstOutput finds the first connected output and what drives it.
func firstOutput(ctx context.Context, c *Conn, res *randr.GetScreenResourcesCurrentReply) (randr.Output, randr.Crtc, error) {
	for _, output := range res.Outputs {
		info, err := Reply(ctx, c, randr.GetOutputInfo(c.X, output, res.ConfigTimestamp))
		if err != nil {
			return 0, 0, fmt.Errorf("ask for output: %w", err)
		}
		switch {
		case info.Connection != randr.ConnectionConnected:
		case info.Crtc != 0:
			return output, info.Crtc, nil
		case len(info.Crtcs) > 0:
			return output, info.Crtcs[0], nil
		}
	}
	return 0, 0, fmt.Errorf("%w: no connected output", ErrSize)
}

// modeFor finds the mode of that size that the output has, or gives it one.
func modeFor(ctx context.Context, c *Conn, res *randr.GetScreenResourcesCurrentReply, output randr.Output, width, height int) (randr.Mode, error) {
	info, err := Reply(ctx, c, randr.GetOutputInfo(c.X, output, res.ConfigTimestamp))
	if err != nil {
		return 0, fmt.Errorf("ask for output: %w", err)
	}
	has := map[randr.Mode]bool{}
	for _, m := range info.Modes {
		has[m] = true
	}
	var mode randr.Mode
	for _, m := range res.Modes {
		if int(m.Width) == width && int(m.Height) == height {
			if mode = randr.Mode(m.Id); has[mode] {
				return mode, nil
			}
		}
	}
	if mode == 0 {
		name := fmt.Sprintf("%dx%d", width, height)
		w, h := uint16(width), uint16(height)
		made, err := Reply(ctx, c, randr.CreateMode(c.X, c.Root(), randr.ModeInfo{
			Width: w, Height: h, DotClock: uint32(width) * uint32(height) * 60, NameLen: uint16(len(name)),
			HsyncStart: w, HsyncEnd: w, Htotal: w, VsyncStart: h, VsyncEnd: h, Vtotal: h, // no blanking: nothing is scanned out
		}, name))
		if err != nil {
			return 0, fmt.Errorf("create mode: %w", err)
		}
		mode = made.Mode
	}
	if err := Check(ctx, c, randr.AddOutputModeChecked(c.X, output, mode)); err != nil {
		return 0, fmt.Errorf("add mode: %w", err)
	}
	return mode, nil
}
