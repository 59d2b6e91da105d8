import { displaySize } from "../core/geometry";
import { detectLayout, layoutByID } from "../core/layout";
import type { App, Codec, Limits, SessionRequest } from "../core/types";

export type SizeChoice = "auto" | "window" | `${number}x${number}`;

/** What this browser remembers about how its user likes to play. */
export interface Prefs {
  size: SizeChoice;
  fps: number;
  /** kbit/s, 0: no cap. */
  maxKbps: number;
  codec: Codec | "auto";
  /** XKB name, or "auto". */
  layout: string;
  volume: number;
  muted: boolean;
  touch: "direct" | "trackpad";
  /** Whether something was played before. */
  played: boolean;
  stats: boolean;
}

const DEFAULTS: Prefs = { size: "auto", fps: 60, maxKbps: 0, codec: "auto", layout: "auto", volume: 1, muted: false, touch: "direct", played: false, stats: false };
const STORE = "fenrir.prefs";

export const sizes: readonly (readonly [SizeChoice, string])[] = [
  ["auto", "Automatic (up to 1080p)"],
  ["window", "Match window"],
  ["1280x720", "1280 × 720"],
  ["1600x900", "1600 × 900"],
  ["1920x1080", "1920 × 1080"],
  ["2560x1440", "2560 × 1440"],
  ["3840x2160", "3840 × 2160"],
  ["1024x768", "1024 × 768 (4:3)"],
  ["1920x1200", "1920 × 1200 (16:10)"],
  ["2560x1080", "2560 × 1080 (21:9)"],
];

export const rates: readonly (readonly [string, string])[] = [
  ["30", "30 fps"],
  ["60", "60 fps"],
  ["90", "90 fps"],
  ["120", "120 fps"],
];

export const caps: readonly (readonly [string, string])[] = [
  ["0", "Automatic"],
  ["2000", "2 Mbit/s"],
  ["5000", "5 Mbit/s"],
  ["10000", "10 Mbit/s"],
  ["20000", "20 Mbit/s"],
  ["40000", "40 Mbit/s"],
  ["80000", "80 Mbit/s"],
];

function read(): Prefs {
  let stored: Partial<Record<keyof Prefs, unknown>> = {};
  try {
    const value: unknown = JSON.parse(localStorage.getItem(STORE) ?? "{}");
    if (typeof value === "object" && value !== null) stored = value;
  } catch {
    // Forbidden or broken storage: the defaults hold.
  }
  const prefs = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS) as (keyof Prefs)[]) {
    if (typeof stored[name] === typeof DEFAULTS[name]) (prefs as Record<string, unknown>)[name] = stored[name];
  }
  if (prefs.size !== "auto" && prefs.size !== "window" && !/^\d{3,4}x\d{3,4}$/.test(prefs.size)) prefs.size = "auto";
  if (!(prefs.fps >= 10 && prefs.fps <= 240)) prefs.fps = 60;
  return prefs;
}

/** The preferences of this browser; change them through `set`. */
export const prefs: Readonly<Prefs> = read();

export function set<K extends keyof Prefs>(name: K, value: Prefs[K]): void {
  (prefs as Prefs)[name] = value;
  try {
    localStorage.setItem(STORE, JSON.stringify(prefs));
  } catch {
    // Forbidden storage: it holds until the page is left.
  }
}

/** Pixels that "automatic" does not go beyond. */
const AUTO_PIXELS = 1920 * 1080;

/**
 * The display size for the chosen preference and this window. A program that
 * wishes a size gets it when the player leaves it to us.
 */
export function chosenSize(wish: Pick<App, "width" | "height"> = {}): { width: number; height: number } {
  const { innerWidth: width, innerHeight: height, devicePixelRatio: ratio } = window;
  if (prefs.size === "window") return displaySize(width, height, ratio);
  if (prefs.size === "auto") {
    if (wish.width && wish.height) return displaySize(wish.width, wish.height, 1);
    // Programs are made for wide screens: a phone held upright gets one, too.
    const [w, h] = width >= height ? [width, height] : [height, width];
    const scale = Math.min(1, Math.sqrt(AUTO_PIXELS / (w * ratio * h * ratio)));
    return displaySize(w, h, ratio * scale);
  }
  const [w = 1280, h = 720] = prefs.size.split("x").map(Number);
  return displaySize(w, h, 1);
}

let detected: string | null = null;

/** Finds out how this keyboard is laid out; asks the browser once. */
export async function detect(): Promise<string> {
  if (detected !== null) return detected;
  let keys: ReadonlyMap<string, string> = new Map();
  try {
    const api = (navigator as Navigator & { keyboard?: { getLayoutMap?(): Promise<ReadonlyMap<string, string>> } }).keyboard;
    keys = new Map((await api?.getLayoutMap?.()) ?? []);
  } catch {
    // Not allowed here: the languages decide.
  }
  return (detected = detectLayout(keys, navigator.languages ?? [navigator.language]));
}

/** The layout that is chosen or was detected; "us" until that is done. */
export function layout(): string {
  return prefs.layout === "auto" ? (detected ?? "us") : prefs.layout;
}

/** Whether the chosen layout has an AltGr. */
export function hasAltGr(): boolean {
  return layoutByID(layout())?.altGr ?? true;
}

/** What to ask the server for. The bitrate cap is this tab's own and travels with its connection. */
export function requestFor(app: Pick<App, "id" | "width" | "height" | "fps">, limits: Pick<Limits, "min_fps" | "max_fps"> | null): SessionRequest {
  const fps = Math.max(limits?.min_fps ?? 10, Math.min(limits?.max_fps ?? 240, app.fps || prefs.fps));
  const request: SessionRequest = { app: app.id, ...chosenSize(app), fps, layout: layout() };
  if (prefs.codec !== "auto") request.codec = prefs.codec;
  return request;
}
