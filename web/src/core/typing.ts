import type { InputSender } from "./input";

/**
 * Stays in an empty field, so that a soft keyboard has something to delete and
 * tells of it. It has no width.
 */
export const SENTINEL = "\u200b";

const BACKSPACE = 0x08;
const ENTER = 0x0d;
/** Keys that have no text. Tab leaves the field, as everywhere; Escape is the page's. */
const KEYS: Record<string, number> = {
  ArrowLeft: 0x25,
  ArrowUp: 0x26,
  ArrowRight: 0x27,
  ArrowDown: 0x28,
  Delete: 0x2e,
  Home: 0x24,
  End: 0x23,
};

/** What a field said → what the program gets. */
export function typed(value: string, input: Pick<InputSender, "text" | "keyTap">): void {
  if (!value.includes(SENTINEL) && value === "") {
    input.keyTap(BACKSPACE);
    return;
  }
  const lines = value.replaceAll(SENTINEL, "").replaceAll("\r", "").split("\n");
  lines.forEach((line, i) => {
    if (i > 0) input.keyTap(ENTER);
    if (line !== "") input.text(line);
  });
}

/**
 * A text field whose content goes straight to the program: what an input
 * method composes, what a soft keyboard types, what is pasted.
 */
export class TypingField {
  readonly #field: HTMLTextAreaElement;
  readonly #input: Pick<InputSender, "text" | "keyTap">;
  #composing = false;

  constructor(field: HTMLTextAreaElement, input: Pick<InputSender, "text" | "keyTap">) {
    this.#field = field;
    this.#input = input;
    this.#empty();
    field.addEventListener("compositionstart", () => (this.#composing = true));
    field.addEventListener("compositionend", () => {
      this.#composing = false;
      this.#take();
    });
    field.addEventListener("input", (event) => {
      if (!this.#composing && !(event as InputEvent).isComposing) this.#take();
    });
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
      const vk = KEYS[event.key];
      if (vk === undefined) return;
      event.preventDefault();
      this.#input.keyTap(vk);
    });
    field.addEventListener("focus", () => this.#empty());
  }

  #take(): void {
    const { value } = this.#field;
    this.#empty();
    if (value !== SENTINEL) typed(value, this.#input);
  }

  #empty(): void {
    this.#field.value = SENTINEL;
    this.#field.setSelectionRange(1, 1);
  }
}
