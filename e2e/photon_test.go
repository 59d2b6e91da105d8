//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
	"golang.org/x/sys/unix"
)

// photon is what the bench puts into the page, before the page's own scripts: a
// stopwatch from the DOM's pointerdown event to the first painted frame in which the
// playground's flip has changed its colour. The time of a painted frame is
// performance.now() at the start of its requestVideoFrameCallback; its 16×16 pixels
// are read afterwards, from the frame's own luma plane, and only while a press
// waits. It also keeps the timing events and the browser's counters.
const photon = `
(() => {
  const pcs = [], timings = [], stages = [];
  const Native = RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Native {
    constructor(...args) { super(...args); pcs.push(this); }
    createDataChannel(label, init) {
      const c = super.createDataChannel(label, init);
      if (label === 'events') c.addEventListener('message', e => {
        const m = JSON.parse(e.data);
        if (m.type === 'timing') timings.push(m);
      });
      if (label === 'stages') c.addEventListener('message', e => stages.push(btoa(String.fromCharCode(...new Uint8Array(e.data)))));
      return c;
    }
  };
  let video = null, white = false, pending = null, result = null, last = 0, base = 0, presented = 0, gaps = [];
  addEventListener('pointerdown', () => { if (pending && !pending.input) pending.input = performance.now(); }, true);
  const rect = { x: 256, y: 128, width: 16, height: 16 };
  const lit = async (frame, rect) => {
    const pixels = new Uint8Array(frame.allocationSize({ rect }));
    await frame.copyTo(pixels, { rect });
    let sum = 0;
    for (let i = 0; i < 256; i++) sum += pixels[i];
    return sum / 256 > 127;
  };
  const bright = async () => {
    const frame = new VideoFrame(video);
    try {
      return { is: await lit(frame, rect), timestamp: frame.timestamp };
    } finally { frame.close(); }
  };
  // Whether the program has drawn: the cells of its strip that never change are there.
  const drawn = async () => {
    const frame = new VideoFrame(video);
    try {
      for (const [row, column, want] of [[0, 0, true], [0, 1, false], [0, 35, true], [1, 0, false], [1, 1, true], [1, 35, false]])
        if (await lit(frame, { x: column * 16, y: row * 16, width: 16, height: 16 }) !== want) return false;
      return true;
    } finally { frame.close(); }
  };
  // The element may hold a later frame than the one that the callback names: the
  // press is over with the callback that names the frame with the flip in it.
  const settle = () => {
    const press = pending;
    const named = press.seen && press.named.find(f => f.timestamp >= press.seen.timestamp - 1);
    if (!named) return;
    pending = null;
    white = press.want;
    press.done({ input: press.input, shown: press.seen.at, named: named.at, exact: named.timestamp <= press.seen.timestamp + 1, received: named.received, rtp: named.rtp, width: named.width });
  };
  const tick = (now, meta) => {
    const at = performance.now();
    video.requestVideoFrameCallback(tick);
    if (last) gaps.push(at - last);
    last = at;
    presented = meta.presentedFrames;
    const press = pending;
    if (!press || !press.input) return;
    press.named.push({ at, timestamp: meta.mediaTime * 1e6, received: meta.receiveTime || 0, rtp: meta.rtpTimestamp || 0, width: meta.width });
    if (press.seen) { settle(); return; }
    bright().then(({ is, timestamp }) => {
      if (pending !== press || press.seen || is !== press.want) return;
      press.seen = { at, timestamp };
      settle();
    }, press.fail);
  };
  globalThis.photon = {
    attach: async () => {
      video = document.querySelector('[data-testid=video]') || document.querySelector('video');
      if (!video || !video.videoWidth || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || !await drawn()) return false;
      white = (await bright()).is;
      video.requestVideoFrameCallback(tick);
      return true;
    },
    arm: () => { result = new Promise((done, fail) => { pending = { want: !white, input: 0, named: [], seen: null, done, fail }; }); result.catch(() => {}); },
    result: () => Promise.race([result, new Promise((_, fail) => setTimeout(() => fail(new Error('no flip within 8 s; pressed ' + JSON.stringify(pending))), 8000))]),
    reset: () => { gaps = []; last = 0; base = presented; timings.length = stages.length = 0; },
    seen: async () => {
      const report = await pcs[pcs.length - 1].getStats();
      const v = [...report.values()].find(e => e.type === 'inbound-rtp' && e.kind === 'video') || {};
      return { at: performance.now(), painted: presented - base, gaps, timings, stages,
        received: v.framesReceived || 0, decoded: v.framesDecoded || 0, bytes: v.bytesReceived || 0 };
    },
  };
})();
`

// counted is what the page has counted since the last reset; Received and Bytes
// count from the beginning.
type counted struct {
	At       float64
	Painted  float64
	Received float64
	Bytes    float64
	Gaps     []float64
	Timings  []timing
	Stages   [][]byte
}

// timing is the server's word on a second of frames (PROTOCOL.md).
type timing struct {
	Wait     float64 `json:"wait_ms"`
	Capture  float64 `json:"capture_ms"`
	Convert  float64 `json:"convert_ms"`
	Encode   float64 `json:"encode_ms"`
	Wire     float64 `json:"wire_ms"`
	Send     float64 `json:"send_ms"`
	Kbps     float64 `json:"kbps"`
	RTP      uint32  `json:"rtp_timestamp"`
	ServerMs float64 `json:"server_ms"`
}

// captured is when the frame with an RTP timestamp was captured, ms of the
// machine's monotonic clock.
func (t timing) captured(rtp uint32) float64 { return t.ServerMs + float64(int32(rtp-t.RTP))/90 }

// pressed is one press as the page saw it, in ms of performance.now().
type pressed struct {
	Input    float64
	Shown    float64 // the callback in which the picture had the flip
	Named    float64 // the callback that named its frame: this one, or the next
	Exact    bool    // it named that very frame; otherwise the browser named none but a later one
	Received float64
	RTP      uint32
	Width    int
}

// scene is what is played while the bench looks.
type scene struct {
	Name          string
	Width, Height int
	FPS           int
	Busy          bool
}

var (
	busy720  = scene{"720p60 busy", 1280, 720, 60, true}
	idle720  = scene{"720p60 idle", 1280, 720, 60, false}
	busy1080 = scene{"1080p60 busy", 1920, 1080, 60, true}
	idle1080 = scene{"1080p60 idle", 1920, 1080, 60, false}
)

// apps is a configuration with the playground as each kind of scene, logging into dir.
func apps(dir string) string {
	entry := func(id string, args string) string {
		return fmt.Sprintf("[[apps]]\nid = %q\ntitle = %q\ncommand = [%q, \"playground\", %s]\nenv = { FENRIR_PLAYGROUND_LOG = %q }\n", id, id, binary, args, filepath.Join(dir, id+".jsonl"))
	}
	return entry("busy", `"-mode", "busy", "-flip"`) + entry("idle", `"-mode", "latency", "-still"`)
}

// steadyBitrate asks every encoder for the rate that a session begins with: on
// loopback it would rise, and a run's figures would depend on how far it got.
const steadyBitrate = "[video]\nstart_kbps = 8000\nmax_kbps = 8000\n"

// benched is a server with such a configuration that logs as people have it.
func benched(config string) options {
	return options{config: config, env: []string{"FENRIR_LOG_LEVEL=info"}}
}

func (sc scene) app() string {
	if sc.Busy {
		return "busy"
	}
	return "idle"
}

// open starts a session of the scene.
func (sc scene) open(s *server) session {
	s.t.Helper()
	var out session
	s.must("POST", "/api/sessions", map[string]any{"app": sc.app(), "width": sc.Width, "height": sc.Height, "fps": sc.FPS}, 201, &out)
	return out
}

// end ends a session and waits until nothing of it runs.
func end(t *testing.T, s *server, ids ...string) {
	t.Helper()
	for _, id := range ids {
		s.must("DELETE", "/api/sessions/"+id, nil, 0, nil)
	}
	until(t, 10*time.Second, "the sessions are gone", func() bool { return len(descendants(s.cmd.Process.Pid)) == 0 })
}

// clicks measures a scene through Chromium: first a while of watching, for rates
// and CPU, then presses.
func clicks(t *testing.T, sc scene, window time.Duration, presses int) (out Photon) {
	t.Helper()
	dir := t.TempDir()
	s := start(t, benched(apps(dir)+steadyBitrate))
	defer s.stop()
	p := tab(t, sc.Width, sc.Height)
	defer p.Context().Close()
	do(t, "stopwatch", p.AddInitScript(playwright.Script{Content: playwright.String(photon)}))
	enter(t, s, p)
	sess := sc.open(s)
	_, err := p.Goto(s.url + "/#play/" + sess.ID)
	do(t, "open the session", err)
	until(t, 20*time.Second, "a picture", func() (ok bool) { eval(t, p, &ok, "() => photon.attach()"); return ok })
	x, y := float64(sc.Width)/2, float64(sc.Height)*3/4
	do(t, "pointer", p.Mouse().Move(x, y))
	press := func() (one pressed) {
		eval(t, p, nil, "() => photon.arm()")
		do(t, "press", p.Mouse().Down())
		eval(t, p, &one, "() => photon.result()")
		do(t, "release", p.Mouse().Up())
		return one
	}
	for range 4 { // the picture has settled when presses come through
		press()
	}
	time.Sleep(settling(window))

	log := filepath.Join(dir, sc.app()+".jsonl")
	out.Scene = sc.Name
	eval(t, p, nil, "() => photon.reset()")
	var from, to counted
	eval(t, p, &from, "() => photon.seen()")
	began, meter := monotonic(), watchTree(s)
	time.Sleep(window) // the measuring time
	out.CPU, out.Memory = meter.stop()
	eval(t, p, &to, "() => photon.seen()")
	seconds := (to.At - from.At) / 1000
	out.Rates = Rates{
		Drawn: drawnRate(t, log, began), Received: (to.Received - from.Received) / seconds,
		Shown: (to.Painted - from.Painted) / seconds, Kbps: (to.Bytes - from.Bytes) * 8 / 1000 / seconds, Interval: spread(to.Gaps),
	}
	out.Stages = stages(to.Timings)
	eval(t, p, nil, "() => photon.reset()")

	before := len(flips(t, log))
	var seen []pressed
	for range presses {
		// Spread over the phases of the clocks that are involved.
		time.Sleep(100*time.Millisecond + rand.N(150*time.Millisecond))
		seen = append(seen, press())
	}
	offset, doubt := clockOffset(t, p)
	out.ClockDoubt = doubt
	var last counted
	eval(t, p, &last, "() => photon.seen()")
	shown := flips(t, log)[before:]
	if len(shown) != len(seen) || len(last.Timings) == 0 {
		t.Fatalf("the program flipped %d times for %d presses, %d timing events", len(shown), len(seen), len(last.Timings))
	}
	told := frameStages(last.Stages)
	legs := map[*Spread][]float64{}
	add := func(to *Spread, v float64) { legs[to] = append(legs[to], v) }
	for i, one := range seen {
		if one.Width != sc.Width {
			t.Fatalf("a frame is %d pixels wide, want %d", one.Width, sc.Width)
		}
		drew := float64(shown[i].At)/1e6 - offset
		add(&out.ClickToPhoton, one.Shown-one.Input)
		add(&out.ClickToNamed, one.Named-one.Input)
		add(&out.InputToProgram, drew-one.Input)
		if !one.Exact {
			continue // what is known is another frame's
		}
		captured := last.Timings[0].captured(one.RTP) - offset
		add(&out.ProgramToCapture, captured-drew)
		add(&out.CaptureToReceived, one.Received-captured)
		add(&out.ProgramToReceived, one.Received-drew)
		add(&out.ReceivedToShown, one.Shown-one.Received)
		if f, ok := told[one.RTP]; ok {
			add(&out.ProgramToSent, f.sent-offset-drew)
			add(&out.SentToShown, one.Shown-(f.sent-offset))
		}
	}
	for to, values := range legs {
		*to = spread(values)
	}
	out.PressedStages = stages(last.Timings)
	do(t, "leave", p.Context().Close())
	end(t, s, sess.ID)
	return out
}

// settling is how long a scene is left alone before it is looked at: the idle
// picture is refined, the browser's buffers and the bitrate find their level.
func settling(window time.Duration) time.Duration { return min(window/3, 2*time.Second) }

// monotonic is the machine's CLOCK_MONOTONIC in ms.
func monotonic() float64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // there is no Linux without it
	}
	return float64(ts.Nano()) / 1e6
}

// clockOffset is what to add to the page's performance.now() to get the machine's
// monotonic clock, which the browser counts by, too. Each look at the page's
// clock lies between two at ours; all of them together leave little doubt (ms).
func clockOffset(t *testing.T, p playwright.Page) (offset, doubt float64) {
	t.Helper()
	low, high := -1e18, 1e18
	for range 60 {
		var now float64
		before := monotonic()
		eval(t, p, &now, "() => performance.now()")
		low, high = max(low, before-now), min(high, monotonic()-now)
	}
	return (low + high) / 2, high - low
}

// flips are the playground's own moments of flipping.
func flips(t *testing.T, log string) (out []echoed) {
	t.Helper()
	for _, e := range echoes(t, log) {
		if e.Kind == "flip" {
			out = append(out, e)
		}
	}
	return out
}

// drawnRate is how many pictures a second the playground has drawn since then,
// by what it says once a second; 0 when nothing moved or it said nothing yet.
func drawnRate(t *testing.T, log string, since float64) float64 {
	t.Helper()
	var first, last echoed
	for _, e := range echoes(t, log) {
		if e.Kind == "second" && float64(e.At)/1e6 >= since-1000 {
			if first.At == 0 {
				first = e
			}
			last = e
		}
	}
	if last.At == first.At {
		return 0
	}
	return float64(last.Frame-first.Frame) / (float64(last.At-first.At) / 1e9)
}

// stages are the medians of the server's own words, and their sum.
func stages(from []timing) map[string]float64 {
	out := map[string]float64{}
	for name, of := range map[string]func(timing) float64{
		"wait": func(t timing) float64 { return t.Wait }, "capture": func(t timing) float64 { return t.Capture },
		"convert": func(t timing) float64 { return t.Convert }, "encode": func(t timing) float64 { return t.Encode },
		"wire": func(t timing) float64 { return t.Wire }, "send": func(t timing) float64 { return t.Send },
		"sum": func(t timing) float64 { return t.Wait + t.Capture + t.Convert + t.Encode + t.Wire + t.Send },
	} {
		var values []float64
		for _, one := range from {
			values = append(values, of(one))
		}
		out[name] = spread(values).P50
	}
	return out
}
