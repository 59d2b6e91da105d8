import type { Latency } from "../core/latency";
import type { Stats } from "../core/stats";
import { CHART_SAMPLES, drawChart, type Series } from "./chart";
import { fill, h } from "./dom";
import { LatencyView } from "./latency-view";

const ms = (value: number | null, digits = 1): string => (value === null ? "–" : `${value.toFixed(digits)} ms`);
const mbit = (kbps: number | null): string => (kbps === null ? "–" : kbps >= 1000 ? `${(kbps / 1000).toFixed(1)} Mbit/s` : `${Math.round(kbps)} kbit/s`);

/** Numbers of the stream over the picture, with the last 45 seconds as lines. */
export class StatsPanel {
  readonly element: HTMLElement;
  readonly #rows = h("dl", { class: "stats-rows" });
  readonly #latency = new LatencyView();
  readonly #why = h("p", { class: "stats-why" });
  readonly #canvas = h("canvas", { class: "chart", role: "img", "aria-label": "Frames a second, bitrate and latency of the last 45 seconds", data: { testid: "stats-chart" } });
  readonly #history: { fps: number | null; kbps: number | null; latency: number | null }[] = [];

  constructor() {
    this.element = h(
      "section",
      { class: "overlay-panel stats", "aria-label": "Statistics", tabindex: "0", data: { testid: "stats" }, hidden: true },
      this.#latency.element,
      h(
        "div",
        {},
        this.#rows,
        this.#why,
        this.#canvas,
        h("div", { class: "chart-key" }, h("span", { class: "key-fps" }, "Frames"), h("span", { class: "key-kbps" }, "Bitrate"), h("span", { class: "key-ms" }, "Latency")),
      ),
    );
  }

  /** Shows a sample. The latency is of the last seconds. */
  show(stats: Stats, latency: Latency | null): void {
    const picture = latency?.frame?.total.p50 ?? null;
    this.#history.push({ fps: stats.fpsPainted || stats.fpsDecoded, kbps: stats.kbps, latency: picture ?? stats.latencyMs });
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
      ...row("Picture age", ms(picture ?? stats.ageMs), picture === null ? "" : "when it is shown, from the change on the display"),
      ...row("Sound", stats.audio.state && stats.audio.state !== "ok" ? stats.audio.state : stats.audio.codec ? `${stats.audio.codec} · ${mbit(stats.audioKbps)}` : "–", stats.audio.jitterBufferMs === null ? "" : `buffer ${ms(stats.audio.jitterBufferMs, 0)}`),
    );
    this.#why.textContent = stats.reason;
    this.#latency.show(latency, stats);
    const series: Series[] = [
      { color: "--chart-fps", values: this.#history.map((s) => s.fps), floor: 60 },
      { color: "--chart-kbps", values: this.#history.map((s) => s.kbps), floor: 1000 },
      { color: "--chart-ms", values: this.#history.map((s) => s.latency), floor: 30 },
    ];
    drawChart(this.#canvas, series);
  }
}
