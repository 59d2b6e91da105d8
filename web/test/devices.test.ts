import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { troubles } from "../src/ui/devices";

test("whatever goes wrong with a PIN is said in a person's words", () => {
  // The codes that the server's table has for what pairing says.
  const table = readFileSync("../server/api/problem/problem.go", "utf8");
  const codes = [...table.matchAll(/\{(?:Err(?:PIN|WrongPIN|NotWaiting|DeviceGone|Pairing)|auth\.ErrTooManyDevices), "([a-z-]+)"/g)].map((m) => m[1] as string);
  assert.equal(codes.length, 6);
  for (const code of [...codes, "rate-limited"]) assert.match(troubles[code] ?? "", /^[A-Z].*[.]$/, code);
});
