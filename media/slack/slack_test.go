package slack

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// again tells a run of this test binary to be the process that is executed once more.
const again = "FENRIR_TEST_SLACK"

func TestMain(m *testing.M) {
	if os.Getenv(again) == "" {
		os.Exit(m.Run())
	}
	if err := Loosen(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// Here the process is the second one. A thread of its own has no slack but an inherited one.
	own := make(chan int)
	go func() {
		runtime.LockOSThread() // ends with the goroutine
		own <- current()
	}()
	fmt.Println(os.Getpid(), strings.Join(os.Args[1:], " "), current(), <-own, child())
	Exact(func() { fmt.Println(current(), child()) })
	fmt.Println(current())
}

// current is the slack of the calling thread, in nanoseconds.
func current() int {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		panic(err)
	}
	return ns
}

// child is the slack of a process that is started here.
func child() string {
	out, err := exec.Command("cat", "/proc/self/timerslack_ns").Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
}

func TestLoosen(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "a", "b c")
	cmd.Env = append(os.Environ(), again+"=1")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := fmt.Sprintf("%d a b c 1000000 1000000 1000000\n50000 50000\n1000000\n", cmd.Process.Pid)
	if string(out) != want {
		t.Errorf("pid, arguments and slacks are\n%s\nnot\n%s", out, want)
	}
}

// What has the usual slack keeps it.
func TestExactWithout(t *testing.T) {
	before, in := current(), 0
	Exact(func() { in = current() })
	if in != min(before, int(usual)) {
		t.Errorf("slack in Exact is %d ns", in)
	}
}
