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

/** Sky, glow and ridges of one night. */
const NIGHTS: readonly (readonly [string, string, string, string])[] = [
  ["#10203f", "#2f6f8f", "#5fe3c6", "#0a1426"],
  ["#1b1540", "#5a3f9e", "#b48cff", "#0f0b28"],
  ["#0f2a33", "#1f7a6d", "#8af0b8", "#081b20"],
  ["#2a1631", "#a0456b", "#ffb08a", "#190d20"],
  ["#101f4a", "#3c64d0", "#9cc4ff", "#0a1230"],
  ["#2b1d14", "#b0663a", "#ffd98a", "#1a110c"],
  ["#132a20", "#3f8a4f", "#d4f08a", "#0b1a14"],
  ["#261a3f", "#7c4fd0", "#ff9ad5", "#150e28"],
];

const W = 320;
const H = 200;

/**
 * A northern night: sky, glow, stars, a moon and ridges, the same for the same
 * name. It stands where a program brings no picture of its own.
 */
export function landscape(name: string): SVGElement {
  const random = seeded(name);
  const [sky, low, glow, ground] = NIGHTS[Math.floor(random() * NIGHTS.length)] ?? NIGHTS[0]!;
  const id = `n${Math.floor(random() * 1e9).toString(36)}${(++made).toString(36)}`;
  const gx = 60 + random() * 200;
  const root = s("svg", { class: "landscape", viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "xMidYMax slice", "aria-hidden": "true" });
  root.append(
    s(
      "defs",
      {},
      s("linearGradient", { id: `${id}s`, x1: 0, y1: 0, x2: 0, y2: 1 }, s("stop", { offset: 0, "stop-color": sky }), s("stop", { offset: 1, "stop-color": low })),
      s("radialGradient", { id: `${id}g` }, s("stop", { offset: 0, "stop-color": glow, "stop-opacity": 0.75 }), s("stop", { offset: 1, "stop-color": glow, "stop-opacity": 0 })),
    ),
    s("rect", { width: W, height: H, fill: `url(#${id}s)` }),
  );
  for (let i = 0; i < 26; i++) {
    root.append(s("circle", { cx: (random() * W).toFixed(1), cy: (random() * H * 0.55).toFixed(1), r: (0.4 + random() * 0.9).toFixed(2), fill: "#fff", opacity: (0.25 + random() * 0.6).toFixed(2) }));
  }
  root.append(s("ellipse", { cx: gx.toFixed(0), cy: 150, rx: 190, ry: 95, fill: `url(#${id}g)` }));
  const moon = 12 + random() * 12;
  root.append(s("circle", { cx: (40 + random() * 240).toFixed(0), cy: (34 + random() * 30).toFixed(0), r: moon.toFixed(1), fill: "#fff", opacity: 0.9 }));
  for (let layer = 0; layer < 3; layer++) {
    const base = 118 + layer * 26;
    const rough = 34 - layer * 7;
    let d = `M0 ${H}`;
    const steps = 7 + layer * 2;
    for (let i = 0; i <= steps; i++) {
      const up = i % 2 === 0 ? random() * 10 : rough * (0.45 + random() * 0.75);
      d += `L${((i / steps) * W).toFixed(0)} ${(base - up + 12).toFixed(0)}`;
    }
    d += `L${W} ${H}Z`;
    root.append(s("path", { d, fill: ground, opacity: [0.42, 0.7, 1][layer] ?? 1 }));
  }
  return root;
}
let made = 0;
