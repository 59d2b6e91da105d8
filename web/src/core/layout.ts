/** A keyboard layout by its XKB name. */
export interface Layout {
  id: string;
  name: string;
  /** What its keys say where it differs from others: KeyboardEvent.code → character without modifiers. */
  signs: Record<string, string>;
  /** Languages (BCP 47, lower case) whose speakers use it. */
  languages: string[];
  /** Whether it has an AltGr. */
  altGr: boolean;
}

/** The layouts that can be chosen; the most common one of equals comes first. */
export const layouts: readonly Layout[] = [
  { id: "us", name: "English (US)", signs: { KeyQ: "q", KeyW: "w", KeyY: "y", KeyA: "a", Semicolon: ";", Backslash: "\\", BracketLeft: "[", Quote: "'", Minus: "-" }, languages: ["en-us", "en", "zh", "nl"], altGr: false },
  { id: "gb", name: "English (UK)", signs: { KeyQ: "q", KeyY: "y", Semicolon: ";", Backslash: "#", BracketLeft: "[", Quote: "'", IntlBackslash: "\\" }, languages: ["en-gb", "en-ie"], altGr: true },
  { id: "us(intl)", name: "English (US, international)", signs: { KeyQ: "q", KeyY: "y", Semicolon: ";", Backslash: "\\", Quote: "´" }, languages: [], altGr: true },
  { id: "de", name: "German", signs: { KeyQ: "q", KeyY: "z", KeyZ: "y", Semicolon: "ö", Quote: "ä", BracketLeft: "ü", Minus: "ß" }, languages: ["de", "de-de", "de-at"], altGr: true },
  { id: "ch", name: "German (Switzerland)", signs: { KeyY: "z", KeyZ: "y", Semicolon: "ö", Quote: "ä", BracketLeft: "ü", Minus: "'", Backslash: "$" }, languages: ["de-ch", "it-ch"], altGr: true },
  { id: "ch(fr)", name: "French (Switzerland)", signs: { KeyY: "z", KeyZ: "y", Semicolon: "é", Quote: "à", BracketLeft: "è", Minus: "'", Backslash: "$" }, languages: ["fr-ch"], altGr: true },
  { id: "fr", name: "French", signs: { KeyQ: "a", KeyA: "q", KeyW: "z", KeyZ: "w", Semicolon: "m", Digit2: "é", Minus: ")", Backslash: "*" }, languages: ["fr", "fr-fr"], altGr: true },
  { id: "be", name: "Belgian", signs: { KeyQ: "a", KeyA: "q", KeyW: "z", KeyZ: "w", Semicolon: "m", Digit2: "é", Minus: ")", Backslash: "µ", Equal: "-" }, languages: ["fr-be", "nl-be"], altGr: true },
  { id: "ca", name: "French (Canada)", signs: { KeyQ: "q", KeyY: "y", Semicolon: ";", Slash: "é", Backquote: "#", Backslash: "<" }, languages: ["fr-ca"], altGr: true },
  { id: "es", name: "Spanish", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ñ", Minus: "'", Equal: "¡", Backslash: "ç" }, languages: ["es", "es-es"], altGr: true },
  { id: "latam", name: "Spanish (Latin America)", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ñ", Minus: "'", Equal: "¿", Quote: "{", Backslash: "}" }, languages: ["es-mx", "es-ar", "es-co", "es-cl", "es-pe", "es-419"], altGr: true },
  { id: "pt", name: "Portuguese", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ç", Quote: "º", Minus: "'", Equal: "«" }, languages: ["pt", "pt-pt"], altGr: true },
  { id: "br", name: "Portuguese (Brazil)", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ç", Slash: ";", IntlRo: "/", Backquote: "'", BracketRight: "[" }, languages: ["pt-br"], altGr: true },
  { id: "it", name: "Italian", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ò", Quote: "à", BracketLeft: "è", Equal: "ì", Backslash: "ù" }, languages: ["it", "it-it"], altGr: true },
  { id: "se", name: "Swedish", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ö", Quote: "ä", BracketLeft: "å", Minus: "+", Backquote: "§" }, languages: ["sv", "sv-se"], altGr: true },
  { id: "fi", name: "Finnish", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ö", Quote: "ä", BracketLeft: "å", Minus: "+", Backquote: "§" }, languages: ["fi", "fi-fi", "sv-fi"], altGr: true },
  { id: "no", name: "Norwegian", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ø", Quote: "æ", BracketLeft: "å", Minus: "+", Backquote: "|" }, languages: ["nb", "nn", "no"], altGr: true },
  { id: "dk", name: "Danish", signs: { KeyQ: "q", KeyY: "y", Semicolon: "æ", Quote: "ø", BracketLeft: "å", Minus: "+", Backquote: "½" }, languages: ["da", "da-dk"], altGr: true },
  { id: "is", name: "Icelandic", signs: { KeyQ: "q", KeyY: "y", Semicolon: "æ", BracketLeft: "ð", Minus: "ö", Slash: "þ" }, languages: ["is"], altGr: true },
  { id: "pl", name: "Polish", signs: { KeyQ: "q", KeyW: "w", KeyY: "y", KeyA: "a", Semicolon: ";", Backslash: "\\", BracketLeft: "[", Quote: "'", Minus: "-" }, languages: ["pl", "pl-pl"], altGr: true },
  { id: "cz", name: "Czech", signs: { KeyY: "z", KeyZ: "y", Digit2: "ě", Digit3: "š", Semicolon: "ů", BracketLeft: "ú" }, languages: ["cs", "cs-cz"], altGr: true },
  { id: "sk", name: "Slovak", signs: { KeyY: "z", KeyZ: "y", Digit2: "ľ", Digit3: "š", Semicolon: "ô", BracketLeft: "ú" }, languages: ["sk"], altGr: true },
  { id: "hu", name: "Hungarian", signs: { KeyY: "z", KeyZ: "y", Semicolon: "é", Quote: "á", BracketLeft: "ő", Digit0: "ö" }, languages: ["hu"], altGr: true },
  { id: "ro", name: "Romanian", signs: { KeyQ: "q", KeyY: "y", Semicolon: "ș", Quote: "ț", BracketLeft: "ă", BracketRight: "î" }, languages: ["ro"], altGr: true },
  { id: "si", name: "Slovenian, Croatian", signs: { KeyY: "z", KeyZ: "y", Semicolon: "č", Quote: "ć", BracketLeft: "š" }, languages: ["sl", "hr", "bs"], altGr: true },
  { id: "tr", name: "Turkish", signs: { KeyQ: "q", KeyY: "y", KeyI: "ı", Semicolon: "ş", Quote: "i", BracketLeft: "ğ" }, languages: ["tr"], altGr: true },
  { id: "gr", name: "Greek", signs: { KeyQ: ";", KeyA: "α", KeyS: "σ", KeyD: "δ" }, languages: ["el"], altGr: true },
  { id: "ru", name: "Russian", signs: { KeyQ: "й", KeyA: "ф", KeyS: "ы", Quote: "э" }, languages: ["ru", "be"], altGr: false },
  { id: "ua", name: "Ukrainian", signs: { KeyQ: "й", KeyA: "ф", KeyS: "і", Quote: "є" }, languages: ["uk"], altGr: true },
  { id: "il", name: "Hebrew", signs: { KeyQ: "/", KeyA: "ש", KeyS: "ד" }, languages: ["he"], altGr: true },
  { id: "jp", name: "Japanese", signs: { KeyQ: "q", KeyY: "y", BracketLeft: "@", Quote: ":", Equal: "^", IntlRo: "\\", IntlYen: "¥" }, languages: ["ja"], altGr: false },
  { id: "kr", name: "Korean", signs: { KeyQ: "ㅂ", KeyA: "ㅁ" }, languages: ["ko"], altGr: false },
  { id: "us(dvorak)", name: "English (Dvorak)", signs: { KeyQ: "'", KeyW: ",", KeyA: "a", KeyS: "o", KeyD: "e" }, languages: [], altGr: false },
  { id: "us(colemak)", name: "English (Colemak)", signs: { KeyQ: "q", KeyE: "f", KeyR: "p", KeyS: "r", KeyD: "s" }, languages: [], altGr: true },
  { id: "de(neo)", name: "German (Neo 2)", signs: { KeyQ: "x", KeyW: "v", KeyE: "l", KeyA: "u", KeyS: "i" }, languages: [], altGr: true },
];

/** The layout with this XKB name. */
export function layoutByID(id: string): Layout | undefined {
  return layouts.find((layout) => layout.id === id);
}

/** What the first of the languages that has a layout is typed with; "us" when none has one. */
export function layoutForLanguages(languages: readonly string[]): string {
  for (const language of languages) {
    const full = language.toLowerCase();
    const base = full.split("-")[0] ?? full;
    for (const wanted of [full, base]) {
      const found = layouts.find((layout) => layout.languages.includes(wanted));
      if (found) return found.id;
    }
  }
  return "us";
}

/**
 * Guesses the layout from what the browser tells about its keys
 * (navigator.keyboard.getLayoutMap) and, between equals, from the languages.
 */
export function detectLayout(keys: ReadonlyMap<string, string>, languages: readonly string[]): string {
  const spoken = layoutForLanguages(languages);
  if (keys.size === 0) return spoken;
  let best = "us";
  let most = -Infinity;
  for (const layout of layouts) {
    let score = 0;
    let known = 0;
    for (const [code, sign] of Object.entries(layout.signs)) {
      const said = keys.get(code);
      if (said === undefined) continue;
      known++;
      score += said === sign ? 1 : -2;
    }
    if (known === 0) continue;
    score = score / Object.keys(layout.signs).length + (layout.id === spoken ? 0.05 : 0);
    if (score > most) {
      most = score;
      best = layout.id;
    }
  }
  return best;
}
