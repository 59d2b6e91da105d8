import { asApiError, type Api } from "../core/api";
import type { Device, Moonlight, Person, Waiting } from "../core/types";
import { announce, confirm, fill, h, since, toast } from "./dom";
import { problem } from "./forms";
import { icon } from "./icons";

/** How often it is looked whether a device waits, ms. */
const LOOK_MS = 2000;

/** The port that Moonlight takes when nobody names one. */
const USUAL_PORT = 47989;

/** What went wrong with a PIN, in a person's words. */
export const troubles: Readonly<Record<string, string>> = {
  "wrong-pin": "That is not the PIN that the device shows. It has given up: let it begin again.",
  "device-not-waiting": "The device no longer waits. Let it begin again.",
  "device-gone": "The device has given up. Let it begin again.",
  "rate-limited": "Too many wrong PINs. Wait a little before the next one.",
  "too-many-devices": "You have as many devices as one person may have. Remove one first.",
  busy: "Another device is being paired. Try again in a moment.",
  "invalid-value": "A PIN has four digits.",
};

export interface DevicesParts {
  api: Api;
  person: Person;
  failed: (error: unknown) => void;
}

/** Moonlight clients: those that wait for their PIN, and those that are paired. */
export class Devices {
  readonly element: HTMLElement;
  readonly #parts: DevicesParts;
  readonly #how = h("div", { class: "how" });
  readonly #waiting = h("div", { class: "rows", role: "region", "aria-label": "Devices that wait to be paired" });
  readonly #paired = h("div", { class: "rows" });
  readonly #rows = new Map<string, HTMLElement>();
  #timer = 0;
  #looking = false;
  #troubled = false;

  constructor(parts: DevicesParts) {
    this.#parts = parts;
    this.element = h("div", { class: "devices" }, this.#how, this.#waiting, this.#paired);
  }

  /** Shows everything, and looks for devices that wait as long as it is in the page. */
  async start(): Promise<void> {
    await Promise.all([this.#look(), this.#load()]);
    this.#timer = window.setInterval(() => {
      if (!this.element.isConnected) window.clearInterval(this.#timer);
      else if (!document.hidden) void this.#look();
    }, LOOK_MS);
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      this.#draw(await this.#parts.api.moonlight());
      this.#troubled = false;
    } catch (error) {
      // It goes on: the server may only be starting anew. Once is enough to say so.
      if (!this.#troubled || asApiError(error).status === 401) this.#parts.failed(error);
      this.#troubled = true;
    } finally {
      this.#looking = false;
    }
  }

  #draw(state: Moonlight): void {
    if (this.#how.childElementCount === 0) fill(this.#how, ...(state.enabled ? steps(state.port) : [h("p", { class: "muted" }, "Moonlight is switched off on this server: its operator can allow it in the configuration.")]));
    const here = new Set(state.waiting.map((w) => w.id));
    for (const [id, row] of this.#rows) {
      if (here.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    for (const w of state.waiting) {
      if (this.#rows.has(w.id)) continue;
      const row = this.#ask(w);
      this.#rows.set(w.id, row);
      this.#waiting.append(row);
      announce(`A device at ${w.address} wants to be paired.`);
    }
  }

  /** The row in which a person types the PIN of a device. */
  #ask(w: Waiting): HTMLElement {
    const name = w.name || "A device";
    const pin = h("input", {
      class: "input pin", type: "text", inputmode: "numeric", pattern: "[0-9]{4}", maxlength: 4, autocomplete: "one-time-code", placeholder: "PIN",
      "aria-label": `PIN that ${w.name || "the device"} at ${w.address} shows`, required: true, data: { testid: "pin" },
    });
    const trouble = h("p", { class: "form-problem", role: "alert" });
    const button = h("button", { class: "button primary", type: "submit" }, "Pair");
    const form = h("form", { class: "pin-form", novalidate: true }, pin, button);
    pin.addEventListener("input", () => (pin.value = pin.value.replace(/\D/g, "")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      trouble.textContent = "";
      if (!/^\d{4}$/.test(pin.value)) {
        trouble.textContent = "A PIN has four digits.";
        pin.focus();
        return;
      }
      button.disabled = true;
      this.#parts.api
        .pairDevice(w.id, pin.value)
        .then(async () => {
          toast("The device is paired.");
          await this.#load();
        })
        .catch((error: unknown) => {
          const e = asApiError(error);
          if (e.status === 401) this.#parts.failed(error);
          trouble.textContent = troubles[e.code] ?? problem(e);
        })
        .finally(() => (button.disabled = false));
    });
    return h(
      "div",
      { class: "item waiting", data: { testid: "waiting-device" } },
      h("div", {}, h("strong", {}, `${name} wants to connect`), h("p", { class: "muted" }, `from ${w.address} · ${since(w.since)}`), trouble),
      form,
    );
  }

  async #load(): Promise<void> {
    try {
      this.#list(await this.#parts.api.devices());
    } catch (error) {
      this.#parts.failed(error);
    }
  }

  #list(devices: Device[]): void {
    fill(
      this.#paired,
      ...devices.map((d) => {
        const whose = d.person.id === this.#parts.person.id ? "" : ` · of ${d.person.name}`;
        const name = h("input", { class: "input bare", value: d.name, maxlength: 64, "aria-label": `Name of the device ${d.name}`, data: { testid: "device-name" } });
        name.addEventListener("keydown", (event) => {
          if (event.key === "Enter") name.blur();
          if (event.key === "Escape") name.value = d.name;
        });
        name.addEventListener("change", () => {
          this.#parts.api.renameDevice(d.id, name.value.trim()).then(
            () => this.#load(),
            (error: unknown) => {
              name.value = d.name;
              this.#parts.failed(error);
            },
          );
        });
        const remove = h("button", { class: "icon-button", type: "button", "aria-label": `Remove ${d.name}`, title: `Remove ${d.name}`, data: { testid: "remove-device" } }, icon("trash"));
        remove.addEventListener("click", () => {
          void confirm(`Remove “${d.name}”?`, "If it plays just now, it stops. To come back it has to be paired again.", "Remove", true).then(async (yes) => {
            if (!yes) return;
            try {
              await this.#parts.api.removeDevice(d.id);
              await this.#load();
            } catch (error) {
              this.#parts.failed(error);
            }
          });
        });
        return h(
          "div",
          { class: "item", data: { testid: "device" } },
          h("div", {}, name, h("p", { class: "muted" }, `${d.seen ? `last here: ${since(d.seen)}` : "not here yet"}${whose}`)),
          remove,
        );
      }),
    );
  }
}

/** How to come in with Moonlight. */
function steps(port: number): Node[] {
  const host = location.hostname + (port === USUAL_PORT ? "" : `:${port}`);
  return [
    h(
      "ol",
      { class: "steps-list" },
      h("li", {}, "Open Moonlight on a television, phone or computer."),
      h("li", {}, "Add this host: ", h("code", { data: { testid: "moonlight-host" } }, host), ". In the same network it may be listed already."),
      h("li", {}, "It shows a PIN: type that below, where the device appears."),
    ),
  ];
}
