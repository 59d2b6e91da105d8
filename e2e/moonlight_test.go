//go:build e2e

package e2e

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"

	"fenrir/e2e/moonlight"
)

// waiting is what the API says of devices that want to be paired.
type waiting struct {
	Enabled bool
	Port    int
	Waiting []struct {
		ID, Address string
		Entered     bool
	}
}

// device makes a Moonlight client that is not paired.
func (s *server) device() *moonlight.Client {
	s.t.Helper()
	var w waiting
	s.must("GET", "/api/moonlight", nil, http.StatusOK, &w)
	if !w.Enabled {
		s.t.Fatal("the server has no door for Moonlight")
	}
	host, _, err := net.SplitHostPort(s.url[len("https://"):])
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := moonlight.New(host, w.Port)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// pair pairs a client, whose person types pin where it shows shown. The status is 0
// when the device was refused before it could wait.
func (s *server) pair(c *moonlight.Client, shown, pin string) (status int, err error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.Pair(ctx, shown) }()
	var w waiting
	refused := false
	until(s.t, 10*time.Second, "the device waits", func() bool {
		select {
		case err = <-done:
			refused = true
			return true
		default:
		}
		s.must("GET", "/api/moonlight", nil, http.StatusOK, &w)
		return len(w.Waiting) > 0 && !w.Waiting[0].Entered
	})
	if refused {
		return 0, err
	}
	status, _, err = s.call("POST", "/api/moonlight/waiting/"+w.Waiting[0].ID, map[string]string{"pin": pin}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, <-done
}

// paired is a client that is.
func (s *server) paired() *moonlight.Client {
	s.t.Helper()
	c := s.device()
	if status, err := s.pair(c, "4711", "4711"); err != nil || status != http.StatusNoContent {
		s.t.Fatalf("pairing: status %d, %v", status, err)
	}
	if _, err := c.Info(s.t.Context(), true); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// app is the number of a program.
func app(t *testing.T, c *moonlight.Client, title string) int {
	t.Helper()
	apps, err := c.Apps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range apps {
		if a.Title == title {
			return a.ID
		}
	}
	t.Fatalf("no %s among %v", title, apps)
	return 0
}

// screen decodes a stream and reads the playground's strip off it.
type screen struct {
	decoded, unreadable atomic.Int64
	mu                  sync.Mutex // guards events and now
	now                 strip
	events              []strip
}

// decode decodes until the test is over.
func decode(t *testing.T, units <-chan []byte, width, height int) *screen {
	t.Helper()
	c := exec.Command("gst-launch-1.0", "-q", "fdsrc", "fd=0", "!", "h264parse", "!",
		"avdec_h264", "max-threads=1", "!", "videoconvert", "!", "video/x-raw,format=GRAY8", "!", "fdsink", "fd=1", "sync=false")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := &screen{}
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer in.Close()
		for {
			select {
			case u := <-units:
				if _, err := in.Write(u); err != nil {
					return
				}
			case <-over:
				return
			}
		}
	})
	wg.Go(func() {
		stride := (width + 3) &^ 3
		picture := make([]byte, stride*height)
		for {
			if _, err := io.ReadFull(out, picture); err != nil {
				return
			}
			s.look(picture, stride)
		}
	})
	t.Cleanup(func() {
		close(over)
		_ = c.Process.Kill() // it may be gone
		wg.Wait()
		_ = c.Wait() // it was killed
	})
	return s
}

func (s *screen) look(picture []byte, stride int) {
	cell := func(row, column int) int {
		if picture[(row*16+8)*stride+column*16+8] > 127 {
			return 1
		}
		return 0
	}
	number := func(row, from, n int) (v int) {
		for c := from; c < from+n; c++ {
			v = v<<1 | cell(row, c)
		}
		return v
	}
	s.decoded.Add(1)
	if number(0, 0, 2) != 2 || number(1, 0, 2) != 1 || cell(0, 35) != 1 || cell(1, 35) != 0 {
		s.unreadable.Add(1)
		return
	}
	seen := strip{Frame: number(0, 2, 32), Events: number(1, 2, 8), Kind: number(1, 10, 4), Value: number(1, 14, 20)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen.Events != s.now.Events {
		s.events = append(s.events, seen)
	}
	s.now = seen
}

func (s *screen) frame() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.Frame
}

// saw tells whether an event was on the screen.
func (s *screen) saw(kind, value int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Kind == kind && e.Value == value {
			return true
		}
	}
	return false
}

func (s *screen) await(t *testing.T, kind, value int) {
	t.Helper()
	if !became(5*time.Second, func() bool { return s.saw(kind, value) }) {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Fatalf("event %d of kind %d was not seen; seen: %+v", value, kind, s.events)
	}
}

// heard decodes Opus packets of 5 ms and tells how loud they are at their loudest, of
// 1, and how often the left loudspeaker swings there.
func heard(t *testing.T, packets [][]byte) (loud, hz float64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sound.ogg")
	w, err := oggwriter.New(file, 48000, 2)
	do(t, "ogg", err)
	for i, p := range packets {
		do(t, "ogg", w.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(i), Timestamp: uint32(i) * 240}, Payload: p}))
	}
	do(t, "ogg", w.Close())
	raw, err := exec.Command("gst-launch-1.0", "-q", "filesrc", "location="+file, "!", "oggdemux", "!", "avdec_opus", "!", "audioconvert", "!",
		"audio/x-raw,format=S16LE,channels=2,layout=interleaved", "!", "fdsink", "fd=1", "sync=false").Output()
	if err != nil {
		t.Fatal(err)
	}
	const window = 4800 // samples, 0.1 s
	for len(raw) >= 4*window {
		var power float64
		swings, before := 0, int16(0)
		for i := range window {
			v := int16(raw[4*i]) | int16(raw[4*i+1])<<8
			power += float64(v) * float64(v)
			if before < 0 && v >= 0 {
				swings++
			}
			before = v
		}
		raw = raw[4*window:]
		if rms := math.Sqrt(power/window) / 32768; rms > loud {
			loud, hz = rms, float64(swings)*10
		}
	}
	return loud, hz
}

// stream streams and fails the test where it cannot.
func stream(t *testing.T, c *moonlight.Client, m moonlight.Mode) *moonlight.Stream {
	t.Helper()
	st, err := c.Stream(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

var usual = moonlight.Mode{Width: 1280, Height: 720, FPS: 60, Kbps: 10_000}

func with(m moonlight.Mode, change func(*moonlight.Mode)) moonlight.Mode { change(&m); return m }

// X key codes and buttons, as the playground shows them.
const (
	xKeyA    = 38
	keyDown  = 1
	button   = 3
	vkA      = 0x41
	leftSide = 1
)

// TestMoonlight is a client's life: pairing, playing with everything sealed, leaving,
// resuming the same program, cancelling.
func TestMoonlight(t *testing.T) {
	s := start(t, benched(apps(t.TempDir())))
	s.setup()
	stranger := s.device()
	if status, err := s.pair(stranger, "1111", "2222"); !errors.Is(err, moonlight.ErrWrongPIN) || status != http.StatusForbidden {
		t.Errorf("with a wrong PIN: status %d, %v", status, err)
	}
	if _, err := stranger.Apps(t.Context()); err == nil {
		t.Error("who is not paired sees the programs")
	}
	c := s.paired()
	program := app(t, c, "Playground")

	st := stream(t, c, with(usual, func(m *moonlight.Mode) { m.App, m.Seal = program, 7 }))
	eyes := decode(t, st.Video(), 1280, 720)
	until(t, 10*time.Second, "a picture", func() bool { return eyes.frame() > 0 })
	var list struct{ Sessions []session }
	s.must("GET", "/api/sessions", nil, http.StatusOK, &list)
	if len(list.Sessions) != 1 {
		t.Fatalf("%d sessions", len(list.Sessions))
	}
	sess := s.session(list.Sessions[0].ID)
	blank := eyes.unreadable.Load() // before the program had drawn
	frames, began := st.Frames.Load(), time.Now()
	do(t, "move", st.MoveTo(640, 360, 1280, 720))
	do(t, "key", st.Key(vkA, true))
	eyes.await(t, keyDown, xKeyA)
	do(t, "key", st.Key(vkA, false))
	do(t, "button", st.Button(leftSide, true))
	eyes.await(t, button, 1)
	do(t, "button", st.Button(leftSide, false))
	// The program may have drawn before its sound server was there.
	loud, hz := 0.0, 0.0
	for range 5 {
		var sound [][]byte
		for len(sound) < 200 {
			sound = append(sound, <-st.Sound())
		}
		if loud, hz = heard(t, sound); loud >= 0.01 {
			break
		}
		do(t, "key", st.Key(vkA, true))
		do(t, "key", st.Key(vkA, false))
	}
	if loud < 0.01 || hz < 100 || hz > 4000 {
		t.Errorf("the tone of the key is %.4f loud and has %.0f Hz", loud, hz)
	}
	keys := st.Keys.Load()
	do(t, "ask for a key frame", st.RequestIDR())
	until(t, 3*time.Second, "a key frame", func() bool { return st.Keys.Load() > keys })
	until(t, 10*time.Second, "three seconds of frames", func() bool { return st.Frames.Load()-frames > 180 })
	fps := float64(st.Frames.Load()-frames) / time.Since(began).Seconds()
	if fps < 45 || st.Lost.Load() > 0 || eyes.unreadable.Load() > blank {
		t.Errorf("%.1f fps, %d frames lost, %d of %d unreadable", fps, st.Lost.Load(), eyes.unreadable.Load(), eyes.decoded.Load())
	}
	t.Logf("%.1f fps, %d packets of sound, %.0f Hz at %.3f, %d key frames", fps, st.Sounds.Load(), hz, loud, st.Keys.Load())
	st.Close()
	until(t, 5*time.Second, "the client is gone", func() bool { return len(s.session(sess.ID).Peers) == 0 })

	info, err := c.Info(t.Context(), true)
	if err != nil || !info.Busy() || info.CurrentGame != program {
		t.Fatalf("what runs is %+v: %v", info, err)
	}
	before := eyes.frame()
	st = stream(t, c, usual)
	eyes = decode(t, st.Video(), 1280, 720)
	until(t, 10*time.Second, "a picture", func() bool { return eyes.frame() > before })
	if now := s.session(sess.ID); now.Program.PID != sess.Program.PID {
		t.Errorf("another program runs: %d, before %d", now.Program.PID, sess.Program.PID)
	}
	do(t, "cancel", c.Cancel(t.Context()))
	if info, err := c.Info(t.Context(), true); err != nil || info.Busy() {
		t.Errorf("after the cancel: %+v, %v", info, err)
	}
	select {
	case <-st.Done():
	case <-time.After(3 * time.Second):
		t.Fatal("the client was not told")
	}
	if st.Reason() != 0x80030023 {
		t.Errorf("the client was told %#x", st.Reason())
	}
	until(t, 6*time.Second, "nothing is left", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
}

// TestMoonlightOverABadPath: parity repairs what is lost, key frames the rest.
func TestMoonlightOverABadPath(t *testing.T) {
	s := start(t, benched(apps(t.TempDir())))
	s.setup()
	c := s.paired()
	busy := app(t, c, "busy")
	for _, loss := range []float64{0.03, 0.2} {
		t.Run(strconv.FormatFloat(loss, 'f', 2, 64), func(t *testing.T) {
			m := with(usual, func(m *moonlight.Mode) { m.Lose = loss; m.App = busy })
			if info, err := c.Info(t.Context(), true); err == nil && info.Busy() {
				m.App = 0
			}
			st := stream(t, c, m)
			eyes := decode(t, st.Video(), 1280, 720)
			until(t, 20*time.Second, "frames", func() bool { return st.Frames.Load() > 60 && eyes.frame() > 0 })
			lost, frames, began := st.Lost.Load(), st.Frames.Load(), time.Now()
			until(t, 30*time.Second, "more frames", func() bool { return st.Frames.Load()-frames > 300 })
			fps := float64(st.Frames.Load()-frames) / time.Since(began).Seconds()
			lost = st.Lost.Load() - lost
			t.Logf("%.1f fps, %d frames repaired, %d lost, %d key frames, %d packets of sound of which %d repaired",
				fps, st.Repaired.Load(), lost, st.Keys.Load(), st.Sounds.Load(), st.SoundRepaired.Load())
			if st.Repaired.Load() == 0 {
				t.Error("nothing was repaired")
			}
			if loss < 0.1 && (lost > 3 || fps < 45) {
				t.Errorf("%d frames were lost, %.1f fps", lost, fps)
			}
			st.Close()
		})
	}
}

// TestMoonlightAndBrowser: both play one session, and either may leave.
func TestMoonlightAndBrowser(t *testing.T) {
	s := start(t, benched(apps(t.TempDir())))
	p := tab(t, 1280, 720)
	enter(t, s, p)
	sess := s.create("playground")
	_, err := p.Goto(s.url + "/#play/" + sess.ID)
	do(t, "open the session", err)
	awaitPicture(t, p, 30, 20*time.Second)
	c := s.paired()
	st := stream(t, c, usual)
	moon := decode(t, st.Video(), 1280, 720)
	until(t, 10*time.Second, "the client's picture", func() bool { return moon.frame() > 0 })
	until(t, 5*time.Second, "both show the same", func() bool {
		d := look(t, p).Last - moon.frame()
		return d > -30 && d < 30
	})
	do(t, "key of the client", st.Key(vkA, true))
	moon.await(t, keyDown, xKeyA)
	awaitEvent(t, p, keyDown, xKeyA)
	do(t, "key of the client", st.Key(vkA, false))
	do(t, "focus", id(p, "video").Click())
	do(t, "key of the browser", p.Keyboard().Down("b"))
	const xKeyB = 56
	awaitEvent(t, p, keyDown, xKeyB)
	moon.await(t, keyDown, xKeyB)
	do(t, "key of the browser", p.Keyboard().Up("b"))
	st.Close()
	until(t, 5*time.Second, "the client is gone", func() bool { return len(s.session(sess.ID).Peers) == 1 })
	before := look(t, p).Last
	until(t, 5*time.Second, "the browser plays on", func() bool { return look(t, p).Last > before+30 })
	st = stream(t, c, usual)
	do(t, "the tab closes", p.Close())
	moon = decode(t, st.Video(), 1280, 720)
	until(t, 10*time.Second, "the client plays on", func() bool { return moon.frame() > before+60 })
}

// TestMoonlightOnThePage: a person pairs a device on the settings page, renames it and
// takes the trust back while it plays.
func TestMoonlightOnThePage(t *testing.T) {
	s := start(t, benched(apps(t.TempDir())))
	p := tab(t, 1280, 720)
	enter(t, s, p)
	_, err := p.Goto(s.url + "/#settings")
	do(t, "settings", err)
	do(t, "the host is named", id(p, "moonlight-host").WaitFor())
	c := s.device()
	if host := must(id(p, "moonlight-host").InnerText())(t); host != net.JoinHostPort(c.Host, strconv.Itoa(c.Port)) {
		t.Errorf("the host is named %q", host)
	}
	try := func(typed string) chan error {
		done := make(chan error, 1)
		go func() { done <- c.Pair(context.Background(), "4711") }()
		do(t, "the device waits", id(p, "waiting-device").WaitFor())
		do(t, "PIN", id(p, "pin").Fill(typed))
		do(t, "pair", id(p, "pin").Press("Enter"))
		return done
	}
	if err := <-try("1234"); !errors.Is(err, moonlight.ErrWrongPIN) {
		t.Errorf("with a wrong PIN: %v", err)
	}
	until(t, 10*time.Second, "it no longer waits", func() bool { return must(id(p, "waiting-device").Count())(t) == 0 })
	if err := <-try("4711"); err != nil {
		t.Fatalf("pairing: %v", err)
	}
	do(t, "the device is listed", id(p, "device").WaitFor())
	do(t, "rename", id(p, "device-name").Fill("Television"))
	do(t, "rename", id(p, "device-name").Press("Enter"))
	var list struct{ Devices []struct{ Name string } }
	until(t, 5*time.Second, "it is renamed", func() bool {
		s.must("GET", "/api/devices", nil, http.StatusOK, &list)
		return len(list.Devices) == 1 && list.Devices[0].Name == "Television"
	})
	if _, err := c.Info(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	st := stream(t, c, with(usual, func(m *moonlight.Mode) { m.App = app(t, c, "busy") }))
	until(t, 10*time.Second, "a picture", func() bool { return st.Frames.Load() > 0 })
	do(t, "remove", id(p, "remove-device").Click())
	do(t, "confirm", id(p, "confirm-yes").Click())
	select {
	case <-st.Done():
	case <-time.After(5 * time.Second):
		t.Error("it plays on")
	}
	var refused *moonlight.Error
	if _, err := c.Info(t.Context(), true); !errors.As(err, &refused) || refused.Status != 401 {
		t.Errorf("who is not trusted any more is told %v", err)
	}
}

// TestMoonlightIsAsFastAsABrowser compares the time from capture to the network of
// the same program's frames, one way after the other.
func TestMoonlightIsAsFastAsABrowser(t *testing.T) {
	s := start(t, benched(apps(t.TempDir())+steadyBitrate))
	s.setup()
	c := s.paired()
	const enough = 240 // frames each time
	var browser, moon []float64
	for i := range 2 {
		sess := s.create("busy")
		r := receive(t, s, sess.ID)
		until(t, 20*time.Second, "frames of the browser's way", func() bool {
			for _, f := range frameStages(r.take().stages) {
				browser = append(browser, f.sent-f.captured)
			}
			return len(browser) >= enough*(i+1)
		})
		r.close()
		end(t, s, sess.ID)
		st := stream(t, c, with(usual, func(m *moonlight.Mode) { m.App = app(t, c, "busy") }))
		until(t, 10*time.Second, "the first frames", func() bool { return st.Frames.Load() > 60 })
		st.TakeLatencies() // of a machine that was busy with the start
		until(t, 20*time.Second, "frames of Moonlight's way", func() bool {
			moon = append(moon, st.TakeLatencies()...)
			return len(moon) >= enough*(i+1)
		})
		do(t, "cancel", c.Cancel(t.Context()))
		st.Close()
		until(t, 10*time.Second, "nothing runs", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
	}
	b, m := quantile(browser, 0.5), quantile(moon, 0.5)
	t.Logf("capture to network, ms: browser p50 %.2f p95 %.2f (%d frames), Moonlight p50 %.2f p95 %.2f (%d)", b, quantile(browser, 0.95), len(browser), m, quantile(moon, 0.95), len(moon))
	if m > b+1.5 { // 1 ms is the aim; the protocol tells tenths
		t.Errorf("Moonlight's way takes %.2f ms, the browser's %.2f", m, b)
	}
}
