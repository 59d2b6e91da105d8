import { Emitter } from "./emitter";
import type { CursorImage } from "./types";

/** Browsers ignore CSS cursors above this size. */
const CSS_LIMIT = 128;

/** What is to be seen of the pointer. */
export interface CursorView {
  /** Value for the CSS property `cursor` of the picture. */
  css: string;
  /** Whether the page draws the pointer itself, at x, y of the display. */
  drawn: boolean;
  image: CursorImage | null;
  x: number;
  y: number;
}

/**
 * Decides how the pointer is shown. While the player's own pointer is over the
 * picture it wears the program's image, and moves without any delay; where
 * there is none (pointer lock, touch, watching) the page draws the image where
 * the server says that the pointer stands.
 */
export class Cursor extends Emitter<{ view: CursorView }> {
  #image: CursorImage | null = null;
  #x = 0;
  #y = 0;
  #placed = false;
  #own = true;

  get image(): CursorImage | null {
    return this.#image;
  }

  /** Whether the program hides the pointer. */
  get hidden(): boolean {
    return this.#image !== null && this.#image.width === 0;
  }

  /** Where the server last said that the pointer stands; null before it did. */
  get position(): { x: number; y: number } | null {
    return this.#placed ? { x: this.#x, y: this.#y } : null;
  }

  /** Whether the player's own pointer stands for the program's. */
  set own(own: boolean) {
    if (this.#own === own) return;
    this.#own = own;
    this.#tell();
  }

  show(image: CursorImage): void {
    this.#image = image;
    this.#tell();
  }

  place(x: number, y: number): void {
    this.#x = x;
    this.#y = y;
    const first = !this.#placed;
    this.#placed = true;
    // Where the player's own pointer is seen, nothing has to be drawn.
    if (first || this.#drawn()) this.#tell();
  }

  get view(): CursorView {
    const image = this.#image;
    const drawn = this.#drawn();
    let css = "default";
    if (image !== null) {
      css = this.#visible() && !drawn ? `url(data:image/png;base64,${image.png}) ${image.hot_x} ${image.hot_y}, default` : "none";
    } else if (!this.#own) {
      css = "none";
    }
    return { css, drawn: drawn && this.#placed, image, x: this.#x, y: this.#y };
  }

  #visible(): boolean {
    return this.#image !== null && this.#image.width > 0 && this.#image.png !== "";
  }

  #drawn(): boolean {
    const image = this.#image;
    return image !== null && this.#visible() && (!this.#own || image.width > CSS_LIMIT || image.height > CSS_LIMIT);
  }

  #tell(): void {
    this.emit("view", this.view);
  }
}
