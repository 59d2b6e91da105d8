package slack

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// again tells a run of this test binary to be the process that is executed once more.
const again = "FENRIR_TEST_SLACK"

func TestMain(m *testing.M) {
	if os.Getenv(again) == "" {
		os.Exit(m.Run())
	}
	if os.Getenv(again) == "lost" { // as a slack that does not survive execve
		_ = os.Setenv(mark, "1") // cannot fail
		_ = set(usual)
		fmt.Println(Loosen() != nil, os.Getenv(mark))
		return
	}
	if err := Loosen(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// Here the process is the second one. A thread of its own has no slack but an inherited one.
	own := make(chan int64)
	go func() {
		runtime.LockOSThread() // ends with the goroutine
		own <- current()
	}()
	fmt.Println(os.Getpid(), strings.Join(os.Args[1:], " "), current(), <-own, child(), os.Getenv(mark))
	Exact(func() { fmt.Println(current(), child()) })
	fmt.Println(current())
}

// current is the slack of the calling thread, in nanoseconds.
func current() int64 {
	d, err := get()
	if err != nil {
		panic(err)
	}
	return d.Nanoseconds()
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
	for mode, want := range map[string]string{
		"1":    "PID a b c 1000000 1000000 1000000 \n50000 50000\n1000000\n",
		"lost": "true \n", // it goes on, and does not execute itself for ever
	} {
		cmd := exec.CommandContext(t.Context(), self, "a", "b c")
		cmd.Env = append(os.Environ(), again+"="+mode)
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if want = strings.ReplaceAll(want, "PID", strconv.Itoa(cmd.Process.Pid)); string(out) != want {
			t.Errorf("pid, arguments, slacks and mark are\n%s\nnot\n%s", out, want)
		}
	}
}

// What has the usual slack keeps it.
func TestExactWithout(t *testing.T) {
	before, in := current(), int64(0)
	Exact(func() { in = current() })
	if in != min(before, usual.Nanoseconds()) {
		t.Errorf("slack in Exact is %d ns", in)
	}
}
