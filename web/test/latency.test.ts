import assert from "node:assert/strict";
import { test } from "node:test";
import { LatencyMeter, quantile, type FrameWay, type InputWay } from "../src/core/latency";
import { ServerClock } from "../src/core/server-clock";
import { readStages, type FrameStages, type Stages } from "../src/core/stages";

/** The message of signaling/stages_test.go. */
const MESSAGE =
  "feff02014042d91d14000000efbeadde204e0000900100004c0400003c0f0000c80000002c01000005000000b80b0000ffffffff" +
  "0000000000000000000000000000000007000000307500005a000000";

const bytes = (hex: string): ArrayBuffer => {
  const b = Buffer.from(hex, "hex");
  return b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength) as ArrayBuffer;
};

test("stages are read as the server writes them", () => {
  const s = readStages(bytes(MESSAGE));
  assert.deepEqual(s, {
    seq: 0xfffe,
    frames: [
      { rtp: 0xdeadbeef, captured: 86_400_103.456, wait: 0.4, convert: 1.1, encode: 3.9, wire: 0.2, send: 0.3 },
      { rtp: 5, captured: 86_400_120.456, wait: null, convert: 0, encode: 0, wire: 0, send: 0 },
    ],
    inputs: [{ number: 7, received: 86_400_093.456, inject: 0.09 }],
  });
  for (let n = 0; n < MESSAGE.length / 2; n++) assert.equal(readStages(bytes(MESSAGE.slice(0, 2 * n))), null, `${n} bytes`);
});

test("of all pings the shortest tells the clock", () => {
  const clock = new ServerClock();
  assert.equal(clock.toPage(1), null);
  assert.equal(clock.error, null);
  clock.add(1000, 1040, 5035); // 35 ms there, 5 ms back
  assert.equal(clock.toPage(5035), 1020);
  clock.add(1500, 1504, 5517); // 2 ms each: the clocks are 4015 apart
  clock.add(2000, 2100, 6020);
  assert.equal(clock.toPage(6015), 2000);
  assert.equal(clock.error, 2);
  // Clocks drift: what is older than the last twenty is forgotten.
  for (let i = 0; i < 20; i++) clock.add(3000 + i, 3010 + i, 7025 + i);
  assert.equal(clock.toPage(7025), 3005);
  clock.add(Number.NaN, 1, 1);
  clock.add(10, 5, 1);
  clock.add(1, 2, Number.POSITIVE_INFINITY);
  assert.equal(clock.toPage(7025), 3005);
  clock.reset();
  assert.equal(clock.toPage(1), null);
});

/** A meter whose page is 1000 ms behind the server's clock. */
function meter(): LatencyMeter {
  const clock = new ServerClock();
  clock.add(0, 2, 1001);
  return new LatencyMeter(clock);
}

/** A frame captured at so many ms of the server's clock, 1 ms after the change; sent 6 ms later. */
const frame = (captured: number, wait: number | null = 1): FrameStages => ({ rtp: captured * 90, captured, wait, convert: 1, encode: 3, wire: 1, send: 1 });
/** The same frame, shown 20 ms after it was captured. */
const shown = (captured: number) => ({ rtp: captured * 90, received: captured - 1000 + 8, presented: captured - 1000 + 12, shown: captured - 1000 + 20, decode: 1.5 });
const stages = (seq: number, ...frames: FrameStages[]): Stages => ({ seq, frames, inputs: [] });
const round = (legs: Record<string, number>): Record<string, number> => Object.fromEntries(Object.entries(legs).map(([k, v]) => [k, Math.round(v * 1000) / 1000]));
const adds = (way: FrameWay | InputWay): void => {
  const sum = Object.values(way.legs).reduce((all, ms) => all + ms, 0);
  assert.ok(Math.abs(sum - way.total) < 1e-6, `legs add up to ${sum}, the total is ${way.total}`);
};

test("a frame's halves come in any order, and its legs add up", () => {
  const m = meter();
  m.painted(shown(1100), 120);
  m.told(stages(0, frame(1100), frame(1116)), 200);
  m.painted(shown(1116), 210);
  const l = m.summary(220);
  assert.equal(l.ways.frames.length, 2);
  assert.deepEqual(round(l.ways.frames[0]!.legs), { wait: 1, convert: 1, encode: 3, wire: 1, send: 1, network: 2, buffer: 2.5, decode: 1.5, paint: 8 });
  assert.equal(l.frame?.total.p50, 21);
  l.ways.frames.forEach(adds);
  assert.equal(l.clockError, 1);
  assert.equal(l.input, null);
  assert.deepEqual(m.take().picture, [21, 21]);
  assert.deepEqual(m.take(), {});
});

test("a frame that shows no change is no way of anything", () => {
  const m = meter();
  m.told(stages(0, frame(1100, null)), 110);
  m.painted(shown(1100), 120);
  assert.equal(m.summary(130).frame, null);
});

test("a press is answered by the first change after its injection", () => {
  const m = meter();
  m.told(stages(0, frame(1000)), 50);
  m.painted(shown(1000), 50);
  m.pressed(7, 95);
  // Captured after the injection, but its change was older.
  m.told({ seq: 1, frames: [frame(1099, 3)], inputs: [{ number: 7, received: 1096.5, inject: 0.25 }] }, 130);
  m.painted(shown(1099), 130);
  assert.equal(m.summary(130).input, null);
  m.told(stages(2, frame(1102), frame(1118)), 150);
  m.painted(shown(1102), 150);
  const l = m.summary(150);
  assert.equal(l.ways.inputs.length, 1);
  const way = l.ways.inputs[0]!;
  assert.deepEqual(round(way.legs), { input: 1.5, inject: 0.25, program: 4.25, wait: 1, convert: 1, encode: 3, wire: 1, send: 1, network: 2, buffer: 2.5, decode: 1.5, paint: 8 });
  assert.equal(way.total, 27);
  adds(way);
  assert.equal(way.still, true);
  assert.deepEqual([l.still, l.input?.count, l.input?.total.p95], [true, 1, 27]);
  assert.deepEqual(m.take().photon, [27]);
});

test("where the compositor skipped the frame, a later one showed its change", () => {
  const m = meter();
  m.pressed(1, 95);
  m.told({ seq: 0, frames: [frame(1102), frame(1110)], inputs: [{ number: 1, received: 1096, inject: 0 }] }, 130);
  m.painted(shown(1110), 130);
  const way = m.summary(140).ways.inputs[0]!;
  assert.equal(way.total, 35);
  assert.equal(way.legs.program, 5);
  assert.equal(way.legs.wait, 9);
  adds(way);
});

test("a moving picture is told from a still one, and still ones count first", () => {
  const m = meter();
  m.pressed(1, 95);
  m.told({ seq: 0, frames: [frame(1084), frame(1102)], inputs: [{ number: 1, received: 1096, inject: 0 }] }, 130);
  m.painted(shown(1102), 130);
  let l = m.summary(140);
  assert.deepEqual([l.still, l.input?.count], [false, 1]);
  m.pressed(2, 295);
  m.told({ seq: 1, frames: [frame(1302)], inputs: [{ number: 2, received: 1296, inject: 0 }] }, 330);
  m.painted(shown(1302), 330);
  l = m.summary(340);
  assert.deepEqual([l.still, l.input?.count, l.ways.inputs.length], [true, 1, 2]);
});

test("what nothing answers in time is counted, and what cannot be known is dropped", () => {
  const m = meter();
  m.pressed(1, 95);
  m.told({ seq: 0, frames: [], inputs: [{ number: 1, received: 1096, inject: 0 }] }, 130);
  m.told(stages(1, frame(1350)), 360); // a quarter of a second later
  m.painted(shown(1350), 370);
  let l = m.summary(380);
  assert.deepEqual([l.input, l.unanswered], [null, 1]);
  // A message is lost: with it, perhaps, the answer.
  m.pressed(2, 400);
  m.told({ seq: 2, frames: [], inputs: [{ number: 2, received: 1401, inject: 0 }] }, 420);
  m.told(stages(4, frame(1440)), 450);
  m.painted(shown(1440), 460);
  l = m.summary(470);
  assert.deepEqual([l.input, l.unanswered], [null, 1]);
  // An input that did nothing is never told of.
  m.pressed(3, 500);
  m.told(stages(5, frame(1510)), 520);
  m.painted(shown(1510), 530);
  assert.deepEqual([m.summary(540).input, m.summary(4000).unanswered], [null, 1]);
});

test("nothing waits for ever, and nothing is kept for ever", () => {
  const m = meter();
  for (let i = 0; i < 5000; i++) m.painted(shown(1100 + i), 120 + i);
  for (let i = 0; i < 5000; i++) m.told(stages(i & 0xffff, frame(20_000 + i)), 20_000 + i);
  m.tidy(60_000);
  m.told(stages(5000, frame(61_000)), 60_020);
  m.painted(shown(61_000), 60_020);
  assert.equal(m.summary(60_030).ways.frames.length, 1);
  assert.equal(m.summary(60_030, 60).frame?.count, 1);
  m.tidy(125_000);
  assert.equal(m.summary(125_000, 60).frame, null);
});

test("a new connection gets nothing of the old one", () => {
  const m = meter();
  m.pressed(1, 95);
  m.painted(shown(1102), 130);
  m.reset();
  m.told({ seq: 9, frames: [frame(1102)], inputs: [{ number: 1, received: 1096, inject: 0 }] }, 130);
  assert.deepEqual([m.summary(140).frame, m.summary(140).input], [null, null]);
});

test("legs that the clock makes negative are reported as nothing", () => {
  const m = meter();
  m.told(stages(0, frame(1100)), 110);
  m.painted({ ...shown(1100), received: 105 }, 120); // before it was sent
  assert.deepEqual(m.take().network, [0]);
  assert.equal(m.summary(130).ways.frames[0]!.legs.network, -1);
});

test("quantiles are values that occurred", () => {
  assert.equal(quantile([], 0.5), 0);
  assert.equal(quantile([3], 0.95), 3);
  assert.equal(quantile([1, 2, 3, 4], 0.5), 3);
  assert.equal(quantile(Array.from({ length: 100 }, (_, i) => i), 0.95), 95);
});
