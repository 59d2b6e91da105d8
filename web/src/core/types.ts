// The nouns of the HTTP API and of the signaling, as the server spells them
// (media/state.go, media/media.go, signaling/PROTOCOL.md).

import type { Legs } from "./latency";

export type Codec = "h264" | "h265" | "av1" | "vp9" | "vp8";

export interface Person {
  id: string;
  name: string;
  role: "admin" | "player";
}

export interface App {
  id: string;
  title: string;
  summary: string;
  source: "builtin" | "desktop" | "config";
  categories: string[];
  game: boolean;
  /** Address of a picture, or "" when there is none. */
  icon: string;
  /** What the program wishes; 0: nothing. */
  width?: number;
  height?: number;
  fps?: number;
}

/** Why something ended or was refused. `code` is one of media.Cause… or an API code. */
export interface Cause {
  code: string;
  detail?: string | undefined;
  /** The last lines that the program printed. */
  output?: string | undefined;
}

export interface GrantBits {
  keyboard: boolean;
  pointer: boolean;
  pads: boolean;
}

export interface VideoState {
  codec: Codec;
  encoder: string;
  element: string;
  hardware: boolean;
  reason: string;
  kbps: number;
}

export interface PeerState {
  id: string;
  person: { id: string; name: string };
  transport: string;
  codec: Codec;
  grant: GrantBits;
  since: string;
  /** Whether it sees what it is sent. */
  picture?: "unknown" | "hidden" | "ok" | "black";
}

export type Phase = "starting" | "running" | "ending" | "ended";
export type Step = "display" | "sound" | "program" | "picture";

export interface SessionState {
  id: string;
  app: { id: string; title: string };
  owner: { id: string; name: string };
  phase: Phase;
  step?: Step;
  /** 0…1 while starting, 1 afterwards. */
  progress: number;
  cause?: Cause;
  width: number;
  height: number;
  fps: number;
  max_kbps: number;
  layout: string;
  video: VideoState[] | null;
  audio: string;
  program: { pid?: number };
  peers: PeerState[] | null;
  worker_restarts: number;
  created: string;
  idle_deadline?: string;
  age_deadline?: string;
}

export interface SessionRequest {
  app: string;
  width: number;
  height: number;
  fps: number;
  max_kbps?: number;
  codec?: Codec | "auto";
  layout?: string;
}

export interface SessionPatch {
  width?: number;
  height?: number;
  fps?: number;
  max_kbps?: number;
  layout?: string;
}

export interface User {
  id: string;
  name: string;
  role: "admin" | "player";
  created: string;
}

export interface Token {
  id: string;
  name: string;
  created: string;
  last_used?: string | null;
}

/** A Moonlight client that waits for its PIN to be typed. */
export interface Waiting {
  id: string;
  name: string;
  address: string;
  since: string;
  until: string;
  entered: boolean;
}

/** Where Moonlight finds the server, and who waits. */
export interface Moonlight {
  enabled: boolean;
  port: number;
  waiting: Waiting[];
}

/** A paired Moonlight client. */
export interface Device {
  id: string;
  name: string;
  person: { id: string; name: string };
  created: string;
  seen: string | null;
}

export interface EncoderInfo {
  name: string;
  family: string;
  codec: Codec;
  hardware: boolean;
  element: string;
  works: boolean;
  reason: string;
  took_ms: number;
}

/** What requests for sessions are checked against. */
export interface Limits {
  min_fps: number;
  max_fps: number;
  min_kbps: number;
  max_kbps: number;
  max_sessions: number;
  max_per_person: number;
  max_peers: number;
  codecs: string[] | null;
}

export interface GPU {
  index: number;
  name: string;
  driver: string;
  /** Numbers that the driver does not tell are null, never 0. */
  memory_mib: number | null;
  memory_used_mib: number | null;
  encoder_sessions: number | null;
  encoder_percent: number | null;
  gpu_percent: number | null;
  /** Whether it has a video encoder at all. */
  encodes: "yes" | "no" | "unknown";
  note: string;
}

export interface ServerInfo {
  version: string;
  encoders: EncoderInfo[] | null;
  /** The encoder that would be taken now; empty when none works. */
  choice: { encoder: string; codec: string; hardware: boolean; reason: string };
  gpus: GPU[] | null;
  gpu_note: string;
  limits: Limits;
  /** How many STUN and TURN servers a welcome names. */
  ice_servers: number;
}

/**
 * What the frames of the last second cost on the server: medians in ms, told on
 * the channel `events`. A stage that no frame went through is 0.
 */
export interface Timing {
  frames: number;
  key_frames: number;
  wait_ms: number;
  capture_ms: number;
  convert_ms: number;
  encode_ms: number;
  wire_ms: number;
  send_ms: number;
  kbps: number;
  kbps_target: number;
  kbps_estimate: number;
  packets: number;
  resent: number;
  width: number;
  height: number;
  encoder: string;
}

/** The picture of the pointer; width 0 means that the program hides it. */
export interface CursorImage {
  serial: number;
  width: number;
  height: number;
  hot_x: number;
  hot_y: number;
  png: string;
}

/** One thing that the server logged about a session. */
export interface LogLine {
  at: string;
  level: "debug" | "info" | "warn" | "error";
  text: string;
}

// --- signaling, fenrir.v1 ---

export interface Welcome {
  type: "welcome";
  version: number;
  peer: string;
  codec: Codec;
  heartbeat_ms: number;
  grant: GrantBits;
  ice_servers: RTCIceServer[] | null;
  session: SessionState;
}

export interface CandidateMessage {
  type: "candidate";
  candidate: string;
  sdp_mid: string | null;
  sdp_mline_index: number | null;
  username_fragment: string | null;
}

export type ServerMessage =
  | Welcome
  | { type: "answer"; id: number; sdp: string }
  | CandidateMessage
  | { type: "state"; session: SessionState }
  | { type: "bye"; code: string; detail?: string; output?: string; retry?: boolean }
  | { type: "error"; code: string; detail?: string };

export type ClientMessage =
  | {
      type: "hello";
      version: number;
      client: string;
      peer: string;
      codecs: Codec[];
      max_kbps: number;
      view_only: boolean;
    }
  | { type: "offer"; id: number; sdp: string }
  | CandidateMessage
  | { type: "settings"; max_kbps: number }
  | { type: "painted"; frames: number; rtp_timestamp: number; visible: boolean; legs: Legs }
  | { type: "bye"; code: string };
