/** What a person can do about a problem. */
export type Way = "retry" | "restart" | "library" | "takeover" | "auto-codec" | "login" | "reload" | "settings";

export interface Explanation {
  title: string;
  text: string;
  ways: Way[];
  /** Whether nobody did anything wrong. */
  calm?: boolean;
}

export const wayNames: Record<Way, string> = {
  retry: "Try again",
  restart: "Start it again",
  library: "Back to the library",
  takeover: "Play here instead",
  "auto-codec": "Use the automatic codec",
  login: "Sign in",
  reload: "Reload the page",
  settings: "See which encoders work",
};

/** Every code that the server, the connection or this page gives as a reason. */
export const explanations: Readonly<Record<string, Explanation>> = {
  "ended-by-user": { title: "The session was ended", text: "It was ended by you or by an administrator.", ways: ["restart", "library"], calm: true },
  "session-ended": { title: "The session is over", text: "The program was ended.", ways: ["restart", "library"], calm: true },
  idle: { title: "Ended while nobody was here", text: "Nobody was connected for a while, so the session was ended to free the machine.", ways: ["restart", "library"], calm: true },
  "max-age": { title: "The session reached its maximum age", text: "Sessions on this server do not run longer than this.", ways: ["restart", "library"], calm: true },
  "server-shutdown": { title: "The server is going down", text: "Its operator stopped or restarted it. The session ended with it.", ways: ["retry", "library"] },
  "app-exited": { title: "The program ended", text: "It ended by itself. What it printed last is below.", ways: ["restart", "library"] },
  "app-failed": { title: "The program could not be started", text: "The server tried to start it and did not succeed.", ways: ["restart", "library"] },
  "desktop-failed": { title: "The display failed", text: "The screen that the program was drawing on broke down, and the program with it.", ways: ["restart", "library"] },
  "limit-exceeded": { title: "The program took too much", text: "It started more processes or took more memory than a session may have on this server.", ways: ["restart", "library"] },
  "media-failed": { title: "The picture could not be made", text: "Capturing or encoding failed several times in a row.", ways: ["restart", "library", "settings"] },
  "no-encoder": { title: "No encoder for this", text: "The server has no working encoder for what was asked for, and does not silently take another one.", ways: ["auto-codec", "settings", "library"] },
  "no-encoder-slot": { title: "All encoders are in use", text: "The graphics card has no free encoder at this moment. Another session has to end first.", ways: ["retry", "library"] },
  superseded: { title: "Playing somewhere else now", text: "The same player connected again, in another tab or window. This one let go.", ways: ["takeover", "library"], calm: true },
  revoked: { title: "Access was withdrawn", text: "Your sign-in or your right to this session was taken back.", ways: ["login", "library"] },
  left: { title: "You left", text: "The session goes on without you until it is idle for too long.", ways: ["takeover", "library"], calm: true },
  "connection-lost": { title: "Connection lost", text: "The server could not be reached any more. The session may still be running.", ways: ["retry", "library"] },
  "ice-failed": { title: "No network path", text: "Signaling works, but neither UDP nor TCP gets the media through. A firewall may be in between; the server's operator can open its UDP and TCP media ports or add a TURN server.", ways: ["retry", "library"] },
  "negotiation-failed": { title: "Browser and server did not agree", text: "They could not settle on how to send picture and sound.", ways: ["retry", "auto-codec", "library"] },
  "protocol-error": { title: "Misunderstanding with the server", text: "One side sent what the other does not accept. The page may be older or newer than the server.", ways: ["reload", "library"] },
  "version-mismatch": { title: "Page and server do not match", text: "The server was updated since this page was loaded.", ways: ["reload"] },
  "session-not-found": { title: "No such session", text: "It has ended, or it belongs to somebody else.", ways: ["restart", "library"], calm: true },
  "too-many-sessions": { title: "Too many sessions", text: "A limit of this server is reached. End another session first.", ways: ["library", "retry"] },
  "codec-unsupported": { title: "This browser cannot decode that", text: "The chosen codec is not available here.", ways: ["auto-codec", "library"] },
  "no-picture": { title: "No picture", text: "Frames arrive, but this browser cannot show them. Another codec may help.", ways: ["retry", "auto-codec", "library"] },
  "webrtc-missing": { title: "This browser has no WebRTC", text: "Picture and sound come over WebRTC, which is switched off or missing here.", ways: ["library"] },
  network: { title: "The server cannot be reached", text: "There was no answer. Check the network, or whether the server runs.", ways: ["retry", "library"] },
  unauthenticated: { title: "You are signed out", text: "Sign in again to go on. The session is still yours.", ways: ["login"] },
  forbidden: { title: "Not allowed", text: "Your account has no right to do this.", ways: ["library"] },
  "app-not-found": { title: "No such program", text: "It is no longer in the catalogue.", ways: ["library"] },
  "rate-limited": { title: "Too many tries", text: "Wait a moment before the next one.", ways: ["retry", "library"] },
  "invalid-value": { title: "The server did not accept this", text: "Something in what was asked for is out of range here.", ways: ["settings", "library"] },
  timeout: { title: "The server took too long", text: "It is busy, or something on it hangs.", ways: ["retry", "library"] },
  busy: { title: "The server is busy", text: "It has more to do than it can at this moment.", ways: ["retry", "library"] },
  "bad-origin": { title: "Wrong address", text: "The server does not accept this page's address. Its operator has to name it among the public origins.", ways: ["library"] },
  "bad-request": { title: "The server did not accept this", text: "Something in what was asked for is out of range.", ways: ["library"] },
  internal: { title: "Something broke on the server", text: "The details are in its log.", ways: ["retry", "library"] },
};

/** What to say about a code; codes that this page does not know are shown as they are. */
export function explain(code: string): Explanation {
  return explanations[code] ?? { title: "That did not work", text: `The server gave the reason “${code}”.`, ways: ["retry", "library"] };
}
