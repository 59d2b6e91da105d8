import type { InputSender } from "./input";
import { virtualKey } from "./keymap";
import { realTimers, type Timers } from "./motion";

/** What is read of a KeyboardEvent. */
export interface KeyEvent {
  readonly code: string;
  readonly key: string;
  readonly repeat: boolean;
  readonly isComposing: boolean;
  readonly timeStamp: number;
  readonly shiftKey: boolean;
  readonly ctrlKey: boolean;
  readonly altKey: boolean;
  readonly metaKey: boolean;
  getModifierState(name: string): boolean;
}

export type Platform = "windows" | "mac" | "other";

/** The platform by what navigator tells. */
export function platformOf(platform: string): Platform {
  if (/^win/i.test(platform)) return "windows";
  return /mac|iphone|ipad|ipod/i.test(platform) ? "mac" : "other";
}

const CONTROL_LEFT = 0xa2;
const ALT_RIGHT = 0xa5;
const CAPS_LOCK = 0x14;
const SHIFTS = [0xa0, 0xa1];
const METAS = [0x5b, 0x5c];
const MODIFIERS = new Set([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0x5b, 0x5c]);

/** Keys whose key-up Windows never tells: those that switch an input method. */
const ONE_SHOT = new Set(["KanaMode", "Lang1", "Lang2", "Lang3", "Lang4", "Lang5", "Convert", "NonConvert"]);

/** How long a left Ctrl waits on Windows for the AltGr that it may belong to. */
const ALTGR_WAIT_MS = 20;

/** Ctrl and AltGr of one press carry time stamps this close. */
const ALTGR_CLOSE_MS = 50;

/**
 * Turns key events of one player into key packets, and repairs what platforms
 * get wrong: Windows' Ctrl before AltGr, macOS' lost key-ups while Cmd is held,
 * keys of which only half is told.
 */
export class Keyboard {
  readonly #input: InputSender;
  readonly #platform: Platform;
  readonly #timers: Timers;
  #waiting: { at: number; timer: unknown } | null = null;
  #fakeControl = false;

  /**
   * Whether AltGr may exist: then, on Windows, a left Ctrl is held back for a
   * moment. Without AltGr there is nothing to wait for.
   */
  altGr = true;

  constructor(input: InputSender, platform: Platform, timers: Timers = realTimers) {
    this.#input = input;
    this.#platform = platform;
    this.#timers = timers;
  }

  /** Handles keydown; true when the key was taken and the browser should do nothing. */
  down(event: KeyEvent): boolean {
    if (event.isComposing) return false;
    const vk = virtualKey(event.code, event.key);
    if (vk === 0) {
      // No position, but one character: a soft keyboard.
      if (event.code === "" && [...event.key].length === 1) {
        this.#input.text(event.key);
        return true;
      }
      return false;
    }
    if (event.repeat) return true;
    if (this.#altGrFollows(event, vk)) return true;
    this.flush();
    this.#letGoOfLostModifiers(event, vk);
    if (this.#platform === "windows") {
      if (vk === CONTROL_LEFT && this.altGr && !this.#input.holdsKey(vk)) {
        this.#waiting = {
          at: event.timeStamp,
          timer: this.#timers.set(() => this.flush(), ALTGR_WAIT_MS),
        };
        return true;
      }
      if (ONE_SHOT.has(event.code)) {
        this.#input.keyTap(vk);
        return true;
      }
    }
    if (this.#platform === "mac" && vk === CAPS_LOCK) {
      // macOS tells "down" when it gets switched on and "up" when off.
      this.#input.keyTap(vk);
      return true;
    }
    this.#input.keyDown(vk);
    return true;
  }

  /** Handles keyup; true when the key was taken. */
  up(event: KeyEvent): boolean {
    const vk = virtualKey(event.code, event.key);
    if (vk === 0) return false;
    this.flush();
    if (vk === CONTROL_LEFT && this.#fakeControl) {
      this.#fakeControl = false;
      return true;
    }
    if (vk === ALT_RIGHT) this.#fakeControl = false;
    if (this.#platform === "mac") {
      if (vk === CAPS_LOCK) {
        this.#input.keyTap(vk);
        return true;
      }
      if (METAS.includes(vk)) {
        // While Cmd is held macOS keeps the key-ups of other keys to itself.
        for (const held of this.#input.heldKeys) if (!MODIFIERS.has(held)) this.#input.keyUp(held);
      }
    }
    if (this.#platform === "windows" && SHIFTS.includes(vk)) {
      // Windows tells only one key-up when both Shift keys were held.
      for (const shift of SHIFTS) this.#input.keyUp(shift);
      return true;
    }
    if (event.code === "PrintScreen" && !this.#input.holdsKey(vk)) {
      this.#input.keyTap(vk); // Windows tells only the key-up.
      return true;
    }
    this.#input.keyUp(vk);
    return true;
  }

  /** Sends what was held back. Call it before a button or a wheel goes out. */
  flush(): void {
    if (!this.#waiting) return;
    this.#timers.clear(this.#waiting.timer);
    this.#waiting = null;
    this.#input.keyDown(CONTROL_LEFT);
  }

  /** Lets go of every key, and of what was held back. */
  release(): void {
    if (this.#waiting) this.#timers.clear(this.#waiting.timer);
    this.#waiting = null;
    this.#fakeControl = false;
    this.#input.releaseKeys();
  }

  /**
   * On layouts with AltGr Windows makes a left Ctrl before the right Alt, with
   * the same time stamp; it never was pressed.
   */
  #altGrFollows(event: KeyEvent, vk: number): boolean {
    const waiting = this.#waiting;
    if (!waiting || vk !== ALT_RIGHT) return false;
    if (event.timeStamp - waiting.at > ALTGR_CLOSE_MS) return false;
    this.#timers.clear(waiting.timer);
    this.#waiting = null;
    this.#fakeControl = true;
    this.#letGoOfLostModifiers(event, vk);
    this.#input.keyDown(ALT_RIGHT);
    return true;
  }

  /** Whoever switched windows with a shortcut left a modifier down here. */
  #letGoOfLostModifiers(event: KeyEvent, except: number): void {
    const altGraph = event.getModifierState("AltGraph");
    const state: [boolean, number[]][] = [
      [event.shiftKey, SHIFTS],
      [event.ctrlKey || altGraph, [0xa2, 0xa3]],
      [event.altKey, [0xa4]],
      [event.altKey || altGraph, [0xa5]],
      [event.metaKey, METAS],
    ];
    for (const [down, keys] of state) {
      if (down) continue;
      for (const vk of keys) if (vk !== except) this.#input.keyUp(vk);
    }
  }
}
