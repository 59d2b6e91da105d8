import { frameLegs, inputLegs, legNames, type InputLeg, type Latency, type Quantiles, type Summary } from "../core/latency";
import type { Legs, Stats } from "../core/stats";
import { fill, h } from "./dom";

/** One row: a leg with its median and, where single frames are known, its 95th percentile. */
interface Row {
  leg: InputLeg;
  p50: number;
  p95: number | null;
}

/** What is shown: presses if there were any, else frames, else the sum of averages. */
interface View {
  title: string;
  total: { p50: number | null; p95: number | null };
  note: string;
  rows: Row[];
}

const CLASSES = new Map<InputLeg, string>(inputLegs.map((leg, i) => [leg, `leg-${i + 1}`]));

/** Names of the averages, for browsers that tell little of single frames. */
const AVERAGES: readonly (readonly [InputLeg, keyof Legs])[] = [
  ["wait", "wait"],
  ["convert", "convert"],
  ["encode", "encode"],
  ["wire", "wire"],
  ["send", "send"],
  ["network", "network"],
  ["buffer", "jitterBuffer"],
  ["decode", "decode"],
  ["paint", "present"],
];

const ms = (value: number | null): string => (value === null ? "–" : Math.max(0, value).toFixed(value < 99.5 ? 1 : 0));

/** The way from a press to the picture, leg by leg. */
export class LatencyView {
  readonly element: HTMLElement;
  readonly #title = h("h3", { class: "legs-title" });
  readonly #total = h("strong", { data: { testid: "latency-total" } });
  readonly #worst = h("small");
  readonly #bar = h("div", { class: "legs", role: "img", data: { testid: "latency-bar" } });
  readonly #body = h("tbody");
  readonly #note = h("p", { class: "legs-note" });

  constructor() {
    this.element = h(
      "div",
      { class: "latency", data: { testid: "latency" } },
      h("div", { class: "legs-head" }, this.#title, h("p", {}, this.#total, this.#worst)),
      this.#bar,
      h(
        "table",
        { class: "legs-table" },
        h("caption", { class: "sr-only" }, "Latency by leg, in milliseconds"),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Leg"), h("td", { "aria-hidden": "true" }), h("th", { scope: "col" }, "median"), h("th", { scope: "col" }, h("abbr", { title: "95 of 100 are faster" }, "95 %")))),
        this.#body,
      ),
      this.#note,
    );
  }

  show(latency: Latency | null, stats: Stats): void {
    const view = viewOf(latency, stats);
    this.#title.textContent = view.title;
    this.#total.textContent = view.total.p50 === null ? "–" : `${ms(view.total.p50)} ms`;
    this.#worst.textContent = view.total.p95 === null ? "" : ` 95 %: ${ms(view.total.p95)} ms`;
    this.#note.textContent = view.note;
    fill(
      this.#bar,
      ...view.rows.map(({ leg, p50 }) => {
        const part = h("span", { class: CLASSES.get(leg) ?? "", title: `${legNames[leg]}: ${ms(p50)} ms` });
        part.style.flexGrow = String(Math.max(0.02, p50));
        return part;
      }),
    );
    this.#bar.setAttribute("aria-label", `${view.title}: ${view.rows.map(({ leg, p50 }) => `${legNames[leg]} ${ms(p50)} ms`).join(", ")}`);
    const most = Math.max(1, ...view.rows.map(({ p50, p95 }) => p95 ?? p50));
    fill(this.#body, ...view.rows.map((row) => rowOf(row, most)));
  }
}

function rowOf({ leg, p50, p95 }: Row, most: number): HTMLElement {
  const share = (value: number): string => `${Math.min(100, (100 * Math.max(0, value)) / most)}%`;
  const upper = h("i", { class: "p95" });
  const lower = h("i", { class: "p50" });
  upper.style.width = share(p95 ?? p50);
  lower.style.width = share(p50);
  return h(
    "tr",
    { class: CLASSES.get(leg) ?? "", data: { leg } },
    h("th", { scope: "row" }, legNames[leg]),
    h("td", { class: "legs-share", "aria-hidden": "true" }, upper, lower),
    h("td", {}, ms(p50)),
    h("td", {}, ms(p95)),
  );
}

function viewOf(latency: Latency | null, stats: Stats): View {
  if (latency?.input) {
    const { count } = latency.input;
    const presses = `${count} ${count === 1 ? "press" : "presses"}`;
    return {
      title: "Press to picture",
      total: latency.input.total,
      note: latency.still ? `${presses} on a still picture: its first change is the answer.` : `${presses} on a moving picture: its first change after the press, whoever made it.`,
      rows: rowsOf(latency.input, inputLegs),
    };
  }
  if (latency?.frame) {
    return {
      title: "Change to picture",
      total: latency.frame.total,
      note: "From a change on the display to your screen. Press a key to see the whole way.",
      rows: rowsOf(latency.frame, frameLegs),
    };
  }
  const rows = AVERAGES.flatMap(([leg, name]) => {
    const value = stats.legs[name];
    return value === null ? [] : [{ leg, p50: value, p95: null }];
  });
  return {
    title: "Change to picture",
    total: { p50: stats.latencyMs, p95: null },
    note: rows.length > 0 ? "Averages: nothing was painted lately, or this browser tells little of single frames." : "",
    rows,
  };
}

function rowsOf<L extends InputLeg>(summary: Summary<L>, legs: readonly L[]): Row[] {
  return legs.map((leg) => {
    const { p50, p95 }: Quantiles = summary.legs[leg];
    return { leg, p50, p95 };
  });
}
