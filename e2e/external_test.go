//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestExternalDisplay plays on an X display that is not ours, through X itself
// rather than a shared framebuffer, and leaves it alone afterwards.
func TestExternalDisplay(t *testing.T) {
	number := 30000 + os.Getpid()%20000
	display := fmt.Sprintf(":%d", number)
	x := exec.Command("Xvfb", display, "-screen", "0", "1280x720x24", "-nolisten", "tcp", "-noreset", "-ac")
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { x.Wait(); close(gone) }() // its status says nothing
	t.Cleanup(func() { x.Process.Kill(); <-gone })
	until(t, 10*time.Second, "the display is there", func() bool {
		_, err := os.Stat(fmt.Sprintf("/tmp/.X11-unix/X%d", number))
		return err == nil
	})

	s := start(t, options{config: fmt.Sprintf("[display]\nkind = \"external\"\nexternal = %q\n", display)})
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 30, 20*time.Second)
	focus(t, p)
	reset(t, p)
	do(t, "key", p.Keyboard().Press("KeyA"))
	awaitEvent(t, p, 2, 38)
	s.must("DELETE", "/api/sessions/"+sid, nil, 0, nil)
	until(t, 6*time.Second, "everything of ours is gone", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
	select {
	case <-gone:
		t.Error("the display was ended, which is not ours")
	default:
	}
}
