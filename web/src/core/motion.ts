import * as control from "./control";

/** What a sender needs of an RTCDataChannel. */
export interface Channel {
  readonly readyState: string;
  readonly bufferedAmount: number;
  send(data: Uint8Array<ArrayBuffer>): void;
}

/** Timers, so that tests own the clock. */
export interface Timers {
  set(f: () => void, ms: number): unknown;
  clear(handle: unknown): void;
}

export const realTimers: Timers = {
  set: (f, ms) => setTimeout(f, ms),
  clear: (handle) => clearTimeout(handle as ReturnType<typeof setTimeout>),
};

/** Packets that one message repeats, so that three messages in a row may be lost. */
const REDUNDANCY = 4;

/** Bytes waiting in the channel above which nothing is sent that came another way already. */
const HIGH_WATER = 1024;

/** When motion stops its last message is sent again: nothing newer would repair its loss. */
const TAIL_MS = [20, 80];

/** How long to wait before trying again a channel in which a message still waits. */
const RETRY_MS = 2;

/**
 * Sends pointer motion over the lossy channel. Absolute positions replace each
 * other, relative steps are repeated in the following messages (the server
 * applies each sequence number once) and are summed up while a message waits in
 * the channel: what queues behind it would only arrive late.
 */
export class MotionSender {
  readonly #timers: Timers;
  #channel: Channel | null = null;
  #seq = 0;
  #history: Uint8Array[] = [];
  #dx = 0;
  #dy = 0;
  #to: Uint8Array<ArrayBuffer> | null = null;
  #last: Uint8Array<ArrayBuffer> | null = null;
  #timer: unknown = null;
  /** Messages held back because the channel was congested. */
  held = 0;

  constructor(timers: Timers = realTimers) {
    this.#timers = timers;
  }

  attach(channel: Channel): void {
    this.detach();
    this.#channel = channel;
  }

  /** Forgets the channel and what waits for it. A new channel starts counting anew. */
  detach(): void {
    this.#channel = null;
    this.#stopTimer();
    this.#seq = 0;
    this.#history = [];
    this.#dx = this.#dy = 0;
    this.#to = this.#last = null;
  }

  to(x: number, y: number, width: number, height: number): void {
    this.#to = control.pointerTo(x, y, width, height);
    this.#dx = this.#dy = 0;
    this.#flush();
  }

  by(dx: number, dy: number): void {
    this.#to = null;
    this.#dx += dx;
    this.#dy += dy;
    this.#flush();
  }

  /** Sends a message that is not motion, unless the channel is congested. */
  send(message: Uint8Array<ArrayBuffer>): void {
    const channel = this.#channel;
    if (channel?.readyState === "open" && channel.bufferedAmount <= HIGH_WATER) channel.send(message);
  }

  #flush(): void {
    const channel = this.#channel;
    if (!channel || channel.readyState !== "open") {
      this.#dx = this.#dy = 0;
      this.#to = null;
      return;
    }
    if (channel.bufferedAmount > 0) {
      this.held++;
      this.#stopTimer();
      this.#timer = this.#timers.set(() => this.#flush(), RETRY_MS);
      return;
    }
    const packets: Uint8Array[] = [];
    if (this.#to) {
      packets.push(this.#to);
      this.#to = null;
    } else {
      // Fractions stay behind for the next message; steps beyond 16 bits are split.
      for (let round = 0; round < REDUNDANCY; round++) {
        const dx = Math.max(-0x7fff, Math.min(0x7fff, Math.trunc(this.#dx)));
        const dy = Math.max(-0x7fff, Math.min(0x7fff, Math.trunc(this.#dy)));
        if (dx === 0 && dy === 0) break;
        this.#dx -= dx;
        this.#dy -= dy;
        packets.push(control.pointerBy(dx, dy));
      }
      if (packets.length === 0) return;
    }
    this.#seq = (this.#seq + packets.length) >>> 0;
    const absolute = packets.length === 1 && packets[0]?.length === 22;
    if (absolute) {
      // Older steps must not move the pointer away from a newer position.
      this.#history = packets;
    } else {
      this.#history = [...this.#history, ...packets].slice(-REDUNDANCY);
    }
    this.#last = control.motion(this.#seq, this.#history);
    channel.send(this.#last);
    this.#repeatTail(0);
  }

  #repeatTail(round: number): void {
    this.#stopTimer();
    const wait = TAIL_MS[round];
    if (wait === undefined) return;
    this.#timer = this.#timers.set(() => {
      const channel = this.#channel;
      if (!channel || channel.readyState !== "open" || !this.#last) return;
      if (channel.bufferedAmount === 0) channel.send(this.#last);
      this.#repeatTail(round + 1);
    }, wait);
  }

  #stopTimer(): void {
    if (this.#timer !== null) this.#timers.clear(this.#timer);
    this.#timer = null;
  }
}
