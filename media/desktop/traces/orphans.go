package traces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fenrir/media/desktop/tree"
)

// Orphan is a desktop of this server that no session owns any more.
type Orphan struct {
	Session   string
	Processes int // that were ended
}

// ReapOrphans ends and removes the desktops under runtimeRoot that this process
// made for sessions which owned does not know. It blocks for 10 s at most; the
// error names what is left, which the next call tries again.
func ReapOrphans(ctx context.Context, runtimeRoot string, owned func(session string) bool, log *slog.Logger) ([]Orphan, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	entries, err := os.ReadDir(runtimeRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for orphans: %w", err)
	}
	boot, err := BootID()
	if err != nil {
		return nil, fmt.Errorf("look for orphans: %w", err)
	}
	self, err := tree.Self()
	if err != nil {
		return nil, fmt.Errorf("look for orphans: %w", err)
	}
	var found []Orphan
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(runtimeRoot, e.Name())
		o, ok := readOwner(dir)
		if !e.IsDir() || strings.HasSuffix(dir, unfinished) || !ok || o.Boot != boot || o.Server != self || owned(o.Session) {
			continue
		}
		killed, err := Clear(ctx, dir, o)
		if err != nil {
			errs = append(errs, fmt.Errorf("orphan of session %s: %w", o.Session, err))
		}
		log.Warn("orphaned desktop", "session", o.Session, "killed", killed, "err", err)
		found = append(found, Orphan{Session: o.Session, Processes: killed})
	}
	return found, errors.Join(errs...)
}
