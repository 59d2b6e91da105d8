import assert from "node:assert/strict";
import { test } from "node:test";
import { InputSender } from "../src/core/input";
import { Keyboard, platformOf, type KeyEvent, type Platform } from "../src/core/keyboard";
import { positions, virtualKey } from "../src/core/keymap";
import { Clock, FakeChannel } from "./help";

class Player {
  readonly clock = new Clock();
  readonly channel = new FakeChannel();
  readonly input = new InputSender(this.clock, () => this.clock.now);
  readonly keyboard: Keyboard;

  constructor(platform: Platform) {
    this.input.attach(this.channel, new FakeChannel(), 1e9);
    this.input.grant = { keyboard: true, pointer: true, pads: false };
    this.keyboard = new Keyboard(this.input, platform, this.clock);
  }

  down(code: string, more: Partial<KeyEvent> & { altGraph?: boolean } = {}): boolean {
    return this.keyboard.down(this.#event(code, more));
  }

  up(code: string, more: Partial<KeyEvent> & { altGraph?: boolean } = {}): boolean {
    return this.keyboard.up(this.#event(code, more));
  }

  /** Keys that went out: "+41" down, "-41" up, "t…" text. */
  out(): string[] {
    return this.channel.take().map((packet) => {
      const bytes = Buffer.from(packet, "hex");
      const kind = bytes.readUInt32LE(8);
      if (kind === 0x17) return `t${bytes.subarray(12).toString("utf8")}`;
      return (kind === 3 ? "+" : "-") + (bytes.readUInt16LE(13) & 0xff).toString(16);
    });
  }

  #event(code: string, more: Partial<KeyEvent> & { altGraph?: boolean }): KeyEvent {
    return {
      code,
      key: "",
      repeat: false,
      isComposing: false,
      timeStamp: this.clock.now,
      shiftKey: /^Shift/.test(code),
      ctrlKey: /^Control/.test(code),
      altKey: /^Alt/.test(code),
      metaKey: /^Meta/.test(code),
      getModifierState: (name) => name === "AltGraph" && more.altGraph === true,
      ...more,
    };
  }
}

test("every position has its own code in 1…254, but for the two Kanas", () => {
  const seen = new Map<number, string>();
  for (const code of positions) {
    const vk = virtualKey(code);
    assert.ok(vk >= 1 && vk <= 254, `${code} is ${vk}`);
    const before = seen.get(vk);
    if (before !== undefined) assert.match(`${before} ${code}`, /^KanaMode Lang4$/);
    seen.set(vk, code);
  }
});

test("positions have the codes of a US board", () => {
  for (const [code, vk] of [["KeyA", 0x41], ["KeyZ", 0x5a], ["Digit0", 0x30], ["Numpad9", 0x69], ["F1", 0x70], ["F24", 0x87],
    ["IntlBackslash", 0xe2], ["AltRight", 0xa5], ["Semicolon", 0xba], ["Quote", 0xde], ["MediaPlayPause", 0xb3], ["OSLeft", 0x5b]] as const) {
    assert.equal(virtualKey(code), vk, code);
  }
  assert.equal(virtualKey("Fn"), 0);
  assert.equal(virtualKey("", "Backspace"), 0x08);
  assert.equal(virtualKey("KeyQ", "a"), 0x51, "the meaning must not matter when there is a position");
});

test("platforms are recognised", () => {
  assert.deepEqual(["Win32", "Windows", "MacIntel", "iPhone", "Linux x86_64"].map(platformOf), ["windows", "windows", "mac", "mac", "other"]);
});

test("repeats and composition send nothing", () => {
  const p = new Player("other");
  p.down("KeyA");
  assert.equal(p.down("KeyA", { repeat: true }), true, "the browser must not act on a repeat");
  assert.equal(p.down("KeyB", { isComposing: true }), false);
  assert.deepEqual(p.out(), ["+41"]);
});

test("AltGr on Windows: the made-up Ctrl is not sent", () => {
  const p = new Player("windows");
  p.down("ControlLeft");
  p.down("AltRight", { ctrlKey: true, altGraph: true });
  p.down("KeyQ", { ctrlKey: true, altKey: true, altGraph: true });
  p.up("KeyQ", { ctrlKey: true, altKey: true, altGraph: true });
  p.up("ControlLeft");
  p.up("AltRight");
  p.clock.advance(100);
  assert.deepEqual(p.out(), ["+a5", "+51", "-51", "-a5"]);
});

test("Ctrl on Windows comes after a moment, or at once when another key follows", () => {
  const p = new Player("windows");
  p.down("ControlLeft");
  assert.deepEqual(p.out(), []);
  p.clock.advance(20);
  assert.deepEqual(p.out(), ["+a2"]);
  p.up("ControlLeft");
  p.out();
  p.down("ControlLeft");
  p.down("KeyC", { ctrlKey: true });
  assert.deepEqual(p.out(), ["+a2", "+43"]);
});

test("Ctrl released within the moment is still a press", () => {
  const p = new Player("windows");
  p.down("ControlLeft");
  p.up("ControlLeft");
  assert.deepEqual(p.out(), ["+a2", "-a2"]);
});

test("a real Ctrl long before AltGr stays down", () => {
  const p = new Player("windows");
  p.down("ControlLeft");
  p.clock.advance(200);
  p.down("AltRight", { ctrlKey: true });
  assert.deepEqual(p.out(), ["+a2", "+a5"]);
  p.up("AltRight", { ctrlKey: true });
  p.up("ControlLeft");
  assert.deepEqual(p.out(), ["-a5", "-a2"]);
});

test("without an AltGr on the layout Ctrl never waits", () => {
  const p = new Player("windows");
  p.keyboard.altGr = false;
  p.down("ControlLeft");
  assert.deepEqual(p.out(), ["+a2"]);
});

test("AltGr elsewhere is one key", () => {
  const p = new Player("other");
  p.down("AltRight", { altKey: false, altGraph: true });
  p.down("KeyE", { altGraph: true });
  p.up("KeyE", { altGraph: true });
  p.up("AltRight");
  assert.deepEqual(p.out(), ["+a5", "+45", "-45", "-a5"]);
});

test("macOS: keys whose release Cmd swallowed go up with it", () => {
  const p = new Player("mac");
  p.down("MetaLeft");
  p.down("KeyC", { metaKey: true });
  p.up("MetaLeft");
  assert.deepEqual(p.out(), ["+5b", "+43", "-43", "-5b"]);
});

test("macOS: Caps Lock is a press whenever it changes", () => {
  const p = new Player("mac");
  p.down("CapsLock");
  p.up("CapsLock");
  assert.deepEqual(p.out(), ["+14", "-14", "+14", "-14"]);
});

test("Windows: one release stands for both Shift keys", () => {
  const p = new Player("windows");
  p.down("ShiftLeft");
  p.down("ShiftRight");
  p.up("ShiftLeft", { shiftKey: false });
  assert.deepEqual(p.out(), ["+a0", "+a1", "-a0", "-a1"]);
});

test("Windows: keys that switch an input method are pressed and released at once", () => {
  const p = new Player("windows");
  p.down("KanaMode");
  p.down("Lang1");
  assert.deepEqual(p.out(), ["+f2", "-f2", "+15", "-15"]);
});

test("Print Screen is a press although Windows tells only its release", () => {
  const p = new Player("windows");
  p.up("PrintScreen");
  assert.deepEqual(p.out(), ["+2c", "-2c"]);
});

test("modifiers whose release got lost go up with the next key", () => {
  const p = new Player("other");
  p.down("AltLeft");
  p.down("ShiftLeft", { altKey: true });
  p.out();
  p.down("KeyA"); // neither is held any more
  assert.deepEqual(p.out(), ["-a0", "-a4", "+41"]);
});

test("a soft keyboard's characters become text, its keys keys", () => {
  const p = new Player("other");
  assert.equal(p.down("", { key: "ß" }), true);
  assert.equal(p.down("", { key: "Backspace" }), true);
  assert.equal(p.down("", { key: "Unidentified" }), false);
  assert.deepEqual(p.out(), ["tß", "+8"]);
});

test("release lets go of all keys and forgets a Ctrl that waits", () => {
  const p = new Player("windows");
  p.down("KeyA");
  p.down("ControlLeft");
  p.keyboard.release();
  p.clock.advance(100);
  assert.deepEqual(p.out(), ["+41", "-41"]);
});
