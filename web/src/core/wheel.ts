/** What is read of a WheelEvent; wheelDelta… is old but exact where it exists. */
export interface WheelLike {
  readonly deltaX: number;
  readonly deltaY: number;
  readonly deltaMode: number;
  readonly shiftKey: boolean;
  readonly wheelDeltaX?: number;
  readonly wheelDeltaY?: number;
}

const NOTCH = 120;
/** CSS pixels that browsers scroll for one notch. */
const PIXELS_PER_NOTCH = 100;
const LINES_PER_NOTCH = 3;

function amount(delta: number, mode: number, legacy: number | undefined): number {
  if (delta === 0) return 0;
  // Chromium and Safari tell whole notches here whatever the system scrolls for one.
  if (legacy !== undefined && legacy !== 0 && legacy % NOTCH === 0 && mode === 0) return -legacy;
  if (mode === 1) return (delta / LINES_PER_NOTCH) * NOTCH;
  if (mode === 2) return delta * NOTCH;
  return (delta / PIXELS_PER_NOTCH) * NOTCH;
}

/** The wheel in 1/120 notches: vertical positive is away from the user, horizontal to the right. */
export function notches(event: WheelLike): { horizontal: number; vertical: number } {
  const x = amount(event.deltaX, event.deltaMode, event.wheelDeltaX);
  const y = amount(event.deltaY, event.deltaMode, event.wheelDeltaY);
  // Browsers turn Shift and wheel into horizontal scrolling; the program sees
  // Shift by itself and wants the wheel that was really turned.
  if (event.shiftKey && x !== 0 && y === 0) return { horizontal: 0, vertical: -x };
  return { horizontal: x, vertical: y === 0 ? 0 : -y };
}
