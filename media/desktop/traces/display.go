package traces

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Xvfb that chooses its own display number takes no lock, and two of them that
// start together can take the same one: each finds the other's socket bound but
// not yet listening, and replaces it. So the supervisor chooses the number, far
// from where such servers look first, and holds the lock file that X servers
// respect.
const (
	firstDisplay, displays = 1000, 30000
	displayTries           = 100
)

func lockOf(number int) string   { return "/tmp/.X" + strconv.Itoa(number) + "-lock" }
func socketOf(number int) string { return "/tmp/.X11-unix/X" + strconv.Itoa(number) }

// LockDisplay finds a free display number and locks it for this process. The
// number is noted in the runtime folder first, for RemoveX.
func LockDisplay(runtime string) (int, error) {
	for range displayTries {
		number := firstDisplay + rand.IntN(displays)
		if _, err := os.Lstat(socketOf(number)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := noteDisplay(runtime, number); err != nil {
			return 0, fmt.Errorf("runtime folder: %w", err)
		}
		err := lock(lockOf(number))
		if err == nil {
			return number, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return 0, fmt.Errorf("lock display number: %w", err)
		}
	}
	return 0, errors.New("no display number is free")
}

// lock makes an X server's lock file for this process. The file is complete from
// its first moment: one without a pid counts as abandoned.
func lock(path string) error {
	f, err := os.CreateTemp("/tmp", ".fenrir-lock-")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%10d\n", os.Getpid())
	err = errors.Join(err, f.Chmod(0o444), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// RemoveX removes the locks that the supervisor made, and the sockets of X servers
// that were killed: one that ends by itself removes its own.
func RemoveX(n Notes) error {
	var errs []error
	for _, number := range n.Displays {
		b, err := os.ReadFile(lockOf(number))
		if err != nil {
			continue // never made, or removed
		}
		pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
		if err != nil || len(n.Processes) == 0 || pid != n.Processes[0].PID {
			continue // somebody else's by now
		}
		errs = append(errs, removeStale(socketOf(number)), removeFile(lockOf(number)))
	}
	return errors.Join(errs...)
}

// removeStale removes a unix socket that nobody listens on. It looks twice,
// because that is also how a socket looks between bind and listen.
func removeStale(path string) error {
	var first os.FileInfo
	for range 2 {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode().Type() != fs.ModeSocket || first != nil && !os.SameFile(first, info) {
			return nil // never ours, or a new server has it
		}
		conn, err := net.DialTimeout("unix", path, 100*time.Millisecond)
		if err == nil {
			return conn.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		if first == nil {
			first = info
			time.Sleep(5 * time.Millisecond)
		}
	}
	return removeFile(path)
}
