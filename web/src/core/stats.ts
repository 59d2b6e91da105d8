import type { SessionState, Timing } from "./types";

/** The latency of a frame, leg by leg, in ms; null where it is not known. */
export interface Legs {
  /** The program drew → capture begins. */
  wait: number | null;
  capture: number | null;
  convert: number | null;
  encode: number | null;
  /** Media worker → server. */
  wire: number | null;
  /** Server → network. */
  send: number | null;
  /** Half a round trip. */
  network: number | null;
  jitterBuffer: number | null;
  decode: number | null;
  /** Decoded → on the screen. */
  present: number | null;
}

/** What the page knows about the stream at one moment; rates are over the last interval. */
export interface Stats {
  /** performance.now() of the sample. */
  at: number;
  codec: string;
  encoder: string;
  /** Why this encoder. */
  reason: string;
  hardware: boolean | null;
  decoder: string;
  width: number;
  height: number;
  /** Frames a second received, decoded and painted. */
  fpsReceived: number;
  fpsDecoded: number;
  fpsPainted: number;
  /** Totals of this connection. */
  framesDecoded: number;
  framesPainted: number;
  framesDropped: number;
  keyFrames: number;
  freezes: number;
  /** Video and audio as received, kbit/s. */
  kbps: number;
  audioKbps: number;
  targetKbps: number | null;
  estimateKbps: number | null;
  rttMs: number | null;
  /** Share of packets lost in the last interval, percent. */
  lossPercent: number;
  packetsLost: number;
  nacks: number;
  keyFrameRequests: number;
  jitterMs: number | null;
  jitterBufferMs: number | null;
  decodeMs: number | null;
  legs: Legs;
  /** Sum of the legs that are known. */
  latencyMs: number | null;
  /** Age of the picture on screen by the capture time that the server stamped, where the browser tells. */
  ageMs: number | null;
  /** "udp host", "tcp relay", … */
  path: string;
  /** `state` is the server's word: off, starting, ok, lost. */
  audio: { state: string; codec: string; level: number; jitterBufferMs: number | null; concealedPercent: number; packetsLost: number };
  missedHeartbeats: number;
}

/** What the meter is told besides the browser's report. */
export interface Extras {
  session: SessionState | null;
  timing: Timing | null;
  pongMs: number | null;
  paint: PaintSample | null;
  missedHeartbeats: number;
}

/** What was painted in an interval. */
export interface PaintSample {
  /** Frames painted so far. */
  frames: number;
  /** Mean time from the frame's last packet to the screen, ms. */
  receivedToScreen: number | null;
  /** Mean time from capture to the screen, ms. */
  age: number | null;
}

type Entry = Record<string, unknown>;

const number = (entry: Entry | undefined, name: string): number => {
  const value = entry?.[name];
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
};
const text = (entry: Entry | undefined, name: string): string => {
  const value = entry?.[name];
  return typeof value === "string" ? value : "";
};

/** The change of a counter from one entry to the next; a counter that fell began anew. */
export function delta(now: Entry | undefined, before: Entry | undefined, name: string): number {
  const change = number(now, name) - number(before, name);
  return change < 0 ? number(now, name) : change;
}

/** Mean of what was added: the change of a sum over the change of a count, scaled; null for nothing. */
export function mean(now: Entry | undefined, before: Entry | undefined, sum: string, count: string, scale: number): number | null {
  const n = delta(now, before, count);
  return n > 0 ? (delta(now, before, sum) / n) * scale : null;
}

/** The sum of what is known; null when nothing is. */
export function total(legs: Legs): number | null {
  const known = Object.values(legs).filter((leg): leg is number => leg !== null);
  return known.length > 0 ? known.reduce((sum, leg) => sum + leg, 0) : null;
}

/** Turns the browser's running totals into what happened since the last sample. */
export class StatsMeter {
  #video: Entry | undefined;
  #audio: Entry | undefined;
  #painted = 0;
  #at = 0;

  /** Forgets the past: the connection is a new one. */
  reset(): void {
    this.#video = this.#audio = undefined;
    this.#painted = 0;
    this.#at = 0;
  }

  sample(report: Iterable<[string, unknown]>, at: number, extras: Extras): Stats {
    const entries = new Map<string, Entry>();
    for (const [id, entry] of report) entries.set(id, entry as Entry);
    const find = (want: (e: Entry) => boolean): Entry | undefined => [...entries.values()].find(want);
    const video = find((e) => e["type"] === "inbound-rtp" && e["kind"] === "video");
    const audio = find((e) => e["type"] === "inbound-rtp" && e["kind"] === "audio");
    const transport = find((e) => e["type"] === "transport");
    const pair =
      entries.get(text(transport, "selectedCandidatePairId")) ??
      find((e) => e["type"] === "candidate-pair" && e["nominated"] === true && e["state"] === "succeeded");
    const local = entries.get(text(pair, "localCandidateId"));
    const remote = entries.get(text(pair, "remoteCandidateId"));
    const codecOf = (stream: Entry | undefined): string =>
      text(entries.get(text(stream, "codecId")), "mimeType").replace(/^(video|audio)\//, "");

    const seconds = this.#at > 0 ? Math.max(0.001, (at - this.#at) / 1000) : 0;
    const rate = (change: number): number => (seconds > 0 ? change / seconds : 0);
    const received = delta(video, this.#video, "packetsReceived");
    // The loss counter may fall when late packets arrive: that is no loss of all of it.
    const lost = Math.max(0, number(video, "packetsLost") - number(this.#video, "packetsLost"));
    const painted = extras.paint?.frames ?? 0;
    const jitterBuffer = mean(video, this.#video, "jitterBufferDelay", "jitterBufferEmittedCount", 1000);
    const decode = mean(video, this.#video, "totalDecodeTime", "framesDecoded", 1000);
    const pairMs = number(pair, "currentRoundTripTime") * 1000;
    const rtt = extras.pongMs ?? (pairMs > 0 ? pairMs : null);
    const { timing } = extras;
    const after = extras.paint?.receivedToScreen ?? null;
    const legs: Legs = {
      wait: timing?.wait_ms ?? null,
      capture: timing?.capture_ms ?? null,
      convert: timing?.convert_ms ?? null,
      encode: timing?.encode_ms ?? null,
      wire: timing?.wire_ms ?? null,
      send: timing?.send_ms ?? null,
      network: rtt === null ? null : rtt / 2,
      jitterBuffer,
      decode,
      present: after === null ? null : Math.max(0, after - (jitterBuffer ?? 0) - (decode ?? 0)),
    };
    const codec = codecOf(video);
    const encoder = extras.session?.video?.find((v) => v.codec === codec.toLowerCase()) ?? extras.session?.video?.[0];
    const stats: Stats = {
      at,
      codec,
      encoder: timing?.encoder || encoder?.encoder || "",
      reason: encoder?.reason ?? "",
      hardware: encoder?.hardware ?? null,
      decoder: text(video, "decoderImplementation"),
      width: number(video, "frameWidth"),
      height: number(video, "frameHeight"),
      fpsReceived: rate(delta(video, this.#video, "framesReceived")),
      fpsDecoded: rate(delta(video, this.#video, "framesDecoded")),
      fpsPainted: rate(Math.max(0, painted - this.#painted)),
      framesDecoded: number(video, "framesDecoded"),
      framesPainted: painted,
      framesDropped: number(video, "framesDropped"),
      keyFrames: number(video, "keyFramesDecoded"),
      freezes: number(video, "freezeCount"),
      kbps: rate(delta(video, this.#video, "bytesReceived") * 8) / 1000,
      audioKbps: rate(delta(audio, this.#audio, "bytesReceived") * 8) / 1000,
      targetKbps: timing?.kbps_target ?? null,
      estimateKbps: timing?.kbps_estimate || null,
      rttMs: rtt,
      lossPercent: received + lost > 0 ? (100 * lost) / (received + lost) : 0,
      packetsLost: number(video, "packetsLost"),
      nacks: number(video, "nackCount"),
      keyFrameRequests: number(video, "pliCount") + number(video, "firCount"),
      jitterMs: video ? number(video, "jitter") * 1000 : null,
      jitterBufferMs: jitterBuffer,
      decodeMs: decode,
      legs,
      latencyMs: total(legs),
      ageMs: extras.paint?.age ?? null,
      path: [
        text(local, "relayProtocol") || text(local, "protocol"),
        text(local, "candidateType") === "relay" || text(remote, "candidateType") === "relay" ? "relay" : text(remote, "candidateType"),
      ]
        .filter(Boolean)
        .join(" "),
      audio: {
        state: extras.session?.audio ?? "",
        codec: codecOf(audio),
        level: number(audio, "audioLevel"),
        jitterBufferMs: mean(audio, this.#audio, "jitterBufferDelay", "jitterBufferEmittedCount", 1000),
        concealedPercent: 100 * (mean(audio, this.#audio, "concealedSamples", "totalSamplesReceived", 1) ?? 0),
        packetsLost: number(audio, "packetsLost"),
      },
      missedHeartbeats: extras.missedHeartbeats,
    };
    this.#video = video;
    this.#audio = audio;
    this.#painted = painted;
    this.#at = at;
    return stats;
  }
}
