package desktop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// owner says whose a runtime folder is.
type owner struct {
	Session     string   `json:"session"`
	Server      identity `json:"server"`
	Boot        string   `json:"boot"` // the kernel's id of this boot: identities are of one boot
	Framebuffer string   `json:"framebuffer,omitempty"`
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b)), err
}

// makeRuntime makes a session's runtime folder so that no moment exists at which
// it is there without an owner.
func makeRuntime(dir string, o owner) error {
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

// noteStarted writes down a process of the desktop, for whoever has to find it
// after both the server and the supervisor were killed.
func noteStarted(runtime, name string, id identity) error {
	f, err := os.OpenFile(filepath.Join(runtime, startedFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, name, id.PID, id.Start)
	return errors.Join(err, f.Close())
}

// notes are what noteStarted wrote.
type notes struct {
	processes []identity // the supervisor first
	displays  []int      // numbers of displays that the supervisor locked
}

// noteDisplay writes down the number of a display, before its lock is made.
func noteDisplay(runtime string, number int) error {
	return noteStarted(runtime, displayNote, identity{PID: number})
}

// readNotes reads them; a folder without notes is no error.
func readNotes(runtime string) (n notes) {
	b, err := os.ReadFile(filepath.Join(runtime, startedFile))
	if err != nil {
		return n
	}
	for line := range strings.Lines(string(b)) {
		var name string
		var id identity
		_, err := fmt.Sscan(line, &name, &id.PID, &id.Start)
		switch {
		case err != nil || id.PID < 0: // the last line may be cut short
		case name == displayNote:
			n.displays = append(n.displays, id.PID)
		case id.PID > 1:
			n.processes = append(n.processes, id)
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

// removeTree removes a folder with all that is in it. What the program mounted
// there is unmounted first: to remove through a mount would be to remove
// somebody's files.
func removeTree(ctx context.Context, dir string) error {
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

// clear removes everything of a desktop whose supervisor is gone: processes by
// marker and notes, X locks and sockets, folders. It gives up when ctx ends.
func clear(ctx context.Context, runtime, framebuffer, session string) (processes int, err error) {
	n := readNotes(runtime)
	killed, left, err := killAll(ctx, func() ([]process, error) {
		all, err := table()
		return marked(all, session, n.processes), err
	})
	reap(ctx, append(killed, n.processes...))
	if err == nil {
		err = leftError(left)
	}
	return len(killed), errors.Join(err, removeX(n), removeTree(ctx, framebuffer), removeTree(ctx, runtime))
}

// ReapLeftovers ends and removes what the desktops of dead servers left under
// runtimeRoot, the parent folder of every DesktopSpec.Runtime. It is called when a
// server starts and touches nothing of a server that is alive. It returns how
// many desktops it found, and blocks until they are gone, ctx ends, or 10 s have
// passed; the error names what is left.
func ReapLeftovers(ctx context.Context, runtimeRoot string, log *slog.Logger) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	entries, err := os.ReadDir(runtimeRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reap leftovers: %w", err)
	}
	boot, err := bootID()
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
		case o.Boot == boot && o.Server.alive():
			continue
		}
		found++
		began := time.Now()
		killed := 0
		var err error
		if !ok || o.Boot != boot {
			err = errors.Join(removeTree(ctx, o.Framebuffer), removeTree(ctx, dir))
		} else {
			awaitSupervisor(ctx, dir)
			killed, err = clear(ctx, dir, o.Framebuffer, o.Session)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reap leftovers of session %s: %w", o.Session, err))
		}
		log.Warn("leftovers of a dead server", "session", o.Session, "killed", killed, "took", time.Since(began), "err", err)
	}
	return found, errors.Join(errs...)
}

func readOwner(dir string) (o owner, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if err != nil || json.Unmarshal(b, &o) != nil || !validSession(o.Session) {
		return owner{}, false
	}
	if filepath.Dir(o.Framebuffer) != shm || !strings.HasPrefix(filepath.Base(o.Framebuffer), framebufferPrefix) {
		o.Framebuffer = "" // not ours to remove
	}
	return o, true
}

// awaitSupervisor gives a supervisor that is tearing down by itself the time to
// finish.
func awaitSupervisor(ctx context.Context, runtime string) {
	ctx, cancel := context.WithTimeout(ctx, teardownBound)
	defer cancel()
	ids := readNotes(runtime).processes
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(ids) > 0 && ids[0].alive() { // the supervisor's own note is the first
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
