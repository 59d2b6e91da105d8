export type Theme = "auto" | "dark" | "light";

const STORE = "fenrir.theme";
const ORDER: readonly Theme[] = ["auto", "dark", "light"];

export function theme(): Theme {
  const chosen = document.documentElement.dataset["theme"];
  return chosen === "dark" || chosen === "light" ? chosen : "auto";
}

/** Goes on to the next theme and remembers it. */
export function nextTheme(): void {
  const next = ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length] ?? "auto";
  if (next === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = next;
  try {
    if (next === "auto") localStorage.removeItem(STORE);
    else localStorage.setItem(STORE, next);
  } catch {
    // Forbidden storage: it holds until the page is left.
  }
}
