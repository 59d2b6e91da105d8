/** What one frame went through on the server; spans and moments of the server's clock in ms. */
export interface FrameStages {
  rtp: number;
  captured: number;
  /** Change on the display → captured; null when the frame shows no change. */
  wait: number | null;
  convert: number;
  encode: number;
  wire: number;
  send: number;
}

/** What one input went through on the server, by its number among the packets on `input`. */
export interface InputStages {
  number: number;
  received: number;
  inject: number;
}

/** A message of the channel `stages`. */
export interface Stages {
  seq: number;
  frames: FrameStages[];
  inputs: InputStages[];
}

const HEADER = 12;
const FRAME = 28;
const INPUT = 12;
const NONE = 0xffffffff;

/** Reads such a message; null for anything else. */
export function readStages(data: ArrayBuffer): Stages | null {
  if (data.byteLength < HEADER) return null;
  const view = new DataView(data);
  const frames = view.getUint8(2);
  const inputs = view.getUint8(3);
  if (data.byteLength < HEADER + frames * FRAME + inputs * INPUT) return null;
  const now = Number(view.getBigUint64(4, true));
  const word = (at: number): number => view.getUint32(at, true);
  const ms = (at: number): number => word(at) / 1000;
  const stages: Stages = { seq: view.getUint16(0, true), frames: [], inputs: [] };
  let at = HEADER;
  for (let i = 0; i < frames; i++, at += FRAME) {
    stages.frames.push({
      rtp: word(at),
      captured: (now - word(at + 4)) / 1000,
      wait: word(at + 8) === NONE ? null : ms(at + 8),
      convert: ms(at + 12),
      encode: ms(at + 16),
      wire: ms(at + 20),
      send: ms(at + 24),
    });
  }
  for (let i = 0; i < inputs; i++, at += INPUT) {
    stages.inputs.push({ number: word(at), received: (now - word(at + 4)) / 1000, inject: ms(at + 8) });
  }
  return stages;
}
