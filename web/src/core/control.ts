// Moonlight's control packets, as the browser sends them in data channels:
// `u16le type, u16le length, payload`; input (0x0206) carries `u32be size,
// u32le kind, body` with big-endian bodies for the mouse and little-endian key
// codes. The layouts are checked against packets of a real Moonlight client.

export const PING = 0x0200;
export const INPUT = 0x0206;
export const REQUEST_IDR = 0x0302;
export const RELEASE_ALL = 0x5f01;
export const COPIES = 0x5f02;

const KEY_DOWN = 3;
const KEY_UP = 4;
const MOUSE_ABSOLUTE = 5;
const MOUSE_RELATIVE = 7;
const BUTTON_DOWN = 8;
const BUTTON_UP = 9;
const SCROLL = 0x0a;
const TEXT = 0x17;
const SCROLL_HORIZONTAL = 0x55000001;

/** Modifier bits of key packets. */
export const MOD_SHIFT = 1;
export const MOD_CTRL = 2;
export const MOD_ALT = 4;
export const MOD_META = 8;

/** Longest text of one packet in bytes of UTF-8. */
export const TEXT_LIMIT = 32;

const clampI16 = (value: number): number => Math.max(-0x8000, Math.min(0x7fff, Math.round(value)));

function packet(type: number, payload: number): { bytes: Uint8Array<ArrayBuffer>; view: DataView } {
  const bytes = new Uint8Array(4 + payload);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type, true);
  view.setUint16(2, payload, true);
  return { bytes, view };
}

/** An input packet with `body` bytes after the kind; the body starts at offset 12. */
function input(kind: number, body: number): { bytes: Uint8Array<ArrayBuffer>; view: DataView } {
  const made = packet(INPUT, 8 + body);
  made.view.setUint32(4, 4 + body, false);
  made.view.setUint32(8, kind, true);
  return made;
}

/** A key by its virtual-key code (1…254); the high byte is what real clients send. */
export function key(down: boolean, vk: number, modifiers: number): Uint8Array<ArrayBuffer> {
  const { bytes, view } = input(down ? KEY_DOWN : KEY_UP, 6);
  view.setUint16(13, 0x8000 | vk, true);
  view.setUint8(15, modifiers);
  return bytes;
}

/** The pointer stands at pixel x, y (counted from 0) of a picture of width × height. */
export function pointerTo(x: number, y: number, width: number, height: number): Uint8Array<ArrayBuffer> {
  const { bytes, view } = input(MOUSE_ABSOLUTE, 10);
  const w = clampI16(width - 1);
  const h = clampI16(height - 1);
  view.setInt16(12, Math.max(0, Math.min(w, clampI16(x))), false);
  view.setInt16(14, Math.max(0, Math.min(h, clampI16(y))), false);
  view.setInt16(18, w, false);
  view.setInt16(20, h, false);
  return bytes;
}

/** The pointer moved; callers split what does not fit 16 bits. */
export function pointerBy(dx: number, dy: number): Uint8Array<ArrayBuffer> {
  const { bytes, view } = input(MOUSE_RELATIVE, 4);
  view.setInt16(12, clampI16(dx), false);
  view.setInt16(14, clampI16(dy), false);
  return bytes;
}

/** A button: 1 left, 2 middle, 3 right, 4 back, 5 forward. */
export function button(down: boolean, number: number): Uint8Array<ArrayBuffer> {
  const { bytes, view } = input(down ? BUTTON_DOWN : BUTTON_UP, 1);
  view.setUint8(12, number);
  return bytes;
}

/** The wheel turned; 120 is a notch, positive is away from the user. */
export function scroll(amount: number): Uint8Array<ArrayBuffer> {
  const { bytes, view } = input(SCROLL, 6);
  view.setInt16(12, clampI16(amount), false);
  view.setInt16(14, clampI16(amount), false);
  return bytes;
}

/** The wheel tilted; 120 is a notch, positive is to the right. */
export function scrollHorizontal(amount: number): Uint8Array<ArrayBuffer> {
  const { bytes, view } = input(SCROLL_HORIZONTAL, 2);
  view.setInt16(12, clampI16(amount), false);
  return bytes;
}

/** Text as packets of at most TEXT_LIMIT bytes each, split between code points. */
export function text(value: string): Uint8Array<ArrayBuffer>[] {
  const encoder = new TextEncoder();
  const packets: Uint8Array<ArrayBuffer>[] = [];
  let part: number[] = [];
  const flush = (): void => {
    if (part.length === 0) return;
    const { bytes } = input(TEXT, part.length);
    bytes.set(part, 12);
    packets.push(bytes);
    part = [];
  };
  for (const rune of value) {
    const encoded = encoder.encode(rune);
    if (part.length + encoded.length > TEXT_LIMIT) flush();
    part.push(...encoded);
  }
  flush();
  return packets;
}

/** Asks for a key frame. */
export function requestIDR(): Uint8Array<ArrayBuffer> {
  return packet(REQUEST_IDR, 2).bytes;
}

/** Everything that this peer holds goes up. */
export function releaseAll(): Uint8Array<ArrayBuffer> {
  return packet(RELEASE_ALL, 0).bytes;
}

/** A heartbeat: `u32le seq, f64le clock in ms`. */
export function ping(seq: number, now: number): Uint8Array<ArrayBuffer> {
  const { bytes, view } = packet(PING, 12);
  view.setUint32(4, seq >>> 0, true);
  view.setFloat64(8, now, true);
  return bytes;
}

export interface Pong {
  seq: number;
  /** The client's clock when it sent the ping, ms. */
  sent: number;
  /** The server's CLOCK_MONOTONIC when it answered, ms. */
  server: number;
}

/** Reads an answer to a ping; null for anything else. */
export function readPong(data: ArrayBuffer): Pong | null {
  if (data.byteLength < 24) return null;
  const view = new DataView(data);
  if (view.getUint16(0, true) !== PING || view.getUint16(2, true) < 20) return null;
  return {
    seq: view.getUint32(4, true),
    sent: view.getFloat64(8, true),
    server: Number(view.getBigUint64(16, true)) / 1e6,
  };
}

/** A message of the channel `motion`: the seq of the last packet, then the packets, oldest first. */
export function motion(seq: number, packets: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4 + packets.reduce((sum, p) => sum + p.length, 0));
  new DataView(bytes.buffer).setUint32(0, seq >>> 0, true);
  let at = 4;
  for (const p of packets) {
    bytes.set(p, at);
    at += p.length;
  }
  return bytes;
}

/** A message of copies for the channel `motion`: the number of the last packet, then the packets, oldest first. */
export function copies(last: number, packets: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const size = packets.reduce((sum, p) => sum + p.length, 0);
  const made = packet(COPIES, size);
  let at = 4;
  for (const p of packets) {
    made.bytes.set(p, at);
    at += p.length;
  }
  return motion(last, [made.bytes]);
}

export interface CursorPosition {
  seq: number;
  x: number;
  y: number;
}

/** Reads where the server says the pointer stands; null for anything else. */
export function readCursorPosition(data: ArrayBuffer): CursorPosition | null {
  if (data.byteLength !== 8) return null;
  const view = new DataView(data);
  return { seq: view.getUint32(0, true), x: view.getUint16(4, true), y: view.getUint16(6, true) };
}

/** Whether sequence number a comes after b, modulo 2³². */
export function newer(a: number, b: number): boolean {
  const ahead = (a - b) >>> 0;
  return ahead !== 0 && ahead < 0x80000000;
}
