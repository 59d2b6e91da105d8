package browser

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"fenrir/media"
)

//go:embed testdata/player.html
var playerPage []byte

// clip is an encoded test picture, one unit for each frame, and a tone.
type clip struct{ video, audio [][]byte }

// encode makes a clip of a few seconds with ffmpeg.
func encode(t *testing.T, codec media.Codec) clip {
	t.Helper()
	args := map[media.Codec][]string{
		media.H264: {"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-g", "300", "-bsf:v", "h264_metadata=aud=insert", "-f", "h264"},
		media.VP8:  {"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-lag-in-frames", "0", "-g", "300", "-f", "ivf"},
		media.VP9:  {"-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-g", "300", "-f", "ivf"},
		media.AV1:  {"-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-g", "300", "-f", "ivf"},
	}[codec]
	run := func(args ...string) []byte {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "ffmpeg", append([]string{"-v", "error"}, append(args, "-")...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ffmpeg: %v: %s", err, stderr.String())
		}
		return out
	}
	var c clip
	out := run(append([]string{"-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-frames:v", "120", "-pix_fmt", "yuv420p", "-b:v", "2M"}, args...)...)
	if codec == media.H264 {
		for _, au := range bytes.Split(out, []byte{0, 0, 0, 1, 9})[1:] {
			c.video = append(c.video, append([]byte{0, 0, 0, 1, 9}, au...))
		}
	} else {
		for b := out[32:]; len(b) >= 12; {
			n := int(binary.LittleEndian.Uint32(b))
			c.video = append(c.video, b[12:12+n])
			b = b[12+n:]
		}
	}
	if len(c.video) != 120 {
		t.Fatalf("%d frames of %s", len(c.video), codec)
	}
	ogg := run("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "4", "-ac", "2", "-c:a", "libopus", "-frame_duration", "10", "-b:a", "96k", "-page_duration", "1", "-f", "ogg")
	for len(ogg) > 27 { // one packet for each page
		segments := int(ogg[26])
		size := 0
		for _, s := range ogg[27 : 27+segments] {
			size += int(s)
		}
		body := ogg[27+segments : 27+segments+size]
		if !bytes.HasPrefix(body, []byte("Opus")) && size > 0 {
			c.audio = append(c.audio, body)
		}
		ogg = ogg[27+segments+size:]
	}
	return c
}

// loop plays c over and over until ctx ends; each round begins with its key frame.
func (a *fakeAttachment) loop(ctx context.Context, c clip) {
	const videoTick, audioTick = time.Second / 30, 10 * time.Millisecond
	begin := media.Now()
	v, s := 0, 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := media.Now()
		for ; begin.Add(time.Duration(v)*videoTick) <= now; v++ {
			u := media.Unit{Kind: media.Video, Codec: a.codec, Key: v%len(c.video) == 0, Frame: uint32(v), Width: 640, Height: 360, Data: c.video[v%len(c.video)]}
			u.Stages = media.Stages{Captured: begin.Add(time.Duration(v) * videoTick), Received: now}
			select {
			case a.video <- u:
			default:
			}
		}
		for ; begin.Add(time.Duration(s)*audioTick) <= now; s++ {
			u := media.Unit{Kind: media.Audio, Codec: media.Opus, Key: true, Frame: uint32(s), Data: c.audio[s%len(c.audio)]}
			u.Stages = media.Stages{Captured: begin.Add(time.Duration(s) * audioTick), Received: now}
			select {
			case a.audio <- u:
			default:
			}
		}
		next := min(begin.Add(time.Duration(v)*videoTick), begin.Add(time.Duration(s)*audioTick))
		timer.Reset(max(next.Sub(media.Now()), 0))
	}
}

// What Chromium says about a stream.
type inbound struct {
	Mime         string
	Decoded      int
	KeyFrames    int
	Packets      int
	JitterBuffer float64
	Energy       float64
	Concealed    float64
	Samples      float64
	PLI          int
	Decoder      string
	Channels     int
}

func TestChromiumPlaysEveryCodec(t *testing.T) {
	t.Parallel() // with tests that wait
	for _, tool := range []string{"chromium", "ffmpeg"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is needed to play for real: %v", tool, err)
		}
	}
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, codec := range []media.Codec{media.H264, media.VP8, media.VP9, media.AV1} {
		t.Run(string(codec), func(t *testing.T) {
			c := encode(t, codec)
			b := newBench(t)
			b.session.codec = codec
			reports := make(chan []byte, 1)
			mux := http.NewServeMux()
			mux.Handle("/api/", b.http.Config.Handler)
			mux.HandleFunc("/report", func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				select {
				case reports <- body:
				default:
				}
			})
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.Write(playerPage)
			})
			page := httptest.NewServer(mux)
			defer page.Close()

			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
				"--disable-component-update", "--disable-sync", "--disable-quic", "--autoplay-policy=no-user-gesture-required",
				"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", page.URL+"/?codec="+string(codec))
			cmd.WaitDelay = time.Second
			must(t, cmd.Start())
			defer func() {
				cancel()
				cmd.Wait()
			}()
			att := b.waitAttached("chromium-" + string(codec))
			played := make(chan struct{})
			pctx, stop := context.WithCancel(context.Background())
			go func() { defer close(played); att.loop(pctx, c) }()
			defer func() { stop(); <-played }()
			if in := get(t, att.inputs, "key"); in.Kind != media.KeyDown || in.Key != 0x41 {
				t.Errorf("input %+v", in)
			}
			att.notes <- media.Note{Move: &media.CursorMove{X: 1, Y: 2}}

			var seen struct {
				Frames, Pongs, Positions, Width int
				Ages                            []float64
				Errors                          []string
				Events                          map[string]map[string]any
				Video, Audio                    inbound
			}
			raw := get(t, reports, "report of the page")
			must(t, json.Unmarshal(raw, &seen))
			if len(seen.Errors) > 0 {
				t.Errorf("the page had errors: %v", seen.Errors)
			}
			slices.Sort(seen.Ages)
			age := -1.0
			if n := len(seen.Ages); n > 0 {
				age = seen.Ages[n/2]
			}
			t.Logf("%d frames painted, %d decoded by %s (%d key frames, %d PLIs), jitter buffer %.1f ms, capture to screen %.1f ms; sound: jitter buffer %.1f ms, %.1f %% concealed",
				seen.Frames, seen.Video.Decoded, seen.Video.Decoder, seen.Video.KeyFrames, seen.Video.PLI, seen.Video.JitterBuffer, age, seen.Audio.JitterBuffer, 100*seen.Audio.Concealed/max(seen.Audio.Samples, 1))
			if !strings.EqualFold(seen.Video.Mime, "video/"+string(codec)) || seen.Video.Decoded < 45 || seen.Frames < 30 || seen.Width != 640 {
				t.Errorf("video: %+v, %d frames painted, width %d", seen.Video, seen.Frames, seen.Width)
			}
			if want := seen.Video.Decoded/120 + 2; seen.Video.KeyFrames > want+seen.Video.PLI {
				t.Errorf("%d key frames in %d frames", seen.Video.KeyFrames, seen.Video.Decoded)
			}
			if !strings.EqualFold(seen.Audio.Mime, "audio/opus") || seen.Audio.Energy <= 0 || seen.Audio.Channels != 2 {
				t.Errorf("audio: %+v", seen.Audio)
			}
			if seen.Pongs == 0 || seen.Positions == 0 || seen.Events["cursor"] == nil || seen.Events["timing"] == nil {
				t.Errorf("pongs %d, positions %d, events %v", seen.Pongs, seen.Positions, seen.Events)
			}
			if age < 0 || age > 400 {
				t.Errorf("from capture to screen it takes %.1f ms", age)
			}
		})
	}
}
