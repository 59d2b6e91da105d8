package blackbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the process that crashes.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BLACKBOX_TEST_DIR"); dir != "" {
		if _, _, err := Open(dir); err != nil {
			fmt.Println(err)
			os.Exit(9)
		}
		go inTheDepths()
		// One that just runs has no stack to show.
		for waits := regexp.MustCompile(`\[chan receive\]:\n\S*inTheDepths`); !waits.Match(stacks()); {
			runtime.Gosched()
		}
		fmt.Println("ready")
		if os.Getenv("BLACKBOX_TEST_HOW") == "panic" {
			go func() { panic("a bug") }()
		}
		<-time.After(time.Minute)
	}
	os.Exit(m.Run())
}

//go:noinline
func inTheDepths() { <-time.After(time.Minute) }

func stacks() []byte {
	b := make([]byte, 64<<10)
	return b[:runtime.Stack(b, true)]
}

func TestACrashIsKeptForTheNextLife(t *testing.T) {
	for how, want := range map[string]string{"panic": "panic: a bug", "abort": "SIGABRT", "quit": "SIGQUIT"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "stacks")
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "BLACKBOX_TEST_DIR="+dir, "BLACKBOX_TEST_HOW="+how)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 16)
			if n, _ := out.Read(buf); !strings.HasPrefix(string(buf[:n]), "ready") {
				t.Fatalf("the child said %q", buf[:n])
			}
			if sig := map[string]syscall.Signal{"abort": syscall.SIGABRT, "quit": syscall.SIGQUIT}[how]; sig != 0 {
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the child ended well")
			}
			b, crashed, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(crashed)
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s: got %.300q, %v; want %s", crashed, text, err, want)
			}
			if how != "panic" && !strings.Contains(string(text), "inTheDepths") {
				t.Errorf("the other goroutines are missing: %.2000s", text)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			if _, crashed, err := Open(dir); err != nil || crashed != "" {
				t.Errorf("after a good end: crash %q, %v", crashed, err)
			}
		})
	}
}

func TestTheBoxIsBounded(t *testing.T) {
	dir := t.TempDir()
	b, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	first, err := b.Save("worker", strings.Repeat("x", MaxBytes+5))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(first); err != nil || info.Size() != MaxBytes || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want %d bytes for the owner only", info, err, MaxBytes)
	}
	for range MaxFiles + 3 {
		if _, err := b.Save("worker", "y"); err != nil {
			t.Fatal(err)
		}
	}
	path, err := b.Stacks("because")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(text), "because\n") || !strings.Contains(string(text), "TestTheBoxIsBounded") {
		t.Errorf("%.100q, %v", text, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) != MaxFiles {
		t.Errorf("%d files, %v; want %d", len(files), err, MaxFiles)
	}
	if _, err := os.Stat(first); err == nil {
		t.Error("the oldest was kept")
	}
	if _, err := b.Save("../x", "y"); err == nil {
		t.Error("a kind with a path is taken")
	}
}
