import type { Api } from "./api";
import { asApiError } from "./api";
import { Capture } from "./capture";
import { decodable } from "./codecs";
import { browserParts, Connection } from "./connection";
import { Cursor } from "./cursor";
import { Emitter } from "./emitter";
import { InputSender } from "./input";
import { platformOf } from "./keyboard";
import { LatencyMeter } from "./latency";
import { Link, type LinkState } from "./link";
import { PaintMeter } from "./paint";
import { ServerClock } from "./server-clock";
import { Sound } from "./sound";
import { StatsMeter, type Stats } from "./stats";
import type { Cause, Codec, GrantBits, SessionState, Timing } from "./types";
import { Watchdog } from "./watchdog";

/** How often the player looks after the stream, ms. */
const WATCH_MS = 1000;
/** Least time between two samples of the statistics, ms. */
const STATS_MS = 250;
export interface PlayerOptions {
  api: Api;
  session: string;
  peer: string;
  viewOnly: boolean;
  /** Whether the server is known to name no ICE servers; see ConnectionOptions. */
  early: boolean;
  codec: Codec | "auto";
  maxKbps: number;
  stage: HTMLElement;
  video: HTMLVideoElement;
  audio: HTMLAudioElement;
  /** performance.now() of what began it: the click on Play, or the page's load. */
  began: number;
}

export interface PlayerEvents {
  link: LinkState;
  session: SessionState;
  grant: GrantBits;
  unstable: boolean;
  waiting: { ms: number; attempt: number; cause: Cause };
  down: Cause;
  notice: Cause;
  /** Frames arrive and none is seen (with what is done about it), or they are seen again. */
  picture: { missing: boolean; detail: string };
  /** The picture is about to go: its last frame can still be read. */
  losing: void;
  /** The first frame of a connection is on the screen. */
  painted: { first: boolean };
  /** The picture has a (new) size. */
  size: { width: number; height: number };
  timing: Timing;
}

/**
 * A session as one tab sees and plays it: link, picture, sound, input, cursor
 * and numbers, wired together. It draws nothing but the video.
 */
export class Player extends Emitter<PlayerEvents> {
  readonly input = new InputSender();
  readonly cursor = new Cursor();
  readonly capture: Capture;
  readonly sound: Sound;
  readonly paint: PaintMeter;
  readonly link: Link;
  readonly #options: PlayerOptions;
  readonly latency: LatencyMeter;
  readonly #meter = new StatsMeter();
  readonly #clock = new ServerClock();
  #codec: Codec | "auto";
  /** Whether the server names no ICE servers, as far as is known. */
  #early: boolean;
  #maxKbps: number;
  #session: SessionState | null = null;
  #timing: Timing | null = null;
  #pongMs: number | null = null;
  #firstFrameMs: number | null = null;
  #watch: ReturnType<typeof setInterval> | null = null;
  readonly #watchdog = new Watchdog();
  #missing = false;
  /** Frames painted when the picture was missed. */
  #missedAt = 0;
  /** Whether the browser drew the page since the last look. */
  #drawn = false;
  #agreed: Codec | null = null;
  #sample: Promise<Stats> | null = null;
  #sampledAt = 0;
  readonly #timeline: Record<string, number> = {};

  constructor(options: PlayerOptions) {
    super();
    this.#options = options;
    this.#codec = options.codec;
    this.#early = options.early;
    this.#maxKbps = options.maxKbps;
    this.capture = new Capture(options.stage, this.input, platformOf(navigator.platform));
    this.sound = new Sound(options.audio);
    this.paint = new PaintMeter(options.video);
    this.latency = new LatencyMeter(this.#clock);
    this.link = new Link({ connect: () => this.#connect(), probe: () => this.#probe() });
    this.#wire();
  }

  get session(): SessionState | null {
    return this.#session;
  }

  get grant(): GrantBits {
    return this.input.grant;
  }

  /** The codec that is being received. */
  get agreedCodec(): Codec | null {
    return this.#agreed;
  }

  /** When the steps to the first picture were reached, ms after the beginning. */
  get timeline(): Record<string, number> {
    return { ...this.#timeline };
  }

  /** From the beginning to the first frame on the screen, ms. */
  get firstFrameMs(): number | null {
    return this.#firstFrameMs;
  }

  get unstable(): boolean {
    return this.link.connection?.unstable ?? false;
  }

  start(): void {
    this.#timeline["start"] = performance.now() - this.#options.began;
    this.paint.start();
    this.capture.start();
    window.addEventListener("online", this.#onNetwork);
    connection()?.addEventListener("change", this.#onNetwork);
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#watch = setInterval(() => void this.#look(), WATCH_MS);
    const mimes = browserParts.capabilities().map((c) => c.mimeType);
    if (decodable(mimes, this.#codec).length === 0) {
      this.link.give({ code: "codec-unsupported", detail: `This browser cannot decode ${this.#codec}.` });
      return;
    }
    this.link.start();
  }

  /** Ends for good; the session goes on. */
  stop(): void {
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#watch = null;
    window.removeEventListener("online", this.#onNetwork);
    connection()?.removeEventListener("change", this.#onNetwork);
    document.removeEventListener("visibilitychange", this.#onVisible);
    this.capture.stop();
    this.input.detach();
    this.link.close();
    this.paint.stop();
    this.sound.stop();
    this.#options.video.srcObject = null;
  }

  /** Asks for another codec: that takes a new connection. */
  setCodec(codec: Codec | "auto"): void {
    if (codec === this.#codec) return;
    this.#codec = codec;
    this.link.reconnect();
  }

  /** Caps the bitrate of this tab in kbit/s, 0 for none. */
  setMaxKbps(kbps: number): void {
    this.#maxKbps = kbps;
    this.link.connection?.setMaxKbps(kbps);
  }

  /**
   * The browser's report and ours as numbers. Rates are over the time since the
   * sample before; within STATS_MS everybody gets the same one.
   */
  stats(): Promise<Stats> {
    const now = performance.now();
    if (!this.#sample || now - this.#sampledAt >= STATS_MS) {
      this.#sampledAt = now;
      const before: Promise<unknown> = this.#sample ?? Promise.resolve();
      // One after the other: the report may take longer than anybody waits.
      const measure = (): Promise<Stats> => this.#measure();
      this.#sample = before.then(measure, measure);
    }
    return this.#sample;
  }

  async #measure(): Promise<Stats> {
    const peer = this.link.connection?.peer;
    const report = peer ? await peer.getStats() : new Map<string, unknown>();
    return this.#meter.sample(report as unknown as Iterable<[string, unknown]>, performance.now(), {
      session: this.#session,
      timing: this.#timing,
      pongMs: this.#pongMs,
      paint: this.paint.take(),
      missedHeartbeats: this.input.missed,
    });
  }

  #wire(): void {
    const { link, paint, cursor, capture, sound } = this;
    link.on("state", (state) => {
      if (state !== "live") {
        this.capture.release();
        this.input.detach();
      }
      this.emit("link", state);
    });
    link.on("waiting", (event) => this.emit("waiting", event));
    link.on("down", (cause) => this.emit("down", cause));
    link.on("connection", (c) => this.#listen(c));
    paint.on("first", (at) => {
      const first = this.#firstFrameMs === null;
      if (first) {
        this.#firstFrameMs = at - this.#options.began;
        for (const [name, mark] of Object.entries(link.connection?.marks ?? {})) this.#timeline[name] = mark - this.#options.began;
        this.#timeline["painted"] = this.#firstFrameMs;
      }
      link.painted();
      this.#seen();
      this.emit("painted", { first });
    });
    paint.on("shown", (frame) => this.latency.painted(frame, performance.now()));
    this.input.onPress = (number, at) => this.latency.pressed(number, at);
    paint.on("frame", (size) => this.emit("size", this.#displaySize(size)));
    this.on("size", ({ width, height }) => capture.setPicture(width, height));
    capture.on("locked", (locked) => (cursor.own = this.#ownPointer(locked)));
    capture.on("touch", () => (cursor.own = this.#ownPointer(capture.locked)));
    capture.on("moved", ({ x, y }) => cursor.place(x, y));
    capture.on("gesture", () => sound.unlock());
    this.#options.video.addEventListener("resize", () => {
      const { videoWidth: width, videoHeight: height } = this.#options.video;
      if (width > 0 && height > 0) this.emit("size", this.#displaySize({ width, height }));
    });
  }

  /**
   * The display's size that a picture stands for: on a slow path it is encoded
   * smaller, and the pointer is told of in pixels of the display.
   */
  #displaySize(picture: { width: number; height: number }): { width: number; height: number } {
    const s = this.#session;
    if (!s || picture.width >= s.width || picture.height >= s.height) return picture;
    const slant = Math.abs((picture.width * s.height) / (picture.height * s.width) - 1);
    return slant < 0.02 ? { width: s.width, height: s.height } : picture;
  }

  #ownPointer(locked: boolean): boolean {
    return !locked && !this.capture.touching && this.grant.pointer;
  }

  #connect(): Connection {
    const { session, peer, viewOnly } = this.#options;
    const scheme = location.protocol === "http:" ? "ws:" : "wss:";
    const mimes = browserParts.capabilities().map((c) => c.mimeType);
    return new Connection({
      url: `${scheme}//${location.host}/api/sessions/${encodeURIComponent(session)}/signal`,
      peer,
      codecs: decodable(mimes, this.#codec),
      maxKbps: this.#maxKbps,
      viewOnly,
      early: this.#early,
    });
  }

  async #probe(): Promise<Cause | null> {
    try {
      const state = await this.#options.api.session(this.#options.session);
      return state.phase === "ended" ? (state.cause ?? { code: "session-not-found" }) : null;
    } catch (error) {
      const { code, detail, status } = asApiError(error);
      return status === 401 || status === 404 || status === 403 ? { code, detail } : null;
    }
  }

  #listen(c: Connection): void {
    this.#meter.reset();
    this.paint.reset();
    this.#missedAt = 0;
    this.#timing = null;
    this.#pongMs = null;
    this.latency.reset();
    this.#clock.reset();
    this.#watchdog.reset();
    c.on("welcome", (welcome) => {
      this.#agreed = welcome.codec;
      this.#early = (welcome.ice_servers ?? []).length === 0;
      this.#setGrant(welcome.grant);
    });
    c.on("session", (session) => {
      this.#session = session;
      const mine = session.peers?.find((p) => p.id === this.#options.peer);
      if (mine) this.#setGrant(mine.grant);
      this.emit("session", session);
    });
    c.on("state", (state) => {
      if (state === "closing" || state === "closed") this.emit("losing", undefined);
    });
    c.on("track", (track) => {
      this.#timeline[track.kind] ??= performance.now() - this.#options.began;
      if (track.kind === "audio") {
        this.sound.play(track);
        return;
      }
      const { video } = this.#options;
      video.srcObject = new MediaStream([track]);
      video.play().catch(() => {
        // A newer stream took over, or the page went away: either tells by itself.
      });
    });
    c.on("channels", ({ input, motion, heartbeatMs }) => this.input.attach(input as never, motion as never, heartbeatMs));
    c.on("cursor", (image) => this.cursor.show(image));
    c.on("position", ({ x, y }) => this.cursor.place(x, y));
    c.on("timing", (timing) => {
      this.#timing = timing;
      this.emit("timing", timing);
    });
    c.on("stages", (stages) => this.latency.told(stages, performance.now()));
    c.on("pong", (pong) => {
      const ms = this.input.pong(pong);
      this.#clock.add(pong.sent, pong.sent + ms, pong.server);
      this.#pongMs = this.#pongMs === null ? ms : this.#pongMs * 0.75 + ms * 0.25;
    });
    c.on("unstable", (unstable) => this.emit("unstable", unstable));
    c.on("notice", (cause) => {
      if (cause.code === "no-picture") this.#missed(cause.detail ?? "");
      else this.emit("notice", cause);
    });
  }

  #setGrant(grant: GrantBits): void {
    this.input.grant = grant;
    this.cursor.own = this.#ownPointer(this.capture.locked);
    this.emit("grant", grant);
  }

  readonly #onNetwork = (): void => this.link.networkChanged();

  readonly #onVisible = (): void => {
    if (document.visibilityState === "visible" && this.link.state === "waiting") this.link.retryNow();
  };

  #missed(detail: string): void {
    this.#missing = true;
    this.#missedAt = this.paint.frames;
    this.emit("picture", { missing: true, detail });
  }

  #seen(): void {
    if (!this.#missing || this.paint.frames === this.#missedAt) return;
    this.#missing = false;
    this.emit("picture", { missing: false, detail: "" });
  }

  /** Tells the server what was painted, and notices when frames arrive that nobody sees. */
  async #look(): Promise<void> {
    const c = this.link.connection;
    if (!c || c.state !== "connected") return;
    if (!("requestVideoFrameCallback" in this.#options.video)) return;
    this.latency.tidy(performance.now());
    const rendering = document.visibilityState === "visible" && this.#drawn;
    c.painted(this.paint.frames, this.paint.rtpTimestamp, rendering && !c.unstable, this.latency.take());
    this.#seen();
    const received = await receivedFrames(c.peer);
    if (this.link.connection !== c) return;
    const verdict = this.#watchdog.look({
      now: performance.now(),
      rendering,
      running: this.#session?.phase === "running",
      received,
      painted: this.paint.frames,
    });
    this.#drawn = false;
    requestAnimationFrame(() => (this.#drawn = true));
    if (verdict === "ask") {
      this.input.requestKeyFrame();
      this.#missed("Frames arrive, but none can be shown. A fresh one was asked for.");
    } else if (verdict === "reconnect") {
      this.link.reconnect();
    } else if (verdict === "give up") {
      this.link.give({ code: "no-picture", detail: "This browser received frames and could not show them." });
    }
  }
}

async function receivedFrames(peer: RTCPeerConnection | null): Promise<number> {
  if (!peer) return 0;
  let frames = 0;
  for (const entry of (await peer.getStats()).values() as Iterable<Record<string, unknown>>) {
    if (entry["type"] === "inbound-rtp" && entry["kind"] === "video") frames = Number(entry["framesReceived"] ?? 0);
  }
  return frames;
}

/** The Network Information API, where it exists. */
function connection(): EventTarget | undefined {
  return (navigator as Navigator & { connection?: EventTarget }).connection;
}
