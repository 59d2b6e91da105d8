import assert from "node:assert/strict";
import { test } from "node:test";
import * as control from "../src/core/control";
import { InputSender } from "../src/core/input";
import { MotionSender } from "../src/core/motion";
import { Clock, FakeChannel, hex } from "./help";

function sender(): { input: InputSender; keys: FakeChannel; motion: FakeChannel; clock: Clock } {
  const clock = new Clock();
  const input = new InputSender(clock, () => clock.now);
  const keys = new FakeChannel();
  const motion = new FakeChannel();
  input.attach(keys, motion, 500);
  input.grant = { keyboard: true, pointer: true, pads: true };
  return { input, keys, motion, clock };
}

/** The steps that a server applies that has seen everything up to `seen`. */
function apply(message: Uint8Array, seen: number): { seen: number; steps: [number, number][] } {
  const view = new DataView(message.buffer, message.byteOffset);
  const last = view.getUint32(0, true);
  const all: [number, number][] = [];
  for (let at = 4; at < message.length; at += 16) all.push([view.getInt16(at + 12), view.getInt16(at + 14)]);
  const fresh = all.filter((_, i) => control.newer((last - (all.length - 1 - i)) >>> 0, seen));
  return { seen: control.newer(last, seen) ? last : seen, steps: fresh };
}

test("relative motion survives three lost messages in a row", () => {
  const channel = new FakeChannel();
  const motion = new MotionSender(new Clock());
  motion.attach(channel);
  for (let i = 1; i <= 12; i++) motion.by(i, -i);
  let seen = 0;
  let sum = 0;
  channel.sent.forEach((message, i) => {
    if (i % 4 !== 3) return; // three of four get lost
    const got = apply(message, seen);
    seen = got.seen;
    for (const [dx] of got.steps) sum += dx;
  });
  assert.equal(sum, (12 * 13) / 2);
});

test("fractions of a step are kept, not lost", () => {
  const channel = new FakeChannel();
  const motion = new MotionSender(new Clock());
  motion.attach(channel);
  for (let i = 0; i < 10; i++) motion.by(0.25, 0);
  let seen = 0;
  let sum = 0;
  for (const message of channel.sent) {
    const got = apply(message, seen);
    seen = got.seen;
    for (const [dx] of got.steps) sum += dx;
  }
  assert.equal(sum, 2);
});

test("a step beyond 16 bits is split", () => {
  const channel = new FakeChannel();
  const motion = new MotionSender(new Clock());
  motion.attach(channel);
  motion.by(70_000, 0);
  const message = channel.sent[0];
  assert.ok(message);
  assert.equal(apply(message, 0).steps.reduce((sum, [dx]) => sum + dx, 0), 70_000);
});

test("a congested channel gathers motion instead of queueing it", () => {
  const clock = new Clock();
  const channel = new FakeChannel();
  const motion = new MotionSender(clock);
  motion.attach(channel);
  channel.bufferedAmount = 100_000;
  for (let i = 0; i < 50; i++) motion.by(1, 0);
  assert.equal(channel.sent.length, 0);
  clock.advance(100);
  assert.equal(channel.sent.length, 0, "sent although still congested");
  channel.bufferedAmount = 0;
  clock.advance(10);
  assert.equal(channel.sent.length, 1);
  assert.deepEqual(apply(channel.sent[0] as Uint8Array, 0).steps, [[50, 0]]);
});

test("one message at most waits in the channel", () => {
  const clock = new Clock();
  const channel = new FakeChannel();
  const motion = new MotionSender(clock);
  motion.attach(channel);
  for (let i = 0; i < 100; i++) {
    const before = channel.sent.length;
    motion.to(i, i, 640, 360);
    if (channel.sent.length > before) channel.bufferedAmount += 26; // the network takes nothing
    clock.advance(20);
  }
  assert.equal(channel.sent.length, 1);
});

test("of absolute positions only the newest is sent after congestion", () => {
  const clock = new Clock();
  const channel = new FakeChannel();
  const motion = new MotionSender(clock);
  motion.attach(channel);
  channel.bufferedAmount = 100_000;
  motion.to(1, 1, 640, 360);
  motion.to(2, 2, 640, 360);
  channel.bufferedAmount = 0;
  clock.advance(10);
  assert.equal(hex((channel.sent[0] as Uint8Array).subarray(4)), hex(control.pointerTo(2, 2, 640, 360)));
});

test("the last message of a movement is repeated and then silent", () => {
  const clock = new Clock();
  const channel = new FakeChannel();
  const motion = new MotionSender(clock);
  motion.attach(channel);
  motion.by(5, 5);
  clock.advance(1000);
  assert.equal(channel.sent.length, 3);
  assert.equal(new Set(channel.sent.map(hex)).size, 1);
  assert.equal(clock.pending, 0);
});

test("a click carries its place on the reliable channel", () => {
  const { input, keys } = sender();
  input.pointerTo(100, 50, 1280, 720);
  keys.take();
  input.buttonDown(1);
  assert.deepEqual(keys.take(), [hex(control.pointerTo(100, 50, 1280, 720)), hex(control.button(true, 1))]);
});

test("a click in relative mode carries no place", () => {
  const { input, keys } = sender();
  input.pointerTo(100, 50, 1280, 720);
  input.pointerBy(1, 1);
  keys.take();
  input.buttonDown(1);
  assert.deepEqual(keys.take(), [hex(control.button(true, 1))]);
});

test("a key that is held is not sent again, and goes up once", () => {
  const { input, keys } = sender();
  input.keyDown(0x41);
  input.keyDown(0x41);
  input.keyUp(0x41);
  input.keyUp(0x41);
  assert.deepEqual(keys.take(), [hex(control.key(true, 0x41, 0)), hex(control.key(false, 0x41, 0))]);
});

test("keys carry the modifiers that are held", () => {
  const { input, keys } = sender();
  input.keyDown(0xa0);
  input.keyDown(0x41);
  input.keyUp(0xa0);
  input.keyUp(0x41);
  assert.deepEqual(keys.take(), [
    hex(control.key(true, 0xa0, control.MOD_SHIFT)),
    hex(control.key(true, 0x41, control.MOD_SHIFT)),
    hex(control.key(false, 0xa0, 0)),
    hex(control.key(false, 0x41, 0)),
  ]);
});

test("releasing everything lets go of each key and button, and says so", () => {
  const { input, keys } = sender();
  input.keyDown(0xa2);
  input.keyDown(0x43);
  input.buttonDown(3);
  keys.take();
  input.releaseAll();
  assert.deepEqual(keys.take(), [
    hex(control.key(false, 0x43, control.MOD_CTRL)),
    hex(control.key(false, 0xa2, 0)),
    hex(control.button(false, 3)),
    hex(control.releaseAll()),
  ]);
  assert.deepEqual([input.heldKeys, input.heldButtons], [[], []]);
});

test("what is not granted is not sent, and a grant that goes releases", () => {
  const { input, keys, motion } = sender();
  input.keyDown(0x41);
  input.buttonDown(1);
  keys.take();
  input.grant = { keyboard: false, pointer: false, pads: false };
  assert.deepEqual(keys.take(), [hex(control.key(false, 0x41, 0)), hex(control.button(false, 1))]);
  input.keyDown(0x42);
  input.text("x");
  input.buttonDown(1);
  input.scroll(120, 120);
  input.pointerTo(1, 1, 640, 360);
  input.pointerBy(1, 1);
  assert.deepEqual([keys.take(), motion.take()], [[], []]);
});

test("scrolling keeps fractions of 1/120 notch", () => {
  const { input, keys } = sender();
  for (let i = 0; i < 4; i++) input.scroll(0.5, -30.25);
  assert.deepEqual(keys.take(), [
    hex(control.scroll(-30)),
    hex(control.scroll(-30)),
    hex(control.scrollHorizontal(1)),
    hex(control.scroll(-30)),
    hex(control.scroll(-31)),
    hex(control.scrollHorizontal(1)),
  ]);
});

test("heartbeats go on, count what is unanswered and end with the channel", () => {
  const { input, keys, clock } = sender();
  clock.advance(1600);
  const pings = keys.sent.filter((p) => hex(p).startsWith("0002"));
  assert.equal(pings.length, 4);
  assert.equal(input.missed, 4);
  const rtt = input.pong({ seq: 4, sent: 1500, server: 0 });
  assert.equal(rtt, 100);
  assert.equal(input.missed, 0);
  input.pong({ seq: 2, sent: 500, server: 0 });
  assert.equal(input.missed, 0, "an old answer must not count back");
  input.detach();
  assert.equal(clock.pending, 0);
});

test("nothing is held over from one connection to the next", () => {
  const { input, keys } = sender();
  input.keyDown(0x41);
  const next = new FakeChannel();
  keys.take();
  input.attach(next, new FakeChannel(), 500);
  assert.deepEqual(input.heldKeys, []);
  input.keyDown(0x41);
  assert.deepEqual(next.take(), [hex(control.key(true, 0x41, 0))]);
});

test("a closed channel takes nothing and holds nothing", () => {
  const { input, keys } = sender();
  keys.readyState = "closed";
  input.keyDown(0x41);
  assert.deepEqual([keys.sent.length - 1, input.heldKeys], [0, []]);
});

test("what goes out on the reliable channel goes out again past it, in order and numbered", () => {
  const { input, keys, motion, clock } = sender();
  input.keyDown(0x41);
  assert.equal(motion.sent.length, 0, "the first way is the channel's");
  clock.advance(6);
  input.keyUp(0x41);
  clock.advance(6);
  clock.advance(19);
  clock.advance(1000);
  const sent = keys.take();
  const copies = motion.take();
  assert.equal(sent.length, 2);
  const message = (last: number, packets: string[]): string => {
    const size = packets.join("").length / 2;
    const u16 = (n: number): string => (n & 0xff).toString(16).padStart(2, "0") + (n >> 8).toString(16).padStart(2, "0");
    return u16(last) + "0000" + "025f" + u16(size) + packets.join("");
  };
  assert.deepEqual(copies, [message(1, sent.slice(0, 1)), message(2, sent), message(2, sent)]);
});

test("no copies follow a channel that is gone", () => {
  const { input, motion, clock } = sender();
  input.keyDown(0x41);
  input.detach();
  clock.advance(1000);
  assert.equal(motion.sent.length, 0);
});

test("presses are told with the number of their packet and the time; releases and moves are not", () => {
  const { input, clock } = sender();
  const told: [number, number][] = [];
  input.onPress = (number, at) => told.push([number, at]);
  clock.advance(100);
  input.keyDown(0x41);
  input.keyDown(0x41); // held already: nothing goes out
  clock.advance(50);
  input.keyUp(0x41);
  input.pointerTo(10, 10, 100, 100);
  input.buttonDown(1); // its position goes first
  input.buttonUp(1);
  input.scroll(0, 120);
  input.text("ä");
  assert.deepEqual(told, [
    [1, 100],
    [4, 150],
    [7, 150],
    [8, 150],
  ]);
});
