import type { Cause } from "../core/types";
import { explain, wayNames, type Way } from "./causes";
import { h } from "./dom";
import { sentence } from "./forms";
import { icon, wolf } from "./icons";

/** Says what went wrong and what can be done about it. */
export function errorPanel(cause: Cause, ways: Partial<Record<Way, () => void>>, title = ""): HTMLElement {
  const about = explain(cause.code);
  const detail = cause.detail && cause.detail !== cause.code ? sentence(cause.detail) : "";
  const output = cause.output?.trim() ?? "";
  const buttons = about.ways
    .filter((way) => ways[way])
    .map((way, i) => h("button", { class: `button ${i === 0 ? "primary" : ""}`, type: "button", data: { testid: `way-${way}` }, on: { click: () => ways[way]?.() } }, wayNames[way]));
  return h(
    "div",
    { class: `sheet error ${about.calm ? "calm" : ""}`, role: "alertdialog", "aria-labelledby": "error-title", "aria-describedby": "error-text", tabindex: "-1", data: { testid: "error-panel", code: cause.code } },
    h("div", { class: "sheet-mark" }, about.calm ? wolf() : icon("warning")),
    title ? h("p", { class: "eyebrow" }, title) : null,
    h("h2", { id: "error-title" }, about.title),
    h("p", { id: "error-text" }, about.text),
    detail && detail !== about.text ? h("p", { class: "detail" }, detail) : null,
    output ? h("details", { class: "output", open: true }, h("summary", {}, "Last output of the program"), h("pre", { tabindex: "0", data: { testid: "program-output" } }, output)) : null,
    h("div", { class: "row center" }, ...buttons),
    h("p", { class: "code muted" }, cause.code),
  );
}
