import { asApiError, type Api } from "../core/api";
import { codecNames, decodable } from "../core/codecs";
import { browserParts } from "../core/connection";
import type { GPU, EncoderInfo, Person, ServerInfo, Token, User } from "../core/types";
import { confirm, field, fill, h, since, toast } from "./dom";
import { explain } from "./causes";
import { problem, sentence } from "./forms";
import { Devices } from "./devices";
import { icon, type IconName } from "./icons";
import { qualityFields } from "./quality";

export interface SettingsParts {
  api: Api;
  person: Person;
  signedOut: () => void;
}

function section(id: string, name: string, i: IconName, text: string, ...content: (Node | null)[]): HTMLElement {
  return h(
    "section",
    { class: "card panel", id, "aria-labelledby": `${id}-title` },
    h("div", { class: "panel-head" }, icon(i), h("div", {}, h("h2", { id: `${id}-title` }, name), h("p", { class: "muted" }, text))),
    ...content,
  );
}

/** Account, tokens, people and what the server can do. */
export class Settings {
  readonly element: HTMLElement;
  readonly #parts: SettingsParts;
  readonly #quality = h("div", { class: "fields" });
  readonly #devices: Devices;
  readonly #tokens = h("div", { class: "rows" });
  readonly #users = h("div", { class: "rows" });
  readonly #server = h("div", {}, h("p", { class: "muted" }, "Loading…"));

  constructor(parts: SettingsParts) {
    this.#parts = parts;
    this.#devices = new Devices({ api: parts.api, person: parts.person, failed: (error) => this.#failed(error) });
    const admin = parts.person.role === "admin";
    this.element = h(
      "div",
      { class: "settings", data: { testid: "settings" } },
      h("h1", { class: "page-title" }, "Settings"),
      section("play", "How you play", "sliders", "Kept in this browser; it holds from the next start, and can be changed while playing.", this.#quality),
      section("devices", "Moonlight", "screen", "Play from a television, a phone or another computer, in the same sessions.", this.#devices.element),
      section("server", "This server", "chip", "Which encoders work here, and which one a session gets.", this.#server),
      section("password", "Password", "key", "Changing it signs out your other browsers.", this.#passwordForm()),
      section("tokens", "Access tokens", "key", "For scripts and players that cannot sign in. A token can do what you can.", this.#tokens, this.#tokenForm()),
      admin ? section("people", "People", "user", "Players reach only their own sessions; administrators reach everything.", this.#users, this.#userForm()) : null,
    );
  }

  async start(): Promise<void> {
    this.#drawQuality(null);
    const jobs = [this.#loadServer(), this.#loadTokens(), this.#devices.start()];
    if (this.#parts.person.role === "admin") jobs.push(this.#loadUsers());
    await Promise.all(jobs);
  }

  #drawQuality(server: ServerInfo | null): void {
    const mimes = browserParts.capabilities().map((c) => c.mimeType);
    fill(this.#quality, ...qualityFields(() => undefined, server?.limits ?? null, decodable(mimes, "auto")));
  }

  #failed(error: unknown, into?: HTMLElement): void {
    const e = asApiError(error);
    if (e.status === 401) {
      this.#parts.signedOut();
      return;
    }
    if (into) fill(into, h("p", { class: "form-problem", role: "alert" }, `${explain(e.code).title}. ${e.detail ? sentence(e.detail) : ""}`));
    else toast(problem(e), "bad");
  }

  async #loadServer(): Promise<void> {
    try {
      const info = await this.#parts.api.server();
      this.#drawQuality(info);
      fill(this.#server, ...serverInfo(info));
    } catch (error) {
      this.#failed(error, this.#server);
    }
  }

  async #loadTokens(): Promise<void> {
    try {
      this.#drawTokens(await this.#parts.api.tokens());
    } catch (error) {
      this.#failed(error, this.#tokens);
    }
  }

  #drawTokens(tokens: Token[]): void {
    fill(
      this.#tokens,
      ...tokens.map((token) =>
        h(
          "div",
          { class: "item", data: { testid: "token" } },
          h("div", {}, h("strong", {}, token.name), h("p", { class: "muted" }, token.last_used ? `last used: ${since(token.last_used)}` : "never used")),
          this.#remove(`Remove token ${token.name}`, `Remove “${token.name}”?`, "Whatever uses it loses its access at once.", () => this.#parts.api.removeToken(token.id), () => this.#loadTokens()),
        ),
      ),
    );
  }

  async #loadUsers(): Promise<void> {
    try {
      this.#drawUsers(await this.#parts.api.users());
    } catch (error) {
      this.#failed(error, this.#users);
    }
  }

  #drawUsers(users: User[]): void {
    fill(
      this.#users,
      ...users.map((user) => {
        const me = user.id === this.#parts.person.id;
        const role = h("select", { class: "input small", "aria-label": `Role of ${user.name}`, disabled: me }, ...(["player", "admin"] as const).map((r) => h("option", { value: r, selected: r === user.role }, r === "admin" ? "Administrator" : "Player")));
        role.addEventListener("change", () => {
          this.#parts.api.changeUser(user.id, { role: role.value as User["role"] }).catch((error: unknown) => {
            role.value = user.role;
            this.#failed(error);
          });
        });
        return h(
          "div",
          { class: "item", data: { testid: "user" } },
          h("div", {}, h("strong", {}, user.name), h("p", { class: "muted" }, me ? "that is you" : `since ${since(user.created)}`)),
          role,
          me ? null : this.#remove(`Remove ${user.name}`, `Remove ${user.name}?`, "Their sessions are ended and they can no longer sign in.", () => this.#parts.api.removeUser(user.id), () => this.#loadUsers()),
        );
      }),
    );
  }

  #remove(label: string, title: string, text: string, act: () => Promise<void>, then: () => Promise<void>): HTMLElement {
    const button = h("button", { class: "icon-button", type: "button", "aria-label": label, title: label }, icon("trash"));
    button.addEventListener("click", () => {
      void confirm(title, text, "Remove", true).then(async (yes) => {
        if (!yes) return;
        try {
          await act();
          await then();
        } catch (error) {
          this.#failed(error);
        }
      });
    });
    return button;
  }

  /** A form that does one thing and says how it went. */
  #form(testid: string, button: string, fields: HTMLElement[], act: () => Promise<string>): HTMLFormElement {
    const trouble = h("p", { class: "form-problem", role: "alert" });
    const submit = h("button", { class: "button", type: "submit" }, button);
    const form = h("form", { class: "inline-form", novalidate: true, data: { testid } }, h("div", { class: "fields" }, ...fields), trouble, submit);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      trouble.textContent = "";
      submit.disabled = true;
      act()
        .then((done) => {
          form.reset();
          if (done) toast(done);
        })
        .catch((error: unknown) => {
          if (asApiError(error).status === 401 && asApiError(error).code === "unauthenticated") this.#parts.signedOut();
          trouble.textContent = problem(error);
        })
        .finally(() => (submit.disabled = false));
    });
    return form;
  }

  #passwordForm(): HTMLElement {
    const current = h("input", { class: "input", type: "password", autocomplete: "current-password", maxlength: 128 });
    const next = h("input", { class: "input", type: "password", autocomplete: "new-password", maxlength: 128 });
    const again = h("input", { class: "input", type: "password", autocomplete: "new-password", maxlength: 128 });
    const name = h("input", { type: "text", autocomplete: "username", value: this.#parts.person.name, hidden: true, readonly: true });
    return this.#form("password-form", "Change password", [name, field("Current password", current), field("New password", next), field("New password again", again)], async () => {
      if (next.value !== again.value) throw new Error("The two new passwords differ.");
      await this.#parts.api.changePassword(current.value, next.value);
      return "Password changed.";
    });
  }

  #tokenForm(): HTMLElement {
    const name = h("input", { class: "input", type: "text", autocomplete: "off", maxlength: 64 });
    return this.#form("token-form", "Make a token", [field("Name", name, "What it is for, so that you know it later.")], async () => {
      const made = await this.#parts.api.addToken(name.value.trim());
      this.#showToken(made.name, made.token);
      await this.#loadTokens();
      return "";
    });
  }

  #showToken(name: string, token: string): void {
    const box = h("input", { class: "input mono", readonly: true, value: token, "aria-label": "Token", data: { testid: "token-value" } });
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "token-title" },
      h("h2", { id: "token-title" }, `Token “${name}”`),
      h("p", {}, "Copy it now: it is not shown again."),
      box,
      h(
        "form",
        { method: "dialog", class: "row end" },
        h("button", { class: "button", type: "button", on: { click: () => void navigator.clipboard.writeText(token).then(() => toast("Copied."), () => box.select()) } }, "Copy"),
        h("button", { class: "button primary" }, "Done"),
      ),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    box.select();
  }

  #userForm(): HTMLElement {
    const name = h("input", { class: "input", type: "text", autocomplete: "off", maxlength: 64, autocapitalize: "none" });
    const password = h("input", { class: "input", type: "password", autocomplete: "new-password", maxlength: 128 });
    const role = h("select", { class: "input" }, h("option", { value: "player" }, "Player"), h("option", { value: "admin" }, "Administrator"));
    return this.#form("user-form", "Add a person", [field("Name", name), field("Password", password), field("Role", role)], async () => {
      await this.#parts.api.addUser(name.value.trim(), password.value, role.value as User["role"]);
      await this.#loadUsers();
      return "Added.";
    });
  }
}

/** What the server can encode, and with what. */
function serverInfo(info: ServerInfo): Node[] {
  const { choice } = info;
  const gpus = info.gpus ?? [];
  const row = (e: EncoderInfo): HTMLElement =>
    h(
      "tr",
      { class: e.name === choice.encoder ? "chosen" : undefined, data: { testid: "encoder", encoder: e.name, works: String(e.works) } },
      h("td", {}, h("strong", {}, e.name), h("span", { class: "muted small" }, e.element)),
      h("td", {}, codecNames[e.codec] ?? e.codec),
      h("td", {}, e.hardware ? "Graphics card" : "Processor"),
      h("td", {}, h("span", { class: `state ${e.works ? "good" : "off"}` }, icon(e.works ? "check" : "close"), e.works ? (e.took_ms > 0 ? `works · ${e.took_ms} ms` : "works") : "not here")),
      h("td", { class: "reason" }, e.name === choice.encoder ? choice.reason : e.reason),
    );
  return [
    h(
      "div",
      { class: "choice", data: { testid: "encoder-choice", encoder: choice.encoder } },
      icon(choice.encoder ? "check" : "warning"),
      h("p", {}, h("strong", {}, choice.encoder ? `${choice.encoder} is used` : "No encoder works"), choice.reason ? ` — ${sentence(choice.reason)}` : ""),
    ),
    h(
      "div",
      { class: "table-box", tabindex: "0", role: "region", "aria-label": "Encoders" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ...["Encoder", "Codec", "Runs on", "State", "Why"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, ...[...(info.encoders ?? [])].sort((a, b) => Number(b.works) - Number(a.works)).map(row)),
      ),
    ),
    h("h3", {}, "Graphics cards"),
    gpus.length > 0
      ? h(
          "div",
          { class: "rows" },
          ...gpus.map((g) =>
            h("div", { class: "item" }, h("div", {}, h("strong", {}, g.name), h("p", { class: "muted" },
              graphicsCard(g).join(" · ")),
              g.note ? h("p", { class: "muted" }, sentence(g.note)) : null)),
          ),
        )
      : h("p", { class: "muted" }, info.gpu_note ? sentence(info.gpu_note) : "None found."),
    gpus.length > 0 && info.gpu_note ? h("p", { class: "muted" }, sentence(info.gpu_note)) : h("span", {}),
    h("p", { class: "muted small" }, `Fenrir ${info.version} · `, h("a", { href: "/api/docs" }, "API")),
  ];
}

/** What is known of a graphics card; what the driver does not tell is left out. */
function graphicsCard(g: GPU): string[] {
  const facts: string[] = [];
  if (g.driver) facts.push(`driver ${g.driver}`);
  if (g.memory_mib !== null) {
    const total = `${(g.memory_mib / 1024).toFixed(1)} GiB`;
    facts.push(g.memory_used_mib === null ? total : `${(g.memory_used_mib / 1024).toFixed(1)} of ${total}`);
  }
  if (g.encodes === "no") facts.push("no video encoder");
  else {
    if (g.encodes === "unknown") facts.push("video encoder unknown");
    if (g.encoder_sessions !== null) facts.push(`${g.encoder_sessions} encoder sessions`);
    if (g.encoder_percent !== null) facts.push(`encoder ${g.encoder_percent} % busy`);
  }
  if (g.gpu_percent !== null) facts.push(`${g.gpu_percent} % busy`);
  return facts;
}
