import { newer } from "./control";
import type { ServerClock } from "./server-clock";
import type { FrameStages, InputStages, Stages } from "./stages";

/** The legs of a frame, in their order: from a change on the display to the screen. */
export const frameLegs = ["wait", "convert", "encode", "wire", "send", "network", "buffer", "decode", "paint"] as const;
/** The legs of an input, in their order: from the press to the screen. */
export const inputLegs = ["input", "inject", "program", ...frameLegs] as const;

export type FrameLeg = (typeof frameLegs)[number];
export type InputLeg = (typeof inputLegs)[number];

export const legNames: Record<InputLeg, string> = {
  input: "To server",
  inject: "Inject",
  program: "Program",
  wait: "Wait",
  convert: "Convert",
  encode: "Encode",
  wire: "Hand over",
  send: "Send",
  network: "Network",
  buffer: "Buffer",
  decode: "Decode",
  paint: "Display",
};

/** What requestVideoFrameCallback told of a painted frame; moments of performance.now(), ms. */
export interface PaintedFrame {
  rtp: number;
  /** Its last packet was received. */
  received: number;
  /** It was handed to the compositor. */
  presented: number;
  /** It is on the screen. */
  shown: number;
  /** Time that the decoder took. */
  decode: number;
}

/** The way of one frame that showed a change, in ms. The legs add up to the total. */
export interface FrameWay {
  /** performance.now() when it was on the screen. */
  at: number;
  rtp: number;
  total: number;
  legs: Record<FrameLeg, number>;
}

/** The way of one press, in ms. The legs add up to the total. */
export interface InputWay {
  /** performance.now() when the picture was on the screen. */
  at: number;
  /** RTP timestamp of that picture. */
  rtp: number;
  /** Number of the press among the packets on `input`. */
  number: number;
  total: number;
  legs: Record<InputLeg, number>;
  /**
   * Nothing else moved on the display right before: then the change is the
   * program's answer. Otherwise it is the first change after the press, whoever made it.
   */
  still: boolean;
}

/** Median and 95th percentile, ms. */
export interface Quantiles {
  p50: number;
  p95: number;
}

/** Of a number of ways: their totals, and each leg for itself. The p50s of the legs need not add up to that of the total. */
export interface Summary<L extends string> {
  count: number;
  total: Quantiles;
  legs: Record<L, Quantiles>;
}

/**
 * What `fenrir.latency(seconds)` returns, over the last so many seconds (at
 * most 60; 10 when not said). null where nothing was measured.
 *
 *     const l = fenrir.latency(20);
 *     l.input.total.p50          // press in the page → first change after it on the screen, ms
 *     l.input.legs.encode.p95    // legs: input, inject, program, wait, convert, encode, wire, send, network, buffer, decode, paint
 *     l.frame.total.p50          // change on the display → on the screen, ms
 *     l.frame.legs.network.p50   // legs: wait … paint as above
 *     l.ways.inputs[0].legs      // the single ones, oldest first: {at, rtp, number, total, legs, still}
 */
export interface Latency {
  /** Of presses; those on a still display only, where there was one. */
  input: Summary<InputLeg> | null;
  /** Whether `input` is of a still display: the change is the program's answer for sure. */
  still: boolean;
  /** Of painted frames that show a change. */
  frame: Summary<FrameLeg> | null;
  /** The most by which `input` and `network` can be wrong, in opposite ways, ms: half a round trip of a ping. */
  clockError: number | null;
  /** Presses that no change followed in time. */
  unanswered: number;
  ways: { frames: readonly FrameWay[]; inputs: readonly InputWay[] };
}

/** Values for the server, in ms; see `painted` in PROTOCOL.md. */
export type Legs = Partial<Record<"network" | "buffer" | "decode" | "paint" | "picture" | "input" | "program" | "photon", number[]>>;

/** A change later than this after a press is no answer to it, ms. */
const ANSWER_MS = 250;
/** A display on which nothing changed for so long is still, ms. */
const STILL_MS = 60;
/** How long anything waits for its other half, ms. */
const PATIENCE_MS = 3000;
/** Frames and presses that wait for their other half at most. */
const WAITING = 512;
/** Ways that are kept: a minute of them at 60 frames a second, and as many presses as anyone makes. */
const KEEP_MS = 60_000;
const KEPT_FRAMES = 3600;
const KEPT_INPUTS = 600;
/** Values of one leg in a report at most. */
const REPORTED = 256;

interface Press {
  number: number;
  sent: number;
  stages: InputStages | null;
}

/**
 * Puts together what the server tells of frames and inputs and what the page
 * saw of them. Moments of the server become the page's by the clock of the pings.
 */
export class LatencyMeter {
  readonly #clock: ServerClock;
  #told = new Map<number, FrameStages>();
  #painted = new Map<number, PaintedFrame>();
  #presses: Press[] = [];
  /** Frames that the server told of, in their order, for the presses. */
  #order: FrameStages[] = [];
  /** Painted ones, in their order. */
  #shown: PaintedFrame[] = [];
  #seq: number | null = null;
  #unanswered: number[] = [];
  #frames: FrameWay[] = [];
  #inputs: InputWay[] = [];
  #report: { frames: FrameWay[]; inputs: InputWay[] } = { frames: [], inputs: [] };

  constructor(clock: ServerClock) {
    this.#clock = clock;
  }

  /** The connection is a new one: nothing of the old one gets its other half. */
  reset(): void {
    this.#told.clear();
    this.#painted.clear();
    this.#presses = [];
    this.#order = [];
    this.#shown = [];
    this.#seq = null;
    this.#report = { frames: [], inputs: [] };
  }

  /** A press went out as so many'th packet. */
  pressed(number: number, sent: number): void {
    if (this.#presses.length < WAITING) this.#presses.push({ number, sent, stages: null });
  }

  /** The server told of frames and inputs. */
  told(stages: Stages, now: number): void {
    if (this.#seq !== null && stages.seq !== ((this.#seq + 1) & 0xffff)) {
      // What answered the presses that wait may be what was lost.
      this.#presses = this.#presses.filter((p) => p.stages === null && now - p.sent < 100);
    }
    this.#seq = stages.seq;
    for (const input of stages.inputs) {
      const press = this.#presses.find((p) => p.number === input.number);
      if (press) press.stages = input;
    }
    for (const frame of stages.frames) {
      if (this.#told.size < WAITING) this.#told.set(frame.rtp, frame);
      this.#order.push(frame);
      this.#match(frame.rtp);
    }
    this.#order.splice(0, this.#order.length - WAITING);
    this.#answer(now);
  }

  /** A frame was painted. */
  painted(frame: PaintedFrame, now: number): void {
    if (this.#painted.size < WAITING) this.#painted.set(frame.rtp, frame);
    this.#shown.push(frame);
    this.#shown.splice(0, this.#shown.length - WAITING);
    this.#match(frame.rtp);
    this.#answer(now);
  }

  /** Forgets what waits for its other half in vain. */
  tidy(now: number): void {
    for (const [rtp, frame] of this.#painted) if (now - frame.shown > PATIENCE_MS) this.#painted.delete(rtp);
    for (const [rtp, frame] of this.#told) {
      const at = this.#clock.toPage(frame.captured);
      if (at === null || now - at > PATIENCE_MS) this.#told.delete(rtp);
    }
    this.#answer(now);
    const young = (way: { at: number }): boolean => now - way.at < KEEP_MS;
    this.#frames = this.#frames.filter(young);
    this.#inputs = this.#inputs.filter(young);
    this.#unanswered = this.#unanswered.filter((at) => now - at < KEEP_MS);
  }

  /** What was measured since the last call, for the server. */
  take(): Legs {
    const { frames, inputs } = this.#report;
    this.#report = { frames: [], inputs: [] };
    const legs: Legs = {};
    const add = (name: keyof Legs, values: number[]): void => {
      // Less than nothing is the error of the clock.
      if (values.length > 0) legs[name] = values.slice(-REPORTED).map((ms) => Math.min(60_000, Math.max(0, Math.round(ms * 100) / 100)));
    };
    for (const leg of ["network", "buffer", "decode", "paint"] as const) add(leg, frames.map((f) => f.legs[leg]));
    add("picture", frames.map((f) => f.total));
    for (const leg of ["input", "program"] as const) add(leg, inputs.map((i) => i.legs[leg]));
    add("photon", inputs.map((i) => i.total));
    return legs;
  }

  /** What the last seconds were like. */
  summary(now: number, seconds = 10): Latency {
    this.tidy(now);
    const young = (way: { at: number }): boolean => now - way.at < seconds * 1000;
    const frames = this.#frames.filter(young);
    const inputs = this.#inputs.filter(young);
    const sure = inputs.filter((i) => i.still);
    return {
      input: summarise(sure.length > 0 ? sure : inputs, inputLegs),
      still: sure.length > 0,
      frame: summarise(frames, frameLegs),
      clockError: this.#clock.error,
      unanswered: this.#unanswered.filter((at) => now - at < seconds * 1000).length,
      ways: { frames, inputs },
    };
  }

  /** Makes the way of a frame of which both halves are there. */
  #match(rtp: number): void {
    const told = this.#told.get(rtp);
    const painted = this.#painted.get(rtp);
    if (!told || !painted) return;
    this.#told.delete(rtp);
    this.#painted.delete(rtp);
    if (told.wait === null) return; // It shows nothing new: nobody waited for it.
    const legs = this.#frameLegs(told, painted);
    if (!legs) return;
    const way = { at: painted.shown, rtp, total: sum(legs), legs };
    this.#frames.push(way);
    this.#frames.splice(0, this.#frames.length - KEPT_FRAMES);
    this.#report.frames.push(way);
    this.#report.frames.splice(0, this.#report.frames.length - REPORTED);
  }

  /** The legs of a frame after `wait`, and that. */
  #frameLegs(told: FrameStages, painted: PaintedFrame, change = told.captured - (told.wait ?? 0)): Record<FrameLeg, number> | null {
    const sent = this.#clock.toPage(told.captured + told.convert + told.encode + told.wire + told.send);
    if (sent === null) return null;
    return {
      wait: told.captured - change,
      convert: told.convert,
      encode: told.encode,
      wire: told.wire,
      send: told.send,
      network: painted.received - sent,
      buffer: painted.presented - painted.received - painted.decode,
      decode: painted.decode,
      paint: painted.shown - painted.presented,
    };
  }

  /** Finds the pictures of the presses that wait for theirs. */
  #answer(now: number): void {
    this.#presses = this.#presses.filter((press) => {
      const { stages } = press;
      if (now - press.sent > PATIENCE_MS) {
        if (stages) this.#unanswered.push(now);
        return false; // Nothing came of it, or nobody told.
      }
      if (!stages) return true;
      const injected = stages.received + stages.inject;
      const change = (f: FrameStages): number => f.captured - (f.wait ?? 0);
      const first = this.#order.find((f) => f.wait !== null && change(f) >= injected);
      if (!first) return true;
      if (change(first) - injected > ANSWER_MS) {
        this.#unanswered.push(now);
        return false;
      }
      // The compositor may have skipped that frame: then a later one showed the change.
      const painted = this.#shown.find((p) => !newer(first.rtp, p.rtp));
      if (!painted) return true;
      const told = this.#order.find((f) => f.rtp === painted.rtp);
      if (!told) return true; // Its stages are on their way, or lost.
      const before = this.#order.filter((f) => f.wait !== null && f.captured < injected).at(-1);
      this.#keep(press, stages, told, painted, change(first), before === undefined || injected - before.captured > STILL_MS);
      return false;
    });
  }

  #keep(press: Press, stages: InputStages, told: FrameStages, painted: PaintedFrame, change: number, still: boolean): void {
    const received = this.#clock.toPage(stages.received);
    const rest = this.#frameLegs(told, painted, change);
    if (received === null || !rest) return;
    const legs = { input: received - press.sent, inject: stages.inject, program: change - stages.received - stages.inject, ...rest };
    const way = { at: painted.shown, rtp: painted.rtp, number: press.number, total: painted.shown - press.sent, legs, still };
    this.#inputs.push(way);
    this.#inputs.splice(0, this.#inputs.length - KEPT_INPUTS);
    this.#report.inputs.push(way);
    this.#report.inputs.splice(0, this.#report.inputs.length - REPORTED);
  }
}

const sum = (legs: Record<string, number>): number => Object.values(legs).reduce((all, ms) => all + ms, 0);

/** The value at the share q of sorted ones. */
export function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

function quantiles(values: number[]): Quantiles {
  values.sort((a, b) => a - b);
  return { p50: quantile(values, 0.5), p95: quantile(values, 0.95) };
}

function summarise<L extends string>(ways: readonly { total: number; legs: Record<L, number> }[], legs: readonly L[]): Summary<L> | null {
  if (ways.length === 0) return null;
  const each = legs.map((leg) => [leg, quantiles(ways.map((way) => way.legs[leg]))] as const);
  return { count: ways.length, total: quantiles(ways.map((way) => way.total)), legs: Object.fromEntries(each) as Record<L, Quantiles> };
}
