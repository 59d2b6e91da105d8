import type { Person } from "../core/types";
import { h } from "./dom";
import { icon, wolf } from "./icons";
import { nextTheme, theme } from "./theme";

/** The frame of every page but the player: skip link, header, main. */
export function shell(person: Person, current: "library" | "settings", logout: () => void, ...content: Node[]): HTMLElement {
  const link = (to: string, name: string, label: string, i: "library" | "gear"): HTMLElement =>
    h("a", { href: to, class: "nav-link", "aria-label": label, "aria-current": current === name ? "page" : undefined, data: { testid: `nav-${name}` } }, icon(i), h("span", {}, label));
  const toggle = h("button", { class: "icon-button", type: "button", data: { testid: "theme" } });
  const paint = (): void => {
    const now = theme();
    toggle.replaceChildren(icon(now === "auto" ? "auto" : now === "dark" ? "moon" : "sun"));
    toggle.setAttribute("aria-label", `Theme: ${now}. Change`);
    toggle.title = `Theme: ${now}`;
  };
  toggle.addEventListener("click", () => {
    nextTheme();
    paint();
  });
  paint();
  return h(
    "div",
    { class: "shell" },
    h("a", { class: "skip", href: "#main", on: { click: skip } }, "Skip to the content"),
    h(
      "header",
      { class: "bar" },
      h("a", { class: "brand", href: "#/", "aria-label": "Fenrir, library" }, wolf(), h("span", { class: "wordmark" }, "Fenrir")),
      h("nav", { "aria-label": "Main" }, link("#/", "library", "Library", "library"), link("#/settings", "settings", "Settings", "gear")),
      h(
        "div",
        { class: "bar-end" },
        toggle,
        h("span", { class: "who", title: `${person.name}, ${person.role}` }, icon("user"), h("span", {}, person.name)),
        h("button", { class: "icon-button", type: "button", "aria-label": "Sign out", title: "Sign out", data: { testid: "logout" }, on: { click: logout } }, icon("leave")),
      ),
    ),
    h("main", { id: "main", tabindex: "-1" }, ...content),
  );
}

/** The hash is the router's, so the skip link moves the focus itself. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
