package desktop

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Who prints without end is slowed down, and costs no core.
func TestFloodOfOutputCostsNoCore(t *testing.T) {
	out, err := newCapture(4 << 10)
	if err != nil {
		t.Fatal(err)
	}
	flood := exec.Command("yes")
	w, err := syscall.Dup(out.w)
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.NewFile(uintptr(w), "output")
	flood.Stdout = stdout
	if err := flood.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	out.started()
	began := time.Now()
	time.Sleep(500 * time.Millisecond) // the measuring time
	_ = flood.Process.Kill()
	_ = flood.Wait() // it was killed
	took := time.Since(began)
	used := flood.ProcessState.UserTime() + flood.ProcessState.SystemTime()
	if used > took/10 {
		t.Errorf("it took %v of CPU time in %v", used, took)
	}
	t.Logf("%v of CPU time in %v", used, took)
	if got := out.last(time.Second); !strings.HasSuffix(got, "y\ny") {
		t.Errorf("kept: %q", got)
	}
}
