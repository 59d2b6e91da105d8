import assert from "node:assert/strict";
import { test } from "node:test";
import { delta, mean, StatsMeter, total, type Extras, type Legs } from "../src/core/stats";

const nothing: Extras = { session: null, timing: null, pongMs: null, paint: null, missedHeartbeats: 0 };

function report(frames: number, more: Record<string, number> = {}): [string, unknown][] {
  return [
    ["v", { type: "inbound-rtp", kind: "video", codecId: "c", bytesReceived: frames * 10_000, packetsReceived: frames * 9, packetsLost: 0,
      framesReceived: frames, framesDecoded: frames, totalDecodeTime: frames * 0.002, jitterBufferDelay: frames * 0.004,
      jitterBufferEmittedCount: frames, frameWidth: 1280, frameHeight: 720, jitter: 0.001, ...more }],
    ["a", { type: "inbound-rtp", kind: "audio", codecId: "o", bytesReceived: frames * 200, audioLevel: 0.5 }],
    ["c", { type: "codec", mimeType: "video/H264" }],
    ["o", { type: "codec", mimeType: "audio/opus" }],
    ["t", { type: "transport", selectedCandidatePairId: "p" }],
    ["p", { type: "candidate-pair", currentRoundTripTime: 0.01, localCandidateId: "l", remoteCandidateId: "r" }],
    ["l", { type: "local-candidate", protocol: "udp", candidateType: "host" }],
    ["r", { type: "remote-candidate", protocol: "udp", candidateType: "host" }],
  ];
}

test("rates are over the interval", () => {
  const meter = new StatsMeter();
  meter.sample(report(60), 1000, nothing);
  const s = meter.sample(report(180), 3000, { ...nothing, paint: { frames: 118, receivedToScreen: 9, age: null } });
  assert.equal(s.fpsDecoded, 60);
  assert.equal(s.fpsPainted, 59);
  assert.equal(s.kbps, 4800);
  assert.equal(s.audioKbps, 96);
  assert.deepEqual([s.codec, s.width, s.height, s.path, s.audio.codec], ["H264", 1280, 720, "udp host", "opus"]);
});

test("the first sample knows no rates", () => {
  const s = new StatsMeter().sample(report(1000), 5000, nothing);
  assert.deepEqual([s.fpsDecoded, s.kbps], [0, 0]);
});

test("legs: what is known is added up, what is not stays unknown", () => {
  const meter = new StatsMeter();
  meter.sample(report(60), 1000, nothing);
  const s = meter.sample(report(120), 2000, { ...nothing, pongMs: 8, paint: { frames: 60, receivedToScreen: 9, age: 21 } });
  const round = (v: number | null): number | null => (v === null ? null : Math.round(v * 1000) / 1000);
  assert.deepEqual([round(s.legs.network), round(s.legs.jitterBuffer), round(s.legs.decode), round(s.legs.present)], [4, 4, 2, 3]);
  assert.equal(s.legs.encode, null);
  assert.equal(round(s.latencyMs), 13);
  assert.equal(s.ageMs, 21);
  const none = Object.fromEntries(Object.keys(s.legs).map((k) => [k, null])) as unknown as Legs;
  assert.equal(total(none), null);
});

test("loss is of this interval, and late packets are no loss", () => {
  const meter = new StatsMeter();
  meter.sample(report(10, { packetsReceived: 90, packetsLost: 10 }), 1000, nothing);
  let s = meter.sample(report(20, { packetsReceived: 180, packetsLost: 20 }), 2000, nothing);
  assert.equal(s.lossPercent, 10);
  s = meter.sample(report(30, { packetsReceived: 270, packetsLost: 15 }), 3000, nothing);
  assert.equal(s.lossPercent, 0);
});

test("a counter that fell began anew", () => {
  assert.equal(delta({ n: 5 }, { n: 100 }, "n"), 5);
  assert.equal(delta({ n: 105 }, { n: 100 }, "n"), 5);
  assert.equal(delta(undefined, { n: 100 }, "n"), 0);
  assert.equal(mean({ s: 4, n: 2 }, undefined, "s", "n", 1000), 2000);
  assert.equal(mean({ s: 4, n: 2 }, { s: 4, n: 2 }, "s", "n", 1000), null);
});

test("a new connection starts from zero", () => {
  const meter = new StatsMeter();
  meter.sample(report(600), 1000, nothing);
  meter.reset();
  assert.equal(meter.sample(report(60), 2000, nothing).fpsDecoded, 0);
});
