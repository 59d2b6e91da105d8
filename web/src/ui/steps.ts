import type { SessionState, Step } from "../core/types";
import { landscape } from "./art";
import { announce, fill, h } from "./dom";
import { icon, wolf } from "./icons";

/** What has to happen before there is a picture. */
export type StepName = "request" | Step | "connect";

const NAMES: Record<StepName, string> = {
  request: "Asking the server",
  display: "Starting the display",
  sound: "Starting the sound",
  program: "Starting the program",
  connect: "Connecting",
  picture: "Waiting for the picture",
};

const FRESH: readonly StepName[] = ["request", "display", "sound", "program", "connect", "picture"];
const RESUMED: readonly StepName[] = ["connect", "picture"];
const SERVER: readonly Step[] = ["display", "sound", "program", "picture"];

/** The way to the first picture, step by step. */
export class StepsPanel {
  readonly element: HTMLElement;
  readonly #list = h("ol", { class: "steps" });
  readonly #bar = h("div", { class: "progress", role: "progressbar", "aria-label": "Start", "aria-valuemin": 0, "aria-valuemax": 100 }, h("span", {}));
  readonly #title = h("h2", {}, "");
  readonly #fresh: boolean;
  #session: SessionState | null = null;
  #connected = false;
  #requested: boolean;
  #said = "";

  /** `fresh`: the session is being made, otherwise it ran already. */
  constructor(title: string, art: string, fresh: boolean, leave: () => void) {
    this.#fresh = fresh;
    this.#requested = !fresh;
    this.#title.textContent = title;
    this.element = h(
      "div",
      { class: `cover ${fresh ? "" : "late"}`, data: { testid: "steps" } },
      h("div", { class: "cover-art" }, landscape(art)),
      h("div", { class: "sheet" }, h("div", { class: "sheet-mark breathing" }, wolf()), this.#title, this.#list, this.#bar, h("button", { class: "button ghost small", type: "button", data: { testid: "steps-leave" }, on: { click: leave } }, "Back to the library")),
    );
    this.#draw();
  }

  requested(): void {
    this.#requested = true;
    this.#draw();
  }

  connected(connected: boolean): void {
    this.#connected = connected;
    this.#draw();
  }

  session(session: SessionState): void {
    this.#session = session;
    this.#title.textContent = session.app.title;
    this.#draw();
  }

  #done(step: StepName): boolean {
    const s = this.#session;
    if (step === "request") return this.#requested;
    if (step === "connect") return this.#connected;
    if (step === "picture" || !s) return false;
    if (s.phase !== "starting") return true;
    return SERVER.indexOf(step) < SERVER.indexOf(s.step ?? "display");
  }

  #draw(): void {
    const names = this.#fresh ? FRESH : RESUMED;
    const done = names.map((n) => this.#done(n));
    const active = done.indexOf(false);
    fill(
      this.#list,
      ...names.map((name, i) => {
        const state = done[i] ? "done" : i === active ? "active" : "todo";
        return h(
          "li",
          { class: state, data: { testid: "step", step: name, state }, "aria-current": state === "active" ? "step" : undefined },
          h("span", { class: "step-mark" }, state === "done" ? icon("check") : null),
          NAMES[name],
        );
      }),
    );
    const share = done.filter(Boolean).length / names.length;
    const percent = Math.round(100 * Math.max(share, this.#session?.phase === "starting" ? this.#session.progress * 0.9 : share));
    this.#bar.setAttribute("aria-valuenow", String(percent));
    const fillBar = this.#bar.firstElementChild;
    if (fillBar instanceof HTMLElement) fillBar.style.width = `${percent}%`;
    const now = names[active];
    if (now !== undefined && NAMES[now] !== this.#said) announce((this.#said = NAMES[now]));
  }
}
