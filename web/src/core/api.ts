import type { App, Device, LogLine, Moonlight, Person, ServerInfo, SessionPatch, SessionRequest, SessionState, Token, User } from "./types";

/** Longest wait for an answer, ms. */
const TIMEOUT_MS = 12_000;

/** The same for a PIN, which has to reach the device and come back, ms. */
const PAIRING_MS = 30_000;

/** What the server refused (RFC 9457), or "network" when there was no answer. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;
  readonly detail: string;
  /** Whether the server has no admin yet. */
  readonly setup: boolean;
  /** Seconds to wait before the next try, when the server says so. */
  readonly retryAfter: number | null;

  constructor(code: string, status: number, detail: string, setup = false, retryAfter: number | null = null) {
    super(detail || code);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.setup = setup;
    this.retryAfter = retryAfter;
  }
}

/** An error of whatever kind as an ApiError. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError("internal", 0, error instanceof Error ? error.message : String(error));
}

async function refusal(response: Response): Promise<ApiError> {
  let body: Record<string, unknown> = {};
  try {
    body = (await response.json()) as Record<string, unknown>;
  } catch {
    // A proxy between us may answer with a page: the status says enough.
  }
  const text = (name: string): string => (typeof body[name] === "string" ? body[name] : "");
  const after = Number(response.headers.get("Retry-After"));
  return new ApiError(
    text("code") || `http-${response.status}`,
    response.status,
    text("detail") || text("title") || response.statusText,
    body["setup"] === true,
    after > 0 ? after : null,
  );
}

/** The HTTP API of the server that served the page. Every call throws ApiError. */
export class Api {
  async #call<T>(method: string, path: string, body?: unknown, within = TIMEOUT_MS): Promise<{ status: number; value: T }> {
    let response: Response;
    try {
      response = await fetch(`/api${path}`, {
        method,
        credentials: "same-origin",
        cache: "no-store",
        signal: AbortSignal.timeout(within),
        headers: body === undefined ? {} : { "Content-Type": "application/json" },
        body: body === undefined ? null : JSON.stringify(body),
      });
    } catch (error) {
      const late = error instanceof DOMException && error.name === "TimeoutError";
      throw new ApiError("network", 0, late ? "The server did not answer in time." : "The server cannot be reached.");
    }
    if (!response.ok) throw await refusal(response);
    try {
      const value = response.status === 204 || response.status === 202 ? undefined : await response.json();
      return { status: response.status, value: value as T };
    } catch {
      throw new ApiError("network", response.status, "The server's answer was cut off.");
    }
  }

  async me(): Promise<Person> {
    return (await this.#call<{ person: Person }>("GET", "/me")).value.person;
  }

  async setup(token: string, name: string, password: string): Promise<Person> {
    return (await this.#call<{ person: Person }>("POST", "/setup", { token, name, password })).value.person;
  }

  async login(name: string, password: string): Promise<Person> {
    return (await this.#call<{ person: Person }>("POST", "/login", { name, password })).value.person;
  }

  async logout(): Promise<void> {
    await this.#call("POST", "/logout");
  }

  async changePassword(current: string, password: string): Promise<void> {
    await this.#call("PUT", "/me/password", { current, new: password });
  }

  async apps(): Promise<App[]> {
    return (await this.#call<{ apps: App[] | null }>("GET", "/apps")).value.apps ?? [];
  }

  async sessions(): Promise<SessionState[]> {
    return (await this.#call<{ sessions: SessionState[] | null }>("GET", "/sessions")).value.sessions ?? [];
  }

  async session(id: string): Promise<SessionState> {
    return (await this.#call<SessionState>("GET", `/sessions/${encodeURIComponent(id)}`)).value;
  }

  /** What the server logged about a session, oldest line first. */
  async log(id: string): Promise<LogLine[]> {
    return (await this.#call<{ lines: LogLine[] }>("GET", `/sessions/${encodeURIComponent(id)}/log`)).value.lines;
  }

  async start(request: SessionRequest): Promise<SessionState> {
    return (await this.#call<SessionState>("POST", "/sessions", request)).value;
  }

  async change(id: string, patch: SessionPatch): Promise<SessionState> {
    return (await this.#call<SessionState>("PATCH", `/sessions/${encodeURIComponent(id)}`, patch)).value;
  }

  /** Ends a session; true when it is gone, false when it is still ending. */
  async end(id: string): Promise<boolean> {
    return (await this.#call("DELETE", `/sessions/${encodeURIComponent(id)}`)).status === 204;
  }

  async server(): Promise<ServerInfo> {
    return (await this.#call<ServerInfo>("GET", "/server")).value;
  }

  async users(): Promise<User[]> {
    return (await this.#call<{ users: User[] | null }>("GET", "/users")).value.users ?? [];
  }

  async addUser(name: string, password: string, role: User["role"]): Promise<void> {
    await this.#call("POST", "/users", { name, password, role });
  }

  async changeUser(id: string, change: { role?: User["role"]; password?: string }): Promise<void> {
    await this.#call("PATCH", `/users/${encodeURIComponent(id)}`, change);
  }

  async removeUser(id: string): Promise<void> {
    await this.#call("DELETE", `/users/${encodeURIComponent(id)}`);
  }

  async tokens(): Promise<Token[]> {
    return (await this.#call<{ tokens: Token[] | null }>("GET", "/tokens")).value.tokens ?? [];
  }

  async addToken(name: string): Promise<{ id: string; name: string; token: string }> {
    return (await this.#call<{ id: string; name: string; token: string }>("POST", "/tokens", { name })).value;
  }

  async removeToken(id: string): Promise<void> {
    await this.#call("DELETE", `/tokens/${encodeURIComponent(id)}`);
  }

  async moonlight(): Promise<Moonlight> {
    return (await this.#call<Moonlight>("GET", "/moonlight")).value;
  }

  async pairDevice(waiting: string, pin: string): Promise<void> {
    await this.#call("POST", `/moonlight/waiting/${encodeURIComponent(waiting)}`, { pin }, PAIRING_MS);
  }

  async devices(): Promise<Device[]> {
    return (await this.#call<{ devices: Device[] }>("GET", "/devices")).value.devices;
  }

  async renameDevice(id: string, name: string): Promise<void> {
    await this.#call("PATCH", `/devices/${encodeURIComponent(id)}`, { name });
  }

  async removeDevice(id: string): Promise<void> {
    await this.#call("DELETE", `/devices/${encodeURIComponent(id)}`);
  }
}
