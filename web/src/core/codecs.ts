import type { Codec } from "./types";

/** Codecs in the order in which they are asked for when nobody chose: what is decoded in hardware most widely first. */
const ORDER: readonly Codec[] = ["h264", "h265", "av1", "vp9", "vp8"];

export const codecNames: Record<Codec, string> = {
  h264: "H.264",
  h265: "HEVC",
  av1: "AV1",
  vp9: "VP9",
  vp8: "VP8",
};

/** What the receiver can decode, most wanted first; only the wanted one if there is one. */
export function decodable(mimeTypes: readonly string[], wanted: Codec | "auto"): Codec[] {
  const can = new Set(mimeTypes.map((mime) => mime.toLowerCase().replace(/^video\//, "")));
  if (wanted !== "auto") return can.has(wanted) ? [wanted] : [];
  return ORDER.filter((codec) => can.has(codec));
}

/** The capabilities for these codecs, in their order: them, and what repairs losses. */
export function preferences<T extends { mimeType: string }>(all: readonly T[], codecs: readonly Codec[]): T[] {
  const name = (c: T): string => c.mimeType.toLowerCase();
  const chosen = codecs.flatMap((codec) => all.filter((c) => name(c) === `video/${codec}`));
  if (chosen.length === 0) return [];
  const repair = all.filter((c) => /^video\/(rtx|red|ulpfec|flexfec-03)$/.test(name(c)));
  return [...chosen, ...repair];
}

/**
 * Asks for Opus in stereo: browsers decode mono unless the format parameters
 * of their own description say so (RFC 7587, section 7.1).
 */
export function withStereo(sdp: string): string {
  const opus = /^a=rtpmap:(\d+) opus\/48000\/2\r?$/im.exec(sdp)?.[1];
  if (opus === undefined) return sdp;
  const format = new RegExp(`^(a=fmtp:${opus} )([^\r\n]*)`, "m");
  if (!format.test(sdp)) {
    return sdp.replace(new RegExp(`^(a=rtpmap:${opus} [^\r\n]*)`, "m"), `$1\r\na=fmtp:${opus} stereo=1;useinbandfec=1`);
  }
  return sdp.replace(format, (_line, head: string, parameters: string) => {
    const kept = parameters.split(";").filter((p) => !/^\s*(stereo|sprop-stereo)=/.test(p));
    return head + [...kept, "stereo=1"].join(";");
  });
}

/**
 * Asks for the round-trip time (RRTR), which a receiver learns no other way:
 * a browser then asks for a packet that was lost twice after one round trip
 * instead of a tenth of a second.
 */
export function withRoundTrips(sdp: string): string {
  return sdp.replace(/^a=rtcp-fb:(\d+) nack pli\r?\n/gm, (line, type: string) => `${line}a=rtcp-fb:${type} rrtr\r\n`);
}
