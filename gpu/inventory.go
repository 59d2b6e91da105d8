package gpu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Bounds of an inventory: answerWithin is what the driver has, reapWithin what
// the kernel has to end a killed probe. Together they are the two seconds that
// Inventory promises.
const (
	answerWithin = 1700 * time.Millisecond
	reapWithin   = 300 * time.Millisecond
)

// maxReport bounds what is read from a probe, in bytes.
const maxReport = 1 << 20

// Inventory runs exe with args, which has to end up in ProbeMain, and tells what
// it found. It blocks two seconds at most, however the driver library behaves; a
// probe that hangs is killed with its process group. Whatever is wrong with the
// driver is in Report.State; the error says that the probe could not be started
// or that ctx ended first, and the report then is ProbeFailed.
func Inventory(ctx context.Context, exe string, args []string) (Report, error) {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()

	var stdout, stderr clipped
	stdout.room, stderr.room = maxReport, 4<<10
	cmd := exec.Command(exe, args...)
	cmd.Env = childEnv(os.Environ())
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = reapWithin / 2 // a grandchild of a driver's hook may hold the pipes
	if err := cmd.Start(); err != nil {
		err = fmt.Errorf("start GPU probe: %w", err)
		return Report{State: ProbeFailed, Detail: err.Error(), GPUs: []GPU{}, Began: began}, err
	}
	// A process inside a driver call in D state survives SIGKILL, and Wait
	// with it: then this goroutine stays behind for as long as the process does.
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()

	var exit error
	select {
	case exit = <-done:
	case <-bounded.Done():
		kill := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		reap := time.NewTimer(reapWithin)
		defer reap.Stop()
		gone := ""
		select {
		case <-done:
		case <-reap.C:
			gone = fmt.Sprintf("; the probe %d survived SIGKILL (%v) inside the driver", cmd.Process.Pid, kill)
		}
		if err := ctx.Err(); err != nil {
			err = fmt.Errorf("GPU inventory: %w%s", context.Cause(ctx), gone)
			return Report{State: ProbeFailed, Detail: err.Error(), GPUs: []GPU{}, Began: began}, err
		}
		r := Report{State: TimedOut, GPUs: []GPU{}, Began: began, TookMs: int(time.Since(began).Milliseconds())}
		if gone == "" {
			_, stage := read(stdout.Bytes()) // nobody writes any more
			if stage != "" {
				gone = " while " + stage
			}
		}
		r.Detail = fmt.Sprintf("the driver library timed out after %v%s", answerWithin, gone)
		return r, nil
	}
	report, stage := read(stdout.Bytes())
	if report != nil && (exit == nil || errors.Is(exit, exec.ErrWaitDelay)) {
		return *report, nil
	}
	r := Report{State: ProbeFailed, GPUs: []GPU{}, Began: began, TookMs: int(time.Since(began).Milliseconds())}
	r.Detail = "the GPU probe said nothing"
	if exit != nil {
		r.Detail = "the GPU probe ended with " + exit.Error()
	}
	if stage != "" {
		r.Detail += " while " + stage
	}
	if last := lastLine(stderr.String()); last != "" {
		r.Detail += ": " + last
	}
	return r, nil
}

// read takes the report and the last stage from what a probe printed. Libraries
// may print too: lines that are not ours are skipped.
func read(out []byte) (report *Report, stage string) {
	for _, text := range bytes.Split(out, []byte("\n")) {
		var l line
		if json.Unmarshal(text, &l) != nil {
			continue
		}
		if l.Stage != "" {
			stage = l.Stage
		}
		if l.Report != nil && l.Report.State != "" {
			report = l.Report
		}
	}
	return report, stage
}

// lastLine is the last line of a text that says something.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// childEnv is what a probe needs of our environment: where libraries are and
// what the container runtime says about GPUs. The server's settings, which may
// hold secrets, are none of it.
func childEnv(environ []string) []string {
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "PATH", name == "HOME", name == "LANG", name == "LD_LIBRARY_PATH", name == "LD_PRELOAD", name == "GOCOVERDIR",
			strings.HasPrefix(name, "NVIDIA_"), strings.HasPrefix(name, "CUDA_"):
			out = append(out, kv)
		}
	}
	return out
}

// clipped keeps the first room bytes of what is written and swallows the rest.
type clipped struct {
	bytes.Buffer
	room int
}

func (b *clipped) Write(p []byte) (int, error) {
	if keep := min(len(p), b.room-b.Len()); keep > 0 {
		b.Buffer.Write(p[:keep])
	}
	return len(p), nil
}

var _ io.Writer = (*clipped)(nil)
