package priority

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the child that TestAskAndYield starts.
func TestMain(m *testing.M) {
	if os.Getenv("PRIORITY_CHILD") != "" {
		Yield()
		os.Stdout.WriteString(nice())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// nice lists the nice values of all threads.
func nice() string {
	tasks, _ := os.ReadDir("/proc/self/task") // an empty list fails the test
	var out []string
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		if v, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err == nil {
			out = append(out, strconv.Itoa(20-v))
		}
	}
	return strings.Join(out, " ")
}

func TestAskAndYield(t *testing.T) {
	runtime.LockOSThread() // what this test does to its threads is undone below
	defer runtime.UnlockOSThread()
	Ask(-5)
	defer Ask(0)
	want := "-5"
	if got := nice(); !strings.HasPrefix(got, "-") {
		t.Logf("no privilege to ask for more: nice values %s", got)
		want = "0"
	}
	for _, v := range strings.Fields(nice()) {
		if v != want {
			t.Errorf("a thread has the nice value %s, want %s", v, want)
		}
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "PRIORITY_CHILD=1")
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range strings.Fields(string(out)) {
		if v != "0" {
			t.Errorf("a child that yielded has threads with the nice values %s, want 0", out)
			break
		}
	}
}
