import type { CursorView } from "../core/cursor";
import type { Box } from "../core/geometry";
import { h } from "./dom";

/** The program's pointer, drawn where the player has none of their own. */
export class PointerImage {
  readonly element = h("img", { class: "cursor", alt: "", hidden: true, data: { testid: "cursor" } });

  /** Draws it. `box` is the picture, `stage` the element around it, `width` the display's in pixels. */
  draw(view: CursorView, box: Box, stage: Box, width: number): void {
    const { image } = view;
    const img = this.element;
    img.hidden = !view.drawn || !image || width === 0;
    img.dataset["serial"] = String(image?.serial ?? "");
    if (img.hidden || !image) return;
    const scale = box.width / width;
    const src = `data:image/png;base64,${image.png}`;
    if (img.src !== src) img.src = src;
    img.style.width = `${image.width * scale}px`;
    img.style.height = `${image.height * scale}px`;
    const x = box.left - stage.left + (view.x - image.hot_x) * scale;
    const y = box.top - stage.top + (view.y - image.hot_y) * scale;
    img.style.transform = `translate(${x}px, ${y}px)`;
  }
}
