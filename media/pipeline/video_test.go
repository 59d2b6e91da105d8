//go:build cgo

package pipeline

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jezek/xgb/shm"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/pipeline/capture"
	"fenrir/media/pipeline/encoders"
	"fenrir/media/pipeline/h264"
	"fenrir/media/x11"
)

// software calls f for every entry of the table that this machine can encode
// with by itself.
func software(t *testing.T, f func(t *testing.T, e encoders.Entry)) {
	for _, e := range encoders.Table() {
		if !e.Hardware {
			t.Run(e.Name, func(t *testing.T) { f(t, e) })
		}
	}
}

// stage is a display that a test draws on, and a worker that watches it.
type stage struct {
	*arrivals
	t       *testing.T
	display media.Display
	brush   *brush
	orders  chan<- media.Order
	decoder *decoder
	codec   media.Codec
	decoded int    // units
	last    *image // of the newest decoded
}

func newStage(t *testing.T, e encoders.Entry, w, h int, change func(*media.Spec)) *stage {
	t.Helper()
	return newStageOn(t, xvfb(t, w, h), e, change)
}

func newStageOn(t *testing.T, d media.Display, e encoders.Entry, change func(*media.Spec)) *stage {
	t.Helper()
	s := &stage{t: t, display: d, codec: e.Codec}
	s.brush = newBrush(t, s.display)
	spec := videoSpec(s.display, e.Name, e.Codec)
	if change != nil {
		change(&spec)
	}
	s.arrivals, s.orders = begin(t, spec)
	s.until(t, 15*time.Second, "first picture", func() bool { return len(s.video) > 0 })
	return s
}

// n is the number of video units so far.
func (s *stage) n() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.video)
}

// unit returns a video unit.
func (s *stage) unit(i int) media.Unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.video[i]
}

// catchUp decodes what has come and returns the newest picture.
func (s *stage) catchUp() *image {
	s.t.Helper()
	for n := s.n(); s.decoded < n; s.decoded++ {
		u := s.unit(s.decoded)
		if s.decoder == nil {
			s.decoder = newDecoder(s.t, s.codec)
		}
		img := s.decoder.decode(u.Data)
		if img == nil {
			s.t.Fatalf("unit %d (key %v, %d bytes) does not decode", s.decoded, u.Key, len(u.Data))
		}
		if img.w != int(u.Width) || img.h != int(u.Height) {
			s.t.Fatalf("unit %d says %d×%d and decodes to %d×%d", s.decoded, u.Width, u.Height, img.w, img.h)
		}
		s.last = img
	}
	return s.last
}

// shows waits for a picture with this colour at a place.
func (s *stage) shows(what string, x, y int, rgb uint32) {
	s.t.Helper()
	near := func(a, b int) bool { return a-b < 24 && b-a < 24 }
	s.until(s.t, 5*time.Second, what, func() bool {
		s.mu.Unlock()
		defer s.mu.Lock()
		img := s.catchUp()
		if img == nil || x >= img.w || y >= img.h {
			return false
		}
		r, g, b := img.rgbAt(x, y)
		return near(r, int(rgb>>16)) && near(g, int(rgb>>8&255)) && near(b, int(rgb&255))
	})
}

// settled waits until the worker has nothing left to refine: a second without a
// unit, or nearly.
func (s *stage) settled() {
	s.t.Helper()
	from := s.n()
	s.until(s.t, 15*time.Second, "calm", func() bool {
		n := len(s.video)
		return n > from && n > 1 && s.video[n-1].Stages.Captured.Sub(s.video[n-2].Stages.Captured) > 700*time.Millisecond
	})
}

func TestPictureArrives(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		s := newStage(t, e, 1280, 720, nil)
		colours := []uint32{0xe02020, 0x20c040, 0x3050e0, 0xf0f0f0, 0x101010}
		for round := range 3 {
			for i, c := range colours {
				x, y := 100+200*i, 100+150*round
				s.brush.fill(c, x, y, 150, 100)
				s.brush.sync()
				s.shows(fmt.Sprintf("rectangle of colour %06x", c), x+75, y+50, c)
			}
		}
		first := s.unit(0)
		if !first.Key {
			t.Error("the first unit is no key frame")
		}
		for i := range s.n() {
			u := s.unit(i)
			if u.Key && i > 0 {
				t.Errorf("unit %d is a key frame that nobody asked for", i)
			}
			if int(u.Frame) != i || u.Codec != e.Codec || u.Width != 1280 || u.Height != 720 {
				t.Errorf("unit %d: frame %d, %s, %d×%d", i, u.Frame, u.Codec, u.Width, u.Height)
			}
			st := u.Stages
			if st.Damage > st.Captured || st.Captured > st.Converted || st.Converted > st.Encoded || st.Encoded > st.Emitted || st.Emitted > st.Received || st.Captured == 0 {
				t.Errorf("unit %d: stages out of order: %+v", i, st)
			}
		}
	})
}

func TestKeyFrameOnRequest(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		s := newStage(t, e, 1280, 720, nil)
		s.brush.fill(0xc08020, 200, 200, 300, 300)
		s.settled()
		var took []time.Duration
		for range 10 {
			n := s.n()
			began := media.Now()
			s.orders <- media.Order{Kind: media.OrderKeyFrame}
			s.until(t, 5*time.Second, "key frame", func() bool { return len(s.video) > n && s.video[len(s.video)-1].Key })
			for i := n; i < s.n(); i++ {
				if u := s.unit(i); u.Key {
					took = append(took, u.Stages.Received.Sub(began))
					// A client that joins now has nothing but this.
					s.decoder, s.decoded = nil, i
					break
				}
			}
			s.shows("the picture, from the key frame alone", 350, 350, 0xc08020)
		}
		best := took[0]
		for _, d := range took {
			best = min(best, d)
		}
		t.Logf("%s: key frame of a static screen after %v", e.Name, took)
		if best > 20*time.Millisecond {
			t.Errorf("key frame of a static screen after %v at best, want 20 ms", best)
		}
	})
}

func TestParameterSetsLetDecodersShowAtOnce(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 1280, 720, nil)
	s.orders <- media.Order{Kind: media.OrderKeyFrame}
	s.until(t, 5*time.Second, "second key frame", func() bool {
		n := 0
		for _, u := range s.video {
			if u.Key {
				n++
			}
		}
		return n >= 2
	})
	for i := range s.n() {
		u := s.unit(i)
		if !u.Key {
			continue
		}
		sets, pps := 0, 0
		for _, nal := range nals(u.Data) {
			switch nal[0] & 31 {
			case 7:
				sets++
				sps, err := h264.ParseSPS(nal)
				if err != nil {
					t.Fatalf("%x: %v", nal, err)
				}
				t.Logf("%x: %+v", nal, sps)
				if !sps.Prompt() || sps.Width != 1280 || sps.Height != 720 {
					t.Errorf("%+v", sps)
				}
				if sps.Profile != 66 || sps.Constraints&0x40 == 0 {
					t.Errorf("profile %d with constraints %02x is not constrained baseline", sps.Profile, sps.Constraints)
				}
			case 8:
				pps++
			}
		}
		if sets != 1 || pps != 1 {
			t.Errorf("key frame %d has %d sequence and %d picture parameter sets", i, sets, pps)
		}
	}
}

func nals(b []byte) (out [][]byte) {
	for _, part := range strings.Split(string(b), "\x00\x00\x01") {
		if part = strings.TrimRight(part, "\x00"); part != "" {
			out = append(out, []byte(part))
		}
	}
	return out
}

// movie shows pictures on a display through shared memory.
type movie struct {
	*scene
	brush *brush
	reel  [][]byte // pictures drawn before, played forwards and backwards
	seg   shm.Seg
	mem   []byte
}

func newMovie(t *testing.T, b *brush, w, h int) *movie {
	t.Helper()
	m := &movie{scene: newScene(w, h), brush: b}
	if err := b.c.Use(context.Background(), "MIT-SHM"); err != nil {
		t.Fatal(err)
	}
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4*w*h, unix.IPC_CREAT|0o600)
	if err != nil {
		t.Fatal(err)
	}
	if m.mem, err = unix.SysvShmAttach(id, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
		t.Fatal(err)
	}
	if m.seg, err = shm.NewSegId(b.c.X); err != nil {
		t.Fatal(err)
	}
	if err := x11.Check(context.Background(), b.c, shm.AttachChecked(b.c.X, m.seg, uint32(id), true)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.SysvShmDetach(m.mem) }) // it was attached
	return m
}

// show puts the n-th picture on the display and returns it.
func (m *movie) show(n int) capture.Frame {
	f := m.draw(n)
	copy(m.mem, f.Pixels)
	m.put()
	return f
}

// rehearse draws pictures before they are played, so that playing costs little.
func (m *movie) rehearse(n int) {
	for i := range n {
		m.reel = append(m.reel, slices.Clone(m.draw(i).Pixels))
	}
}

func (m *movie) put() {
	shm.PutImage(m.brush.c.X, xproto.Drawable(m.brush.win), m.brush.gc, uint16(m.w), uint16(m.h), 0, 0, uint16(m.w), uint16(m.h),
		0, 0, 24, xproto.ImageFormatZPixmap, 0, m.seg, 0)
	m.brush.sync()
}

// play shows pictures at a rate for a while and returns how many it showed.
func (m *movie) play(fps int, lasts time.Duration, from int) int {
	began := time.Now()
	n := 0
	for ; time.Since(began) < lasts; n++ {
		if at := n % max(2*len(m.reel)-1, 1); len(m.reel) == 0 {
			m.show(from + n)
		} else {
			copy(m.mem, m.reel[min(at, 2*len(m.reel)-2-at)])
			m.put()
		}
		if wait := time.Until(began.Add(time.Duration(n+1) * time.Second / time.Duration(fps))); wait > 0 {
			time.Sleep(wait) // the rhythm of a program
		}
	}
	return n
}

func TestStaticScreenBecomesGoodAndThenCostsNothing(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		s := newStage(t, e, 1280, 720, func(spec *media.Spec) { spec.Video.Kbps = 6000 })
		m := newMovie(t, s.brush, 1280, 720)
		m.play(30, time.Second, 0)
		f := m.show(1000)
		s.settled()
		s.catchUp()
		final := psnr(s.last, f)

		// Once more, to see where it began: the first frame of the new picture.
		n := s.n()
		f = m.show(1300)
		s.until(t, 5*time.Second, "new picture", func() bool { return len(s.video) > n })
		for ; s.decoded <= n; s.decoded++ {
			s.last = s.decoder.decode(s.unit(s.decoded).Data)
		}
		first := psnr(s.last, f)
		size := len(s.unit(n).Data)
		s.settled()
		if os.Getenv("CURVE") != "" {
			for ; s.decoded < s.n(); s.decoded++ {
				s.last = s.decoder.decode(s.unit(s.decoded).Data)
				u := s.unit(s.decoded)
				t.Log(s.decoded-n, len(u.Data), psnr(s.last, f), u.Stages.Captured.Sub(s.unit(n).Stages.Captured))
			}
		}
		s.catchUp()
		second := psnr(s.last, f)
		count := s.n() - n
		t.Logf("%s: %.1f dB in %d bytes when drawn, %.1f dB after %d frames in all; after motion %.1f dB", e.Name, first, size, second, count, final)
		if second < first+3 && second < 45 || second < 38 {
			t.Errorf("the picture of a static screen did not become good: %.1f dB, then %.1f dB", first, second)
		}

		pid := workerPID(t)
		before, at := cpuOf(t, pid), time.Now()
		n = s.n()
		s.until(t, 10*time.Second, "3 frames of a static screen", func() bool { return len(s.video) >= n+3 })
		took := time.Since(at)
		used := cpuOf(t, pid) - before
		t.Logf("%s: static screen: %d frames in %v, %.2f %% of one core", e.Name, s.n()-n, took, 100*used.Seconds()/took.Seconds())
		if rate := 3 / took.Seconds(); rate < 0.5 || rate > 2 {
			t.Errorf("%.1f frames a second of a static screen", rate)
		}
		if used > took/20 {
			t.Errorf("a static screen takes %v of CPU time in %v", used, took)
		}
	})
}

// TestRefinementIsNoBurst: what makes a picture good that stands still comes in frames
// that take their share of the bitrate, so that what happens next need not wait.
func TestRefinementIsNoBurst(t *testing.T) {
	const kbps = 2000
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 1280, 720, func(spec *media.Spec) { spec.Video.Kbps = kbps })
	budget := kbps * 1000 / 8 / videoSpec(s.display, e.Name, e.Codec).Video.FPS
	m := newMovie(t, s.brush, 1280, 720)
	m.play(30, time.Second, 0)
	m.show(1000)
	s.settled()
	n := s.n()
	// A small animation over a picture that has much to tell yet.
	f := m.show(1300)
	for i := range 120 {
		s.brush.fill(uint32(i*0x020406), 600, 300, 40, 40)
		s.brush.sync()
		time.Sleep(time.Second / 60) // the rhythm of a program
	}
	copy(m.mem, f.Pixels)
	m.put()
	s.settled()
	s.catchUp()
	sum, most := 0, 0
	for i := n + 1; i < s.n(); i++ {
		sum, most = sum+len(s.unit(i).Data), max(most, len(s.unit(i).Data))
	}
	frames := s.n() - n - 1
	good := psnr(s.last, f)
	t.Logf("%d frames of %.2f budgets, at most %.1f; %.1f dB in the end", frames, float64(sum)/float64(frames*budget), float64(most)/float64(budget), good)
	if most > 3*budget {
		t.Errorf("a frame of %.1f budgets refines the picture, want at most 3", float64(most)/float64(budget))
	}
	if good < 40 {
		t.Errorf("the picture is not good in the end: %.1f dB", good)
	}
}

// TestEveryElementEncodes: also those that are second choice here.
func TestEveryElementEncodes(t *testing.T) {
	initGStreamer()
	software(t, func(t *testing.T, e encoders.Entry) {
		for _, element := range e.Elements {
			only := e
			only.Elements = []encoders.Element{element}
			if err := tryEntry(only); err != nil {
				t.Errorf("%s: %v", element.Factory, err)
			}
		}
	})
}

// workerPID finds the media worker that this process has started.
func workerPID(t testing.TB) int {
	t.Helper()
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range children {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		for field := range strings.FieldsSeq(string(b)) {
			line, err := os.ReadFile("/proc/" + field + "/cmdline")
			if err == nil && strings.Contains(string(line), "media-worker") {
				pid, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatal("no media worker found")
	return 0
}

// cpuOf is the CPU time that a process has used.
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// TestEveryFrameOfA60HzProgram draws the whole picture at 60 Hz.
func TestEveryFrameOfA60HzProgram(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 1280, 720, nil)
	m := newMovie(t, s.brush, 1280, 720)
	m.rehearse(24)
	var drawn, got int
	for range 3 { // a machine that is busy otherwise gets another chance
		m.play(60, 500*time.Millisecond, 0)
		n := s.n()
		began := media.Now()
		drawn = m.play(60, 5*time.Second, 0)
		end := media.Now()
		s.until(t, 5*time.Second, "last frame", func() bool { return s.video[len(s.video)-1].Stages.Captured >= end })
		got = 0
		for i := n; i < s.n(); i++ {
			if u := s.unit(i); u.Stages.Captured >= began && u.Stages.Captured < end && u.Stages.Damage != 0 {
				got++
			}
		}
		t.Logf("%d frames drawn, %d encoded in 5 s; %s", drawn, got, s.latency(n))
		if drawn >= 298 && got >= 295 || underRace && got >= drawn*295/300 {
			return
		}
	}
	t.Errorf("%d frames drawn, %d encoded in 5 s, want 295", drawn, got)
}

// latency describes the stages of the units from n on.
func (s *stage) latency(n int) string {
	var wait, convert, encode, wire []float64
	for i := n; i < s.n(); i++ {
		st := s.unit(i).Stages
		if st.Damage == 0 {
			continue
		}
		ms := func(a, b media.Stamp) float64 { return float64(a.Sub(b)) / 1e6 }
		wait, convert = append(wait, ms(st.Captured, st.Damage)), append(convert, ms(st.Converted, st.Captured))
		encode, wire = append(encode, ms(st.Encoded, st.Converted)), append(wire, ms(st.Received, st.Emitted))
	}
	return fmt.Sprintf("ms p50/p95: wait %s, convert %s, encode %s, wire %s", quantiles(wait), quantiles(convert), quantiles(encode), quantiles(wire))
}

func TestBitrateFollowsOrders(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		const fps = 30
		s := newStage(t, e, 1280, 720, func(spec *media.Spec) { spec.Video.FPS = fps; spec.Video.Kbps = 8000 })
		m := newMovie(t, s.brush, 1280, 720)
		at := 0
		measure := func() float64 {
			at += m.play(fps, 500*time.Millisecond, at) // to find its way
			n := s.n()
			at += m.play(fps, 1500*time.Millisecond, at)
			bytes, frames := 0, 0
			for i := n; i < s.n(); i++ {
				bytes += len(s.unit(i).Data)
				frames++
			}
			// By frames, so that a busy machine that skips some does not count.
			return float64(bytes) * 8 / 1000 * fps / float64(frames)
		}
		for _, kbps := range []int{8000, 2500, 12000, 4000} {
			s.orders <- media.Order{Kind: media.OrderBitrate, Kbps: kbps}
			got := measure()
			t.Logf("%s: %d kbit/s asked for, %.0f made", e.Name, kbps, got)
			if got > 1.15*float64(kbps) || got < 0.6*float64(kbps) {
				t.Errorf("%d kbit/s asked for, %.0f made", kbps, got)
			}
		}
		for i := 1; i < s.n(); i++ {
			if s.unit(i).Key {
				t.Errorf("unit %d is a key frame: the encoder was restarted", i)
			}
		}
	})
}

func TestFrameRateFollowsOrders(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 640, 360, nil)
	m := newMovie(t, s.brush, 640, 360)
	for _, fps := range []int{20, 5, 40} {
		s.orders <- media.Order{Kind: media.OrderFPS, FPS: fps}
		m.play(60, 300*time.Millisecond, 0)
		n := s.n()
		began := time.Now()
		m.play(60, 2*time.Second, 0)
		got := float64(s.n()-n) / time.Since(began).Seconds()
		t.Logf("at most %d frames a second: %.1f", fps, got)
		if got > 1.1*float64(fps) || got < 0.8*float64(fps) {
			t.Errorf("at most %d frames a second asked for, %.1f made", fps, got)
		}
	}
	if key := s.unit(s.n() - 1).Key; key {
		t.Error("the encoder was restarted")
	}
}

func TestDisplayChangesItsSize(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		s := newStage(t, e, 1280, 720, nil)
		c := dial(t, s.display)
		for i, size := range [][2]int{{1920, 1080}, {640, 360}, {1366, 768}, {1001, 701}, {2560, 1440}} {
			if err := x11.SetSize(context.Background(), c, size[0], size[1]); err != nil {
				t.Fatal(err)
			}
			w, h := size[0]&^1, size[1]&^1 // chroma has half the size
			s.until(t, 5*time.Second, "report of the size", func() bool {
				for _, r := range s.reports {
					if r.Kind == media.ReportResized && r.Width == w && r.Height == h {
						return true
					}
				}
				return false
			})
			s.until(t, 5*time.Second, "unit of the size", func() bool { return int(s.video[len(s.video)-1].Width) == w })
			for n := range s.n() {
				if u := s.unit(n); int(u.Width) == w && n > 0 && int(s.unit(n-1).Width) != w && !u.Key {
					t.Errorf("the first unit of %d×%d is no key frame", w, h)
				}
			}
			colour := []uint32{0xd04010, 0x10a0d0, 0x80d020, 0x2020c0, 0xd020b0}[i]
			s.brush.fill(colour, w-60, h-60, 60, 60)
			s.brush.sync()
			s.decoder = nil // as a browser's, it begins anew
			for n := s.n() - 1; n >= 0 && int(s.unit(n).Width) == w; n-- {
				s.decoded = n
			}
			s.shows("corner of the new size", w-20, h-20, colour)
		}
	})
}

// TestPictureIsEncodedSmaller orders other sizes than the display's while it runs.
func TestPictureIsEncodedSmaller(t *testing.T) {
	software(t, func(t *testing.T, e encoders.Entry) {
		s := newStage(t, e, 1280, 720, nil)
		for i, c := range []struct{ scale, width, height int }{{75, 960, 540}, {50, 640, 360}, {100, 1280, 720}} {
			s.orders <- media.Order{Kind: media.OrderScale, Scale: c.scale}
			s.until(t, 5*time.Second, "unit of the size", func() bool {
				u := s.video[len(s.video)-1]
				return int(u.Width) == c.width && int(u.Height) == c.height
			})
			for n := range s.n() {
				if u := s.unit(n); int(u.Width) == c.width && n > 0 && int(s.unit(n-1).Width) != c.width && !u.Key {
					t.Errorf("the first unit of %d×%d is no key frame", c.width, c.height)
				}
			}
			colour := []uint32{0xd04010, 0x10a0d0, 0x80d020}[i]
			s.brush.fill(colour, 1280-80, 720-80, 80, 80)
			s.brush.sync()
			s.decoder = nil // as a browser's, it begins anew
			for n := s.n() - 1; n >= 0 && int(s.unit(n).Width) == c.width; n-- {
				s.decoded = n
			}
			s.shows("corner of the smaller picture", c.width-20, c.height-20, colour)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range s.reports {
			if r.Kind == media.ReportResized {
				t.Errorf("the display is said to have changed to %d×%d", r.Width, r.Height)
			}
		}
	})
}

func TestCountersOnlyRise(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 640, 360, nil)
	newMovie(t, s.brush, 640, 360).play(60, time.Second, 0)
	beats := func() (c []media.Counts) {
		for _, r := range s.reports {
			if r.Kind == media.ReportHeartbeat {
				c = append(c, r.Counts)
			}
		}
		return c
	}
	n := s.n()
	s.until(t, 5*time.Second, "heartbeat that counts all", func() bool {
		b := beats()
		return len(b) > 10 && b[len(b)-1].Encoded >= uint64(n)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	var last media.Counts
	for _, c := range beats() {
		if c.Damaged < last.Damaged || c.Captured < last.Captured || c.Repeated < last.Repeated || c.Encoded < last.Encoded || c.Dropped < last.Dropped {
			t.Fatalf("%+v after %+v", c, last)
		}
		if c.Encoded > c.Captured+c.Repeated || c.Captured > c.Damaged+2 {
			t.Errorf("counts contradict each other: %+v", c)
		}
		last = c
	}
}

func TestCursorIsInThePictureOnlyWhenAskedFor(t *testing.T) {
	e, _ := encoders.Find("x264")
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			s := newStage(t, e, 640, 360, func(spec *media.Spec) { spec.Video.Cursor = asked })
			s.brush.fill(0x203040, 0, 0, 640, 360)
			s.brush.cursor(0xff2020)
			warp := func(x, y int) {
				xproto.WarpPointer(s.brush.c.X, 0, s.brush.c.Root(), 0, 0, 0, 0, int16(x), int16(y))
				s.brush.sync()
			}
			warp(100, 100)
			if !asked {
				s.settled()
				s.shows("background under the cursor", 104, 104, 0x203040)
				return
			}
			s.shows("cursor", 104, 104, 0xff2020)
			warp(401, 201)
			s.shows("cursor at its new place", 405, 205, 0xff2020)
			s.shows("background at its old place", 104, 104, 0x203040)
			warp(639, 359) // most of it outside
			s.shows("background at its old place", 405, 205, 0x203040)
		})
	}
}

// cursor gives the window a cursor of one colour, 12×12 pixels around (6, 6).
func (b *brush) cursor(rgb uint32) {
	b.t.Helper()
	pix, err := xproto.NewPixmapId(b.c.X)
	if err != nil {
		b.t.Fatal(err)
	}
	cur, err := xproto.NewCursorId(b.c.X)
	if err != nil {
		b.t.Fatal(err)
	}
	gc, err := xproto.NewGcontextId(b.c.X)
	if err != nil {
		b.t.Fatal(err)
	}
	xproto.CreatePixmap(b.c.X, 1, pix, xproto.Drawable(b.win), 12, 12)
	xproto.CreateGC(b.c.X, gc, xproto.Drawable(pix), xproto.GcForeground, []uint32{1})
	xproto.PolyFillRectangle(b.c.X, xproto.Drawable(pix), gc, []xproto.Rectangle{{Width: 12, Height: 12}})
	c := func(shift int) uint16 { return uint16(rgb>>shift&255) * 257 }
	xproto.CreateCursor(b.c.X, cur, pix, pix, c(16), c(8), c(0), 0, 0, 0, 6, 6)
	if err := x11.Check(context.Background(), b.c, xproto.ChangeWindowAttributesChecked(b.c.X, b.win, xproto.CwCursor, []uint32{uint32(cur)})); err != nil {
		b.t.Fatal(err)
	}
}

// TestOtherWaysToThePixels captures displays whose framebuffer is not known, one
// with and one without shared memory.
func TestOtherWaysToThePixels(t *testing.T) {
	e, _ := encoders.Find("x264")
	for name, options := range map[string][]string{"shared memory": nil, "X connection": {"-extension", "MIT-SHM"}} {
		t.Run(name, func(t *testing.T) {
			d := xvfb(t, 640, 360, options...)
			d.Framebuffer = ""
			screen, err := capture.Open(context.Background(), d, capture.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if screen.Method() != name {
				t.Errorf("captured through %s", screen.Method())
			}
			screen.Close()
			s := newStageOn(t, d, e, nil)
			for i, size := range [][2]int{{640, 360}, {1280, 720}, {800, 600}} {
				if err := x11.SetSize(context.Background(), s.brush.c, size[0], size[1]); err != nil {
					t.Fatal(err)
				}
				s.until(t, 5*time.Second, "unit of the size", func() bool { return int(s.video[len(s.video)-1].Width) == size[0] })
				s.decoder, s.decoded = nil, 0
				for n := s.n() - 1; n >= 0 && int(s.unit(n).Width) == size[0]; n-- {
					s.decoded = n
				}
				colour := []uint32{0x30b060, 0xb03060, 0x3060b0}[i]
				s.brush.fill(colour, size[0]-200, size[1]-200, 200, 200)
				s.brush.sync()
				s.shows("rectangle", size[0]-100, size[1]-100, colour)
			}
		})
	}
}

func TestDisplayLost(t *testing.T) {
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 640, 360, nil)
	killServer(t, s.display)
	select {
	case <-s.over:
		if s.err == nil || !strings.Contains(s.err.Error(), "display lost") {
			t.Errorf("got %v", s.err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the worker goes on without a display")
	}
}

func TestNoSuchEncoder(t *testing.T) {
	r, _ := begin(t, videoSpec(media.Display{Name: ":0"}, "quantum", media.H264))
	<-r.over
	if r.err == nil || !strings.Contains(r.err.Error(), media.CauseNoEncoder) {
		t.Errorf("got %v", r.err)
	}
}

func quantiles(v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(v))
	at := func(q float64) float64 { return sorted[int(math.Min(float64(len(sorted)-1), q*float64(len(sorted))))] }
	return fmt.Sprintf("%.2f/%.2f", at(0.5), at(0.95))
}
