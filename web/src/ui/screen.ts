import { toast } from "./dom";

/** Keyboard Lock, which type libraries do not know. */
interface KeyboardLock {
  lock?(): Promise<void>;
  unlock?(): void;
}

/** Full screen with the keyboard, and a screen that stays on, for one element. */
export class Screen {
  readonly #element: HTMLElement;
  readonly #changed: (full: boolean) => void;
  #wakeLock: WakeLockSentinel | null = null;
  #running = false;

  constructor(element: HTMLElement, changed: (full: boolean) => void) {
    this.#element = element;
    this.#changed = changed;
  }

  start(): void {
    this.#running = true;
    document.addEventListener("fullscreenchange", this.#onFullscreen);
    document.addEventListener("visibilitychange", this.#onVisible);
    void this.#stayAwake();
  }

  stop(): void {
    this.#running = false;
    document.removeEventListener("fullscreenchange", this.#onFullscreen);
    document.removeEventListener("visibilitychange", this.#onVisible);
    void this.#wakeLock?.release();
    this.#wakeLock = null;
    this.leave();
  }

  async toggle(): Promise<void> {
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else await this.#element.requestFullscreen({ navigationUI: "hide" });
    } catch (error) {
      toast(`The browser did not go to full screen: ${error instanceof Error ? error.message : String(error)}`, "bad");
    }
  }

  leave(): void {
    if (document.fullscreenElement) void document.exitFullscreen();
  }

  readonly #onFullscreen = (): void => {
    const full = document.fullscreenElement === this.#element;
    const keyboard = (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;
    if (full) {
      // Alt+Tab, the Windows key and a short Escape belong to the program now; a long Escape leaves.
      keyboard?.lock?.().catch(() => undefined); // Refused: they stay the system's.
    } else {
      keyboard?.unlock?.();
    }
    this.#changed(full);
  };

  /** The browser lets the screen sleep again whenever the page was hidden. */
  readonly #onVisible = (): void => {
    if (document.visibilityState === "visible") void this.#stayAwake();
  };

  async #stayAwake(): Promise<void> {
    try {
      const lock = (await navigator.wakeLock?.request("screen")) ?? null;
      if (this.#running) this.#wakeLock = lock;
      else void lock?.release();
    } catch {
      // Refused (battery saver, hidden page): the system decides.
    }
  }
}
