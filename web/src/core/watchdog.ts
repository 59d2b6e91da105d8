/**
 * How long frames may arrive without being painted before a key frame is asked for, and before a new connection is, ms.
 * In between, at 8 s, the server starts the encoder anew if nobody else sees its picture either.
 */
export const BLACK_MS = 5000;
export const DEAD_MS = 12_000;
/** New connections because of a black picture before a person is asked. */
const TRIES = 2;

/** What is seen of the stream at one look. */
export interface Look {
  /** performance.now(). */
  now: number;
  /** Whether the page is on the screen and drawn at all. */
  rendering: boolean;
  /** Whether the program runs: before, there is nothing to see. */
  running: boolean;
  /** Frames received so far on this connection. */
  received: number;
  /** Frames painted so far on this connection. */
  painted: number;
}

export type Verdict = "fine" | "ask" | "reconnect" | "give up";

/**
 * Notices when frames arrive that nobody sees (a decoder that is stuck): first
 * a key frame is asked for, then a new connection, then a person. A picture
 * that stands still because nothing changes is fine.
 */
export class Watchdog {
  #since: number | null = null;
  #received = 0;
  #painted = 0;
  #asked = false;
  #tries = 0;

  /** A new connection: its counters begin anew, its chances do not. */
  reset(): void {
    this.#since = null;
    this.#received = this.#painted = 0;
    this.#asked = false;
  }

  look({ now, rendering, running, received, painted }: Look): Verdict {
    const moved = painted !== this.#painted;
    const still = painted > 0 && received === this.#received;
    this.#received = received;
    this.#painted = painted;
    if (moved) this.#tries = 0;
    if (moved || still || !rendering || !running || this.#since === null) {
      this.#since = now;
      this.#asked = false;
      return "fine";
    }
    const black = now - this.#since;
    if (black >= DEAD_MS) {
      this.#since = now;
      this.#asked = false;
      return this.#tries++ < TRIES ? "reconnect" : "give up";
    }
    if (black < BLACK_MS || this.#asked) return "fine";
    this.#asked = true;
    return "ask";
  }
}
