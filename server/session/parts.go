package session

import (
	"context"

	"fenrir/media"
)

// Source makes the media of a session: the production one is worker.Process.
type Source interface {
	// Run blocks until ctx ends or the media dies, and returns promptly either
	// way: within its stop and kill grace periods, however the native code
	// behaves. sink is not called after it returned. The error is nil when ctx
	// ended and everything is gone. A *media.Cause in its chain with code
	// CauseNoEncoder is final; any other error is worth another try.
	Run(ctx context.Context, orders <-chan media.Order, sink media.Sink) error
}

// Desktop is the display, the sound server and the program of a session: the
// production one is desktop.Desktop.
type Desktop interface {
	// Run starts everything, tells on (from one goroutine, never concurrently)
	// what happens, and blocks until ctx ends or the desktop is over. When it
	// returns, every process of it is gone, or the error says which is not.
	// The error is nil when ctx ended or the program finished by itself.
	Run(ctx context.Context, on func(media.DesktopEvent)) error
}

// Devices are the virtual keyboard and pointer of a display, and the eye on its
// cursor.
type Devices interface {
	// Run injects what comes in until ctx ends or the display is lost, and
	// tells note what the cursor looks like and where it stands. It drops
	// what it cannot inject and counts it.
	Run(ctx context.Context, display media.Display, in <-chan media.Input, note func(media.Note)) error
	// Resize changes the size of the display; it blocks at most 3 s.
	Resize(ctx context.Context, display media.Display, width, height int) error
	// SetLayout changes the keyboard layout; it blocks at most 3 s.
	SetLayout(ctx context.Context, display media.Display, layout string) error
}
