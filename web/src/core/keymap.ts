// Virtual-key codes by physical position (KeyboardEvent.code), as on a US
// board. What a key means is decided by the keyboard layout of the desktop.

const TABLE: Record<string, number> = {
  Backspace: 0x08,
  Tab: 0x09,
  NumpadClear: 0x0c,
  Enter: 0x0d,
  // Windows tells Enter of the keypad from Enter by a flag that the protocol
  // lacks; 0x0e is free there, and the server takes it for this key.
  NumpadEnter: 0x0e,
  Pause: 0x13,
  CapsLock: 0x14,
  Escape: 0x1b,
  Space: 0x20,
  PageUp: 0x21,
  PageDown: 0x22,
  End: 0x23,
  Home: 0x24,
  ArrowLeft: 0x25,
  ArrowUp: 0x26,
  ArrowRight: 0x27,
  ArrowDown: 0x28,
  Select: 0x29,
  Open: 0x2b,
  PrintScreen: 0x2c,
  Insert: 0x2d,
  Delete: 0x2e,
  Help: 0x2f,
  MetaLeft: 0x5b,
  MetaRight: 0x5c,
  ContextMenu: 0x5d,
  Sleep: 0x5f,
  NumpadMultiply: 0x6a,
  NumpadAdd: 0x6b,
  NumpadSubtract: 0x6d,
  NumpadDecimal: 0x6e,
  NumpadDivide: 0x6f,
  NumLock: 0x90,
  ScrollLock: 0x91,
  NumpadEqual: 0x92,
  ShiftLeft: 0xa0,
  ShiftRight: 0xa1,
  ControlLeft: 0xa2,
  ControlRight: 0xa3,
  AltLeft: 0xa4,
  AltRight: 0xa5,
  BrowserBack: 0xa6,
  BrowserForward: 0xa7,
  BrowserRefresh: 0xa8,
  BrowserStop: 0xa9,
  BrowserSearch: 0xaa,
  BrowserFavorites: 0xab,
  BrowserHome: 0xac,
  AudioVolumeMute: 0xad,
  AudioVolumeDown: 0xae,
  AudioVolumeUp: 0xaf,
  MediaTrackNext: 0xb0,
  MediaTrackPrevious: 0xb1,
  MediaStop: 0xb2,
  MediaPlayPause: 0xb3,
  LaunchMail: 0xb4,
  MediaSelect: 0xb5,
  LaunchApp1: 0xb6,
  LaunchApp2: 0xb7,
  Semicolon: 0xba,
  Equal: 0xbb,
  Comma: 0xbc,
  Minus: 0xbd,
  Period: 0xbe,
  Slash: 0xbf,
  Backquote: 0xc0,
  BracketLeft: 0xdb,
  Backslash: 0xdc,
  BracketRight: 0xdd,
  Quote: 0xde,
  IntlBackslash: 0xe2,
  // Keys that US boards lack. JIS: Ro, Yen, Henkan, Muhenkan, Kana, Zenkaku;
  // Korean: Hangul, Hanja; Brazilian: the comma of the keypad.
  IntlRo: 0xc1,
  NumpadComma: 0xc2,
  IntlYen: 0xe1,
  KanaMode: 0xf2,
  Lang1: 0x15,
  Lang2: 0x19,
  Lang3: 0xf1,
  Lang4: 0xf2,
  Lang5: 0xf3,
  Convert: 0x1c,
  NonConvert: 0x1d,
};

for (let i = 0; i < 10; i++) {
  TABLE[`Digit${i}`] = 0x30 + i;
  TABLE[`Numpad${i}`] = 0x60 + i;
}
for (let i = 0; i < 26; i++) TABLE[`Key${String.fromCharCode(65 + i)}`] = 0x41 + i;
for (let i = 0; i < 24; i++) TABLE[`F${i + 1}`] = 0x70 + i;

const CODES: ReadonlyMap<string, number> = new Map(Object.entries(TABLE));

/** What browsers call differently, or what only `key` tells because `code` is empty. */
const ALIASES: Record<string, string> = {
  OSLeft: "MetaLeft",
  OSRight: "MetaRight",
  VolumeMute: "AudioVolumeMute",
  VolumeDown: "AudioVolumeDown",
  VolumeUp: "AudioVolumeUp",
};

/** Keys of soft keyboards: they have no position, only a meaning. */
const BY_MEANING: ReadonlyMap<string, number> = new Map([
  ["Backspace", 0x08],
  ["Tab", 0x09],
  ["Enter", 0x0d],
  ["Escape", 0x1b],
  ["ArrowLeft", 0x25],
  ["ArrowUp", 0x26],
  ["ArrowRight", 0x27],
  ["ArrowDown", 0x28],
  ["Delete", 0x2e],
  ["Home", 0x24],
  ["End", 0x23],
  ["PageUp", 0x21],
  ["PageDown", 0x22],
]);

/** The virtual-key code of a position, 0 when it has none. */
export function virtualKey(code: string, meaning = ""): number {
  const vk = CODES.get(code) ?? CODES.get(ALIASES[code] ?? "");
  if (vk !== undefined) return vk;
  return code === "" || code === "Unidentified" ? (BY_MEANING.get(meaning) ?? 0) : 0;
}

/** All positions that have a code, for tests. */
export const positions: readonly string[] = [...CODES.keys()];
