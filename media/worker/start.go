package worker

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// holdBound is how long a grandchild may hold the child's output after its end.
const holdBound = 500 * time.Millisecond

// start executes a child with a socket on fd 3, in a process group of its own.
func start(exe string, args []string, log *slog.Logger) (*child, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close() // the child has its own
	c := &child{conn: ours, words: newWords(log)}
	c.cmd = command(exe, args)
	c.cmd.ExtraFiles = []*os.File{theirs}
	c.cmd.Stderr = c.words
	c.cmd.Stdout = c.words
	if err := c.cmd.Start(); err != nil {
		_ = ours.Close() // nobody is at the other end
		return nil, err
	}
	return c, nil
}

// command prepares a child that holds nothing of this process but what is
// given to it.
func command(exe string, args []string) *exec.Cmd {
	cmd := exec.Command(exe, args...)
	cmd.Env = append([]string{"CUDA_DEVICE_ORDER=PCI_BUS_ID"}, environ(os.Environ())...) // as NVML counts
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = holdBound
	return cmd
}

// environ keeps what GStreamer, its plugins and the drivers below them go by,
// and nothing that could be a secret or lead to another desktop.
func environ(all []string) []string {
	var kept []string
	for _, kv := range all {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "GOTRACEBACK", "GOCOVERDIR":
			kept = append(kept, kv)
			continue
		}
		for _, prefix := range [...]string{"GST_", "LIBVA", "CUDA_", "NVIDIA_", "LC_", "MESA_", "ORC_"} {
			if strings.HasPrefix(name, prefix) {
				kept = append(kept, kv)
				break
			}
		}
	}
	return kept
}

// socketpair makes the two ends of a worker's socket.
func socketpair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	for _, fd := range fds {
		// A large frame then fits in as a whole. The kernel may give less, which is
		// slower and no error.
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4<<20)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<20)
	}
	file := os.NewFile(uintptr(fds[0]), "media worker")
	theirs = os.NewFile(uintptr(fds[1]), "media worker's end")
	defer file.Close() // FileConn duplicates it
	ours, err = net.FileConn(file)
	if err != nil {
		_ = theirs.Close() // unused
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return ours, theirs, nil
}
