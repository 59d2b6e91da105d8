import assert from "node:assert/strict";
import { test } from "node:test";
import { Watchdog, type Look, type Verdict } from "../src/core/watchdog";

/** Looks once a second; `at` says what is seen in second n. Verdicts other than "fine", by second. */
function watch(dog: Watchdog, seconds: number, at: (n: number) => Partial<Look>, from = 0): [number, Verdict][] {
  const verdicts: [number, Verdict][] = [];
  for (let n = 0; n < seconds; n++) {
    const v = dog.look({ now: (from + n) * 1000, rendering: true, running: true, received: 0, painted: 0, ...at(n) });
    if (v !== "fine") verdicts.push([n, v]);
  }
  return verdicts;
}

test("a picture that moves is fine", () => {
  assert.deepEqual(watch(new Watchdog(), 60, (n) => ({ received: n * 60, painted: n * 59 })), []);
});

test("a picture that stands still because nothing changes is fine", () => {
  assert.deepEqual(watch(new Watchdog(), 600, (n) => ({ received: Math.min(n, 3), painted: Math.min(n, 3) })), []);
});

test("frames that nobody sees: key frame, new connection, person", () => {
  const dog = new Watchdog();
  const stuck = (n: number): Partial<Look> => ({ received: 100 + n, painted: 50 });
  assert.deepEqual(watch(dog, 14, stuck), [[5, "ask"], [12, "reconnect"]]);
  dog.reset();
  const dead = (n: number): Partial<Look> => ({ received: n, painted: 0 });
  assert.deepEqual(watch(dog, 13, dead, 20), [[5, "ask"], [12, "reconnect"]]);
  dog.reset();
  assert.deepEqual(watch(dog, 13, dead, 40), [[5, "ask"], [12, "give up"]]);
});

test("no frame at all while the program runs is not fine", () => {
  assert.deepEqual(watch(new Watchdog(), 13, () => ({})), [[5, "ask"], [12, "reconnect"]]);
});

test("what is painted in between earns new chances", () => {
  const dog = new Watchdog();
  for (let round = 0; round < 5; round++) {
    dog.reset();
    watch(dog, 3, (n) => ({ received: n, painted: n }), round * 100);
    assert.deepEqual(watch(dog, 12, (n) => ({ received: 10 + n, painted: 2 }), round * 100 + 3).at(-1), [11, "reconnect"]);
  }
});

test("a page that is not drawn, or a program that does not run yet, proves nothing", () => {
  assert.deepEqual(watch(new Watchdog(), 60, (n) => ({ received: n, rendering: false })), []);
  assert.deepEqual(watch(new Watchdog(), 60, () => ({ running: false })), []);
});
