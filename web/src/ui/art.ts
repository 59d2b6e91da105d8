import { s } from "./dom";

/** A small generator of repeatable randomness (mulberry32) from a name. */
function seeded(name: string): () => number {
  let a = 2166136261;
  for (const c of name) a = Math.imul(a ^ (c.codePointAt(0) ?? 0), 16777619);
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

type Night = readonly [sky: string, horizon: string, glow: string, ground: string];

const FIRST_NIGHT: Night = ["#0c1730", "#245a78", "#5fe3c6", "#0a1426"];

const NIGHTS: readonly Night[] = [
  FIRST_NIGHT,
  ["#1b1540", "#5a3f9e", "#b48cff", "#0f0b28"],
  ["#0f2a33", "#1f7a6d", "#8af0b8", "#081b20"],
  ["#2a1631", "#a0456b", "#ffb08a", "#190d20"],
  ["#101f4a", "#3c64d0", "#9cc4ff", "#0a1230"],
  ["#2b1d14", "#b0663a", "#ffd98a", "#1a110c"],
  ["#132a20", "#3f8a4f", "#d4f08a", "#0b1a14"],
  ["#261a3f", "#7c4fd0", "#ff9ad5", "#150e28"],
];

/** How large a picture is to be: a tile, or the background of a whole page. */
export type Format = "tile" | "wide";

const FORMATS = {
  tile: { width: 320, height: 200, stars: 26, star: 0.9, moon: 12, ridges: [8, 10, 12], rough: 34 },
  wide: { width: 1280, height: 720, stars: 150, star: 1.3, moon: 30, ridges: [11, 15, 20], rough: 120 },
} as const;

/**
 * A northern night: sky, stars, aurora, a moon and ridges, the same for the
 * same name. It stands where a program brings no picture of its own.
 */
export function landscape(name: string, format: Format = "tile"): SVGElement {
  const random = seeded(name);
  const { width, height, stars, star, moon, ridges, rough } = FORMATS[format];
  const [sky, low, glow, ground] = NIGHTS[Math.floor(random() * NIGHTS.length)] ?? FIRST_NIGHT;
  const id = `n${(++made).toString(36)}`;
  const n = (value: number): string => value.toFixed(1);
  const root = s("svg", { class: "landscape", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: format === "wide" ? "xMidYMid slice" : "xMidYMax slice", "aria-hidden": "true" });
  const stop = (offset: number, color: string, opacity = 1): SVGElement => s("stop", { offset, "stop-color": color, "stop-opacity": opacity });
  root.append(
    s(
      "defs",
      {},
      s("linearGradient", { id: `${id}s`, x1: 0, y1: 0, x2: 0, y2: 1 }, stop(0, sky), stop(1, low)),
      s("radialGradient", { id: `${id}g` }, stop(0, glow, 0.7), stop(1, glow, 0)),
      s("filter", { id: `${id}b`, x: "-20%", y: "-50%", width: "140%", height: "200%" }, s("feGaussianBlur", { stdDeviation: "26" })),
      s("radialGradient", { id: `${id}m`, cx: 0.35, cy: 0.35, r: 0.8 }, stop(0, "#ffffff"), stop(0.7, "#e6edf9"), stop(1, "#b6c3dc")),
      s("linearGradient", { id: `${id}r`, x1: 0, y1: 0, x2: 0, y2: 1 }, stop(0, ground), stop(1, "#05080f")),
    ),
    s("rect", { width, height, fill: `url(#${id}s)` }),
  );
  for (let i = 0; i < stars; i++) {
    root.append(s("circle", { cx: n(random() * width), cy: n(random() * height * 0.62), r: (0.35 + random() ** 3 * star).toFixed(2), fill: "#fff", opacity: (0.2 + random() * 0.65).toFixed(2) }));
  }
  const mx = width * (0.14 + random() * 0.72);
  const my = height * (0.14 + random() * 0.14);
  const mr = moon * (0.85 + random() * 0.5);
  root.append(
    s("circle", { cx: n(mx), cy: n(my), r: n(mr * 3.2), fill: `url(#${id}g)`, opacity: 0.5 }),
    s("circle", { cx: n(mx), cy: n(my), r: n(mr), fill: `url(#${id}m)` }),
  );
  if (format === "wide") {
    // The aurora: soft bands. Blurring is too dear for a shelf full of tiles.
    const bands = s("g", { filter: `url(#${id}b)`, fill: "none", stroke: glow, "stroke-linecap": "round" });
    for (let band = 0; band < 3; band++) {
      const base = height * (0.24 + band * 0.12);
      const amp = height * (0.05 + random() * 0.05);
      const phase = random() * 6.3;
      let d = "";
      for (let i = -1; i <= 25; i++) {
        const y = base + Math.sin(phase + i * 0.34) * amp + Math.sin(phase * 2 + i * 0.13) * amp * 1.4 - i * height * 0.006;
        d += `${i === -1 ? "M" : "L"}${n((i / 24) * width)} ${n(y)}`;
      }
      bands.append(s("path", { d, "stroke-width": n(height * (0.05 + random() * 0.06)), opacity: [0.26, 0.36, 0.2][band] ?? 0.2 }));
    }
    root.append(bands);
  }
  root.append(s("ellipse", { cx: n(width * (0.2 + random() * 0.6)), cy: n(height * 0.76), rx: n(width * 0.6), ry: n(height * 0.42), fill: `url(#${id}g)`, opacity: 0.8 }));
  ridges.forEach((steps, layer) => {
    const base = height * (0.66 + layer * 0.125);
    const high = rough * (1 - layer * 0.22);
    let d = `M0 ${height}L0 ${n(base - random() * high * 0.4)}`;
    for (let i = 1; i < steps; i++) {
      const up = i % 2 === 1 ? high * (0.5 + random() * 0.7) : high * random() * 0.28;
      d += `L${n(((i + (random() - 0.5) * 0.5) / steps) * width)} ${n(base - up + high * 0.3)}`;
    }
    d += `L${width} ${n(base - random() * high * 0.4)}L${width} ${height}Z`;
    root.append(s("path", { d, fill: layer === 2 ? `url(#${id}r)` : ground, opacity: [0.42, 0.72, 1][layer] ?? 1 }));
  });
  return root;
}
let made = 0;
