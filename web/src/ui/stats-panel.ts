import { legNames, type Legs, type Stats } from "../core/stats";
import { CHART_SAMPLES, drawChart, type Series } from "./chart";
import { fill, h } from "./dom";

const ms = (value: number | null, digits = 1): string => (value === null ? "–" : `${value.toFixed(digits)} ms`);
const mbit = (kbps: number | null): string => (kbps === null ? "–" : kbps >= 1000 ? `${(kbps / 1000).toFixed(1)} Mbit/s` : `${Math.round(kbps)} kbit/s`);

/** Colours of the legs in the order in which a frame takes them. */
const LEG_CLASSES: readonly (readonly [keyof Legs, string])[] = [
  ["wait", "leg-1"],
  ["capture", "leg-2"],
  ["convert", "leg-3"],
  ["encode", "leg-4"],
  ["wire", "leg-5"],
  ["send", "leg-6"],
  ["network", "leg-7"],
  ["jitterBuffer", "leg-8"],
  ["decode", "leg-9"],
  ["present", "leg-10"],
];

/** Numbers of the stream over the picture, with the last 45 seconds as lines. */
export class StatsPanel {
  readonly element: HTMLElement;
  readonly #rows = h("dl", { class: "stats-rows" });
  readonly #legs = h("div", { class: "legs", role: "img" });
  readonly #legend = h("div", { class: "legs-legend" });
  readonly #why = h("p", { class: "stats-why" });
  readonly #canvas = h("canvas", { class: "chart", role: "img", "aria-label": "Frames a second, bitrate and latency of the last 45 seconds", data: { testid: "stats-chart" } });
  readonly #history: { fps: number | null; kbps: number | null; latency: number | null }[] = [];

  constructor() {
    this.element = h(
      "section",
      { class: "overlay-panel stats", "aria-label": "Statistics", data: { testid: "stats" }, hidden: true },
      this.#rows,
      this.#why,
      this.#canvas,
      h("div", { class: "chart-key" }, h("span", { class: "key-fps" }, "Frames"), h("span", { class: "key-kbps" }, "Bitrate"), h("span", { class: "key-ms" }, "Latency")),
      this.#legs,
      this.#legend,
    );
  }

  /** Shows a sample. */
  show(stats: Stats): void {
    this.#history.push({ fps: stats.fpsPainted || stats.fpsDecoded, kbps: stats.kbps, latency: stats.latencyMs });
    if (this.#history.length > CHART_SAMPLES) this.#history.shift();
    const row = (name: string, value: string, note = ""): Node[] => [h("dt", {}, name), h("dd", { data: { stat: name } }, value, note ? h("small", {}, ` ${note}`) : null)];
    const encoder = stats.encoder ? `${stats.encoder}${stats.hardware === null ? "" : stats.hardware ? " · hardware" : " · software"}` : "–";
    fill(
      this.#rows,
      ...row("Video", [stats.codec || "–", stats.width ? `${stats.width} × ${stats.height}` : ""].filter(Boolean).join(" · ")),
      ...row("Encoder", encoder),
      // Chromium keeps it to itself unless the page may use a camera.
      ...(stats.decoder ? row("Decoder", stats.decoder) : []),
      ...row("Frames", `${stats.fpsPainted.toFixed(0)} painted`, `${stats.fpsReceived.toFixed(0)} received a second`),
      ...row("Bitrate", mbit(stats.kbps), stats.targetKbps ? `target ${mbit(stats.targetKbps)}` : ""),
      ...row("Round trip", ms(stats.rttMs), stats.path),
      ...row("Loss", `${stats.lossPercent.toFixed(1)} %`, `${stats.packetsLost} packets, ${stats.framesDropped} frames dropped`),
      ...row("Jitter buffer", ms(stats.jitterBufferMs), `jitter ${ms(stats.jitterMs)}`),
      ...row("Decode", ms(stats.decodeMs)),
      ...row("Latency", ms(stats.latencyMs, 0), stats.ageMs !== null ? `picture is ${ms(stats.ageMs, 0)} old` : "sum of the parts below"),
      ...row("Sound", stats.audio.state && stats.audio.state !== "ok" ? stats.audio.state : stats.audio.codec ? `${stats.audio.codec} · ${mbit(stats.audioKbps)}` : "–", stats.audio.jitterBufferMs === null ? "" : `buffer ${ms(stats.audio.jitterBufferMs, 0)}`),
    );
    this.#why.textContent = stats.reason;
    this.#drawLegs(stats);
    const series: Series[] = [
      { color: "--chart-fps", values: this.#history.map((s) => s.fps), floor: 60 },
      { color: "--chart-kbps", values: this.#history.map((s) => s.kbps), floor: 1000 },
      { color: "--chart-ms", values: this.#history.map((s) => s.latency), floor: 30 },
    ];
    drawChart(this.#canvas, series);
  }

  #drawLegs(stats: Stats): void {
    const known = LEG_CLASSES.filter(([leg]) => stats.legs[leg] !== null);
    const bars = known.map(([leg, name]) => {
      const bar = h("span", { class: name, title: `${legNames[leg]}: ${ms(stats.legs[leg])}` });
      bar.style.flexGrow = String(Math.max(0.02, stats.legs[leg] ?? 0));
      return bar;
    });
    fill(this.#legs, ...bars);
    this.#legs.setAttribute("aria-label", `Latency: ${known.map(([leg]) => `${legNames[leg]} ${ms(stats.legs[leg])}`).join(", ")}`);
    fill(this.#legend, ...known.map(([leg, name]) => h("span", { class: name, data: { leg } }, h("i", {}), `${legNames[leg]} ${(stats.legs[leg] ?? 0).toFixed(1)}`)));
  }
}
