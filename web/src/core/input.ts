import * as control from "./control";
import { MotionSender, realTimers, type Channel, type Timers } from "./motion";
import type { GrantBits } from "./types";

/** Packets of which one message of copies holds at most so many, and when they are sent after the last packet. */
const COPIES = 4;
const COPY_MS = [6, 25];

/** How fast heartbeats go when the server does not say. */
const HEARTBEAT_MS = 500;

const NOTHING: GrantBits = { keyboard: false, pointer: false, pads: false };

const MODIFIERS: Record<number, number> = {
  0xa0: control.MOD_SHIFT,
  0xa1: control.MOD_SHIFT,
  0xa2: control.MOD_CTRL,
  0xa3: control.MOD_CTRL,
  0xa4: control.MOD_ALT,
  0x5b: control.MOD_META,
  0x5c: control.MOD_META,
};

/**
 * Sends what the player does to the program. It knows what is held, so that it
 * can let go of everything; it sends nothing that the grant does not allow
 * (the server checks that again). It outlives connections: attach and detach.
 */
export class InputSender {
  readonly #motion: MotionSender;
  readonly #timers: Timers;
  readonly #now: () => number;
  readonly #keys = new Set<number>();
  readonly #buttons = new Set<number>();
  #channel: Channel | null = null;
  #grant: GrantBits = NOTHING;
  #position: { x: number; y: number; width: number; height: number } | null = null;
  #scrollX = 0;
  #scrollY = 0;
  #seq = 0;
  #answered = 0;
  #beat: unknown = null;
  #count = 0;
  #recent: Uint8Array[] = [];
  #copying: unknown = null;
  /** Told of each press (key, button, wheel, text): its number among the packets on `input`, and when it went out. */
  onPress: (number: number, at: number) => void = () => {};
  /** Input packets sent, by kind; for diagnosis. */
  readonly sent = { keys: 0, buttons: 0, scrolls: 0, texts: 0, motions: 0 };

  constructor(timers: Timers = realTimers, now: () => number = () => performance.now()) {
    this.#timers = timers;
    this.#now = now;
    this.#motion = new MotionSender(timers);
  }

  /** Takes over the channels of a new connection and starts the heartbeat. */
  attach(input: Channel, motion: Channel, heartbeatMs: number): void {
    this.detach();
    this.#channel = input;
    this.#motion.attach(motion);
    this.#seq = this.#answered = this.#count = 0;
    const beat = heartbeatMs > 0 ? heartbeatMs : HEARTBEAT_MS;
    const tick = (): void => {
      if (this.#open()) this.#channel?.send(control.ping(++this.#seq, this.#now()));
      this.#beat = this.#timers.set(tick, beat);
    };
    tick();
  }

  /** Forgets the channels. What was held is forgotten too: the server lets go by itself. */
  detach(): void {
    if (this.#beat !== null) this.#timers.clear(this.#beat);
    this.#beat = null;
    this.#channel = null;
    this.#motion.detach();
    if (this.#copying !== null) this.#timers.clear(this.#copying);
    this.#copying = null;
    this.#recent = [];
    this.#keys.clear();
    this.#buttons.clear();
    this.#position = null;
    this.#scrollX = this.#scrollY = 0;
  }

  /** Notes the answer to a heartbeat and returns its round trip in ms. */
  pong(pong: control.Pong): number {
    if (control.newer(pong.seq, this.#answered)) this.#answered = pong.seq;
    return this.#now() - pong.sent;
  }

  /** Heartbeats without an answer so far. */
  get missed(): number {
    return Math.max(0, this.#seq - this.#answered);
  }

  get grant(): GrantBits {
    return this.#grant;
  }

  /** What is not granted any more is let go of. */
  set grant(grant: GrantBits) {
    if (!grant.keyboard) this.releaseKeys();
    if (!grant.pointer) this.releaseButtons();
    this.#grant = grant;
  }

  get heldKeys(): readonly number[] {
    return [...this.#keys];
  }

  get heldButtons(): readonly number[] {
    return [...this.#buttons];
  }

  /** Bits of the modifier keys that are held. AltGr is no Alt. */
  get modifiers(): number {
    let bits = 0;
    for (const vk of this.#keys) bits |= MODIFIERS[vk] ?? 0;
    return bits;
  }

  keyDown(vk: number): void {
    if (!this.#grant.keyboard || this.#keys.has(vk) || !this.#open()) return;
    this.#keys.add(vk);
    this.sent.keys++;
    this.#press(control.key(true, vk, this.modifiers));
  }

  keyUp(vk: number): void {
    if (!this.#keys.delete(vk)) return;
    this.#send(control.key(false, vk, this.modifiers));
  }

  /** A key that goes down and up at once: for keys of which the browser tells only half. */
  keyTap(vk: number): void {
    this.keyDown(vk);
    this.keyUp(vk);
  }

  holdsKey(vk: number): boolean {
    return this.#keys.has(vk);
  }

  text(value: string): void {
    if (!this.#grant.keyboard || !this.#open()) return;
    for (const packet of control.text(value)) {
      this.sent.texts++;
      this.#press(packet);
    }
  }

  /** The pointer stands at a pixel of the picture. */
  pointerTo(x: number, y: number, width: number, height: number): void {
    if (!this.#grant.pointer || width < 2 || height < 2) return;
    this.#position = { x, y, width, height };
    this.sent.motions++;
    this.#motion.to(x, y, width, height);
  }

  /** The pointer moved by counts; fractions are kept for the next time. */
  pointerBy(dx: number, dy: number): void {
    if (!this.#grant.pointer) return;
    this.#position = null;
    this.sent.motions++;
    this.#motion.by(dx, dy);
  }

  buttonDown(number: number): void {
    if (!this.#grant.pointer || this.#buttons.has(number) || !this.#open()) return;
    this.#buttons.add(number);
    this.sent.buttons++;
    this.#sendPosition();
    this.#press(control.button(true, number));
  }

  buttonUp(number: number): void {
    if (!this.#buttons.delete(number)) return;
    this.#sendPosition();
    this.#send(control.button(false, number));
  }

  holdsButton(number: number): boolean {
    return this.#buttons.has(number);
  }

  /** Wheel in 1/120 notches, positive up and right; fractions are kept for the next time. */
  scroll(horizontal: number, vertical: number): void {
    if (!this.#grant.pointer) return;
    this.#scrollX += horizontal;
    this.#scrollY += vertical;
    const x = Math.trunc(this.#scrollX);
    const y = Math.trunc(this.#scrollY);
    this.#scrollX -= x;
    this.#scrollY -= y;
    if (y !== 0) {
      this.sent.scrolls++;
      this.#press(control.scroll(y));
    }
    if (x !== 0) {
      this.sent.scrolls++;
      this.#press(control.scrollHorizontal(x));
    }
  }

  releaseKeys(): void {
    for (const vk of [...this.#keys].reverse()) this.keyUp(vk);
  }

  releaseButtons(): void {
    for (const number of [...this.#buttons]) this.buttonUp(number);
  }

  /** Lets go of everything, and tells the server to make sure. */
  releaseAll(): void {
    this.releaseKeys();
    this.releaseButtons();
    this.#send(control.releaseAll());
  }

  requestKeyFrame(): void {
    this.#send(control.requestIDR());
  }

  /** A click has to land where the player sees it, whatever the lossy channel lost. */
  #sendPosition(): void {
    const at = this.#position;
    if (at) this.#send(control.pointerTo(at.x, at.y, at.width, at.height));
  }

  #open(): boolean {
    return this.#channel?.readyState === "open";
  }

  /** Sends what the program may answer. */
  #press(packet: Uint8Array<ArrayBuffer>): void {
    if (!this.#open()) return;
    const at = this.#now();
    this.#send(packet);
    this.onPress(this.#count, at);
  }

  #send(packet: Uint8Array<ArrayBuffer>): void {
    if (!this.#open()) return;
    this.#channel?.send(packet);
    this.#count = (this.#count + 1) >>> 0;
    this.#recent = [...this.#recent, packet].slice(-COPIES);
    this.#copy(0);
  }

  /** Sends what went out last again, past the channel that waits for what is lost. */
  #copy(round: number): void {
    if (this.#copying !== null) this.#timers.clear(this.#copying);
    this.#copying = null;
    const wait = COPY_MS[round];
    if (wait === undefined) {
      this.#recent = [];
      return;
    }
    this.#copying = this.#timers.set(() => {
      this.#copying = null;
      this.#motion.send(control.copies(this.#count, this.#recent));
      this.#copy(round + 1);
    }, wait);
  }
}
