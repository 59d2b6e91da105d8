import { Emitter } from "./emitter";
import { fit, pixel, type Box } from "./geometry";
import type { InputSender } from "./input";
import { Keyboard, type Platform } from "./keyboard";
import { TouchMouse, type TouchMode } from "./touch";
import { notches } from "./wheel";

/** DOM button → Moonlight's. */
const BUTTONS = [1, 2, 3, 4, 5];
/** Bit of MouseEvent.buttons → Moonlight's button. */
const BUTTON_BITS: readonly [number, number][] = [
  [1, 1],
  [4, 2],
  [2, 3],
  [8, 4],
  [16, 5],
];
/** CSS pixels that two fingers move for one notch of the wheel. */
const TOUCH_NOTCH = 40;
/** How much faster the pointer goes than the finger on a track pad. */
const TRACKPAD_GAIN = 1.6;

export interface CaptureEvents {
  /** Relative mode began or ended. */
  locked: boolean;
  /** The browser refused the pointer lock. */
  refused: string;
  /** A finger touches the picture: there is no pointer of the player's own. */
  touch: boolean;
  /** The pointer stands at a pixel of the display, by this player's doing. */
  moved: { x: number; y: number };
  /** Any gesture in the picture: what needs one may use it. */
  gesture: Event;
  /** A drag by touch began. */
  held: void;
}

/**
 * Listens to keyboard, pointer and fingers on one element and hands what it
 * hears to an InputSender. Listeners are bound once; start and stop mirror each
 * other. Whenever the page loses sight of the player, everything is let go of.
 */
export class Capture extends Emitter<CaptureEvents> {
  readonly #stage: HTMLElement;
  readonly #input: InputSender;
  readonly #keyboard: Keyboard;
  readonly #touch: TouchMouse;
  #width = 0;
  #height = 0;
  #box: Box | null = null;
  #touching = false;
  #fingers = false;
  #running = false;
  #raw = false;
  #wantsRelative = false;
  /** Asked before each key: true keeps it from the program (shortcuts of the page). */
  shortcut: (event: KeyboardEvent) => boolean = () => false;

  constructor(stage: HTMLElement, input: InputSender, platform: Platform) {
    super();
    this.#stage = stage;
    this.#input = input;
    this.#keyboard = new Keyboard(input, platform);
    this.#touch = new TouchMouse({
      to: (x, y) => this.#to(x, y),
      by: (dx, dy) => this.#input.pointerBy(dx * TRACKPAD_GAIN, dy * TRACKPAD_GAIN),
      button: (number, down) => (down ? this.#input.buttonDown(number) : this.#input.buttonUp(number)),
      scroll: (dx, dy) => this.#input.scroll((-dx / TOUCH_NOTCH) * 120, (dy / TOUCH_NOTCH) * 120),
      held: () => this.emit("held", undefined),
    });
  }

  /** Pixels of the display that the stage shows. */
  setPicture(width: number, height: number): void {
    this.#width = width;
    this.#height = height;
    this.#box = null;
  }

  set altGr(exists: boolean) {
    this.#keyboard.altGr = exists;
  }

  set touchMode(mode: TouchMode) {
    this.#touch.mode = mode;
  }

  get locked(): boolean {
    return document.pointerLockElement === this.#stage;
  }

  get touching(): boolean {
    return this.#fingers;
  }

  /** Where the picture stands in the viewport. */
  get box(): Box {
    if (!this.#box) {
      const r = this.#stage.getBoundingClientRect();
      this.#box = fit({ left: r.left, top: r.top, width: r.width, height: r.height }, this.#width, this.#height);
    }
    return this.#box;
  }

  /** The stage moved or changed its size. */
  moved(): void {
    this.#box = null;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    const s = this.#stage;
    s.addEventListener("keydown", this.#onKeyDown);
    s.addEventListener("keyup", this.#onKeyUp);
    s.addEventListener("blur", this.#onBlur);
    s.addEventListener("mousedown", this.#onMouseDown);
    window.addEventListener("mouseup", this.#onMouseUp, true);
    s.addEventListener("auxclick", prevent);
    s.addEventListener("contextmenu", prevent);
    s.addEventListener("dragstart", prevent);
    // Raw updates come at the rate of the device, not of the screen.
    this.#raw = "onpointerrawupdate" in s;
    s.addEventListener(this.#raw ? "pointerrawupdate" : "pointermove", this.#onPointerMove as EventListener);
    s.addEventListener("pointerdown", this.#onPointerDown);
    s.addEventListener("wheel", this.#onWheel, { passive: false });
    s.addEventListener("touchstart", this.#onTouch, { passive: false });
    s.addEventListener("touchmove", this.#onTouch, { passive: false });
    s.addEventListener("touchend", this.#onTouch, { passive: false });
    s.addEventListener("touchcancel", this.#onTouch, { passive: false });
    document.addEventListener("pointerlockchange", this.#onLockChange);
    document.addEventListener("visibilitychange", this.#onVisibility);
    window.addEventListener("blur", this.#onBlur);
    window.addEventListener("pagehide", this.#onBlur);
    window.addEventListener("resize", this.#onResize);
    window.addEventListener("scroll", this.#onResize, true);
  }

  stop(): void {
    if (!this.#running) return;
    this.#running = false;
    const s = this.#stage;
    s.removeEventListener("keydown", this.#onKeyDown);
    s.removeEventListener("keyup", this.#onKeyUp);
    s.removeEventListener("blur", this.#onBlur);
    s.removeEventListener("mousedown", this.#onMouseDown);
    window.removeEventListener("mouseup", this.#onMouseUp, true);
    s.removeEventListener("auxclick", prevent);
    s.removeEventListener("contextmenu", prevent);
    s.removeEventListener("dragstart", prevent);
    s.removeEventListener(this.#raw ? "pointerrawupdate" : "pointermove", this.#onPointerMove as EventListener);
    s.removeEventListener("pointerdown", this.#onPointerDown);
    s.removeEventListener("wheel", this.#onWheel);
    s.removeEventListener("touchstart", this.#onTouch);
    s.removeEventListener("touchmove", this.#onTouch);
    s.removeEventListener("touchend", this.#onTouch);
    s.removeEventListener("touchcancel", this.#onTouch);
    document.removeEventListener("pointerlockchange", this.#onLockChange);
    document.removeEventListener("visibilitychange", this.#onVisibility);
    window.removeEventListener("blur", this.#onBlur);
    window.removeEventListener("pagehide", this.#onBlur);
    window.removeEventListener("resize", this.#onResize);
    window.removeEventListener("scroll", this.#onResize, true);
    this.unlock();
    this.release();
  }

  /** Lets go of everything. */
  release(): void {
    this.#keyboard.release();
    this.#touch.cancel();
    this.#input.releaseAll();
  }

  /** Asks for relative mode; needs a gesture. */
  async lock(): Promise<void> {
    if (this.locked) return;
    this.#wantsRelative = true;
    const request = this.#stage.requestPointerLock.bind(this.#stage) as (options?: PointerLockOptions) => Promise<void> | undefined;
    try {
      await request({ unadjustedMovement: true });
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NotSupportedError") {
        this.#refuse(error);
        return;
      }
      // This system cannot turn off its mouse acceleration.
      try {
        await request();
      } catch (second) {
        this.#refuse(second);
      }
    }
  }

  unlock(): void {
    this.#wantsRelative = false;
    if (this.locked) document.exitPointerLock();
  }

  /** Whether relative mode was asked for, even if the browser ended it meanwhile. */
  get wantsRelative(): boolean {
    return this.#wantsRelative;
  }

  #refuse(error: unknown): void {
    this.#wantsRelative = false;
    this.emit("refused", error instanceof Error ? error.message : String(error));
  }

  #to(clientX: number, clientY: number): void {
    const at = pixel(this.box, this.#width, this.#height, clientX, clientY);
    this.#input.pointerTo(at.x, at.y, this.#width, this.#height);
    this.emit("moved", at);
  }

  #setFingers(fingers: boolean): void {
    if (this.#fingers === fingers) return;
    this.#fingers = fingers;
    this.emit("touch", fingers);
  }

  readonly #onKeyDown = (event: KeyboardEvent): void => {
    this.emit("gesture", event);
    if (this.shortcut(event)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (this.#keyboard.down(event)) event.preventDefault();
  };

  readonly #onKeyUp = (event: KeyboardEvent): void => {
    if (this.#keyboard.up(event)) event.preventDefault();
  };

  readonly #onBlur = (): void => this.release();

  readonly #onVisibility = (): void => {
    if (document.visibilityState === "hidden") this.release();
  };

  readonly #onResize = (): void => this.moved();

  readonly #onLockChange = (): void => {
    if (!this.locked) this.#input.releaseButtons();
    this.emit("locked", this.locked);
  };

  readonly #onPointerDown = (event: PointerEvent): void => {
    if (event.pointerType === "touch") return;
    this.#setFingers(false);
    // Drags go on outside of the picture; a locked pointer is captured anyway.
    if (!this.locked) this.#stage.setPointerCapture(event.pointerId);
  };

  readonly #onPointerMove = (event: PointerEvent): void => {
    if (event.pointerType === "touch") return;
    if (event.pointerType === "mouse") this.#setFingers(false);
    this.#heal(event.buttons);
    if (!this.locked) {
      this.#to(event.clientX, event.clientY);
      return;
    }
    const parts = event.getCoalescedEvents?.() ?? [];
    let dx = 0;
    let dy = 0;
    for (const part of parts.length > 0 ? parts : [event]) {
      dx += part.movementX;
      dy += part.movementY;
    }
    if (dx !== 0 || dy !== 0) this.#input.pointerBy(dx, dy);
  };

  /** Lets go of buttons whose release nobody told. */
  #heal(buttons: number): void {
    for (const [bit, number] of BUTTON_BITS) {
      if ((buttons & bit) === 0 && this.#input.holdsButton(number)) this.#input.buttonUp(number);
    }
  }

  readonly #onMouseDown = (event: MouseEvent): void => {
    this.emit("gesture", event);
    event.preventDefault(); // No selection, no scrolling with the middle button.
    this.#stage.focus({ preventScroll: true });
    if (this.#touching) return;
    this.#keyboard.flush();
    if (!this.locked) this.#to(event.clientX, event.clientY);
    const number = BUTTONS[event.button];
    if (number !== undefined) this.#input.buttonDown(number);
  };

  readonly #onMouseUp = (event: MouseEvent): void => {
    const number = BUTTONS[event.button];
    if (number === undefined || !this.#input.holdsButton(number)) return;
    event.preventDefault(); // The side buttons would leave the page.
    if (!this.locked) this.#to(event.clientX, event.clientY);
    this.#input.buttonUp(number);
  };

  readonly #onWheel = (event: WheelEvent): void => {
    event.preventDefault();
    this.#keyboard.flush();
    if (!this.locked) this.#to(event.clientX, event.clientY);
    const { horizontal, vertical } = notches(event as WheelEvent & { wheelDeltaX?: number; wheelDeltaY?: number });
    this.#input.scroll(horizontal, vertical);
  };

  readonly #onTouch = (event: TouchEvent): void => {
    event.preventDefault(); // No mouse events made of touches, no zooming.
    this.#setFingers(true);
    this.#touching = event.touches.length > 0;
    if (event.type === "touchstart") {
      this.emit("gesture", event);
      this.#stage.focus({ preventScroll: true });
    }
    for (const touch of event.changedTouches) {
      const { identifier: id, clientX: x, clientY: y } = touch;
      if (event.type === "touchstart") this.#touch.start(id, x, y, event.timeStamp);
      else if (event.type === "touchmove") this.#touch.move(id, x, y);
      else if (event.type === "touchend") this.#touch.end(id, event.timeStamp);
      else this.#touch.cancel();
    }
    if (event.type === "touchend") this.emit("gesture", event);
  };
}

function prevent(event: Event): void {
  event.preventDefault();
}
