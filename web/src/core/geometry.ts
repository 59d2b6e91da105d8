/** A rectangle in CSS pixels, relative to the viewport. */
export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** Where a picture of the given pixels stands inside of a box that keeps its aspect. */
export function fit(box: Box, width: number, height: number): Box {
  if (width <= 0 || height <= 0 || box.width <= 0 || box.height <= 0) return { ...box };
  const scale = Math.min(box.width / width, box.height / height);
  const w = width * scale;
  const h = height * scale;
  return { left: box.left + (box.width - w) / 2, top: box.top + (box.height - h) / 2, width: w, height: h };
}

/** The pixel of the picture under a point of the viewport; points outside give the nearest. */
export function pixel(at: Box, width: number, height: number, x: number, y: number): { x: number; y: number } {
  const along = (p: number, start: number, length: number, pixels: number): number =>
    length <= 0 ? 0 : Math.max(0, Math.min(pixels - 1, Math.floor(((p - start) / length) * pixels)));
  return { x: along(x, at.left, at.width, width), y: along(y, at.top, at.height, height) };
}

const even = (value: number): number => Math.round(value / 2) * 2;
const clamp = (value: number, min: number, max: number): number => Math.max(min, Math.min(max, value));

/**
 * The display size for a window: its real pixels, even, inside of what the
 * server makes (640…3840 × 360…2160), aspect kept where a limit bites.
 */
export function displaySize(width: number, height: number, ratio: number): { width: number; height: number } {
  let w = Math.max(1, width * ratio);
  let h = Math.max(1, height * ratio);
  const shrink = Math.min(1, 3840 / w, 2160 / h);
  w *= shrink;
  h *= shrink;
  const grow = Math.max(1, 640 / w, 360 / h);
  return { width: even(clamp(w * grow, 640, 3840)), height: even(clamp(h * grow, 360, 2160)) };
}
