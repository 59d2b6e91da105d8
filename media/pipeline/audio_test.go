//go:build cgo

package pipeline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-gst/go-gst/gst"
	"github.com/go-gst/go-gst/gst/app"

	"fenrir/media"
	"fenrir/media/pipeline/encoders"
	"fenrir/media/pipeline/record"
)

// soundServer is a PulseAudio of the test's own, which can die and come back.
type soundServer struct {
	t      *testing.T
	dir    string
	socket string
	cmd    *exec.Cmd

	channels int // of the card, 0 is 2
}

func newSoundServer(t *testing.T) *soundServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "pa") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &soundServer{t: t, dir: dir, socket: filepath.Join(dir, "native")}
	t.Cleanup(func() {
		s.kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *soundServer) where() media.Sound {
	return media.Sound{Server: "unix:" + s.socket, Source: "out.monitor", Channels: s.channels}
}

// start starts the server and waits until it takes connections.
func (s *soundServer) start() {
	s.t.Helper()
	if err := os.RemoveAll(s.socket); err != nil {
		s.t.Fatal(err)
	}
	config := os.Getenv("PULSE_CONFIG")
	if s.channels > 2 { // as a desktop's
		config = filepath.Join(s.dir, "daemon.conf")
		if err := os.WriteFile(config, []byte("remixing-use-all-sink-channels = no\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.cmd = exec.Command("pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--log-level=error",
		"-L", "module-null-sink sink_name=out rate=48000 "+cardChannels[s.channels],
		"-L", "module-native-protocol-unix socket="+s.socket+" auth-anonymous=1")
	s.cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_RUNTIME_DIR="+s.dir, "PULSE_RUNTIME_PATH="+s.dir, "PULSE_STATE_PATH="+s.dir, "PULSE_CONFIG="+config,
		"DBUS_SESSION_BUS_ADDRESS=unix:path="+filepath.Join(s.dir, "bus"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // it tells nobody that it is ready
		if c, err := net.Dial("unix", s.socket); err == nil {
			_ = c.Close() // it was only a knock
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("PulseAudio does not start")
		}
	}
}

func (s *soundServer) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // may be dead already
		_ = s.cmd.Wait()         // killed
		s.cmd = nil
	}
}

// cardChannels are the loudspeakers of a card, as a desktop has them.
var cardChannels = map[int]string{
	0: "channels=2",
	6: "channels=6 channel_map=front-left,front-right,front-center,lfe,rear-left,rear-right",
	8: "channels=8 channel_map=front-left,front-right,front-center,lfe,rear-left,rear-right,side-left,side-right",
}

// tone plays a tone in stereo until the test is over or the server dies.
func (s *soundServer) tone(hz int) {
	s.t.Helper()
	s.play("front-left,front-right", hz, hz)
}

// play plays a tone from each of some loudspeakers until the test is over or the server dies.
func (s *soundServer) play(speakers string, hz ...int) {
	s.t.Helper()
	pcm := make([]byte, 0, 48000*2*len(hz))
	for i := range 48000 { // a second of it, whole periods
		for _, hz := range hz {
			pcm = binary.LittleEndian.AppendUint16(pcm, uint16(int16(12000*math.Sin(2*math.Pi*float64(hz)*float64(i)/48000))))
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command("pacat", "--playback", "--server=unix:"+s.socket, "--device=out", "--raw", "--format=s16le", "--rate=48000",
		fmt.Sprintf("--channels=%d", len(hz)), "--channel-map="+speakers, "--latency-msec=20")
	cmd.Env = append(os.Environ(), "HOME="+s.dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	_ = r.Close() // pacat's
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		for {
			if _, err := w.Write(pcm); err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill() // may be dead already
		_ = cmd.Wait()         // killed
		_ = w.Close()          // ends the feeding
		<-fed
	})
}

// hear decodes Opus packets and returns samples of the left channel.
func hear(t *testing.T, packets []media.Unit) []float64 {
	t.Helper()
	return hearAll(t, packets, media.AudioSpec{}.Format())[0]
}

// hearAll decodes Opus packets as a client does that knows their format, and
// returns the samples of each loudspeaker.
func hearAll(t *testing.T, packets []media.Unit, f media.AudioFormat) [][]float64 {
	t.Helper()
	initGStreamer()
	caps := "channel-mapping-family=0"
	if f.Channels > 2 { // of no known order: it is that of the mapping
		caps = fmt.Sprintf("channel-mapping-family=255,stream-count=%d,coupled-count=%d,channel-mapping=(int)<%s>",
			f.Streams, f.Coupled, strings.Trim(strings.ReplaceAll(fmt.Sprint(f.Mapping), " ", ","), "[]"))
	}
	p, err := gst.NewPipelineFromString(fmt.Sprintf("appsrc name=src format=time caps=\"audio/x-opus,rate=48000,channels=%d,%s\""+
		" ! opusdec phase-inversion=true ! audio/x-raw,format=S16LE,rate=48000,channels=%d ! appsink name=sink sync=false max-buffers=0", f.Channels, caps, f.Channels))
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.GetElementByName("src")
	if err != nil {
		t.Fatal(err)
	}
	src := app.SrcFromElement(e)
	if e, err = p.GetElementByName("sink"); err != nil {
		t.Fatal(err)
	}
	sink := app.SinkFromElement(e)
	if err := p.SetState(gst.StatePlaying); err != nil {
		t.Fatal(err)
	}
	defer stop(p)
	var pcm bytes.Buffer
	for _, u := range packets {
		b := gst.NewBufferFromBytes(u.Data)
		src.PushBuffer(b)
	}
	src.EndStream()
	for {
		s := sink.TryPullSample(gst.ClockTime(5 * time.Second))
		if s == nil {
			break
		}
		pcm.Write(s.GetBuffer().Bytes())
	}
	out := make([][]float64, f.Channels)
	for b := pcm.Bytes(); len(b) >= 2*f.Channels; b = b[2*f.Channels:] {
		for i := range out {
			out[i] = append(out[i], float64(int16(binary.LittleEndian.Uint16(b[2*i:]))))
		}
	}
	return out
}

// loudness is the amplitude of one frequency, a multiple of 10 Hz: the mean of pieces
// of 100 ms, because a tone goes on in another phase where a busy machine kept its
// program from playing. What is missing makes it quieter.
func loudness(samples []float64, hz float64) float64 {
	const piece = 4800
	sum, n := 0.0, 0
	for ; len(samples) >= piece; samples = samples[piece:] {
		sum += goertzel(samples[:piece], hz)
		n++
	}
	return sum / float64(max(n, 1))
}

func goertzel(samples []float64, hz float64) float64 {
	k := 2 * math.Cos(2*math.Pi*hz/48000)
	var a, b float64
	for _, s := range samples {
		a, b = s+k*a-b, a
	}
	return 2 * math.Sqrt(a*a+b*b-k*a*b) / float64(len(samples))
}

func audioSpec(s *soundServer, ms int) media.Spec {
	return media.Spec{Session: "test", Sound: s.where(), Audio: &media.AudioSpec{Kbps: 128, FrameMs: ms}}
}

func (r *arrivals) soundOK() bool {
	for i := len(r.reports) - 1; i >= 0; i-- {
		if r.reports[i].Kind == media.ReportSound {
			return r.reports[i].SoundOK
		}
	}
	return false
}

func TestToneArrives(t *testing.T) {
	for _, ms := range []int{5, 10, 20} {
		t.Run(time.Duration(ms*1e6).String(), func(t *testing.T) {
			server := newSoundServer(t)
			server.start()
			server.tone(1000)
			r, _ := begin(t, audioSpec(server, ms))
			second := 1000 / ms // of packets; the tone may begin late
			r.until(t, 10*time.Second, "a second of sound", func() bool {
				k := len(r.audio)
				return k >= 2*second && !slices.ContainsFunc(r.audio[k-second:], func(u media.Unit) bool { return len(u.Data) <= silence })
			})
			r.mu.Lock()
			packets := r.audio[len(r.audio)-second:]
			r.mu.Unlock()
			samples := hear(t, packets)
			if len(samples) < 40000 {
				t.Fatalf("%d samples of a second of sound", len(samples))
			}
			samples = samples[4800:]
			tone, other := loudness(samples, 1000), loudness(samples, 1700)
			t.Logf("1000 Hz: %.0f, 1700 Hz: %.0f", tone, other)
			if tone < 6000 || other > tone/50 {
				t.Errorf("1000 Hz has %.0f of 12000, 1700 Hz %.0f", tone, other)
			}
			// Stamps are of this machine's clock, and just passed.
			last := packets[len(packets)-1]
			t.Logf("a packet is %v old when it arrives", last.Stages.Received.Sub(last.Stages.Captured))
			for _, u := range packets {
				if age := u.Stages.Received.Sub(u.Stages.Captured); age < 0 || age > 250*time.Millisecond {
					t.Errorf("packet %d is %v old when it arrives", u.Frame, age)
				}
			}
			for i, u := range packets[1:] {
				if u.Frame != packets[i].Frame+1 || !u.Key || u.Codec != media.Opus || u.Stages.Encoded < u.Stages.Captured {
					t.Fatalf("packet %+v after %+v", u, packets[i])
				}
			}
		})
	}
}

// TestSilenceCostsNothing: packets stop when nothing plays, but for a sign of life,
// and begin again with the first sound.
func TestSilenceCostsNothing(t *testing.T) {
	server := newSoundServer(t)
	server.start()
	r, _ := begin(t, audioSpec(server, 10))
	r.until(t, 10*time.Second, "a pause", func() bool { return len(r.audio) > 0 && len(r.audio[len(r.audio)-1].Data) == 1 })
	r.mu.Lock()
	n := len(r.audio)
	r.mu.Unlock()
	r.until(t, 10*time.Second, "five more packets", func() bool { return len(r.audio) >= n+5 })
	r.mu.Lock()
	if took := r.audio[n+4].Stages.Captured.Sub(r.audio[n].Stages.Captured); took < 4*silenceEvery {
		t.Errorf("five packets of silence in %v", took)
	}
	r.mu.Unlock()
	server.tone(1000)
	r.until(t, 10*time.Second, "a second of sound", func() bool {
		k := len(r.audio)
		return k > 100 && len(r.audio[k-100].Data) > silence
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if tone := loudness(hear(t, r.audio[len(r.audio)-100:])[4800:], 1000); tone < 6000 {
		t.Errorf("1000 Hz has %.0f of 12000", tone)
	}
}

// TestSoundAfterRest: where nothing was played for long, nothing of the next sound is
// lost, and it comes soon.
func TestSoundAfterRest(t *testing.T) {
	server := newSoundServer(t)
	server.start()
	r, _ := begin(t, audioSpec(server, 10))
	var since media.Stamp
	r.until(t, 10*time.Second, "a second of rest", func() bool {
		k := len(r.audio)
		if k == 0 {
			return false
		}
		if since == 0 {
			since = r.audio[0].Stages.Captured
		}
		return r.audio[k-1].Stages.Captured.Sub(since) > restAfter+time.Second
	})
	r.mu.Lock()
	n := len(r.audio)
	r.mu.Unlock()

	const length = 300 * time.Millisecond
	pcm := make([]byte, 0, 4*48*length.Milliseconds())
	for i := range cap(pcm) / 4 {
		sample := uint16(int16(12000 * math.Sin(2*math.Pi*1000*float64(i)/48000)))
		pcm = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(pcm, sample), sample)
	}
	cmd := exec.Command("pacat", "--playback", "--server=unix:"+server.socket, "--device=out", "--raw", "--format=s16le", "--rate=48000", "--channels=2", "--latency-msec=20")
	cmd.Env = append(os.Environ(), "HOME="+server.dir)
	cmd.Stdin = bytes.NewReader(pcm)
	if out, err := cmd.CombinedOutput(); err != nil { // it waits until all is played
		t.Fatalf("pacat: %v: %s", err, out)
	}
	r.until(t, 10*time.Second, "silence again", func() bool {
		k := len(r.audio)
		return k > n+20 && len(r.audio[k-1].Data) == 1
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	loud := r.audio[n:]
	for len(loud) > 0 && len(loud[0].Data) <= silence {
		loud = loud[1:]
	}
	var played time.Duration
	samples := hear(t, loud)
	for ; len(samples) >= 48; samples = samples[48:] {
		if slices.Max(samples[:48]) > 6000 {
			played += time.Millisecond
		}
	}
	t.Logf("%v of %v heard, the first packet is %v old when it arrives", played, length, loud[0].Stages.Received.Sub(loud[0].Stages.Captured))
	if played < length-10*time.Millisecond || played > length+15*time.Millisecond {
		t.Errorf("%v of %v heard", played, length)
	}
	for i, u := range loud {
		if age := u.Stages.Received.Sub(u.Stages.Captured); age < 0 || age > restEvery+100*time.Millisecond {
			t.Errorf("packet %d is %v old when it arrives", i, age)
		}
	}
}

// TestSoundServerComesLateAndDies is the life of a sound server that is not there
// at first, dies, hangs, and comes back.
func TestSoundServerComesLateAndDies(t *testing.T) {
	server := newSoundServer(t)
	e, _ := encoders.Find("x264")
	s := newStage(t, e, 640, 360, func(sp *media.Spec) {
		sp.Sound = server.where()
		sp.Audio = &media.AudioSpec{Kbps: 96, FrameMs: 10}
	})
	s.until(t, 5*time.Second, "report of no sound", func() bool { return s.told(false) == 1 })
	server.start()
	server.tone(500)
	s.until(t, 5*time.Second, "sound", func() bool { return s.soundOK() && len(s.audio) > 20 })

	for round := range 2 {
		server.kill()
		began := time.Now()
		s.until(t, 5*time.Second, "report of lost sound", func() bool { return !s.soundOK() })
		t.Log("loss noticed after", time.Since(began))
		// The picture goes on.
		s.brush.fill(uint32(0x40a0c0+round*0x301000), 100, 100, 100, 100)
		s.brush.sync()
		s.shows("rectangle while there is no sound", 150, 150, uint32(0x40a0c0+round*0x301000))
		server.start()
		server.tone(500) // as a program that comes back to it
		up := time.Now()
		s.mu.Lock()
		n := len(s.audio)
		s.mu.Unlock()
		s.until(t, 5*time.Second, "sound again", func() bool { return s.soundOK() && len(s.audio) > n+20 })
		took := time.Since(up)
		t.Log("sound again", took, "after the server was back")
		if took > 1500*time.Millisecond {
			t.Errorf("sound again after %v", took)
		}
	}

	// One that hangs is lost as well, and the picture does not care.
	if err := server.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.until(t, 10*time.Second, "report of lost sound", func() bool { return !s.soundOK() })
	s.brush.fill(0xa02040, 300, 100, 100, 100)
	s.brush.sync()
	s.shows("rectangle while the sound server hangs", 350, 150, 0xa02040)
	if err := server.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.until(t, 10*time.Second, "sound of the server that hung", s.soundOK)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.audio); i++ {
		if s.audio[i].Frame != s.audio[i-1].Frame+1 || s.audio[i].Stages.Captured < s.audio[i-1].Stages.Captured {
			t.Fatalf("packet %d: frame %d at %d after %d at %d", i, s.audio[i].Frame, s.audio[i].Stages.Captured, s.audio[i-1].Frame, s.audio[i-1].Stages.Captured)
		}
	}
}

// TestHeartGoesOnWhileTheSoundServerHangs: of a worker that has nothing else to do.
func TestHeartGoesOnWhileTheSoundServerHangs(t *testing.T) {
	server := newSoundServer(t)
	server.start()
	r, _ := begin(t, audioSpec(server, 10))
	r.until(t, 10*time.Second, "sound", r.soundOK)
	if err := server.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	beats := func() (n int) {
		for _, m := range r.reports {
			if m.Kind == media.ReportHeartbeat {
				n++
			}
		}
		return n
	}
	var lost int
	r.until(t, 10*time.Second, "report of lost sound", func() bool { lost = beats(); return !r.soundOK() })
	bound := 3 * record.Bound // longer than an attempt to connect
	r.until(t, 2*bound, "heartbeats while nobody answers", func() bool { return beats() >= lost+int(bound/beatEvery) })
	if err := server.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.until(t, 10*time.Second, "sound of the server that hung", r.soundOK)
}

// told counts reports about the sound.
func (r *arrivals) told(ok bool) (n int) {
	for _, m := range r.reports {
		if m.Kind == media.ReportSound && m.SoundOK == ok {
			n++
		}
	}
	return n
}
