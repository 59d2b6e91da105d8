import { asApiError, type Api } from "../core/api";
import type { App, SessionState } from "../core/types";
import { landscape } from "./art";
import { announce, confirm, fill, h, since, toast } from "./dom";
import { explain } from "./causes";
import { sentence } from "./forms";
import { icon, wolf } from "./icons";
import { prefs } from "./prefs";

/** How often the running sessions are looked at, ms. */
const REFRESH_MS = 4000;
const PLAYGROUND = "playground";

type Kind = "all" | "games" | "programs";

export interface LibraryParts {
  api: Api;
  person: { id: string };
  play: (app: App) => void;
  resume: (session: SessionState, watch: boolean) => void;
  /** The sign-in is gone. */
  signedOut: () => void;
}

/** The programs that can be played, and the sessions that run. */
export class Library {
  readonly element: HTMLElement;
  readonly #parts: LibraryParts;
  readonly #running = h("section", { class: "running", "aria-label": "Running now", hidden: true });
  readonly #hero = h("div", {});
  readonly #grid = h("div", { class: "grid", role: "list" });
  readonly #count = h("p", { class: "muted count", role: "status" });
  readonly #chips: HTMLElement;
  readonly #search: HTMLInputElement;
  #apps: App[] | null = null;
  #sessions: SessionState[] = [];
  #kind: Kind = "all";
  #timer: ReturnType<typeof setTimeout> | null = null;
  #stopped = false;
  #shown = "";

  constructor(parts: LibraryParts) {
    this.#parts = parts;
    this.#search = h("input", { class: "input search", type: "search", placeholder: "Search", "aria-label": "Search programs", autocomplete: "off", spellcheck: "false", data: { testid: "search" } });
    this.#search.addEventListener("input", () => this.#drawGrid());
    this.#chips = h("div", { class: "chips", role: "group", "aria-label": "Show" });
    this.element = h(
      "div",
      { class: "library", data: { testid: "library" } },
      h("h1", { class: "sr-only" }, "Library"),
      this.#running,
      this.#hero,
      h(
        "section",
        { "aria-label": "Programs" },
        h("div", { class: "shelf-head" }, this.#chips, h("div", { class: "search-box" }, icon("search"), this.#search)),
        this.#count,
        this.#grid,
      ),
    );
    this.#drawChips();
    this.#skeleton();
  }

  async start(): Promise<void> {
    document.addEventListener("visibilitychange", this.#onVisible);
    await Promise.all([this.#loadApps(), this.#refresh()]);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#onVisible);
  }

  readonly #onVisible = (): void => {
    if (document.visibilityState === "visible") void this.#refresh();
  };

  async #loadApps(): Promise<void> {
    try {
      this.#apps = await this.#parts.api.apps();
    } catch (error) {
      this.#trouble(error);
      return;
    }
    if (this.#stopped) return;
    // Games first, each group by its title; what newcomers should try leads them all.
    this.#apps.sort((a, b) => Number(b.game) - Number(a.game) || a.title.localeCompare(b.title));
    this.#drawChips();
    this.#drawHero();
    this.#drawGrid();
  }

  async #refresh(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#stopped) return;
    try {
      if (document.visibilityState === "visible") {
        this.#sessions = (await this.#parts.api.sessions()).filter((s) => s.phase === "starting" || s.phase === "running");
        if (!this.#stopped) this.#drawRunning();
      }
    } catch (error) {
      if (asApiError(error).status === 401) this.#parts.signedOut();
      // Otherwise the next round tells.
    }
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#refresh(), REFRESH_MS);
  }

  #trouble(error: unknown): void {
    const e = asApiError(error);
    if (e.status === 401) {
      this.#parts.signedOut();
      return;
    }
    const { title, text } = explain(e.code);
    fill(
      this.#grid,
      h("div", { class: "empty", role: "alert", data: { testid: "error-panel", code: e.code } }, icon("warning"), h("h2", {}, title), h("p", { class: "muted" }, e.detail ? sentence(e.detail) : text),
        h("button", { class: "button", type: "button", on: { click: () => { this.#skeleton(); void this.#loadApps(); } } }, "Try again")),
    );
  }

  #skeleton(): void {
    fill(this.#grid, ...Array.from({ length: 8 }, () => h("div", { class: "tile skeleton", "aria-hidden": "true" }, h("div", { class: "tile-art" }), h("div", { class: "tile-text" }))));
  }

  #drawChips(): void {
    const apps = this.#apps ?? [];
    const games = apps.filter((a) => a.game).length;
    const kinds: [Kind, string, number][] = [["all", "All", apps.length], ["games", "Games", games], ["programs", "Programs", apps.length - games]];
    fill(
      this.#chips,
      ...kinds.map(([kind, name, n]) =>
        h(
          "button",
          { class: "chip", type: "button", "aria-pressed": String(this.#kind === kind), data: { testid: `filter-${kind}` }, on: { click: () => {
            this.#kind = kind;
            this.#drawChips();
            this.#drawGrid();
            this.#chips.querySelector<HTMLElement>(`[data-testid=filter-${kind}]`)?.focus();
          } } },
          name,
          this.#apps ? h("span", { class: "chip-n" }, String(n)) : null,
        ),
      ),
    );
  }

  #drawHero(): void {
    const app = this.#apps?.find((a) => a.id === PLAYGROUND || a.source === "builtin");
    if (!app || prefs.played) {
      fill(this.#hero);
      return;
    }
    fill(
      this.#hero,
      h(
        "section",
        { class: "hero", "aria-labelledby": "hero-title", data: { testid: "hero" } },
        h("div", { class: "hero-art" }, landscape("fenrir", "wide")),
        h("div", { class: "hero-wolf" }, wolf()),
        h(
          "div",
          { class: "hero-text" },
          h("p", { class: "eyebrow" }, "New here?"),
          h("h2", { id: "hero-title" }, `Start with the ${app.title.toLowerCase()}`),
          h("p", {}, "Sixty frames a second, every key and click answered on screen, a tone with each press. See in half a minute how this server plays in your browser."),
          h("button", { class: "button primary large", type: "button", data: { testid: "hero-play" }, on: { click: () => this.#parts.play(app) } }, icon("play"), "Play"),
        ),
      ),
    );
  }

  #drawGrid(): void {
    if (!this.#apps) return;
    const words = this.#search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = this.#apps.filter((app) => {
      if (this.#kind !== "all" && app.game !== (this.#kind === "games")) return false;
      const text = `${app.title} ${app.summary} ${(app.categories ?? []).join(" ")}`.toLowerCase();
      return words.every((w) => text.includes(w));
    });
    this.#count.textContent = words.length > 0 || this.#kind !== "all" ? `${shown.length} of ${this.#apps.length}` : "";
    if (shown.length === 0) {
      const nothing = this.#apps.length === 0;
      fill(this.#grid, h("div", { class: "empty" }, icon("search"), h("h2", {}, nothing ? "No programs yet" : "Nothing found"),
        h("p", { class: "muted" }, nothing ? "Install a game on the server, or add one to its configuration." : "Try fewer letters, or another shelf.")));
      return;
    }
    fill(this.#grid, ...shown.map((app) => this.#tile(app)));
  }

  #tile(app: App): HTMLElement {
    const art = h("div", { class: "tile-art" }, landscape(app.id));
    if (app.icon) {
      const image = h("img", { class: "tile-icon", src: `${app.icon}?size=128`, alt: "", loading: "lazy", decoding: "async", width: 84, height: 84 });
      image.addEventListener("error", () => {
        image.replaceWith(monogram(app.title));
        art.classList.remove("with-icon");
      });
      art.classList.add("with-icon");
      art.append(image);
    } else {
      art.append(monogram(app.title));
    }
    const kind = app.source === "builtin" ? "Built in" : app.game ? "Game" : (app.categories?.[0] ?? "Program");
    return h(
      "div",
      { class: "tile", role: "listitem", data: { testid: "app-tile", app: app.id } },
      art,
      h(
        "div",
        { class: "tile-text" },
        h("h3", { title: app.title }, app.title),
        h("p", { class: "muted", title: app.summary || undefined }, app.summary || kind),
      ),
      app.game && app.source !== "builtin" ? null : h("span", { class: "tag" }, kind),
      h("button", { class: "tile-play", type: "button", "aria-label": `Play ${app.title}`, data: { testid: "play-button" }, on: { click: () => this.#parts.play(app) } }, h("span", { class: "play-disc" }, icon("play"))),
    );
  }

  #drawRunning(): void {
    const key = JSON.stringify(this.#sessions.map((s) => [s.id, s.phase, s.step, s.peers?.length, s.width, s.height, s.idle_deadline, since(s.created)]));
    if (key === this.#shown) return;
    this.#shown = key;
    const focused = document.activeElement instanceof HTMLElement && this.#running.contains(document.activeElement) ? [document.activeElement.dataset["testid"], document.activeElement.closest<HTMLElement>("[data-session]")?.dataset["session"]] : null;
    this.#running.hidden = this.#sessions.length === 0;
    fill(this.#running, h("h2", { class: "shelf-title" }, "Running now"), h("div", { class: "cards" }, ...this.#sessions.map((s) => this.#card(s))));
    if (focused) this.#running.querySelector<HTMLElement>(`[data-session="${focused[1]}"] [data-testid="${focused[0]}"]`)?.focus();
  }

  #card(session: SessionState): HTMLElement {
    const { app, id } = session;
    const shot = h("img", { class: "card-shot", alt: "", src: `/api/sessions/${encodeURIComponent(id)}/screenshot?at=${Math.floor(Date.now() / 10_000)}` });
    shot.addEventListener("error", () => shot.remove());
    const watching = session.peers?.length ?? 0;
    const facts = [`${session.width} × ${session.height}`, since(session.created), watching > 0 ? `${watching} connected` : "nobody connected"];
    if (session.owner.id !== this.#parts.person.id) facts.unshift(session.owner.name);
    const end = h("button", { class: "button ghost danger-text", type: "button", data: { testid: "end" }, "aria-label": `End ${app.title}` }, icon("power"), "End");
    end.addEventListener("click", () => void this.#end(session, end));
    return h(
      "article",
      { class: "session-card", data: { testid: "session-card", session: id, app: app.id } },
      h("div", { class: "card-art" }, landscape(app.id), shot),
      h(
        "div",
        { class: "card-text" },
        h("h3", {}, app.title),
        h("p", { class: "muted" }, h("span", { class: `dot ${session.phase}` }), session.phase === "starting" ? "Starting · " : "", facts.join(" · ")),
        h(
          "div",
          { class: "row" },
          h("button", { class: "button primary", type: "button", data: { testid: "resume" }, "aria-label": `Resume ${app.title}`, on: { click: () => this.#parts.resume(session, false) } }, icon("play"), "Resume"),
          h("button", { class: "button", type: "button", data: { testid: "watch" }, "aria-label": `Watch ${app.title}`, on: { click: () => this.#parts.resume(session, true) } }, icon("eye"), "Watch"),
          end,
        ),
      ),
    );
  }

  async #end(session: SessionState, button: HTMLButtonElement): Promise<void> {
    if (!(await confirm(`End ${session.app.title}?`, "The program is closed. What it has not saved is lost.", "End it", true, "confirm-end"))) return;
    button.disabled = true;
    try {
      await this.#parts.api.end(session.id);
      announce(`${session.app.title} was ended.`);
    } catch (error) {
      const e = asApiError(error);
      if (e.status !== 404) toast(`${explain(e.code).title}. ${e.detail}`, "bad");
    }
    this.#sessions = this.#sessions.filter((s) => s.id !== session.id);
    this.#drawRunning();
    await this.#refresh();
  }
}

/** The first letters of a title, for programs without a picture. */
function monogram(title: string): HTMLElement {
  const letters = title.split(/[\s_-]+/).filter(Boolean).slice(0, 2).map((w) => [...w][0] ?? "").join("");
  return h("div", { class: "monogram", "aria-hidden": "true" }, letters.toUpperCase());
}
