import { realTimers, type Timers } from "./motion";

/** What fingers do, in CSS pixels of the viewport. */
export interface TouchSink {
  /** The pointer goes to a place (direct) … */
  to(x: number, y: number): void;
  /** … or moves by a distance (track pad). */
  by(dx: number, dy: number): void;
  button(number: 1 | 3, down: boolean): void;
  /** Distance that two fingers moved. */
  scroll(dx: number, dy: number): void;
  /** A long press began a drag: worth a small buzz. */
  held(): void;
}

export type TouchMode = "direct" | "trackpad";

const TAP_MS = 250;
const TAP_SLOP = 12;
const HOLD_MS = 450;
/** How long a tap's button stays down: shorter ones get lost in programs that poll. */
const CLICK_MS = 40;

interface Finger {
  x: number;
  y: number;
  startX: number;
  startY: number;
}

/**
 * One or two fingers as a mouse: tap is a left click, a finger moves the
 * pointer, a long press holds the left button, two fingers tap for a right
 * click and scroll when they move.
 */
export class TouchMouse {
  readonly #sink: TouchSink;
  readonly #timers: Timers;
  readonly #fingers = new Map<number, Finger>();
  #began = 0;
  #most = 0;
  #moved = false;
  #holding = false;
  #holdTimer: unknown = null;
  mode: TouchMode = "direct";

  constructor(sink: TouchSink, timers: Timers = realTimers) {
    this.#sink = sink;
    this.#timers = timers;
  }

  start(id: number, x: number, y: number, time: number): void {
    if (this.#fingers.size === 0) {
      this.#began = time;
      this.#most = 0;
      this.#moved = false;
    }
    this.#fingers.set(id, { x, y, startX: x, startY: y });
    this.#most = Math.max(this.#most, this.#fingers.size);
    this.#stopHold();
    if (this.#fingers.size > 1) {
      if (this.#holding) this.#drop();
      return;
    }
    if (this.mode === "direct") this.#sink.to(x, y);
    this.#holdTimer = this.#timers.set(() => {
      this.#holdTimer = null;
      if (this.#moved || this.#fingers.size !== 1) return;
      this.#holding = true;
      this.#sink.button(1, true);
      this.#sink.held();
    }, HOLD_MS);
  }

  move(id: number, x: number, y: number): void {
    const finger = this.#fingers.get(id);
    if (!finger) return;
    const dx = x - finger.x;
    const dy = y - finger.y;
    if (!this.#moved) {
      if (Math.hypot(x - finger.startX, y - finger.startY) < TAP_SLOP && !this.#holding) return;
      this.#moved = true;
      this.#stopHold();
    }
    finger.x = x;
    finger.y = y;
    if (this.#fingers.size >= 2) {
      // Each of the fingers tells its own part of the way.
      this.#sink.scroll(dx / this.#fingers.size, dy / this.#fingers.size);
    } else if (this.#most === 1) {
      if (this.mode === "direct") this.#sink.to(x, y);
      else this.#sink.by(dx, dy);
    }
  }

  end(id: number, time: number): void {
    if (!this.#fingers.delete(id)) return;
    this.#stopHold();
    if (this.#fingers.size > 0) return;
    if (this.#holding) {
      this.#drop();
      return;
    }
    if (this.#moved || time - this.#began > TAP_MS) return;
    const number = this.#most === 1 ? 1 : this.#most === 2 ? 3 : 0;
    if (number === 0) return;
    this.#sink.button(number, true);
    this.#timers.set(() => this.#sink.button(number, false), CLICK_MS);
  }

  /** The browser took the fingers away: nothing of it was meant. */
  cancel(): void {
    this.#fingers.clear();
    this.#stopHold();
    if (this.#holding) this.#drop();
  }

  #drop(): void {
    this.#holding = false;
    this.#sink.button(1, false);
  }

  #stopHold(): void {
    if (this.#holdTimer !== null) this.#timers.clear(this.#holdTimer);
    this.#holdTimer = null;
  }
}
