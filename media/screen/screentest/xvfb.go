// Package screentest starts X servers for tests. Nothing but tests imports it.
package screentest

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/media/x11"
)

// Xvfb starts an X server of the test's own, which takes its cookie only, and
// ends it with the test. The process may be stopped or killed by the test.
func Xvfb(t testing.TB, width, height int) (media.Display, *os.Process) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Xvfb")
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	cookie := hex.EncodeToString(secret[:])
	content, err := x11.AuthorityEntry(cookie)
	if err != nil {
		t.Fatal(err)
	}
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// A number of our own: servers that pick the first free one themselves can
	// take each other's socket away while one starts and another ends.
	number := fmt.Sprintf(":%d", 1000+binary.LittleEndian.Uint16(secret[:])%30000)
	cmd := exec.Command("Xvfb", number, "-displayfd", "3", "-screen", "0", fmt.Sprintf("%dx%dx24", width, height),
		"-auth", auth, "-nolisten", "tcp", "-noreset")
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT) // it may have ended already
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // reports the signal
	})
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb does not start: %v", err)
	}
	return media.Display{
		Name: ":" + strings.TrimSpace(line), Cookie: cookie, Authority: auth, Width: width, Height: height,
	}, cmd.Process
}
