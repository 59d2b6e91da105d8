import { asApiError, type Api } from "../core/api";
import type { Person } from "../core/types";
import { landscape } from "./art";
import { announce, field, fill, h } from "./dom";
import { wolf } from "./icons";

/** Fewest characters of a password; the server has the last word. */
const PASSWORD_MIN = 8;

const PROBLEMS: Record<string, string> = {
  "bad-credentials": "Name and password do not fit together.",
  "bad-setup-token": "This set-up link is not valid. The server prints the current one when it starts.",
  "setup-done": "This server is set up already. Sign in instead.",
};

/** What to tell of a refusal. */
export function problem(error: unknown): string {
  const { code, detail, retryAfter } = asApiError(error);
  if (code === "rate-limited") return `Too many tries. Wait ${retryAfter ? `${retryAfter} s` : "a moment"} before the next one.`;
  return PROBLEMS[code] ?? (detail ? sentence(detail) : code);
}

/** Text of the server as a sentence. */
export function sentence(text: string): string {
  const t = text.trim();
  // Names of files, options and libraries keep their case.
  const first = /^[a-z]+[ ,.]/.test(t) && !/^[a-z]+ =/.test(t) ? t.charAt(0).toUpperCase() + t.slice(1) : t;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

interface Ask {
  title: string;
  text: string;
  testid: string;
  button: string;
  fields: HTMLElement[];
  submit: () => Promise<Person>;
  check?: () => string;
  more?: HTMLElement;
}

function page(root: HTMLElement, ask: Ask, done: (person: Person) => void): void {
  const trouble = h("p", { class: "form-problem", role: "alert", data: { testid: "form-problem" } });
  const button = h("button", { class: "button primary wide", type: "submit", data: { testid: "submit" } }, ask.button);
  const form = h(
    "form",
    { class: "card welcome", data: { testid: ask.testid }, novalidate: true, "aria-labelledby": "welcome-title" },
    h("div", { class: "welcome-mark" }, wolf()),
    h("h1", { id: "welcome-title", tabindex: "-1" }, ask.title),
    h("p", { class: "muted" }, ask.text),
    ...ask.fields,
    trouble,
    button,
    ask.more,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wrong = ask.check?.() ?? "";
    trouble.textContent = wrong;
    if (wrong) return;
    button.disabled = true;
    button.classList.add("busy");
    ask
      .submit()
      .then(done, (error: unknown) => {
        trouble.textContent = problem(error);
        announce(trouble.textContent);
      })
      .finally(() => {
        button.disabled = false;
        button.classList.remove("busy");
      });
  });
  fill(root, h("main", { class: "gate", id: "main" }, h("div", { class: "gate-art" }, landscape("fenrir", "wide")), form));
  form.querySelector<HTMLInputElement>("input:not([value]), input")?.focus();
}

const input = (testid: string, type: string, autocomplete: string, value = ""): HTMLInputElement =>
  h("input", { class: "input", type, autocomplete, value: value || undefined, required: true, maxlength: 128, autocapitalize: "none", spellcheck: "false", data: { testid } });

/** The first form of a new server: makes its administrator. */
export function setupForm(root: HTMLElement, api: Api, token: string, done: (person: Person) => void): void {
  const code = input("setup-token", "text", "off", token);
  const name = input("name", "text", "username");
  const password = input("password", "password", "new-password");
  const again = input("password-again", "password", "new-password");
  page(
    root,
    {
      title: "Welcome to Fenrir",
      text: "Nobody runs this server yet. Choose the name and password of its administrator.",
      testid: "setup-form",
      button: "Set up",
      fields: [
        ...(token ? [] : [field("Set-up token", code, "The server printed it when it started.")]),
        field("Name", name),
        field("Password", password, `At least ${PASSWORD_MIN} characters.`),
        field("Password again", again),
      ],
      check: () => {
        if (!code.value.trim()) return "The set-up token is missing.";
        if (!name.value.trim()) return "Choose a name.";
        if ([...password.value].length < PASSWORD_MIN) return `The password needs at least ${PASSWORD_MIN} characters.`;
        return password.value === again.value ? "" : "The two passwords differ.";
      },
      submit: () => api.setup(code.value.trim(), name.value.trim(), password.value),
    },
    done,
  );
}

/** Signs a person in. */
export function loginForm(root: HTMLElement, api: Api, done: (person: Person) => void, note = ""): void {
  const name = input("name", "text", "username");
  const password = input("password", "password", "current-password");
  page(
    root,
    {
      title: "Sign in",
      text: note || "Your games run on this server. Pick up where you left off.",
      testid: "login-form",
      button: "Sign in",
      fields: [field("Name", name), field("Password", password)],
      check: () => (name.value.trim() && password.value ? "" : "Name and password, please."),
      submit: () => api.login(name.value.trim(), password.value),
    },
    done,
  );
}
