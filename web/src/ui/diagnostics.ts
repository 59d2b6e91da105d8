import type { Latency } from "../core/latency";
import type { Stats } from "../core/stats";
import type { CursorImage, GrantBits, SessionState } from "../core/types";
import type { Play } from "./play";

/**
 * What `window.fenrir` tells, read-only, for tests and for people who report a
 * problem. Nothing here changes anything, but for an AudioContext that
 * audioLevel and audioPeakHz make when they are first called.
 */
export interface Diagnostics {
  /** "loading", "setup", "login", "library", "settings", "play". */
  readonly view: string;
  /**
   * "idle" outside of the player; there: "starting" (no connection yet),
   * "connecting", "live", "unstable", "waiting", "down", "closed".
   */
  readonly state: string;
  /** Code of the cause on screen, "" when there is none. */
  readonly error: string;
  readonly session: SessionState | null;
  /** This tab's id as a peer; the same over reloads. */
  readonly peer: string;
  readonly codec: string;
  readonly grant: GrantBits;
  /** Click on Play (or load of the page) → first frame on the screen, ms; null before. */
  readonly firstFrameMs: number | null;
  /**
   * When the steps to the first picture were reached, ms after the same
   * beginning: start, socket, welcome, offer, answer, video, audio, connected,
   * painted.
   */
  readonly timeline: Record<string, number>;
  /** Frames painted over the present connection. */
  readonly framesPainted: number;
  /** Connections made so far by this view. */
  readonly connections: number;
  readonly pointerLocked: boolean;
  /** The pointer's picture as it was last told, and where the server says it stands. */
  readonly cursor: { image: CursorImage | null; x: number; y: number };
  /** Keys (virtual-key codes) and buttons that are held, and input packets sent so far. */
  readonly input: { keys: readonly number[]; buttons: readonly number[]; sent: Record<string, number> };
  /** "none", "locked" (a gesture is missing), "muted" or "playing". */
  readonly sound: string;
  /** Numbers of the stream; rates are over the time since the last sample, at least 250 ms. */
  stats(): Promise<Stats | null>;
  /**
   * The ways of frames and presses over the last so many seconds (10; at most
   * 60), leg by leg: see Latency in core/latency.ts. null outside of the player.
   */
  latency(seconds?: number): Latency | null;
  /** Root mean square of the sound at this moment, 0…1, before volume and mute. */
  audioLevel(): number;
  /** The loudest frequency at this moment in Hz, 0 for silence; 23 Hz steps at 48 kHz. */
  audioPeakHz(): number;
}

export interface DiagnosticsParts {
  view: () => string;
  peer: () => string;
  play: () => Play | null;
}

export function diagnostics(parts: DiagnosticsParts): Diagnostics {
  const player = () => parts.play()?.player ?? null;
  return Object.freeze({
    get view() {
      return parts.view();
    },
    get state() {
      const play = parts.play();
      if (!play) return "idle";
      if (play.error) return "down";
      const p = play.player;
      if (!p) return "starting";
      return p.link.state === "live" && p.unstable ? "unstable" : p.link.state;
    },
    get error() {
      return parts.play()?.error?.code ?? "";
    },
    get session() {
      return parts.play()?.session ?? null;
    },
    get peer() {
      return parts.peer();
    },
    get codec() {
      return player()?.agreedCodec ?? "";
    },
    get grant() {
      return { ...(player()?.grant ?? { keyboard: false, pointer: false, pads: false }) };
    },
    get firstFrameMs() {
      return player()?.firstFrameMs ?? null;
    },
    get timeline() {
      return player()?.timeline ?? {};
    },
    get framesPainted() {
      return player()?.paint.frames ?? 0;
    },
    get connections() {
      return player()?.link.attempts ?? 0;
    },
    get pointerLocked() {
      return player()?.capture.locked ?? false;
    },
    get cursor() {
      const c = player()?.cursor;
      return { image: c?.image ?? null, x: c?.view.x ?? 0, y: c?.view.y ?? 0 };
    },
    get input() {
      const i = player()?.input;
      return { keys: i?.heldKeys ?? [], buttons: i?.heldButtons ?? [], sent: { ...i?.sent } };
    },
    get sound() {
      const s = player()?.sound;
      if (!s?.playing) return "none";
      if (s.locked) return "locked";
      return s.muted ? "muted" : "playing";
    },
    stats: async () => (await player()?.stats()) ?? null,
    latency: (seconds?: number) => player()?.latency.summary(performance.now(), seconds) ?? null,
    audioLevel: () => player()?.sound.level() ?? 0,
    audioPeakHz: () => player()?.sound.peak() ?? 0,
  });
}

declare global {
  interface Window {
    fenrir?: Diagnostics;
  }
}
