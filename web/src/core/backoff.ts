export interface BackoffOptions {
  /** First delay, ms. */
  first: number;
  /** Largest delay, ms. */
  cap: number;
  /** Attempts without success after which it gives up. */
  attempts: number;
  /** 0…1, for tests. */
  random: () => number;
}

const DEFAULTS: BackoffOptions = { first: 250, cap: 10_000, attempts: 14, random: Math.random };

/** Share by which a delay varies up and down; below 1/3, delays never shrink while they double. */
const JITTER = 0.25;

/**
 * How long to wait before the next attempt: doubling, jittered, with an end.
 * Success is a painted frame, not a connection: what connects and shows nothing
 * is no success and must not earn a new budget.
 */
export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;
  #last = 0;

  constructor(options: Partial<BackoffOptions> = {}) {
    this.#options = { ...DEFAULTS, ...options };
  }

  get failures(): number {
    return this.#failures;
  }

  /** The delay before the next attempt in ms, or null when it is time to give up. */
  next(): number | null {
    const { first, cap, attempts, random } = this.#options;
    if (this.#failures >= attempts) return null;
    const plain = Math.min(cap, first * 2 ** this.#failures);
    this.#failures++;
    // At the cap the jitter would make delays go up and down: they never fall.
    this.#last = Math.min(cap, Math.max(this.#last, plain * (1 - JITTER + 2 * JITTER * random())));
    return this.#last;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#last = 0;
  }
}
