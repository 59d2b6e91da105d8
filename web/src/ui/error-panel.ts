import type { Cause, LogLine } from "../core/types";
import { explain, wayNames, type Way } from "./causes";
import { h } from "./dom";
import { sentence } from "./forms";
import { icon, wolf } from "./icons";

/** Whose last words come with a code. */
const speakers: Record<string, string> = {
  "media-failed": "Last output of the media worker",
  "desktop-failed": "Last output of the display",
};

/** What the server noted about a session, asked for when somebody wants to know. */
function noted(load: () => Promise<LogLine[]>): HTMLElement {
  const text = h("pre", { tabindex: "0", data: { testid: "session-log" } }, "…");
  const details = h("details", { class: "output" }, h("summary", {}, "What the server noted"), text);
  details.addEventListener(
    "toggle",
    () => {
      load().then(
        (lines) => (text.textContent = lines.map((l) => `${l.at.slice(11, 19)} ${l.level} ${l.text}`).join("\n") || "Nothing."),
        () => (text.textContent = "The server did not tell."),
      );
    },
    { once: true },
  );
  return details;
}

/** Says what went wrong and what can be done about it. `log` loads what the server noted about the session. */
export function errorPanel(cause: Cause, ways: Partial<Record<Way, () => void>>, title = "", log?: () => Promise<LogLine[]>): HTMLElement {
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
    output ? h("details", { class: "output", open: true }, h("summary", {}, speakers[cause.code] ?? "Last output of the program"), h("pre", { tabindex: "0", data: { testid: "program-output" } }, output)) : null,
    log ? noted(log) : null,
    h("div", { class: "row center" }, ...buttons),
    h("p", { class: "code muted" }, cause.code),
  );
}
