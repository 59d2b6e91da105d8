import { TypingField } from "../core/typing";
import type { InputSender } from "../core/input";
import { h } from "./dom";
import { icon } from "./icons";

/** Keys that soft keyboards lack: sign, virtual-key code, name. */
const KEYS: readonly (readonly [string, number, string])[] = [
  ["Esc", 0x1b, "Escape"],
  ["Tab", 0x09, "Tab"],
  ["←", 0x25, "Left"],
  ["↑", 0x26, "Up"],
  ["↓", 0x28, "Down"],
  ["→", 0x27, "Right"],
];

/** A box whose text goes straight to the program, with the keys that phones lack. */
export class TypingPanel {
  readonly element: HTMLElement;
  readonly #field: HTMLTextAreaElement;
  #input: InputSender | null = null;

  constructor(close: () => void) {
    this.#field = h("textarea", { class: "input", rows: 1, "aria-label": "Text for the program", autocomplete: "off", autocapitalize: "off", spellcheck: "false", data: { testid: "text-input" } });
    this.element = h(
      "section",
      { class: "overlay-panel typing", role: "dialog", "aria-label": "Type text", hidden: true },
      h("div", { class: "typing-row" }, this.#field, h("button", { class: "icon-button", type: "button", "aria-label": "Close", on: { click: close } }, icon("close"))),
      h("div", { class: "typing-keys", role: "group", "aria-label": "Keys" }, ...KEYS.map(([sign, vk, name]) => this.#key(sign, vk, name))),
      h("p", { class: "muted small" }, "What you type goes straight to the program: composed text, emoji, what you paste."),
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing) close();
    });
  }

  /** Sends what is typed from now on there. */
  attach(input: InputSender): void {
    if (!this.#input) new TypingField(this.#field, { text: (value) => this.#input?.text(value), keyTap: (vk) => this.#input?.keyTap(vk) });
    this.#input = input;
  }

  focus(): void {
    this.#field.focus();
  }

  #key(sign: string, vk: number, name: string): HTMLElement {
    const button = h("button", { class: "keycap", type: "button", "aria-label": name }, sign);
    // The field keeps the focus, and with it the soft keyboard.
    button.addEventListener("pointerdown", (event) => event.preventDefault());
    button.addEventListener("click", () => this.#input?.keyTap(vk));
    return button;
  }
}
