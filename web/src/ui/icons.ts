import { s } from "./dom";

/** Outlines on a 24×24 grid. */
const PATHS = {
  play: "M8 5.5v13l10.5-6.5z",
  stop: "M7 7h10v10H7z",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 9.25a2.75 2.75 0 1 0 0 5.5 2.75 2.75 0 0 0 0-5.5Z",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13ZM15.5 15.5 20.5 20.5",
  gear: "M12 8.75a3.25 3.25 0 1 0 0 6.5 3.25 3.25 0 0 0 0-6.5ZM19.400 13.5l1.600 1.200-1.800 3.100-1.900-.7a7 7 0 0 1-2.100 1.200l-.3 2h-3.600l-.3-2a7 7 0 0 1-2.100-1.200l-1.900.7L5.200 14.700l1.600-1.200a7 7 0 0 1 0-3L5.200 9.300 7 6.200l1.900.7A7 7 0 0 1 11 5.700l.3-2h3.600l.3 2a7 7 0 0 1 2.100 1.200l1.900-.7L21 9.300l-1.600 1.200a7 7 0 0 1 0 3Z",
  sliders: "M4 7h9M17 7h3M15 4.5v5M4 17h3M11 17h9M9 14.5v5M4 12h3.5M11.5 12H20M9.5 9.5v5",
  library: "M4 5h6v6H4zM14 5h6v6h-6zM4 15h6v5H4zM14 15h6v5h-6z",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M18.700 5.300l-1.400 1.400M6.700 17.300l-1.400 1.400",
  auto: "M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17",
  leave: "M13.5 4.5h-8v15h8M10 12h10.5M17 8.5l3.5 3.5-3.5 3.5",
  power: "M12 3.5v8M7 6.5a7.5 7.5 0 1 0 10 0",
  fullscreen: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  pointer: "M6 3.5 18.5 12l-5.5 1.300 3 6-2.5 1.200-3-6-4.5 3.5Z",
  chart: "M4 19.5h16M6.5 16v-4M11 16V6M15.5 16v-7M19.5 16V11",
  keyboard: "M3 7h18v10.5H3zM6.5 10.5h.01M10 10.5h.01M13.5 10.5h.01M17 10.5h.01M7.5 14h9",
  sound: "M4 9.5h3.5L12 5.5v13l-4.5-4H4zM15.5 9a4.5 4.5 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11",
  mute: "M4 9.5h3.5L12 5.5v13l-4.5-4H4zM16 9.5l5 5M21 9.5l-5 5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6 6 18",
  warning: "M12 4 21 19.5H3ZM12 10v4.5M12 17v.01",
  user: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM4.5 20a7.5 7.5 0 0 1 15 0",
  key: "M14.5 4a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11ZM10.5 13.5 4 20M6 18l2.5 2.5M16 8v.01",
  chip: "M7 7h10v10H7zM10 3.5V7M14 3.5V7M10 17v3.5M14 17v3.5M3.5 10H7M3.5 14H7M17 10h3.5M17 14h3.5",
  plus: "M12 5v14M5 12h14",
  trash: "M5 7h14M9.5 7V4.5h5V7M7 7l1 13h8l1-13",
  screen: "M3 5h18v11.5H3zM8.5 20h7M12 16.5V20",
  more: "M6 12h.01M12 12h.01M18 12h.01",
} as const;

export type IconName = keyof typeof PATHS;

/** An outline icon in the colour of the text; decoration, so hidden from screen readers. */
export function icon(name: IconName): SVGElement {
  const solid = name === "play" || name === "stop";
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", fill: solid ? "currentColor" : "none", stroke: solid ? "none" : "currentColor",
      "stroke-width": 1.6, "stroke-linecap": "round", "stroke-linejoin": "round" },
    s("path", { d: PATHS[name] }),
  );
}

/** The wolf. Its faces are classes, so that both themes can paint it. */
export function wolf(): SVGElement {
  const face = (name: string, d: string): SVGElement => s("path", { class: name, d });
  return s(
    "svg",
    { class: "wolf", viewBox: "0 0 64 64", "aria-hidden": "true" },
    face("w3", "M10 3 25 17 32 15 39 17 54 3 57 26 62 37 52 43 46 50 39 58 32 62 25 58 18 50 12 43 2 37 7 26Z"),
    face("w4", "M10 3 25 17 15 25 7 26ZM54 3 39 17 49 25 57 26Z"),
    face("w5", "M12.5 9 20.5 17.5 14.5 22.5ZM51.5 9 43.5 17.5 49.5 22.5Z"),
    face("w2", "M25 17 32 15 39 17 32 37Z"),
    face("w1", "M7 26 15 25 25 17 32 37 27 41 18 50 12 43 2 37ZM57 26 49 25 39 17 32 37 37 41 46 50 52 43 62 37Z"),
    face("w2b", "M2 37 12 43 18 50 25 58 24 47 15 39ZM62 37 52 43 46 50 39 58 40 47 49 39Z"),
    face("w3", "M27 41 32 37 37 41 40 47 39 58 32 62 25 58 24 47Z"),
    face("w6", "M27.5 51 36.5 51 34.5 56 32 58 29.5 56ZM14 30 26 34.5 24.5 38 19 37ZM50 30 38 34.5 39.5 38 45 37Z"),
    face("eye", "M18.5 33 24.5 35.200 23.5 37 20.5 36.400ZM45.5 33 39.5 35.200 40.5 37 43.5 36.400Z"),
  );
}
