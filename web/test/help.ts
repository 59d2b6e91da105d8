import type { Timers } from "../src/core/motion";

/** Timers that run when the test says so. */
export class Clock implements Timers {
  now = 0;
  #jobs: { at: number; f: () => void }[] = [];

  set(f: () => void, ms: number): unknown {
    const job = { at: this.now + ms, f };
    this.#jobs.push(job);
    return job;
  }

  clear(handle: unknown): void {
    this.#jobs = this.#jobs.filter((job) => job !== handle);
  }

  get pending(): number {
    return this.#jobs.length;
  }

  advance(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const due = this.#jobs.filter((job) => job.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.clear(due);
      this.now = Math.max(this.now, due.at);
      due.f();
    }
    this.now = end;
  }
}

/** A data channel that keeps what it was given. */
export class FakeChannel {
  readyState = "open";
  bufferedAmount = 0;
  readonly sent: Uint8Array[] = [];

  send(data: Uint8Array): void {
    this.sent.push(data.slice());
  }

  /** What was sent since the last call, as hex, without heartbeats. */
  take(): string[] {
    return this.sent.splice(0).map(hex).filter((h) => !h.startsWith("0002"));
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** Lets promises that are ready run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
