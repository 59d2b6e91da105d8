import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/core/backoff";
import { Connection, type Closing, type ConnectionParts } from "../src/core/connection";
import { Link } from "../src/core/link";
import type { Cause } from "../src/core/types";
import { Clock, settle } from "./help";

class FakeSocket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((e: { data: unknown }) => void) | null = null;
  onclose: ((e: { code: number; reason: string }) => void) | null = null;
  readonly sent: Record<string, unknown>[] = [];
  closes = 0;

  send(data: string): void {
    this.sent.push(JSON.parse(data) as Record<string, unknown>);
  }
  close(): void {
    this.closes++;
    if (this.readyState < 2) this.readyState = 2;
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  say(message: unknown): void {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  closed(code: number): void {
    this.readyState = 3;
    this.onclose?.({ code, reason: "" });
  }
  types(): unknown[] {
    return this.sent.map((m) => m["type"]);
  }
}

class FakeDataChannel {
  readyState = "connecting";
  binaryType = "";
  onopen: (() => void) | null = null;
  onmessage: ((e: { data: unknown }) => void) | null = null;
  constructor(readonly label: string) {}
  open(): void {
    this.readyState = "open";
    this.onopen?.();
  }
}

class FakePeer {
  connectionState = "new";
  iceConnectionState = "new";
  remoteDescription: unknown = null;
  readonly channels: FakeDataChannel[] = [];
  readonly added: unknown[] = [];
  readonly offers: boolean[] = [];
  closed = false;
  answerFails = false;
  onconnectionstatechange: (() => void) | null = null;
  oniceconnectionstatechange: (() => void) | null = null;
  onicecandidate: ((e: { candidate: unknown }) => void) | null = null;
  ontrack: unknown = null;

  configuration: RTCConfiguration = {};

  setConfiguration(c: RTCConfiguration): void {
    this.configuration = c;
  }
  addTransceiver(): unknown {
    return { receiver: {}, setCodecPreferences: () => undefined };
  }
  createDataChannel(label: string): FakeDataChannel {
    const channel = new FakeDataChannel(label);
    this.channels.push(channel);
    return channel;
  }
  async createOffer(options: { iceRestart: boolean }): Promise<{ sdp: string }> {
    this.offers.push(options.iceRestart);
    return { sdp: `offer ${this.offers.length}` };
  }
  async setLocalDescription(): Promise<void> {
    this.onicecandidate?.({ candidate: { candidate: "candidate:1", sdpMid: "0", sdpMLineIndex: 0, usernameFragment: "u" } });
  }
  async setRemoteDescription(d: unknown): Promise<void> {
    if (this.answerFails) throw new Error("bad answer");
    this.remoteDescription = d;
  }
  async addIceCandidate(c: unknown): Promise<void> {
    this.added.push(c);
  }
  become(state: string): void {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }
  close(): void {
    this.closed = true;
  }
}

class World {
  readonly clock = new Clock();
  readonly sockets: FakeSocket[] = [];
  readonly peers: FakePeer[] = [];
  readonly parts: ConnectionParts = {
    socket: () => {
      const socket = new FakeSocket();
      this.sockets.push(socket);
      return socket as unknown as WebSocket;
    },
    peer: () => {
      const peer = new FakePeer();
      this.peers.push(peer);
      return peer as unknown as RTCPeerConnection;
    },
    capabilities: () => [],
    timers: this.clock,
  };

  connect(early = false): Connection {
    return new Connection({ url: "wss://x", peer: "12345678", codecs: ["h264"], maxKbps: 0, viewOnly: false, early }, this.parts);
  }
  get socket(): FakeSocket {
    return this.sockets.at(-1) as FakeSocket;
  }
  get peer(): FakePeer {
    return this.peers.at(-1) as FakePeer;
  }
  async up(): Promise<void> {
    this.socket.open();
    this.socket.say(welcome);
    await settle();
    this.socket.say({ type: "answer", id: 1, sdp: "answer" });
    await settle();
    this.peer.become("connected");
  }
}

const welcome = {
  type: "welcome", version: 1, peer: "12345678", codec: "h264", heartbeat_ms: 500,
  grant: { keyboard: true, pointer: true, pads: true }, ice_servers: [{ urls: ["stun:example.org"] }], session: { id: "s" },
};

function watch(connection: Connection): { states: string[]; closed: Closing[] } {
  const seen = { states: [] as string[], closed: [] as Closing[] };
  connection.on("state", (s) => seen.states.push(s));
  connection.on("closed", (c) => seen.closed.push(c));
  return seen;
}

test("a connection says hello, offers, trickles and is connected", async () => {
  const w = new World();
  const c = w.connect();
  const seen = watch(c);
  c.open();
  await w.up();
  assert.deepEqual(seen.states, ["signaling", "negotiating", "connected"]);
  assert.deepEqual(w.socket.types(), ["hello", "offer", "candidate"]);
  assert.deepEqual(w.peer.channels.map((ch) => ch.label), ["input", "motion", "events", "stages"]);
  assert.deepEqual(w.peer.configuration.iceServers, [{ urls: ["stun:example.org"] }]);
  assert.equal(w.clock.pending, 0, "a deadline is left over");
});

test("an early offer goes out with the hello", async () => {
  const w = new World();
  const c = w.connect(true);
  const seen = watch(c);
  c.open();
  await settle();
  assert.deepEqual(w.peer.offers, [false], "the offer is made while the websocket connects");
  w.socket.open();
  await settle();
  assert.deepEqual(w.socket.types(), ["hello", "offer", "candidate"]);
  w.socket.say({ ...welcome, ice_servers: null });
  w.socket.say({ type: "answer", id: 1, sdp: "answer" });
  await settle();
  w.peer.become("connected");
  assert.deepEqual(seen.states, ["signaling", "negotiating", "connected"]);
  assert.deepEqual(w.peer.offers, [false]);
  assert.equal(w.clock.pending, 0, "a deadline is left over");
});

test("an early offer that nobody answers is given up", async () => {
  const w = new World();
  const c = w.connect(true);
  const seen = watch(c);
  c.open();
  w.socket.open();
  await settle();
  w.socket.say({ ...welcome, ice_servers: [] });
  await settle();
  w.clock.advance(6000);
  w.socket.closed(1000);
  assert.deepEqual([seen.closed[0]?.code, seen.closed[0]?.retry], ["negotiation-failed", true]);
  assert.equal(w.clock.pending, 0);
});

test("ICE servers that were not expected are kept for the next offer", async () => {
  const w = new World();
  const c = w.connect(true);
  c.open();
  await w.up();
  assert.equal(c.state, "connected");
  assert.deepEqual(w.peer.offers, [false]);
  assert.deepEqual(w.peer.configuration.iceServers, [{ urls: ["stun:example.org"] }]);
  assert.equal(w.clock.pending, 0);
});

test("an early offer of a connection that was closed meanwhile stays here", async () => {
  const w = new World();
  const c = w.connect(true);
  c.open();
  w.socket.open();
  c.close();
  await settle();
  assert.ok(!w.socket.types().includes("offer"));
});

test("input starts when both of its channels are open", async () => {
  const w = new World();
  const c = w.connect();
  let opened = 0;
  c.on("channels", () => opened++);
  c.open();
  await w.up();
  w.peer.channels[0]?.open();
  assert.equal(opened, 0);
  w.peer.channels[1]?.open();
  assert.equal(opened, 1);
});

test("candidates that come before the answer wait for it", async () => {
  const w = new World();
  const c = w.connect();
  c.open();
  w.socket.open();
  w.socket.say(welcome);
  await settle();
  w.socket.say({ type: "candidate", candidate: "candidate:9", sdp_mid: "0", sdp_mline_index: 0 });
  await settle();
  assert.equal(w.peer.added.length, 0);
  w.socket.say({ type: "answer", id: 1, sdp: "a" });
  await settle();
  assert.equal(w.peer.added.length, 1);
});

test("answers to other offers are ignored", async () => {
  const w = new World();
  const c = w.connect();
  c.open();
  w.socket.open();
  w.socket.say(welcome);
  await settle();
  w.socket.say({ type: "answer", id: 7, sdp: "a" });
  await settle();
  assert.equal(w.peer.remoteDescription, null);
});

for (const [name, ms, reach] of [
  ["no welcome", 10_000, 0],
  ["no answer", 6_000, 1],
  ["no path", 15_000, 2],
] as const) {
  test(`${name}: the connection ends by itself and may be tried again`, async () => {
    const w = new World();
    const c = w.connect();
    const seen = watch(c);
    c.open();
    w.socket.open();
    if (reach >= 1) w.socket.say(welcome);
    await settle();
    if (reach >= 2) w.socket.say({ type: "answer", id: 1, sdp: "a" });
    await settle();
    w.clock.advance(ms - 1);
    assert.equal(seen.closed.length, 0);
    w.clock.advance(1);
    assert.equal(c.state, "closing");
    w.clock.advance(1000); // the websocket never closes
    assert.equal(c.state, "closed");
    assert.equal(seen.closed[0]?.retry, true);
    assert.equal(w.clock.pending, 0);
  });
}

test("closing is bounded, says goodbye, and is final", async () => {
  const w = new World();
  const c = w.connect();
  const seen = watch(c);
  c.open();
  await w.up();
  c.close();
  assert.equal(c.state, "closing");
  assert.equal(w.peer.closed, true);
  assert.deepEqual(w.socket.sent.at(-1), { type: "bye", code: "left" });
  w.clock.advance(999);
  assert.equal(c.state, "closing");
  w.clock.advance(1);
  assert.equal(c.state, "closed");
  c.close();
  w.socket.closed(1006);
  w.socket.say({ type: "bye", code: "idle" });
  assert.equal(c.state, "closed");
  assert.equal(seen.closed.length, 1);
  assert.throws(() => c.open(), /should not happen/);
});

test("a bye decides, whatever the close code says", async () => {
  const w = new World();
  const c = w.connect();
  const seen = watch(c);
  c.open();
  await w.up();
  w.socket.say({ type: "bye", code: "app-exited", detail: "exit status 3", output: "oh no", retry: false });
  w.socket.closed(1006);
  assert.deepEqual(seen.closed, [{ code: "app-exited", detail: "exit status 3", output: "oh no", retry: false, welcomed: true }]);
});

test("close codes without a bye are understood", async () => {
  for (const [code, name, retry] of [
    [4000, "superseded", false], [4002, "revoked", false], [4004, "session-not-found", false], [4006, "no-encoder", false],
    [4008, "ice-failed", true], [4009, "server-shutdown", true], [1006, "connection-lost", true],
  ] as const) {
    const w = new World();
    const c = w.connect();
    const seen = watch(c);
    c.open();
    w.socket.open();
    w.socket.closed(code);
    assert.deepEqual([seen.closed[0]?.code, seen.closed[0]?.retry, seen.closed[0]?.welcomed], [name, retry, false]);
  }
});

test("a browser that makes no peer connection is told so", async () => {
  const w = new World();
  const c = new Connection({ url: "wss://x", peer: "12345678", codecs: ["h264"], maxKbps: 0, viewOnly: false, early: false }, {
    ...w.parts,
    peer: () => {
      throw new Error("switched off");
    },
  });
  const seen = watch(c);
  c.open();
  w.clock.advance(1000);
  assert.deepEqual([seen.closed[0]?.code, seen.closed[0]?.detail, seen.closed[0]?.retry], ["negotiation-failed", "switched off", false]);
  assert.equal(w.clock.pending, 0);
});

test("rubbish from the server ends the connection as a protocol error", async () => {
  const w = new World();
  const c = w.connect();
  const seen = watch(c);
  c.open();
  w.socket.open();
  w.socket.say("{");
  w.socket.closed(1000);
  assert.equal(seen.closed[0]?.code, "protocol-error");
});

test("an unknown message is what a later server may say", async () => {
  const w = new World();
  const c = w.connect();
  c.open();
  await w.up();
  w.socket.say({ type: "weather", sunny: true });
  assert.equal(c.state, "connected");
});

test("a path that is gone for a second is looked for again", async () => {
  const w = new World();
  const c = w.connect();
  const unstable: boolean[] = [];
  c.on("unstable", (u) => unstable.push(u));
  c.open();
  await w.up();
  w.peer.become("disconnected");
  w.clock.advance(999);
  await settle();
  assert.deepEqual(w.peer.offers, [false]);
  w.clock.advance(1);
  await settle();
  assert.deepEqual(w.peer.offers, [false, true]);
  assert.deepEqual(w.socket.sent.filter((m) => m["type"] === "offer").map((m) => m["id"]), [1, 2]);
  w.socket.say({ type: "answer", id: 2, sdp: "b" });
  await settle();
  w.peer.become("connected");
  assert.deepEqual(unstable, [true, false]);
  assert.equal(w.clock.pending, 0);
});

test("a path that comes back by itself is left alone", async () => {
  const w = new World();
  const c = w.connect();
  c.open();
  await w.up();
  w.peer.become("disconnected");
  w.clock.advance(500);
  w.peer.become("connected");
  w.clock.advance(5000);
  await settle();
  assert.deepEqual(w.peer.offers, [false]);
});

test("no new path: the connection is given up, and may be tried again", async () => {
  const w = new World();
  const c = w.connect();
  const seen = watch(c);
  c.open();
  await w.up();
  w.peer.become("failed");
  await settle();
  w.socket.say({ type: "answer", id: 2, sdp: "b" });
  await settle();
  w.clock.advance(8000);
  w.socket.closed(1000);
  assert.deepEqual([seen.closed[0]?.code, seen.closed[0]?.retry], ["connection-lost", true]);
});

test("one search for a path at a time", async () => {
  const w = new World();
  const c = w.connect();
  c.open();
  await w.up();
  c.networkChanged();
  c.networkChanged();
  await settle();
  c.networkChanged();
  await settle();
  assert.deepEqual(w.peer.offers, [false, true]);
  w.socket.say({ type: "answer", id: 2, sdp: "b" });
  await settle();
  assert.equal(w.clock.pending, 0, "a path that never broke must not be waited for");
});

test("an answer that cannot be used is named", async () => {
  const w = new World();
  const c = w.connect();
  const seen = watch(c);
  c.open();
  w.socket.open();
  w.socket.say(welcome);
  await settle();
  w.peer.answerFails = true;
  w.socket.say({ type: "answer", id: 1, sdp: "a" });
  await settle();
  w.socket.closed(1000);
  assert.deepEqual([seen.closed[0]?.code, seen.closed[0]?.retry], ["negotiation-failed", false]);
});

// --- the owner of reconnecting ---

function link(w: World, probe: () => Promise<Cause | null> = async () => null): { link: Link; downs: Cause[]; waits: number[] } {
  const l = new Link({
    connect: () => w.connect(),
    probe,
    timers: w.clock,
    backoff: new Backoff({ first: 100, cap: 1000, attempts: 5, random: () => 0.5 }),
  });
  const seen = { link: l, downs: [] as Cause[], waits: [] as number[] };
  l.on("down", (c) => seen.downs.push(c));
  l.on("waiting", (e) => seen.waits.push(e.ms));
  return seen;
}

test("a broken connection is tried again with growing delays, one at a time, and then no more", async () => {
  const w = new World();
  const seen = link(w);
  seen.link.start();
  for (let i = 0; i < 5; i++) {
    assert.equal(w.sockets.length, i + 1);
    w.socket.open();
    w.socket.closed(1006);
    await settle();
    assert.equal(seen.link.state, "waiting");
    w.clock.advance(seen.waits.at(-1) ?? NaN);
  }
  w.socket.open();
  w.socket.closed(1006);
  await settle();
  assert.equal(seen.link.state, "down");
  assert.deepEqual(seen.waits, [100, 200, 400, 800, 1000]);
  assert.equal(seen.downs[0]?.code, "connection-lost");
  w.clock.advance(600_000);
  assert.equal(w.sockets.length, 6);
  seen.link.retryNow();
  assert.equal(w.sockets.length, 7, "a person may ask again");
});

test("a connection alone earns no new budget, a painted frame does", async () => {
  const w = new World();
  const seen = link(w);
  seen.link.start();
  for (const paint of [false, false, true]) {
    await w.up();
    assert.equal(seen.link.state, "live");
    if (paint) seen.link.painted();
    w.socket.closed(1006);
    await settle();
    w.clock.advance(seen.waits.at(-1) ?? NaN);
  }
  assert.deepEqual(seen.waits, [100, 200, 100]);
});

for (const code of ["superseded", "app-exited", "revoked", "no-encoder", "idle"]) {
  test(`${code} is final: nothing is tried until a person asks`, async () => {
    const w = new World();
    const seen = link(w);
    seen.link.start();
    await w.up();
    w.socket.say({ type: "bye", code, retry: false });
    w.socket.closed(1000);
    await settle();
    w.clock.advance(600_000);
    assert.equal(w.sockets.length, 1);
    assert.deepEqual([seen.link.state, seen.downs[0]?.code], ["down", code]);
  });
}

test("a websocket that never got through asks by HTTP why", async () => {
  const w = new World();
  const seen = link(w, async () => ({ code: "session-not-found" }));
  seen.link.start();
  w.socket.closed(1006);
  await settle();
  assert.deepEqual([seen.link.state, seen.downs[0]?.code], ["down", "session-not-found"]);
  w.clock.advance(60_000);
  assert.equal(w.sockets.length, 1);
});

test("closing a link ends its connection and its timers", async () => {
  const w = new World();
  const seen = link(w);
  seen.link.start();
  w.socket.closed(1006);
  await settle();
  seen.link.close();
  w.clock.advance(600_000);
  assert.equal(w.sockets.length, 1);
  assert.equal(w.clock.pending, 0);
  assert.equal(seen.link.state, "closed");
  seen.link.retryNow();
  assert.equal(w.sockets.length, 1);
});

test("a new connection replaces the old one: never two at a time", async () => {
  const w = new World();
  const seen = link(w);
  seen.link.start();
  await w.up();
  seen.link.reconnect();
  assert.equal(w.sockets.length, 2);
  assert.equal(w.peers[0]?.closed, true);
  w.clock.advance(5000); // the old one's goodbye times out
  assert.equal(w.sockets.length, 2);
  assert.equal(seen.link.state, "connecting");
});
