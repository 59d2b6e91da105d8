import { h } from "./dom";
import { icon, type IconName } from "./icons";

/** How long the toolbar stays when nobody touches it, ms. */
const HIDE_MS = 3500;

export interface Tool {
  testid: string;
  icon: IconName;
  label: string;
  /** Keys that do the same, for the tooltip. */
  keys?: string;
  toggles?: boolean;
  danger?: boolean;
  act: () => void;
}

/**
 * The controls over the picture: a small handle at the top edge that opens on
 * hover, touch, click and keyboard, and closes by itself.
 */
export class Toolbar {
  readonly element: HTMLElement;
  readonly #bar: HTMLElement;
  readonly #handle: HTMLButtonElement;
  readonly #buttons = new Map<string, HTMLButtonElement>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  /** It came out because the mouse came near: a click that follows means to open, too. */
  #hovered = false;
  /** While true the toolbar stays open: a panel of it is. */
  pinned: () => boolean = () => false;
  /** Gives the focus back to the picture. */
  back: () => void = () => undefined;

  constructor(title: HTMLElement, tools: readonly Tool[]) {
    this.#handle = h("button", { class: "handle", type: "button", "aria-expanded": "true", "aria-controls": "toolbar", "aria-label": "Controls", data: { testid: "toolbar-handle" } }, icon("more"));
    this.#bar = h("div", { class: "toolbar", id: "toolbar", role: "toolbar", "aria-label": "Controls", data: { testid: "toolbar" } }, title);
    for (const tool of tools) {
      const button = h(
        "button",
        { class: `tool ${tool.danger ? "danger-text" : ""}`, type: "button", "aria-label": tool.label, title: tool.keys ? `${tool.label} (${tool.keys})` : tool.label, "aria-pressed": tool.toggles ? "false" : undefined, data: { testid: tool.testid } },
        icon(tool.icon),
        h("span", { class: "tool-name" }, tool.label),
      );
      button.addEventListener("click", (event) => {
        this.open();
        tool.act();
        // Who clicked goes on playing; who came by keyboard goes on choosing.
        if (event.detail > 0 && this.#bar.contains(document.activeElement)) this.back();
      });
      this.#buttons.set(tool.testid, button);
      this.#bar.append(button);
    }
    this.element = h("div", { class: "dock open" }, this.#bar, this.#handle);
    this.#handle.addEventListener("click", (event) => {
      if (event.detail > 0) this.back();
      if (this.isOpen && !this.#hovered) this.close();
      else this.open();
    });
    this.element.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "mouse") return;
      this.#hovered = !this.isOpen;
      this.open();
    });
    this.element.addEventListener("pointerleave", () => {
      this.#hovered = false;
      this.#later();
    });
    this.element.addEventListener("focusin", () => this.open());
    this.element.addEventListener("focusout", () => this.#later());
    this.#bar.addEventListener("keydown", (event) => this.#arrows(event));
    this.open();
  }

  get isOpen(): boolean {
    return this.element.classList.contains("open");
  }

  open(): void {
    this.element.classList.add("open");
    this.#handle.setAttribute("aria-expanded", "true");
    this.#later();
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.element.classList.remove("open");
    this.#handle.setAttribute("aria-expanded", "false");
  }

  /** Opens and takes the focus. */
  focus(): void {
    this.open();
    this.#bar.querySelector<HTMLElement>("button:not([hidden])")?.focus();
  }

  press(testid: string, pressed: boolean): void {
    this.#buttons.get(testid)?.setAttribute("aria-pressed", String(pressed));
  }

  hide(testid: string, hidden: boolean): void {
    const button = this.#buttons.get(testid);
    if (button) button.hidden = hidden;
  }

  icon(testid: string, name: IconName, label: string): void {
    const button = this.#buttons.get(testid);
    if (!button) return;
    button.querySelector("svg")?.replaceWith(icon(name));
    button.setAttribute("aria-label", label);
    button.title = label;
    const text = button.querySelector(".tool-name");
    if (text) text.textContent = label;
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #later(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const busy = this.#bar.matches(":hover") || this.#bar.contains(document.activeElement) || this.pinned();
      if (busy) this.#later();
      else this.close();
    }, HIDE_MS);
  }

  /** Arrows move between the buttons, as in any toolbar; Escape leaves it. */
  #arrows(event: KeyboardEvent): void {
    if (event.key === "Escape") {
      this.back();
      this.close();
      return;
    }
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0 || event.target instanceof HTMLInputElement) return;
    const buttons = [...this.#bar.querySelectorAll<HTMLElement>("button:not([hidden])")];
    const at = buttons.indexOf(document.activeElement as HTMLElement);
    buttons[(at + step + buttons.length) % buttons.length]?.focus();
    event.preventDefault();
  }
}
