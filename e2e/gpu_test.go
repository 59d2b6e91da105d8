//go:build e2e

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBrokenGPULibraries puts /dev/null in place of every GPU library: sessions
// play, and the page says which encoder it uses and why.
func TestBrokenGPULibraries(t *testing.T) {
	libraries := t.TempDir()
	for _, name := range []string{
		"libnvidia-ml.so", "libnvidia-ml.so.1", "libcuda.so", "libcuda.so.1", "libnvidia-encode.so", "libnvidia-encode.so.1",
		"libnvcuvid.so.1", "libva.so.2", "libva-drm.so.2",
	} {
		if err := os.Symlink("/dev/null", filepath.Join(libraries, name)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	s := start(t, options{env: []string{"LD_LIBRARY_PATH=" + libraries}})
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sid := play(t, p, "playground")
	awaitPicture(t, p, 30, 20*time.Second)
	st := s.session(sid)
	if len(st.Video) != 1 || st.Video[0].Encoder != "x264" || st.Video[0].Reason == "" {
		t.Errorf("video %+v, want x264 and why", st.Video)
	}
	tool(t, p, "stats-toggle")
	until(t, 5*time.Second, "the overlay names the encoder", func() bool {
		return strings.Contains(must(id(p, "stats").InnerText())(t), "x264")
	})
	var info struct {
		GPUNote string `json:"gpu_note"`
		Choice  struct{ Encoder, Reason string }
	}
	s.must("GET", "/api/server", nil, http.StatusOK, &info)
	if info.GPUNote == "" || info.Choice.Encoder != "x264" || info.Choice.Reason == "" {
		t.Errorf("/api/server says %+v", info)
	}
	t.Logf("GPU note: %s; choice: %s", info.GPUNote, info.Choice.Reason)
	tool(t, p, "leave")
	_, err := p.Goto(s.url + "/#settings")
	do(t, "settings", err)
	do(t, "choice", id(p, "encoder-choice").WaitFor())
	if text := must(id(p, "encoder-choice").InnerText())(t); !strings.Contains(text, "x264") || !strings.Contains(text, "hardware") {
		t.Errorf("the settings say %q", text)
	}
}
