// Package blackbox keeps what may explain a failure afterwards, in a folder of few
// small files: what all goroutines did before a forced restart, how the process
// crashed, what a hung media worker was doing. It imports the standard library
// only.
package blackbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of the folder.
const (
	MaxFiles = 32
	MaxBytes = 1 << 20 // of one file
)

// crashFile is written by the runtime when the process dies of a panic, a fatal
// error or a signal such as SIGABRT or SIGQUIT.
const crashFile = "crash.running"

// Box is the folder. Open makes one.
type Box struct {
	dir   string
	crash *os.File

	mu   sync.Mutex // guards what follows; held while a small file is written
	last time.Time  // of a name
}

// Open makes the folder, keeps what an earlier life of the process left when it
// crashed (crashed is that file's path then), and has the runtime write there if
// this life does.
func Open(dir string) (b *Box, crashed string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make folder for stacks: %w", err)
	}
	b = &Box{dir: dir}
	if crashed, err = b.adopt(); err != nil {
		return nil, "", err
	}
	b.crash, err = os.OpenFile(filepath.Join(dir, crashFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, crashed, fmt.Errorf("open file for a crash: %w", err)
	}
	if err := debug.SetCrashOutput(b.crash, debug.CrashOptions{}); err != nil {
		return nil, crashed, errors.Join(fmt.Errorf("watch for a crash: %w", err), b.crash.Close())
	}
	return b, crashed, nil
}

// adopt gives the crash of an earlier life a name of its own.
func (b *Box) adopt() (string, error) {
	path := filepath.Join(b.dir, crashFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for a crash: %w", err)
	}
	if info.Size() > MaxBytes {
		if err := os.Truncate(path, MaxBytes); err != nil {
			return "", fmt.Errorf("keep a crash: %w", err)
		}
	}
	to := filepath.Join(b.dir, name("crash", info.ModTime()))
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("keep a crash: %w", err)
	}
	return to, b.prune()
}

// Close tells the runtime that this life ends well.
func (b *Box) Close() error {
	return errors.Join(debug.SetCrashOutput(nil, debug.CrashOptions{}), b.crash.Close(), os.Remove(b.crash.Name()))
}

var kindForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func name(kind string, at time.Time) string {
	return at.UTC().Format("20060102T150405.000Z") + "-" + kind + ".txt"
}

// Save writes a file of this kind (lower-case letters, digits, "-") with a text, cut
// at MaxBytes, and returns its path. The oldest files go when there are too many.
func (b *Box) Save(kind, text string) (string, error) {
	if !kindForm.MatchString(kind) {
		return "", fmt.Errorf("save %q: no such kind", kind)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now()
	if !at.Truncate(time.Millisecond).After(b.last) {
		at = b.last.Add(time.Millisecond) // names are times, and the oldest go first
	}
	b.last = at.Truncate(time.Millisecond)
	path := filepath.Join(b.dir, name(kind, at))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("save %s: %w", kind, err)
	}
	_, err = io.WriteString(f, text[:min(len(text), MaxBytes)])
	if err = errors.Join(err, f.Close(), b.prune()); err != nil {
		return "", fmt.Errorf("save %s: %w", kind, err)
	}
	return path, nil
}

// Stacks saves what all goroutines are doing, and why that is asked for. Stacks
// hold addresses and numbers, and no strings: no secrets.
func (b *Box) Stacks(why string) (string, error) {
	buf := make([]byte, MaxBytes)
	n := runtime.Stack(buf, true)
	return b.Save("stacks", why+"\n\n"+string(buf[:n]))
}

// prune removes the oldest files.
func (b *Box) prune() error {
	files, err := filepath.Glob(filepath.Join(b.dir, "*-*.txt"))
	if err != nil || len(files) <= MaxFiles {
		return err
	}
	slices.SortFunc(files, func(x, y string) int { return strings.Compare(filepath.Base(x), filepath.Base(y)) })
	var errs []error
	for _, f := range files[:len(files)-MaxFiles] {
		errs = append(errs, os.Remove(f))
	}
	return errors.Join(errs...)
}
