import { Backoff } from "./backoff";
import type { Connection, Closing } from "./connection";
import { Emitter } from "./emitter";
import { realTimers, type Timers } from "./motion";
import type { Cause } from "./types";

/** The states of a link: "down" needs a person, everything else goes on by itself. */
export type LinkState = "idle" | "connecting" | "live" | "waiting" | "down" | "closed";

export interface LinkEvents {
  state: LinkState;
  /** A new connection was made, before it opens: subscribe to it here. */
  connection: Connection;
  /** The next attempt comes in so many ms. */
  waiting: { ms: number; attempt: number; cause: Cause };
  /** Nothing more is tried. */
  down: Cause;
}

export interface LinkParts {
  connect: () => Connection;
  /**
   * Asks by HTTP whether there is any sense in trying again after a connection
   * that the server never accepted: a websocket does not tell why. Resolves to
   * the cause that forbids it, or null.
   */
  probe: () => Promise<Cause | null>;
  backoff?: Backoff;
  timers?: Timers;
}

/**
 * The one owner of reconnecting. At most one connection exists at a time; a new
 * budget of attempts is earned by a painted frame.
 */
export class Link extends Emitter<LinkEvents> {
  readonly #parts: LinkParts;
  readonly #backoff: Backoff;
  readonly #timers: Timers;
  #state: LinkState = "idle";
  #connection: Connection | null = null;
  #timer: unknown = null;
  #attempts = 0;

  constructor(parts: LinkParts) {
    super();
    this.#parts = parts;
    this.#backoff = parts.backoff ?? new Backoff();
    this.#timers = parts.timers ?? realTimers;
  }

  get state(): LinkState {
    return this.#state;
  }

  get connection(): Connection | null {
    return this.#connection;
  }

  /** Connections made so far. */
  get attempts(): number {
    return this.#attempts;
  }

  start(): void {
    if (this.#state === "idle") this.#connect();
  }

  /** Tries at once: a person asked for it, or the network came back. */
  retryNow(): void {
    if (this.#state === "down") this.#backoff.succeeded();
    if (this.#state === "waiting" || this.#state === "down") this.#connect();
  }

  /** Replaces the connection by a new one, for what is decided at its beginning (the codec). */
  reconnect(): void {
    if (this.#state !== "live" && this.#state !== "connecting") {
      this.retryNow();
      return;
    }
    this.#abandon();
    this.#connect();
  }

  /** A frame was painted: this connection is a success. */
  painted(): void {
    this.#backoff.succeeded();
  }

  networkChanged(): void {
    if (this.#state === "live") this.#connection?.networkChanged();
    else if (this.#state === "waiting") this.retryNow();
  }

  /** Ends for good. */
  close(code = "left"): void {
    if (this.#state === "closed") return;
    this.#stopTimer();
    const connection = this.#connection;
    this.#connection = null;
    this.#become("closed");
    connection?.close(code);
  }

  /** Stops trying, because of something that this side found out. */
  give(cause: Cause): void {
    if (this.#state === "closed" || this.#state === "down") return;
    this.#stopTimer();
    this.#abandon();
    this.#become("down");
    this.emit("down", cause);
  }

  #become(state: LinkState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.emit("state", state);
  }

  #abandon(): void {
    const connection = this.#connection;
    this.#connection = null;
    connection?.close("left");
  }

  #connect(): void {
    this.#stopTimer();
    this.#attempts++;
    const connection = this.#parts.connect();
    this.#connection = connection;
    this.#become("connecting");
    connection.on("state", (state) => {
      if (state === "connected" && this.#connection === connection) this.#become("live");
    });
    connection.on("closed", (closing) => {
      if (this.#connection !== connection) return;
      this.#connection = null;
      void this.#lost(closing);
    });
    this.emit("connection", connection);
    connection.open();
  }

  async #lost(closing: Closing): Promise<void> {
    const cause: Cause = { code: closing.code, detail: closing.detail, output: closing.output };
    if (!closing.retry) {
      this.#become("down");
      this.emit("down", cause);
      return;
    }
    const ms = this.#backoff.next();
    if (ms === null) {
      this.#become("down");
      this.emit("down", cause);
      return;
    }
    this.#become("waiting");
    this.emit("waiting", { ms, attempt: this.#backoff.failures, cause });
    const attempt = this.#attempts;
    this.#timer = this.#timers.set(() => {
      this.#timer = null;
      this.#connect();
    }, ms);
    if (closing.welcomed) return;
    const forbids = await this.#parts.probe();
    if (forbids && this.#state === "waiting" && this.#attempts === attempt) {
      this.#stopTimer();
      this.#become("down");
      this.emit("down", forbids);
    }
  }

  #stopTimer(): void {
    if (this.#timer !== null) this.#timers.clear(this.#timer);
    this.#timer = null;
  }
}
