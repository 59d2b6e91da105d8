import { codecNames } from "../core/codecs";
import { layouts } from "../core/layout";
import type { Codec, Limits } from "../core/types";
import { field, h, select } from "./dom";
import { caps, detect, prefs, rates, set, sizes, type Prefs, type SizeChoice } from "./prefs";

/**
 * The controls for how to play, the same in the settings and over the picture.
 * `changed` is told which preference has a new value; `limits` leaves out what
 * this server refuses.
 */
export function qualityFields(changed: (name: keyof Prefs) => void, limits: Limits | null, codecs: readonly Codec[]): HTMLElement[] {
  const keep = <K extends keyof Prefs>(name: K, value: Prefs[K]): void => {
    set(name, value);
    changed(name);
  };
  const detected = h("option", { value: "auto", selected: prefs.layout === "auto" }, "As detected");
  const layout = select(
    layouts.map((l) => [l.id, l.name] as const),
    prefs.layout,
    (v) => keep("layout", v),
    { data: { testid: "layout" } },
  );
  layout.prepend(detected);
  if (prefs.layout === "auto") layout.value = "auto";
  void detect().then((id) => (detected.textContent = `As detected (${layouts.find((l) => l.id === id)?.name ?? id})`));
  const chosen: [SizeChoice, string][] = sizes.map(([v, name]) => [v, name]);
  if (!chosen.some(([v]) => v === prefs.size)) chosen.push([prefs.size, prefs.size.replace("x", " × ")]);
  const within = (v: string, min: number | undefined, max: number | undefined): boolean => v === "0" || (Number(v) >= (min ?? 0) && Number(v) <= (max ?? Infinity));
  return [
    field("Picture size", select(chosen, prefs.size, (v) => keep("size", v), { data: { testid: "size" } })),
    field("Frame rate", select(rates.filter(([v]) => within(v, limits?.min_fps, limits?.max_fps)), String(prefs.fps), (v) => keep("fps", Number(v)), { data: { testid: "fps" } })),
    field("Bitrate, at most", select(caps.filter(([v]) => within(v, limits?.min_kbps, limits?.max_kbps)), String(prefs.maxKbps), (v) => keep("maxKbps", Number(v)), { data: { testid: "bitrate" } })),
    field(
      "Codec",
      select([["auto", "Automatic"] as const, ...codecs.map((c) => [c, codecNames[c]] as const)], prefs.codec, (v) => keep("codec", v), { data: { testid: "codec" } }),
    ),
    field("Keyboard layout", layout),
    field(
      "Touch",
      select([["direct", "The pointer follows the finger"], ["trackpad", "Like a track pad"]], prefs.touch, (v) => keep("touch", v), { data: { testid: "touch-mode" } }),
    ),
  ];
}
