//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/playwright-community/playwright-go"
)

// eyes is what the tests put into the page to see and hear as a person would:
// it reads the playground's strip (two rows of 36 black or white cells of 16
// pixels, see the playground's documentation) off each painted frame of the
// video, and listens to the sound through a Web Audio analyser. It knows nothing
// of the page's own scripts.
const eyes = `
(() => {
  const video = () => document.querySelector('[data-testid=video]') || document.querySelector('video');
  const W = 36 * 16, H = 32;
  const canvas = new OffscreenCanvas(W, H);
  const g = canvas.getContext('2d', { willReadFrequently: true });
  const row = (d, r) => {
    const bits = [];
    for (let c = 0; c < 36; c++) {
      let sum = 0;
      for (let dy = -2; dy < 2; dy++) for (let dx = -2; dx < 2; dx++) {
        const i = ((r * 16 + 8 + dy) * W + c * 16 + 8 + dx) * 4;
        sum += d[i] + d[i + 1] + d[i + 2];
      }
      bits.push(sum / 48 > 127 ? 1 : 0);
    }
    const number = bits.slice(2, 34).reduce((n, b) => n * 2 + b, 0);
    const ones = bits.slice(2, 35).reduce((n, b) => n + b, 0);
    const mark = r === 0 ? [1, 0, 1] : [0, 1, 0];
    const ok = bits[0] === mark[0] && bits[1] === mark[1] && bits[35] === mark[2] && ones % 2 === 0;
    return { number, ok };
  };
  const read = () => {
    const v = video();
    if (!v || !v.videoWidth) return null;
    g.drawImage(v, 0, 0, W, H, 0, 0, W, H);
    const d = g.getImageData(0, 0, W, H).data;
    const a = row(d, 0), b = row(d, 1);
    if (!a.ok || !b.ok) return null;
    return { frame: a.number, events: Math.floor(b.number / 2 ** 24), kind: Math.floor(b.number / 2 ** 20) % 16, value: b.number % 2 ** 20 };
  };
  const seen = { painted: 0, distinct: 0, last: -1, backwards: 0, unreadable: 0, events: [], gaps: [], at: 0 };
  let attached = null;
  const watch = () => {
    const v = video();
    if (v && v !== attached) { attached = v; v.requestVideoFrameCallback(tick); }
    setTimeout(watch, 50);
  };
  const tick = (now) => {
    attached.requestVideoFrameCallback(tick);
    seen.painted++;
    if (seen.at) seen.gaps.push(now - seen.at);
    seen.at = now;
    const s = read();
    if (!s) { seen.unreadable++; return; }
    if (s.frame !== seen.last) { seen.distinct++; if (s.frame < seen.last) seen.backwards++; seen.last = s.frame; }
    const n = seen.events.length, e = seen.events[n - 1];
    if (!e || e.events !== s.events || e.kind !== s.kind || e.value !== s.value) seen.events.push({ events: s.events, kind: s.kind, value: s.value });
  };
  watch();
  let ears = null;
  const listen = async () => {
    const tracks = [...document.querySelectorAll('video, audio')].flatMap(e => e.srcObject ? e.srcObject.getAudioTracks() : []);
    if (!tracks.length) return null;
    if (!ears) {
      const ctx = new AudioContext();
      const source = ctx.createMediaStreamSource(new MediaStream(tracks));
      const analyser = ctx.createAnalyser();
      analyser.fftSize = 4096;
      analyser.smoothingTimeConstant = 0;
      source.connect(analyser);
      ears = { ctx, analyser };
    }
    await ears.ctx.resume();
    const spectrum = new Float32Array(ears.analyser.frequencyBinCount);
    ears.analyser.getFloatFrequencyData(spectrum);
    let peak = 0;
    for (let i = 1; i < spectrum.length; i++) if (spectrum[i] > spectrum[peak]) peak = i;
    return Number.isFinite(spectrum[peak]) ? { hz: peak * ears.ctx.sampleRate / ears.analyser.fftSize, db: spectrum[peak] } : null;
  };
  globalThis.eyes = { read, seen: () => seen, reset: () => { seen.painted = seen.distinct = seen.backwards = seen.unreadable = 0; seen.events = []; seen.gaps = []; seen.at = 0; }, listen };
})();
`

// strip is what the playground's strip says.
type strip struct {
	Frame  int
	Events int
	Kind   int // 1 key down, 2 key up, 3 button down, 4 button up, 5 wheel, 6 character
	Value  int
}

// seen is what was painted since the last reset.
type seen struct {
	Painted    int
	Distinct   int // pictures with a frame counter different from the one before
	Backwards  int
	Unreadable int
	Last       int
	Events     []strip
	Gaps       []float64 // ms between painted frames
}

// eval runs an expression in the page and decodes its JSON value into out.
func eval(t *testing.T, p playwright.Page, out any, expression string, arg ...any) {
	t.Helper()
	v, err := p.Evaluate(expression, arg...)
	if err != nil {
		t.Fatalf("in the page: %v", err)
	}
	if out == nil {
		return
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatalf("value of %s: %v", expression, err)
	}
}

// look is what the page has painted since the last reset.
func look(t *testing.T, p playwright.Page) (s seen) {
	t.Helper()
	eval(t, p, &s, "() => eyes.seen()")
	return s
}

// awaitEvent waits until an event of the kind and value was painted since the
// last reset.
func awaitEvent(t *testing.T, p playwright.Page, kind, value int) {
	t.Helper()
	ok := func() (ok bool) {
		eval(t, p, &ok, "([kind, value]) => eyes.seen().events.some(e => e.kind === kind && e.value === value)", []int{kind, value})
		return ok
	}
	if !became(5*time.Second, ok) {
		t.Fatalf("event kind %d value %d was not seen on screen; seen: %+v", kind, value, look(t, p).Events)
	}
}

func reset(t *testing.T, p playwright.Page) { t.Helper(); eval(t, p, nil, "() => eyes.reset()") }

// awaitPicture waits until n readable frames with growing counters were painted.
func awaitPicture(t *testing.T, p playwright.Page, n int, bound time.Duration) {
	t.Helper()
	ok := func() (ok bool) {
		eval(t, p, &ok, "n => !!globalThis.eyes && eyes.seen().distinct >= n", n)
		return ok
	}
	if !became(bound, ok) {
		var text string
		eval(t, p, &text, "() => document.body.innerText.slice(0, 2000)")
		t.Fatalf("no moving picture within %v\nthe page says: %s", bound, text)
	}
}

// id locates by data-testid.
func id(p playwright.Page, name string) playwright.Locator {
	return p.Locator(fmt.Sprintf("[data-testid=%q]", name))
}

// do fails the test if a step did not work.
func do(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
