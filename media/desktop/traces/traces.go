// Package traces is what a desktop leaves on the machine while it lives: its
// runtime folder with notes of whose it is and which processes it started, its
// framebuffer folder, its display number; and how all of it is found and removed,
// by the desktop itself or by a later server. It imports its siblings quota and tree,
// golang.org/x/sys and the standard library.
package traces

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media/desktop/quota"
	"fenrir/media/desktop/tree"
)

const (
	ownerFile   = "owner.json" // in a runtime folder: whose it is
	startedFile = "started"    // in a runtime folder: one line for each process of ours
	unfinished  = ".new"       // suffix of a runtime folder without an owner yet

	displayNote = "display" // in the place of a process's name: the number of a display

	shm               = "/dev/shm"
	framebufferPrefix = "fenrir-" // of the folder's name in shm
	framebufferSpace  = 64 << 20  // bytes to be free in shm: twice what one framebuffer takes
)

// Owner says whose a runtime folder is.
type Owner struct {
	Session     string       `json:"session"`
	Server      tree.ID      `json:"server"`
	Boot        string       `json:"boot"` // the kernel's id of this boot: identities are of one boot
	Framebuffer string       `json:"framebuffer,omitempty"`
	Group       *quota.Group `json:"group,omitempty"` // nil: there is none
}

// BootID is the kernel's id of this boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b)), err
}

// Make makes a session's runtime folder so that no moment exists at which
// it is there without an owner.
func Make(dir string, o Owner) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	fresh := dir + unfinished
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err = os.WriteFile(filepath.Join(fresh, ownerFile), b, 0o600); err == nil {
		if _, statErr := os.Lstat(dir); statErr == nil {
			err = fmt.Errorf("%s: %w", dir, os.ErrExist)
		} else {
			err = os.Rename(fresh, dir)
		}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return nil
}

// Note writes down a process of the desktop, for whoever has to find it
// after both the server and the supervisor were killed.
func Note(runtime, name string, id tree.ID) error {
	f, err := os.OpenFile(filepath.Join(runtime, startedFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, name, id.PID, id.Start)
	return errors.Join(err, f.Close())
}

// Notes are what Note wrote.
type Notes struct {
	Processes []tree.ID // the supervisor first
	Displays  []int     // numbers of displays that the supervisor locked
}

// noteDisplay writes down the number of a display, before its lock is made.
func noteDisplay(runtime string, number int) error {
	return Note(runtime, displayNote, tree.ID{PID: number})
}

// ReadNotes reads them; a folder without notes is no error.
func ReadNotes(runtime string) (n Notes) {
	b, err := os.ReadFile(filepath.Join(runtime, startedFile))
	if err != nil {
		return n
	}
	for line := range strings.Lines(string(b)) {
		var name string
		var id tree.ID
		_, err := fmt.Sscan(line, &name, &id.PID, &id.Start)
		switch {
		case err != nil || id.PID < 0: // the last line may be cut short
		case name == displayNote:
			n.Displays = append(n.Displays, id.PID)
		case id.PID > 1:
			n.Processes = append(n.Processes, id)
		}
	}
	return n
}

func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveTree removes a folder with all that is in it. What the program mounted
// there is unmounted first: to remove through a mount would be to remove
// somebody's files.
func RemoveTree(ctx context.Context, dir string) error {
	if dir == "" {
		return nil
	}
	mounts, err := mountsUnder(dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if unix.Unmount(m, unix.MNT_DETACH) == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		// What a user mounted through FUSE only this helper may unmount. In the
		// supervisor another goroutine takes its exit status: look for the result.
		_ = exec.CommandContext(ctx, "fusermount3", "-u", "-z", m).Run()
		cancel()
	}
	if mounts, err = mountsUnder(dir); err != nil || len(mounts) > 0 {
		return errors.Join(err, fmt.Errorf("still mounted, so not removed: %v", mounts))
	}
	if os.RemoveAll(dir) == nil {
		return nil
	}
	// Folders without write permission: give it back, and try once more.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) // RemoveAll below says what cannot be done
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// mountsUnder lists the mount points within dir, deepest first.
func mountsUnder(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		if at := unescape.Replace(fields[4]); strings.HasPrefix(at, dir+"/") {
			found = append([]string{at}, found...) // later mounts lie above or within earlier ones
		}
	}
	return found, nil
}

// Clear removes everything of a desktop whose supervisor is gone: processes by
// control group, marker and notes, X locks and sockets, folders. It gives up when
// ctx ends.
func Clear(ctx context.Context, runtime string, o Owner) (processes int, err error) {
	n := ReadNotes(runtime)
	o.Group.Kill() // where it can; the rest is found one by one
	killed, left, err := tree.KillAll(ctx, func() ([]tree.Process, error) {
		all, err := tree.Table()
		return tree.Marked(all, o.Session, n.Processes), err
	})
	tree.Reap(ctx, append(killed, n.Processes...))
	if err == nil {
		err = tree.Left(left)
	}
	return len(killed), errors.Join(err, o.Group.Remove(), RemoveX(n), RemoveTree(ctx, o.Framebuffer), RemoveTree(ctx, runtime))
}

// Reap ends and removes what the desktops of dead servers left under
// runtimeRoot, the parent folder of every DesktopSpec.Runtime. It is called when a
// server starts and touches nothing of a server that is alive. It returns how
// many desktops it found, and blocks until they are gone, ctx ends, or 10 s have
// passed; the error names what is left. A supervisor that lives is given patience to
// tear down by itself.
func Reap(ctx context.Context, runtimeRoot string, patience time.Duration, log *slog.Logger) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	entries, err := os.ReadDir(runtimeRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reap leftovers: %w", err)
	}
	boot, err := BootID()
	if err != nil {
		return 0, fmt.Errorf("reap leftovers: %w", err)
	}
	var errs []error
	found := 0
	for _, e := range entries {
		dir := filepath.Join(runtimeRoot, e.Name())
		o, ok := readOwner(dir)
		switch {
		case !e.IsDir():
			continue
		case !ok:
			// Made by a server that was killed in between, or is at it right now.
			if info, err := e.Info(); !strings.HasSuffix(dir, unfinished) || err != nil || time.Since(info.ModTime()) < time.Minute {
				continue
			}
		case o.Boot == boot && o.Server.Alive():
			continue
		}
		found++
		began := time.Now()
		killed := 0
		var err error
		if !ok || o.Boot != boot {
			err = errors.Join(RemoveTree(ctx, o.Framebuffer), RemoveTree(ctx, dir))
		} else {
			awaitSupervisor(ctx, dir, patience)
			killed, err = Clear(ctx, dir, o)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reap leftovers of session %s: %w", o.Session, err))
		}
		log.Warn("leftovers of a dead server", "session", o.Session, "killed", killed, "took", time.Since(began), "err", err)
	}
	return found, errors.Join(errs...)
}

func readOwner(dir string) (o Owner, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if err != nil || json.Unmarshal(b, &o) != nil || !ValidSession(o.Session) {
		return Owner{}, false
	}
	if filepath.Dir(o.Framebuffer) != shm || !strings.HasPrefix(filepath.Base(o.Framebuffer), framebufferPrefix) {
		o.Framebuffer = "" // not ours to remove
	}
	if !o.Group.Of(o.Session) {
		o.Group = nil // likewise
	}
	return o, true
}

// awaitSupervisor gives a supervisor that is tearing down by itself the time to
// finish.
func awaitSupervisor(ctx context.Context, runtime string, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ids := ReadNotes(runtime).Processes
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(ids) > 0 && ids[0].Alive() { // the supervisor's own note is the first
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// NewFramebuffer names a folder in shared memory, or nothing when that has too
// little room, as in many containers: then the framebuffer is kept in the runtime
// folder, which costs disk writes.
func NewFramebuffer() string {
	var fs unix.Statfs_t
	if err := unix.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < framebufferSpace || unix.Access(shm, unix.W_OK) != nil {
		return ""
	}
	return filepath.Join(shm, framebufferPrefix+rand.Text())
}

var sessionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// ValidSession tells whether a session id can be one: letters, digits, _ and -.
func ValidSession(id string) bool { return sessionName.MatchString(id) }
