import assert from "node:assert/strict";
import { test } from "node:test";
import * as control from "../src/core/control";
import { hex } from "./help";
import vectors from "./vectors.json";

/** Makes the packet that a vector's description asks for. */
function make(parsed: string): Uint8Array | undefined {
  const [name, ...rest] = parsed.slice(1, -1).split(", ");
  const n = rest.map(Number);
  const at = (i: number): number => n[i] ?? NaN;
  switch (name?.slice(1, -1)) {
    case undefined:
    case "":
      return control.requestIDR();
    case "mouse_rel":
      return control.pointerBy(at(0), at(1));
    case "mouse_abs":
      return control.pointerTo(at(0), at(1), at(3) + 1, at(4) + 1);
    case "mouse_down":
      return control.button(true, at(0));
    case "mouse_up":
      return control.button(false, at(0));
    case "scroll":
      return control.scroll(at(0));
    case "hscroll":
      return control.scrollHorizontal(at(0));
    case "key_down":
      return control.key(true, at(1) & 0xff, at(2));
    case "key_up":
      return control.key(false, at(1) & 0xff, at(2));
    case "text":
      return control.text(rest.join(", ").slice(1, -1))[0];
  }
  return undefined;
}

test("packets equal those of a real Moonlight client, byte for byte", () => {
  assert.ok(vectors.messages.length >= 12, "vectors are missing");
  for (const { plaintext, parsed } of vectors.messages) {
    const made = make(parsed || "('')");
    assert.ok(made, `no packet is made for ${parsed}`);
    assert.equal(hex(made), plaintext, parsed);
  }
});

test("absolute positions are clamped to the picture", () => {
  assert.equal(hex(control.pointerTo(-5, 9999, 1280, 720)), hex(control.pointerTo(0, 719, 1280, 720)));
});

test("relative steps beyond 16 bits are clamped, not wrapped", () => {
  const view = new DataView(control.pointerBy(40000, -40000).buffer);
  assert.equal(view.getInt16(12), 0x7fff);
  assert.equal(view.getInt16(14), -0x8000);
});

test("text is split between code points at 32 bytes", () => {
  const value = "ä€".repeat(10) + "😀x";
  const packets = control.text(value);
  const parts = packets.map((p) => p.subarray(12));
  for (const part of parts) {
    assert.ok(part.length >= 1 && part.length <= control.TEXT_LIMIT, `a part of ${part.length} bytes`);
    new TextDecoder("utf-8", { fatal: true }).decode(part); // throws when a rune was cut
  }
  assert.equal(parts.map((p) => new TextDecoder().decode(p)).join(""), value);
  for (const packet of packets) {
    const view = new DataView(packet.buffer);
    assert.equal(view.getUint16(2, true), packet.length - 4);
    assert.equal(view.getUint32(4, false), packet.length - 8);
  }
  assert.equal(control.text("").length, 0);
});

test("half a surrogate becomes valid UTF-8", () => {
  const [packet] = control.text("\ud83d");
  assert.equal(new TextDecoder("utf-8", { fatal: true }).decode(packet?.subarray(12)), "\ufffd");
});

test("a ping carries seq and clock, and its pong is read back", () => {
  const ping = control.ping(7, 1234.5);
  assert.equal(hex(ping.subarray(0, 8)), "00020c0007000000");
  const pong = new Uint8Array(24);
  pong.set(ping);
  const view = new DataView(pong.buffer);
  view.setUint16(2, 20, true);
  view.setBigUint64(16, 5_000_000n, true);
  assert.deepEqual(control.readPong(pong.buffer), { seq: 7, sent: 1234.5, server: 5 });
  assert.equal(control.readPong(pong.buffer.slice(0, 23)), null);
  view.setUint16(0, 0x0206, true);
  assert.equal(control.readPong(pong.buffer), null);
});

test("a motion message is the number of its last packet and the packets", () => {
  const message = control.motion(0x01020304, [control.pointerBy(1, 2), control.pointerBy(3, 4)]);
  assert.equal(hex(message.subarray(0, 4)), "04030201");
  assert.equal(hex(message.subarray(4)), hex(control.pointerBy(1, 2)) + hex(control.pointerBy(3, 4)));
});

test("cursor positions are read, other sizes are not", () => {
  const bytes = new Uint8Array([1, 0, 0, 0, 0x40, 0x01, 0x2c, 0x01]);
  assert.deepEqual(control.readCursorPosition(bytes.buffer), { seq: 1, x: 320, y: 300 });
  assert.equal(control.readCursorPosition(bytes.buffer.slice(0, 7)), null);
});

test("sequence numbers are compared modulo 2^32", () => {
  assert.equal(control.newer(1, 0), true);
  assert.equal(control.newer(0, 0), false);
  assert.equal(control.newer(0, 1), false);
  assert.equal(control.newer(2, 0xfffffffe), true);
  assert.equal(control.newer(0xfffffffe, 2), false);
});
