/** How many of the last pings are looked at: ten seconds of them. */
const WINDOW = 20;

/**
 * The server's clock, told by pings. Of the last ones that with the shortest
 * round trip is believed: whatever delays a ping on its way or in the page makes
 * it longer. The error is at most half that round trip, and as large only where
 * one way takes all of it.
 */
export class ServerClock {
  #pings: { rtt: number; offset: number }[] = [];

  /** A ping that was sent and answered at these moments of performance.now(), and read by the server at one of its own, all ms. */
  add(sent: number, received: number, server: number): void {
    const rtt = received - sent;
    if (!(rtt >= 0) || !Number.isFinite(server)) return;
    this.#pings.push({ rtt, offset: (sent + received) / 2 - server });
    if (this.#pings.length > WINDOW) this.#pings.shift();
  }

  reset(): void {
    this.#pings = [];
  }

  /** A moment of the server's clock as performance.now() has it; null before the first ping. */
  toPage(server: number): number | null {
    const best = this.#best();
    return best === null ? null : server + best.offset;
  }

  /** The most by which toPage can be wrong, ms; null before the first ping. */
  get error(): number | null {
    const best = this.#best();
    return best === null ? null : best.rtt / 2;
  }

  #best(): { rtt: number; offset: number } | null {
    return this.#pings.reduce<{ rtt: number; offset: number } | null>((best, p) => (best === null || p.rtt <= best.rtt ? p : best), null);
  }
}
