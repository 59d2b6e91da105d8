import { preferences, withRoundTrips, withStereo } from "./codecs";
import { newer, readCursorPosition, readPong, type Pong } from "./control";
import { Emitter } from "./emitter";
import { readStages, type Stages } from "./stages";
import type { Legs } from "./latency";
import { realTimers, type Timers } from "./motion";
import type { Cause, ClientMessage, Codec, CursorImage, ServerMessage, SessionState, Timing, Welcome } from "./types";

export const PROTOCOL_VERSION = 1;
export const SUBPROTOCOL = "fenrir.v1";
export const CLIENT = "fenrir-web/0.1";

/** How long each part of a connection may take, ms. */
const WELCOME_MS = 10_000;
const ANSWER_MS = 6_000;
const CONNECT_MS = 15_000;
/** How long a path may be gone before ICE is restarted, and how long that may take. */
const DISCONNECTED_MS = 1_000;
const RESTART_MS = 8_000;
/** How long the websocket gets to say goodbye. */
const CLOSE_MS = 1_000;

/** The states of a connection, in order; the last one is permanent. */
export type ConnectionState = "new" | "signaling" | "negotiating" | "connected" | "closing" | "closed";

const NEXT: Record<ConnectionState, readonly ConnectionState[]> = {
  new: ["signaling", "closed"],
  signaling: ["negotiating", "closing", "closed"],
  negotiating: ["connected", "closing", "closed"],
  connected: ["closing", "closed"],
  closing: ["closed"],
  closed: [],
};

/** Why a connection ended, and whether a new one may be tried without asking anybody. */
export interface Closing extends Cause {
  retry: boolean;
  /** Whether the server had accepted us: if not, the reason may be one that only HTTP tells. */
  welcomed: boolean;
}

/** What close codes of the websocket mean when no bye came before them. */
const CLOSE_CODES: Record<number, { code: string; retry: boolean }> = {
  4000: { code: "superseded", retry: false },
  4001: { code: "session-ended", retry: false },
  4002: { code: "revoked", retry: false },
  4003: { code: "protocol-error", retry: false },
  4004: { code: "session-not-found", retry: false },
  4005: { code: "version-mismatch", retry: false },
  4006: { code: "no-encoder", retry: false },
  4007: { code: "too-many-sessions", retry: false },
  4008: { code: "ice-failed", retry: true },
  4009: { code: "server-shutdown", retry: true },
};

export interface ConnectionEvents {
  state: ConnectionState;
  welcome: Welcome;
  session: SessionState;
  track: MediaStreamTrack;
  /** The channels for input are open. */
  channels: { input: RTCDataChannel; motion: RTCDataChannel; heartbeatMs: number };
  cursor: CursorImage;
  position: { x: number; y: number };
  timing: Timing;
  stages: Stages;
  pong: Pong;
  /** The path to the server is gone (true) or back (false); media may stand still meanwhile. */
  unstable: boolean;
  /** Something that ends nothing. */
  notice: Cause;
  closed: Closing;
}

export interface ConnectionOptions {
  /** Address of the signaling websocket. */
  url: string;
  peer: string;
  /** Codecs that can be decoded, most wanted first. */
  codecs: Codec[];
  maxKbps: number;
  viewOnly: boolean;
  /**
   * Whether the server is known to name no ICE servers: then the offer goes out with
   * the hello, a round trip earlier, instead of after the welcome.
   */
  early: boolean;
}

/** The browser's parts, so that tests bring their own. */
export interface ConnectionParts {
  socket: (url: string, protocol: string) => WebSocket;
  peer: (configuration: RTCConfiguration) => RTCPeerConnection;
  capabilities: () => readonly RTCRtpCodec[];
  timers: Timers;
}

export const browserParts: ConnectionParts = {
  socket: (url, protocol) => new WebSocket(url, protocol),
  peer: (configuration) => new RTCPeerConnection(configuration),
  capabilities: () => RTCRtpReceiver.getCapabilities("video")?.codecs ?? [],
  timers: realTimers,
};

const UNANSWERED = { code: "negotiation-failed", detail: "The server did not answer the offer.", retry: true };

const CONFIGURATION: RTCConfiguration = { bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" };

const CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

/** What not every browser has, and no type library knows. */
interface HeaderExtensions {
  getHeaderExtensionsToNegotiate?(): { uri: string; direction: string }[];
  setHeaderExtensionsToNegotiate?(extensions: { uri: string; direction: string }[]): void;
}

/**
 * One websocket and one RTCPeerConnection to one session: they live and die
 * together. It never tries again; whoever wants that makes another one.
 */
export class Connection extends Emitter<ConnectionEvents> {
  readonly #options: ConnectionOptions;
  readonly #parts: ConnectionParts;
  #state: ConnectionState = "new";
  #socket: WebSocket | null = null;
  #peer: RTCPeerConnection | null = null;
  #video: RTCRtpTransceiver | null = null;
  #events: RTCDataChannel | null = null;
  #welcome: Welcome | null = null;
  #offerID = 0;
  #offering = false;
  #answered = 0;
  #candidates: RTCIceCandidateInit[] = [];
  #outgoing: RTCIceCandidate[] | null = [];
  /** The offer that is made while the websocket connects. */
  #draft: Promise<string | null> | null = null;
  #deadline: unknown = null;
  #gone: unknown = null;
  #unstable = false;
  #positionSeq: number | null = null;
  #closing: Closing | null = null;
  /** When each step of the way was reached, by performance.now(). */
  readonly marks: Record<string, number> = {};

  constructor(options: ConnectionOptions, parts: ConnectionParts = browserParts) {
    super();
    this.#options = options;
    this.#parts = parts;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get unstable(): boolean {
    return this.#unstable;
  }

  /** The peer connection, for statistics. Null before the beginning and after the end. */
  get peer(): RTCPeerConnection | null {
    return this.#peer;
  }

  /** Begins. May be called once. */
  open(): void {
    this.#become("signaling");
    let socket: WebSocket;
    try {
      socket = this.#parts.socket(this.#options.url, SUBPROTOCOL);
    } catch (error) {
      this.#finish({ code: "connection-lost", detail: String(error), retry: true, welcomed: false });
      return;
    }
    this.#socket = socket;
    try {
      // Made while the websocket connects: the first answer finds it ready.
      this.#prepare();
      if (this.#options.early) this.#draft = this.#early();
    } catch (error) {
      this.#shut({ code: "negotiation-failed", detail: messageOf(error), retry: false }, false);
      return;
    }
    this.#bound(WELCOME_MS, { code: "connection-lost", detail: "The server did not answer.", retry: true });
    socket.onopen = () => {
      this.#mark("socket");
      this.#send({
        type: "hello",
        version: PROTOCOL_VERSION,
        client: CLIENT,
        peer: this.#options.peer,
        codecs: this.#options.codecs,
        max_kbps: this.#options.maxKbps,
        view_only: this.#options.viewOnly,
      });
      void this.#draft?.then((sdp) => this.#sendOffer(sdp));
    };
    socket.onmessage = (event: MessageEvent<unknown>) => this.#receive(event.data);
    socket.onclose = (event) => this.#socketClosed(event.code, event.reason);
  }

  /** Says goodbye and ends. Bounded: it is closed at most a second later. */
  close(code = "left"): void {
    this.#shut({ code, retry: false }, true);
  }

  /** The per-client cap of the video bitrate in kbit/s, 0 for none. */
  setMaxKbps(kbps: number): void {
    this.#send({ type: "settings", max_kbps: kbps });
  }

  /** Tells what was painted so far, and whether what arrives should be: a tab in the background paints nothing. */
  painted(frames: number, rtpTimestamp: number, visible: boolean, legs: Legs): void {
    if (this.#state === "connected") this.#send({ type: "painted", frames, rtp_timestamp: rtpTimestamp, visible, legs });
  }

  /** The device changed networks: paths that look alive may be dead. */
  networkChanged(): void {
    if (this.#state === "connected") void this.#restartICE();
  }

  #become(next: ConnectionState): void {
    if (!NEXT[this.#state].includes(next)) {
      throw new Error(`connection: ${this.#state} → ${next} should not happen`);
    }
    this.#state = next;
    this.emit("state", next);
  }

  /** The first time counts: what an ICE restart does later is another story. */
  #mark(name: string): void {
    this.marks[name] ??= performance.now();
  }

  #receive(data: unknown): void {
    if (this.#state === "closing" || this.#state === "closed") return;
    let message: ServerMessage;
    try {
      message = JSON.parse(String(data)) as ServerMessage;
    } catch {
      this.#shut({ code: "protocol-error", detail: "The server sent what is no JSON.", retry: false }, true);
      return;
    }
    switch (message.type) {
      case "welcome":
        if (this.#state === "signaling") void this.#negotiate(message);
        return;
      case "answer":
        void this.#answer(message.id, message.sdp);
        return;
      case "candidate":
        this.#remoteCandidate({
          candidate: message.candidate,
          sdpMid: message.sdp_mid ?? null,
          sdpMLineIndex: message.sdp_mline_index ?? null,
          usernameFragment: message.username_fragment ?? null,
        });
        return;
      case "state":
        this.emit("session", message.session);
        return;
      case "bye":
        this.#shut(
          { code: message.code, detail: message.detail, output: message.output, retry: message.retry ?? false },
          false,
        );
        return;
      case "error":
        this.emit("notice", { code: message.code, detail: message.detail });
        return;
    }
    // Unknown types are what later servers may add.
  }

  async #negotiate(welcome: Welcome): Promise<void> {
    if (welcome.version !== PROTOCOL_VERSION) {
      this.#shut(
        { code: "version-mismatch", detail: `The server speaks version ${welcome.version} of the protocol.`, retry: false },
        true,
      );
      return;
    }
    this.#welcome = welcome;
    this.#mark("welcome");
    this.#become("negotiating");
    this.emit("welcome", welcome);
    this.emit("session", welcome.session);
    try {
      this.#peer?.setConfiguration({ ...CONFIGURATION, iceServers: welcome.ice_servers ?? [] });
      if (this.#draft) {
        // Servers that nobody expected come too late for the early offer: they serve the
        // next one, which there is as soon as no path is found without them.
        this.#bound(ANSWER_MS, UNANSWERED);
        return;
      }
      this.#prefer([welcome.codec]);
      await this.#offer(false);
    } catch (error) {
      this.#shut({ code: "negotiation-failed", detail: messageOf(error), retry: false }, true);
    }
  }

  /** Makes the first offer before the server has said which codec it sends: any that it may. */
  async #early(): Promise<string | null> {
    try {
      this.#prefer(this.#options.codecs);
      return await this.#describe(false);
    } catch (error) {
      this.#shut({ code: "negotiation-failed", detail: messageOf(error), retry: false }, true);
      return null;
    }
  }

  #prefer(codecs: readonly Codec[]): void {
    const wanted = preferences(this.#parts.capabilities(), codecs);
    if (wanted.length > 0) this.#video?.setCodecPreferences(wanted);
  }

  #prepare(): void {
    const peer = this.#parts.peer(CONFIGURATION);
    this.#peer = peer;
    const video = peer.addTransceiver("video", { direction: "recvonly" });
    this.#video = video;
    const extensions = video as HeaderExtensions;
    if (extensions.getHeaderExtensionsToNegotiate && extensions.setHeaderExtensionsToNegotiate) {
      // The capture time of each frame lets the page tell how old a picture is.
      extensions.setHeaderExtensionsToNegotiate(
        extensions.getHeaderExtensionsToNegotiate().map((e) => (e.uri === CAPTURE_TIME ? { ...e, direction: "sendrecv" } : e)),
      );
    }
    const audio = peer.addTransceiver("audio", { direction: "recvonly" });
    for (const { receiver } of [video, audio]) hurry(receiver);

    const input = peer.createDataChannel("input", { ordered: true });
    const motion = peer.createDataChannel("motion", { ordered: false, maxRetransmits: 0 });
    const events = peer.createDataChannel("events", { ordered: true });
    const stages = peer.createDataChannel("stages", { ordered: false, maxRetransmits: 0 });
    this.#events = events;
    input.binaryType = motion.binaryType = stages.binaryType = "arraybuffer";
    input.onopen = motion.onopen = () => {
      if (input.readyState !== "open" || motion.readyState !== "open") return;
      this.emit("channels", { input, motion, heartbeatMs: this.#welcome?.heartbeat_ms ?? 0 });
    };
    input.onmessage = (event: MessageEvent<unknown>) => {
      const pong = event.data instanceof ArrayBuffer ? readPong(event.data) : null;
      if (pong) this.emit("pong", pong);
    };
    motion.onmessage = (event: MessageEvent<unknown>) => {
      const position = event.data instanceof ArrayBuffer ? readCursorPosition(event.data) : null;
      if (!position || (this.#positionSeq !== null && !newer(position.seq, this.#positionSeq))) return;
      this.#positionSeq = position.seq;
      this.emit("position", { x: position.x, y: position.y });
    };
    events.onmessage = (event: MessageEvent<unknown>) => this.#event(event.data);
    stages.onmessage = (event: MessageEvent<unknown>) => {
      const told = event.data instanceof ArrayBuffer ? readStages(event.data) : null;
      if (told && this.#peer === peer) this.emit("stages", told);
    };

    peer.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      if (this.#outgoing) this.#outgoing.push(candidate);
      else this.#sendCandidate(candidate);
    };
    peer.ontrack = ({ track, receiver }) => {
      hurry(receiver);
      if (track.kind === "video") track.contentHint = "motion";
      this.emit("track", track);
    };
    peer.onconnectionstatechange = () => this.#pathChanged(peer.connectionState);
    // Chromium tells "disconnected" here earlier than above.
    peer.oniceconnectionstatechange = () => {
      if (peer.iceConnectionState === "disconnected") this.#pathChanged("disconnected");
    };
  }

  async #offer(iceRestart: boolean): Promise<void> {
    this.#sendOffer(await this.#describe(iceRestart));
    if (this.#peer) this.#bound(ANSWER_MS, UNANSWERED);
  }

  /** Makes an offer and takes it for ours; its candidates wait until it is sent. Null if the connection ended meanwhile. */
  async #describe(iceRestart: boolean): Promise<string | null> {
    const peer = this.#peer;
    if (!peer) return null;
    this.#outgoing = [];
    this.#offering = true;
    try {
      const offer = await peer.createOffer({ iceRestart });
      const sdp = withRoundTrips(withStereo(offer.sdp ?? ""));
      await peer.setLocalDescription({ type: "offer", sdp });
      return this.#peer === peer ? sdp : null;
    } finally {
      this.#offering = false;
    }
  }

  #sendOffer(sdp: string | null): void {
    if (sdp === null || !this.#peer) return;
    this.#mark("offer");
    this.#send({ type: "offer", id: ++this.#offerID, sdp });
    const waiting = this.#outgoing ?? [];
    this.#outgoing = null;
    for (const candidate of waiting) this.#sendCandidate(candidate);
  }

  async #answer(id: number, sdp: string): Promise<void> {
    const peer = this.#peer;
    if (!peer || id !== this.#offerID || id === this.#answered) return;
    this.#answered = id;
    this.#mark("answer");
    try {
      await peer.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.#shut({ code: "negotiation-failed", detail: messageOf(error), retry: false }, true);
      return;
    }
    if (this.#peer !== peer) return;
    for (const candidate of this.#candidates.splice(0)) this.#addCandidate(candidate);
    if (peer.connectionState === "connected") {
      // A path that never broke tells no change of state when ICE was restarted.
      this.#unbound();
    } else if (this.#state === "negotiating") {
      this.#bound(CONNECT_MS, { code: "ice-failed", detail: "No network path to the server was found.", retry: true });
    } else {
      this.#bound(RESTART_MS, { code: "connection-lost", detail: "No new path to the server was found.", retry: true });
    }
  }

  #remoteCandidate(candidate: RTCIceCandidateInit): void {
    if (this.#answered !== this.#offerID || !this.#peer?.remoteDescription) this.#candidates.push(candidate);
    else this.#addCandidate(candidate);
  }

  #addCandidate(candidate: RTCIceCandidateInit): void {
    this.#peer?.addIceCandidate(candidate).catch(() => {
      // A candidate of a generation before an ICE restart, or of a kind that
      // this browser does not know: the others decide.
    });
  }

  #sendCandidate(c: RTCIceCandidate): void {
    this.#send({
      type: "candidate",
      candidate: c.candidate,
      sdp_mid: c.sdpMid,
      sdp_mline_index: c.sdpMLineIndex,
      username_fragment: c.usernameFragment,
    });
  }

  #event(data: unknown): void {
    let event: { type?: string };
    try {
      event = JSON.parse(String(data)) as { type?: string };
    } catch {
      return; // Not worth a session.
    }
    if (event.type === "cursor") this.emit("cursor", event as unknown as CursorImage);
    else if (event.type === "timing") this.emit("timing", event as unknown as Timing);
  }

  #pathChanged(state: RTCPeerConnectionState | "disconnected"): void {
    if (this.#state === "closing" || this.#state === "closed") return;
    if (state === "connected") {
      this.#stopWaiting();
      if (this.#answered === this.#offerID) this.#unbound();
      this.#setUnstable(false);
      if (this.#state === "negotiating") {
        this.#mark("connected");
        this.#become("connected");
      }
      return;
    }
    if (this.#state !== "connected") {
      if (state === "failed") {
        this.#shut({ code: "ice-failed", detail: "No network path to the server was found.", retry: true }, true);
      }
      return;
    }
    if (state === "failed") void this.#restartICE();
    else if (state === "disconnected" && this.#gone === null) {
      this.#gone = this.#parts.timers.set(() => {
        this.#gone = null;
        void this.#restartICE();
      }, DISCONNECTED_MS);
    } else if (state === "closed") {
      this.#shut({ code: "connection-lost", detail: "The connection was closed.", retry: true }, true);
    }
  }

  /** Looks for a new path over the living websocket; one search at a time. */
  async #restartICE(): Promise<void> {
    this.#stopWaiting();
    const peer = this.#peer;
    if (!peer || this.#state !== "connected" || this.#offering || this.#offerID !== this.#answered) return;
    if (this.#socket?.readyState !== 1) {
      this.#shut({ code: "connection-lost", detail: "The connection to the server broke.", retry: true }, false);
      return;
    }
    if (peer.connectionState !== "connected") this.#setUnstable(true);
    try {
      await this.#offer(true);
    } catch (error) {
      this.#shut({ code: "connection-lost", detail: messageOf(error), retry: true }, true);
    }
  }

  #setUnstable(unstable: boolean): void {
    if (this.#unstable === unstable) return;
    this.#unstable = unstable;
    this.emit("unstable", unstable);
  }

  #socketClosed(code: number, reason: string): void {
    if (this.#state === "closed") return;
    if (this.#closing) {
      this.#finish(this.#closing);
      return;
    }
    const known = CLOSE_CODES[code];
    this.#finish({
      code: known?.code ?? "connection-lost",
      detail: reason || undefined,
      retry: known?.retry ?? true,
      welcomed: this.#welcome !== null,
    });
  }

  /** Media ends at once; the websocket gets a moment for the goodbye. */
  #shut(cause: Omit<Closing, "welcomed">, tell: boolean): void {
    if (this.#state === "closing" || this.#state === "closed") return;
    const closing: Closing = { ...cause, welcomed: this.#welcome !== null };
    if (this.#state === "new" || !this.#socket) {
      this.#finish(closing);
      return;
    }
    this.#closing = closing;
    if (tell) this.#send({ type: "bye", code: cause.code });
    this.#become("closing");
    this.#unbound();
    this.#stopWaiting();
    this.#endPeer();
    this.#deadline = this.#parts.timers.set(() => this.#finish(closing), CLOSE_MS);
    this.#socket.close(1000, "");
  }

  #finish(closing: Closing): void {
    if (this.#state === "closed") return;
    this.#unbound();
    this.#stopWaiting();
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.#become("closed");
    this.#endPeer(); // After the state: whoever wants to keep the last picture still can.
    this.emit("closed", closing);
  }

  #endPeer(): void {
    const peer = this.#peer;
    this.#peer = this.#video = null;
    if (!peer) return;
    peer.onicecandidate = peer.ontrack = peer.onconnectionstatechange = peer.oniceconnectionstatechange = null;
    if (this.#events) this.#events.onmessage = null;
    peer.close();
  }

  /** What is under way has to be done by then. */
  #bound(ms: number, late: Omit<Closing, "welcomed">): void {
    this.#unbound();
    this.#deadline = this.#parts.timers.set(() => this.#shut(late, true), ms);
  }

  #unbound(): void {
    if (this.#deadline !== null) this.#parts.timers.clear(this.#deadline);
    this.#deadline = null;
  }

  #stopWaiting(): void {
    if (this.#gone !== null) this.#parts.timers.clear(this.#gone);
    this.#gone = null;
  }

  #send(message: ClientMessage): void {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }
}

/** Shows what arrives at once: the jitter buffer holds no more than it must. */
function hurry(receiver: RTCRtpReceiver): void {
  const r = receiver as RTCRtpReceiver & { playoutDelayHint?: number };
  if ("jitterBufferTarget" in r) r.jitterBufferTarget = 0;
  if ("playoutDelayHint" in r) r.playoutDelayHint = 0;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
