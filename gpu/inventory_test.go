package gpu

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// promise is what Inventory may take, plus what a busy machine adds.
const promise = 2*time.Second + 500*time.Millisecond

func inventory(t *testing.T, args ...string) (Report, time.Duration) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r, err := Inventory(t.Context(), exe, args)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if took > promise {
		t.Errorf("took %v, the promise is two seconds", took)
	}
	return r, took
}

func TestInventoryOfAnAnsweringDriver(t *testing.T) {
	for _, kind := range []string{"fake-probe", "noisy-probe"} {
		r, _ := inventory(t, kind)
		if r.State != OK || len(r.GPUs) != 1 || r.GPUs[0].Compute != "8.9" || r.Driver != "570.86.10" || r.Began.IsZero() {
			t.Errorf("%s: %+v", kind, r)
		}
	}
}

func TestInventoryOfADyingProbe(t *testing.T) {
	r, _ := inventory(t, "dying-probe")
	want := "the GPU probe ended with exit status 127 while asking GPU 0: symbol lookup error: undefined symbol: nvmlDeviceGetBrand"
	if r.State != ProbeFailed || r.Detail != want {
		t.Errorf("got %s %q, want %s %q", r.State, r.Detail, ProbeFailed, want)
	}
	r, _ = inventory(t, "silent-probe")
	if r.State != ProbeFailed || r.Detail != "the GPU probe said nothing" {
		t.Errorf("got %s %q", r.State, r.Detail)
	}
}

func TestInventoryEndsWithItsContext(t *testing.T) {
	cause := errors.New("going down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	began := time.Now()
	_, err := Inventory(ctx, "/bin/sleep", []string{"60"})
	if !errors.Is(err, cause) || time.Since(began) > promise {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if _, err := Inventory(t.Context(), "/nonexistent/fenrir", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// A probe that hangs and has children is killed with all of them.
func TestInventoryKillsTheGroupOfAHungProbe(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	began := time.Now()
	r, err := Inventory(t.Context(), "/bin/sh", []string{"-c", `echo '{"stage":"initialising the driver library"}'; sleep 60 & echo $$ $! >"$0"; wait`, pids})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > promise {
		t.Errorf("took %v", took)
	}
	if r.State != TimedOut || !strings.Contains(r.Detail, "timed out") || !strings.Contains(r.Detail, "while initialising the driver library") {
		t.Errorf("got %s %q", r.State, r.Detail)
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(b)) {
		awaitGone(t, pid)
	}
}

// awaitGone waits until a process does not run any more. Its parent may be an
// init that never reaps, so a zombie counts as gone.
func awaitGone(t *testing.T, pid string) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); ; {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s still runs: %s", pid, b)
		}
		time.Sleep(time.Millisecond) // /proc cannot be waited on
	}
}

func TestProbeGetsNoSettings(t *testing.T) {
	got := childEnv([]string{"PATH=/bin", "FENRIR_NETWORK_SECRET=x", "LD_LIBRARY_PATH=/l", "AWS_KEY=y", "NVIDIA_VISIBLE_DEVICES=all", "CUDA_DEVICE_ORDER=PCI_BUS_ID"})
	want := "PATH=/bin LD_LIBRARY_PATH=/l NVIDIA_VISIBLE_DEVICES=all CUDA_DEVICE_ORDER=PCI_BUS_ID"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// needLoader skips where the real driver library would be asked but this binary
// cannot load any.
func needLoader(t *testing.T) {
	t.Helper()
	if errors.Is(loadError(), errNotBuiltIn) {
		t.Skip("built without C")
	}
}

func loadError() error { _, err := nvidia().load(); return err }

func TestInventoryWithDevNullForALibrary(t *testing.T) {
	needLoader(t)
	dir := t.TempDir()
	if err := os.Symlink("/dev/null", filepath.Join(dir, libraryName)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LD_LIBRARY_PATH", dir)
	r, _ := inventory(t, "gpu-probe")
	if r.State != DriverError || !strings.Contains(r.Detail, "cannot be loaded") || !strings.Contains(r.Detail, "file too short") {
		t.Errorf("got %s %q", r.State, r.Detail)
	}
}

func TestInventoryWithAHangingLibrary(t *testing.T) {
	needLoader(t)
	t.Setenv("LD_LIBRARY_PATH", compile(t, `
#include <unistd.h>
__attribute__((constructor)) static void hang(void) { for (;;) pause(); }`))
	r, took := inventory(t, "gpu-probe")
	if r.State != TimedOut || !strings.Contains(r.Detail, "timed out after 1.7s while loading libnvidia-ml.so.1") {
		t.Errorf("got %s %q", r.State, r.Detail)
	}
	if took < answerWithin {
		t.Errorf("gave up after %v already", took)
	}
}

func TestInventoryWithALibraryThatDoesNotInitialise(t *testing.T) {
	needLoader(t)
	// 9 is NVML_ERROR_DRIVER_NOT_LOADED.
	t.Setenv("LD_LIBRARY_PATH", compile(t, `
int nvmlInit_v2(void) { return 9; }
const char *nvmlErrorString(int r) { return "Driver Not Loaded"; }`))
	r, _ := inventory(t, "gpu-probe")
	if r.State != DriverError || !strings.Contains(r.Detail, "the driver library does not start: initialise: driver not loaded") {
		t.Errorf("got %s %q", r.State, r.Detail)
	}
}

// A library from before the functions that we ask for ends nothing.
func TestInventoryWithAnOldLibrary(t *testing.T) {
	needLoader(t)
	t.Setenv("LD_LIBRARY_PATH", compile(t, `
#include <string.h>
const char *nvmlErrorString(int r) { return "some error"; }
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *v, unsigned n) { strncpy(v, "340.108", n); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)1; return 0; }
int nvmlDeviceGetName(void *d, char *v, unsigned n) { strncpy(v, "Quadro K4000", n); return 0; }`))
	r, _ := inventory(t, "gpu-probe")
	if r.State != OK || len(r.GPUs) != 1 || r.Driver != "340.108" {
		t.Fatalf("got %+v", r)
	}
	if g := r.GPUs[0]; g.Name != "Quadro K4000" || g.MemoryTotal != nil || g.Busy != nil || g.NVENC.Present != Unknown {
		t.Errorf("card %+v", g)
	}
}

func TestInventoryWithoutALibrary(t *testing.T) {
	needLoader(t)
	if err := loadError(); err == nil {
		t.Skip("this machine has an NVIDIA driver")
	}
	r, _ := inventory(t, "gpu-probe")
	if r.State != NoDriver || r.Note() != "No NVIDIA driver is installed on this machine." {
		t.Errorf("got %+v", r)
	}
}

// TestInventoryOfThisMachine is for machines with an NVIDIA GPU.
func TestInventoryOfThisMachine(t *testing.T) {
	needLoader(t)
	if loadError() != nil {
		t.Skip("this machine has no NVIDIA driver")
	}
	r, _ := inventory(t, "gpu-probe")
	if r.State != OK || len(r.GPUs) == 0 {
		t.Fatalf("got %+v", r)
	}
	for _, g := range r.GPUs {
		t.Logf("%+v; note %q", g, r.Note())
		if g.UUID == "" || g.Name == "" || g.MemoryTotal == nil || *g.MemoryTotal == 0 || g.Compute == "" {
			t.Errorf("card %+v", g)
		}
	}
}

// compile makes a folder with a driver library from C source.
func compile(t *testing.T, source string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("needs gcc")
	}
	dir := t.TempDir()
	c := filepath.Join(dir, "driver.c")
	if err := os.WriteFile(c, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-shared", "-fPIC", "-o", filepath.Join(dir, libraryName), c).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return dir
}
