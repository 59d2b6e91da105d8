package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Folder checks that a folder, or the one that it would be made in, can be written
// to and has room.
func Folder(dir string) func(context.Context) Result {
	return func(context.Context) Result {
		at := dir
		for {
			if info, err := os.Stat(at); err == nil {
				if !info.IsDir() {
					return Failf("Move the file away, or name another folder.", "%s is no folder.", at)
				}
				break
			}
			if at == filepath.Dir(at) {
				return Failf("Name another folder.", "%s cannot be reached.", dir)
			}
			at = filepath.Dir(at)
		}
		f, err := os.CreateTemp(at, ".fenrir-doctor-")
		if err != nil {
			return Failf("Make the folder for the user that runs Fenrir (chown), or set state.dir.", "%s cannot be written to: %v.", at, err)
		}
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			return Failf("", "%s cannot be written to: %v.", at, err)
		}
		free, err := space(at)
		if err != nil {
			return Warnf("", "%s can be written to; how much room it has cannot be told: %v.", dir, err)
		}
		if free < 256<<20 {
			return Warnf("Make room: programs save their games there.", "%s can be written to and has %d MiB left.", dir, free>>20)
		}
		return Good("%s can be written to and has %d MiB left.", dir, free>>20)
	}
}

func space(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// SharedMemory checks that displays can keep their pictures in memory.
func SharedMemory(sessions int) func(context.Context) Result {
	return func(context.Context) Result {
		const each = 32 << 20 // one display of 3840×2160
		free, err := space("/dev/shm")
		if err != nil {
			return Warnf("Mount a tmpfs there.", "/dev/shm is missing: %v. Displays keep their pictures on disk, which is slower.", err)
		}
		if free < 2*each {
			return Warnf("In a container: --shm-size 1g. Elsewhere: mount -o remount,size=1g /dev/shm", "/dev/shm has %d MiB left. Displays keep their pictures on disk then, which is slower.", free>>20)
		}
		if n := int(free / each); n < sessions {
			return Warnf("Give it more, or lower sessions.max_total.", "/dev/shm has %d MiB left: room for %d displays at full size, and sessions.max_total is %d.", free>>20, n, sessions)
		}
		return Good("/dev/shm has %d MiB left.", free>>20)
	}
}

// Limits checks how many files and processes this user may have.
func Limits(sessions int) func(context.Context) Result {
	return func(context.Context) Result {
		var files, procs unix.Rlimit
		if err := errors.Join(unix.Getrlimit(unix.RLIMIT_NOFILE, &files), unix.Getrlimit(unix.RLIMIT_NPROC, &procs)); err != nil {
			return Warnf("", "Limits cannot be read: %v.", err)
		}
		needFiles, needProcs := uint64(256+64*sessions), uint64(64+64*sessions)
		found := fmt.Sprintf("%s open files, %s processes", number(files.Max), number(procs.Cur))
		pids := ""
		if n, where, ok := pidsMax(); ok {
			found += fmt.Sprintf(", %d in the control group", n)
			if n < needProcs {
				pids = where
			}
		}
		switch {
		case files.Max < needFiles:
			return Warnf("LimitNOFILE=65536 in the service, or ulimit -n.", "%s: too few files for %d sessions.", found, sessions)
		case procs.Cur < needProcs:
			return Warnf("LimitNPROC= in the service, or ulimit -u.", "%s: too few processes for %d sessions.", found, sessions)
		case pids != "":
			return Warnf("TasksMax= in the service, or --pids-limit of the container.", "%s: too few for %d sessions (%s).", found, sessions, pids)
		}
		return Good("%s.", found)
	}
}

func number(n uint64) string {
	if n >= 1<<62 {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// pidsMax is the limit of the control group, if there is one.
func pidsMax() (n uint64, where string, ok bool) {
	for _, path := range []string{"/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
			return n, path, true
		}
	}
	return 0, "", false
}

// Clock checks that time passes as it should, and that somebody sets the clock.
func Clock(ctx context.Context) Result {
	begin := time.Now()
	select {
	case <-time.After(200 * time.Millisecond):
	case <-ctx.Done():
	}
	end := time.Now()
	steady, wall := end.Sub(begin), end.Round(0).Sub(begin.Round(0)) // Round strips the monotonic reading
	if d := (wall - steady).Abs(); d > 20*time.Millisecond {
		return Warnf("Something sets the clock by jumps; let chrony or systemd-timesyncd slew it.", "The clock jumped by %v while it was watched.", d)
	}
	if y := end.Year(); y < 2025 || y > 2100 {
		return Failf("Set the clock: certificates and logins are judged by it.", "The clock says %s.", end.Format(time.DateTime))
	}
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	switch {
	case err != nil:
		return Good("Time passes evenly. Whether the clock is synchronised cannot be asked here: %v.", err)
	case state == unix.TIME_ERROR:
		return Warnf("Install chrony or systemd-timesyncd. In a container the host does it.", "Time passes evenly, but the kernel's clock is not marked as synchronised. It says %s UTC.", end.UTC().Format(time.DateTime))
	}
	return Good("Time passes evenly, and the clock is synchronised.")
}

// ControlGroups tells how processes can be limited here.
func ControlGroups(context.Context) Result {
	var s unix.Statfs_t
	const v2 = 0x63677270
	switch err := unix.Statfs("/sys/fs/cgroup", &s); {
	case err != nil:
		return Warnf("", "There are no control groups (%v): one session can take memory and processors from the others.", err)
	case s.Type == v2:
		if unix.Access("/sys/fs/cgroup/cgroup.procs", unix.W_OK) != nil {
			return Good("Control groups: version 2, set from outside (by systemd or the container engine).")
		}
		return Good("Control groups: version 2, writable.")
	}
	return Good("Control groups: version 1. Limits of a session are held by what that allows and by measuring.")
}

// Namespaces tells whether a user may make namespaces, which some programs' own
// sandboxes want.
func Namespaces(context.Context) Result {
	for _, path := range []string{"/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone"} {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && strings.TrimSpace(string(b)) == "0" {
			return Warnf("sysctl -w "+strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", ".")+"=1, if such programs are to run.", "User namespaces are switched off. Fenrir needs none; programs with a sandbox of their own (Steam, Flatpak, browsers) do.")
		}
	}
	return Good("User namespaces may be made. Fenrir needs none; programs with a sandbox of their own do.")
}

// Fonts checks that there are fonts to write with.
func Fonts(dirs []string) func(context.Context) Result {
	return func(ctx context.Context) Result {
		count := 0
		for _, dir := range dirs {
			_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // what cannot be read has no fonts
				if ctx.Err() != nil {
					return fs.SkipAll
				}
				if err == nil && !d.IsDir() {
					switch strings.ToLower(filepath.Ext(strings.TrimSuffix(d.Name(), ".gz"))) {
					case ".ttf", ".otf", ".ttc", ".pcf", ".pfb":
						count++
					}
				}
				return nil
			})
		}
		if count == 0 {
			return Warnf("apt-get install fonts-dejavu-core", "There are no fonts in %s: programs show boxes or do not start.", strings.Join(dirs, ", "))
		}
		return Good("%d font files.", count)
	}
}
