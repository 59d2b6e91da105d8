type Child = Node | string | null | undefined | false;

export interface Attributes {
  class?: string | undefined;
  id?: string;
  /** data-… attributes; `testid` is what tests find things by. */
  data?: Record<string, string>;
  on?: { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };
  /** Everything else is an attribute; false and undefined leave it out, true is empty. */
  [attribute: string]: unknown;
}

/** Makes an element. Content is never parsed as HTML. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (name === "class") element.className = String(value);
    else if (name === "data") for (const [key, v] of Object.entries(value as Record<string, string>)) element.dataset[key] = v;
    else if (name === "on") {
      for (const [event, listener] of Object.entries(value as Record<string, EventListener>)) element.addEventListener(event, listener);
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Makes an SVG element. */
export function s(tag: string, attributes: Record<string, string | number> = {}, ...children: (Node | string)[]): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export function append(parent: Element, children: Child[]): void {
  for (const child of children) if (child !== null && child !== undefined && child !== false) parent.append(child);
}

/** Replaces what is in an element. */
export function fill(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

let region: HTMLElement | null = null;

/** Says something to users of screen readers. */
export function announce(text: string): void {
  if (!region) {
    region = h("div", { class: "sr-only", role: "status", "aria-live": "polite", data: { testid: "live" } });
    document.body.append(region);
  }
  region.textContent = text;
}

let toasts: HTMLElement | null = null;

/** Shows a short message for a few seconds. */
export function toast(text: string, kind: "info" | "bad" = "info"): void {
  if (!toasts) {
    toasts = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
    document.body.append(toasts);
  }
  // In full screen only what is inside of that element is seen.
  (document.fullscreenElement ?? document.body).append(toasts);
  const item = h("div", { class: `toast ${kind}`, data: { testid: "toast" } }, text);
  toasts.append(item);
  setTimeout(() => item.classList.add("gone"), 4500);
  setTimeout(() => item.remove(), 5000);
}

/** Asks a question in a dialog; resolves to whether it was confirmed. */
export function confirm(title: string, text: string, yes: string, danger = false, testid = "confirm-yes"): Promise<boolean> {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "dialog-title", data: { testid: "confirm" } },
      h("h2", { id: "dialog-title" }, title),
      h("p", {}, text),
      h(
        "form",
        { method: "dialog", class: "row end" },
        h("button", { class: "button ghost", value: "no" }, "Cancel"),
        h("button", { class: `button ${danger ? "danger" : "primary"}`, value: "yes", autofocus: true, data: { testid } }, yes),
      ),
    );
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    (document.fullscreenElement ?? document.body).append(dialog);
    dialog.showModal();
  });
}

/** A labelled control, with a hint below it. */
export function field(label: string, control: HTMLElement, hint?: string): HTMLElement {
  control.id ||= `f${++fields}`;
  const about = hint ? h("small", { id: `${control.id}-hint`, class: "hint" }, hint) : null;
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, about);
}
let fields = 0;

/** A select of values with names. */
export function select<T extends string>(options: readonly (readonly [T, string])[], value: T, change: (value: T) => void, attributes: Attributes = {}): HTMLSelectElement {
  const element = h(
    "select",
    { ...attributes, class: "input" },
    ...options.map(([v, name]) => h("option", { value: v, selected: v === value }, name)),
  );
  element.addEventListener("change", () => change(element.value as T));
  return element;
}

/** "3 min", "2 h" since a moment. */
export function since(iso: string): string {
  const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(iso)) / 60_000));
  if (!Number.isFinite(minutes)) return "";
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}
