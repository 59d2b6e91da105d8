package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// group starts cmd as the leader of a process group, which the returned function
// kills and reaps, within a second.
func group(cmd *exec.Cmd) (end func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 500 * time.Millisecond
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	go func() { // ends with the process, which end kills
		defer close(gone)
		_ = cmd.Wait() // it is killed
	}()
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // ESRCH: gone already
		select {
		case <-gone:
			return
		case <-time.After(500 * time.Millisecond):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		select {
		case <-gone:
		case <-time.After(500 * time.Millisecond):
		}
	}, nil
}

// Xvfb checks that the X server of the sessions starts.
func Xvfb(ctx context.Context) Result {
	const install = "apt-get install xvfb"
	path, err := exec.LookPath("Xvfb")
	if err != nil {
		return Failf(install, "Xvfb is not installed: sessions have no display.")
	}
	if info, err := os.Stat("/tmp/.X11-unix"); err == nil && info.Mode()&os.ModeSticky == 0 {
		return Failf("chmod 1777 /tmp/.X11-unix", "/tmp/.X11-unix has mode %v: X servers of other users cannot put their sockets there.", info.Mode().Perm())
	}
	r, w, err := os.Pipe()
	if err != nil {
		return Failf("", "No pipe can be made: %v.", err)
	}
	defer r.Close()
	var said bytes.Buffer
	cmd := exec.Command(path, "-displayfd", "3", "-screen", "0", "640x360x24", "-nolisten", "tcp", "-noreset")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = &said
	began := time.Now()
	end, err := group(cmd)
	_ = w.Close() // the child has its own
	if err != nil {
		return Failf(install, "Xvfb cannot be started: %v.", err)
	}
	defer end()
	deadline := time.Now().Add(5 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := r.SetReadDeadline(deadline); err != nil {
		return Failf("", "Xvfb cannot be listened to: %v.", err)
	}
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		end() // said is complete then
		return Failf("Start it by hand: Xvfb -displayfd 1", "Xvfb did not come up: %s", lastLine(said.String(), err))
	}
	return Good("Xvfb starts (display :%s, %v).", strings.TrimSpace(number), time.Since(began).Round(time.Millisecond))
}

// Sound checks that the sound server of the sessions starts.
func Sound(ctx context.Context) Result {
	const install = "apt-get install pulseaudio"
	path, err := exec.LookPath("pulseaudio")
	if err != nil {
		return Warnf(install, "pulseaudio is not installed: sessions are silent.")
	}
	dir, err := os.MkdirTemp("", "fenrir-doctor-")
	if err != nil {
		return Failf("", "No temporary folder can be made: %v.", err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "native")
	var said bytes.Buffer
	cmd := exec.Command(path, "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes",
		"-L", "module-native-protocol-unix auth-anonymous=1 socket="+socket, "-L", "module-null-sink")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "PULSE_RUNTIME_PATH=" + dir, "PULSE_STATE_PATH=" + dir}
	cmd.Stderr = &said
	began := time.Now()
	end, err := group(cmd)
	if err != nil {
		return Warnf(install, "pulseaudio cannot be started: %v.", err)
	}
	defer end()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	for {
		conn, err := net.DialTimeout("unix", socket, time.Second)
		if err == nil {
			_ = conn.Close() // only that it answers counts
			return Good("pulseaudio starts (%v).", time.Since(began).Round(time.Millisecond))
		}
		select {
		case <-tick.C:
		case <-late.C:
			end()
			return Warnf("Start it by hand: pulseaudio -n --daemonize=no -vv", "pulseaudio did not come up: %s", lastLine(said.String(), errors.New("no answer within 5 s")))
		case <-ctx.Done():
			return Warnf("", "pulseaudio did not come up in time.")
		}
	}
}

func lastLine(text string, otherwise error) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return fmt.Sprintf("%.200s", last)
	}
	return otherwise.Error() + "."
}
