import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { explanations, explain, wayNames } from "../src/ui/causes";

// npm runs the tests in web; the rest of the house is beside it.
const house = "..";

function sources(folder: string): string {
  return readdirSync(join(house, folder))
    .filter((name) => name.endsWith(".go") && !name.endsWith("_test.go"))
    .map((name) => readFileSync(join(house, folder, name), "utf8"))
    .join("\n");
}

test("every cause of the server has its own explanation and a way on", () => {
  const codes = [...sources("media").matchAll(/^\s*Cause[A-Za-z]+\s*=\s*"([a-z-]+)"/gm)].map((m) => m[1] as string);
  assert.ok(codes.length >= 20, `only ${codes.length} causes were found`);
  for (const code of codes) {
    const about = explanations[code];
    assert.ok(about, `${code} has no explanation`);
    assert.ok(about.ways.length > 0, `${code} has no way on`);
  }
});

test("explanations are whole sentences with known ways", () => {
  for (const [code, { title, text, ways }] of Object.entries(explanations)) {
    assert.match(text, /^[A-Z].*[.!?]$/, code);
    assert.doesNotMatch(title, /[.!?]$/, code);
    for (const way of ways) assert.ok(wayNames[way], `${code}: ${way}`);
  }
});

test("a code that nobody knows is shown as it is", () => {
  assert.match(explain("flux-capacitor").text, /flux-capacitor/);
  assert.ok(explain("flux-capacitor").ways.length > 0);
});
