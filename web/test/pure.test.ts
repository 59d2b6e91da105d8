import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/core/backoff";
import { decodable, preferences, withRoundTrips, withStereo } from "../src/core/codecs";
import { Cursor } from "../src/core/cursor";
import { displaySize, fit, pixel } from "../src/core/geometry";
import { detectLayout, layoutForLanguages, layouts } from "../src/core/layout";
import { TouchMouse, type TouchSink } from "../src/core/touch";
import { SENTINEL, typed } from "../src/core/typing";
import { notches } from "../src/core/wheel";
import { Clock } from "./help";

test("back-off grows to its cap, never shrinks, and ends", () => {
  for (let seed = 0; seed < 200; seed++) {
    let x = seed;
    const random = (): number => (x = (x * 16807 + 11) % 2147483647) / 2147483647;
    const backoff = new Backoff({ first: 100, cap: 3000, attempts: 10, random });
    let before = 0;
    for (let i = 0; i < 10; i++) {
      const ms = backoff.next();
      assert.ok(ms !== null && ms >= before && ms <= 3000, `attempt ${i}: ${ms} after ${before}`);
      const plain = Math.min(3000, 100 * 2 ** i);
      assert.ok(ms >= plain * 0.75, `attempt ${i}: ${ms}`);
      before = ms;
    }
    assert.equal(backoff.next(), null);
    backoff.succeeded();
    assert.ok((backoff.next() ?? Infinity) <= 125);
  }
});

test("delays differ: many clients must not come back together", () => {
  const delays = new Set(Array.from({ length: 20 }, () => new Backoff().next()));
  assert.ok(delays.size > 15);
});

test("a picture keeps its aspect in any box", () => {
  assert.deepEqual(fit({ left: 0, top: 0, width: 1000, height: 1000 }, 1280, 720), { left: 0, top: 218.75, width: 1000, height: 562.5 });
  assert.deepEqual(fit({ left: 10, top: 0, width: 2000, height: 720 }, 1280, 720), { left: 370, top: 0, width: 1280, height: 720 });
});

test("points map to pixels, and to the edge outside", () => {
  const box = { left: 100, top: 50, width: 640, height: 360 };
  assert.deepEqual(pixel(box, 1280, 720, 100, 50), { x: 0, y: 0 });
  assert.deepEqual(pixel(box, 1280, 720, 739.9, 409.9), { x: 1279, y: 719 });
  assert.deepEqual(pixel(box, 1280, 720, 420, 230), { x: 640, y: 360 });
  assert.deepEqual(pixel(box, 1280, 720, 0, 9999), { x: 0, y: 719 });
});

test("display sizes are even and inside of the limits, whatever the window", () => {
  for (const [w, h, r] of [[1280, 720, 1], [390, 844, 3], [5120, 1440, 2], [100, 100, 1], [333, 777, 1.5], [1, 4000, 1]] as const) {
    const s = displaySize(w, h, r);
    assert.ok(s.width % 2 === 0 && s.height % 2 === 0, JSON.stringify(s));
    assert.ok(s.width >= 640 && s.width <= 3840 && s.height >= 360 && s.height <= 2160, JSON.stringify(s));
  }
  assert.deepEqual(displaySize(1280, 720, 1), { width: 1280, height: 720 });
  assert.deepEqual(displaySize(2560, 1440, 2), { width: 3840, height: 2160 });
});

test("the wheel: notches, pixels, lines, both axes, Shift", () => {
  const none = { deltaX: 0, deltaY: 0, deltaMode: 0, shiftKey: false };
  assert.deepEqual(notches({ ...none, deltaY: 100, wheelDeltaY: -120 }), { horizontal: 0, vertical: -120 });
  assert.deepEqual(notches({ ...none, deltaY: 53, wheelDeltaY: -120 }), { horizontal: 0, vertical: -120 });
  assert.deepEqual(notches({ ...none, deltaY: -3, deltaMode: 1 }), { horizontal: 0, vertical: 120 });
  assert.deepEqual(notches({ ...none, deltaY: 4, wheelDeltaY: -12 }), { horizontal: 0, vertical: -4.8 });
  assert.deepEqual(notches({ ...none, deltaX: 100, wheelDeltaX: -120 }), { horizontal: 120, vertical: 0 });
  assert.deepEqual(notches({ ...none, deltaX: 100, wheelDeltaX: -120, shiftKey: true }), { horizontal: 0, vertical: -120 });
});

test("codecs: what can be decoded, in order, or the one that was asked for", () => {
  const can = ["video/VP8", "video/rtx", "video/H264", "video/AV1", "video/H264", "video/flexfec-03"];
  assert.deepEqual(decodable(can, "auto"), ["h264", "av1", "vp8"]);
  assert.deepEqual(decodable(can, "av1"), ["av1"]);
  assert.deepEqual(decodable(can, "h265"), []);
  const names = preferences(can.map((mimeType) => ({ mimeType })), ["h264"]).map((c) => c.mimeType);
  assert.deepEqual(names, ["video/H264", "video/H264", "video/rtx", "video/flexfec-03"]);
  assert.deepEqual(preferences([{ mimeType: "video/rtx" }], ["h264"]), []);
  const several = preferences(can.map((mimeType) => ({ mimeType })), ["av1", "h264"]).map((c) => c.mimeType);
  assert.deepEqual(several, ["video/AV1", "video/H264", "video/H264", "video/rtx", "video/flexfec-03"]);
});

test("the offer asks for stereo, once, and for Opus only", () => {
  const sdp = "m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\n";
  const once = withStereo(sdp);
  assert.match(once, /^a=fmtp:111 minptime=10;useinbandfec=1;stereo=1\r$/m);
  assert.equal(withStereo(once), once);
  assert.match(withStereo(sdp.replace(/a=fmtp.*\r\n/, "")), /a=rtpmap:111 opus\/48000\/2\r\na=fmtp:111 stereo=1;useinbandfec=1\r\n/);
  assert.equal(withStereo("v=0\r\n"), "v=0\r\n");
});

test("layouts are recognised by their own signs", () => {
  for (const layout of layouts) {
    const found = detectLayout(new Map(Object.entries(layout.signs)), layout.languages);
    const same = layouts.find((l) => l.id === found);
    assert.deepEqual(same?.signs, layout.signs, `${layout.id} was taken for ${found}`);
    if (layout.languages.length > 0) assert.equal(found, layout.id);
  }
});

test("without signs the languages decide", () => {
  assert.equal(detectLayout(new Map(), ["de-CH", "en"]), "ch");
  assert.equal(detectLayout(new Map(), ["de-LI"]), "de");
  assert.equal(layoutForLanguages(["xx"]), "us");
  const us = layouts[0];
  assert.ok(us);
  assert.equal(detectLayout(new Map(Object.entries(us.signs)), ["de"]), "us", "a US board of a German speaker");
});

test("what a field says becomes text, Enter and Backspace", () => {
  const run = (value: string): string[] => {
    const out: string[] = [];
    typed(value, { text: (s) => out.push(s), keyTap: (vk) => out.push(`#${vk.toString(16)}`) });
    return out;
  };
  assert.deepEqual(run(`${SENTINEL}ä€`), ["ä€"]);
  assert.deepEqual(run("ä€"), ["ä€"]);
  assert.deepEqual(run(""), ["#8"]);
  assert.deepEqual(run(`${SENTINEL}\n`), ["#d"]);
  assert.deepEqual(run("a\r\nb"), ["a", "#d", "b"]);
});

class Fingers implements TouchSink {
  readonly log: string[] = [];
  readonly clock = new Clock();
  readonly touch = new TouchMouse(this, this.clock);
  to = (x: number, y: number): void => void this.log.push(`to ${x},${y}`);
  by = (x: number, y: number): void => void this.log.push(`by ${x},${y}`);
  button = (n: number, down: boolean): void => void this.log.push(`${down ? "+" : "-"}${n}`);
  scroll = (x: number, y: number): void => void this.log.push(`scroll ${x},${y}`);
  held = (): void => void this.log.push("held");
}

test("a tap is a left click where it was", () => {
  const f = new Fingers();
  f.touch.start(1, 10, 20, 0);
  f.touch.move(1, 12, 21);
  f.touch.end(1, 100);
  f.clock.advance(1000);
  assert.deepEqual(f.log, ["to 10,20", "+1", "-1"]);
});

test("a finger that moves moves the pointer and clicks nothing", () => {
  const f = new Fingers();
  f.touch.start(1, 0, 0, 0);
  f.touch.move(1, 50, 0);
  f.touch.move(1, 60, 5);
  f.touch.end(1, 100);
  f.clock.advance(1000);
  assert.deepEqual(f.log, ["to 0,0", "to 50,0", "to 60,5"]);
});

test("a long press drags with the left button", () => {
  const f = new Fingers();
  f.touch.start(1, 0, 0, 0);
  f.clock.advance(450);
  f.touch.move(1, 30, 0);
  f.touch.end(1, 900);
  assert.deepEqual(f.log, ["to 0,0", "+1", "held", "to 30,0", "-1"]);
});

test("two fingers: a tap is a right click, moving scrolls", () => {
  const tap = new Fingers();
  tap.touch.start(1, 0, 0, 0);
  tap.touch.start(2, 50, 0, 20);
  tap.touch.end(1, 100);
  tap.touch.end(2, 110);
  tap.clock.advance(1000);
  assert.deepEqual(tap.log, ["to 0,0", "+3", "-3"]);
  const drag = new Fingers();
  drag.touch.start(1, 0, 0, 0);
  drag.touch.start(2, 50, 0, 20);
  drag.touch.move(1, 0, 40);
  drag.touch.move(2, 50, 40);
  drag.touch.end(1, 100);
  drag.touch.end(2, 110);
  drag.clock.advance(1000);
  assert.deepEqual(drag.log, ["to 0,0", "scroll 0,20", "scroll 0,20"]);
});

test("a drag that the browser takes away lets go of the button", () => {
  const f = new Fingers();
  f.touch.start(1, 0, 0, 0);
  f.clock.advance(450);
  f.touch.cancel();
  assert.deepEqual(f.log.slice(-1), ["-1"]);
});

test("track pad mode moves by distances", () => {
  const f = new Fingers();
  f.touch.mode = "trackpad";
  f.touch.start(1, 100, 100, 0);
  f.touch.move(1, 120, 100);
  f.touch.move(1, 121, 102);
  assert.deepEqual(f.log, ["by 20,0", "by 1,2"]);
});

test("the cursor: worn by the own pointer, drawn where there is none, nothing when hidden", () => {
  const cursor = new Cursor();
  const image = { serial: 1, width: 24, height: 24, hot_x: 4, hot_y: 3, png: "AAAA" };
  assert.equal(cursor.view.css, "default");
  cursor.show(image);
  assert.equal(cursor.view.css, "url(data:image/png;base64,AAAA) 4 3, default");
  assert.equal(cursor.view.drawn, false);
  cursor.own = false;
  assert.deepEqual([cursor.view.css, cursor.view.drawn], ["none", false], "not drawn before its place is known");
  cursor.place(7, 8);
  assert.deepEqual([cursor.view.drawn, cursor.view.x, cursor.view.y], [true, 7, 8]);
  cursor.show({ ...image, serial: 2, width: 0, height: 0, png: "" });
  assert.deepEqual([cursor.view.css, cursor.view.drawn, cursor.hidden], ["none", false, true]);
  cursor.own = true;
  cursor.show({ ...image, serial: 3, width: 200, height: 200 });
  assert.deepEqual([cursor.view.css, cursor.view.drawn], ["none", true], "too large for CSS");
});

test("the offer asks for round trips once for each format that can be asked for again", () => {
  const sdp = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\n";
  assert.equal(withRoundTrips(sdp), sdp.replace("a=rtpmap:97", "a=rtcp-fb:96 rrtr\r\na=rtpmap:97"));
});
