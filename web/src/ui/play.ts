import { asApiError, type Api } from "../core/api";
import { codecNames, decodable } from "../core/codecs";
import { browserParts } from "../core/connection";
import { displaySize } from "../core/geometry";
import { Player } from "../core/player";
import type { Stats } from "../core/stats";
import type { App, Cause, Limits, LogLine, SessionPatch, SessionState } from "../core/types";
import { landscape } from "./art";
import { explain, type Way } from "./causes";
import { announce, confirm, fill, h, toast } from "./dom";
import { errorPanel } from "./error-panel";
import { sentence } from "./forms";
import { icon } from "./icons";
import { detect, hasAltGr, layout, prefs, requestFor, set, type Prefs } from "./prefs";
import { PointerImage } from "./pointer";
import { qualityFields } from "./quality";
import { Screen } from "./screen";
import { StatsPanel } from "./stats-panel";
import { StepsPanel } from "./steps";
import { Toolbar } from "./toolbar";
import { TypingPanel } from "./typing-panel";

/** How often the open statistics are renewed, ms. */
const STATS_MS = 500;
/** How long a window has to keep its size before the display follows. */
const RESIZE_MS = 400;

/** Ends that one may want to look into. */
const FAILURES = new Set(["media-failed", "desktop-failed", "app-failed", "app-exited", "no-picture", "no-encoder"]);

export type PlayTarget = { app: App } | { session: string; watch: boolean };

export interface PlayParts {
  api: Api;
  target: PlayTarget;
  peer: string;
  limits: Limits | null;
  /** Whether the server is known to name no ICE servers. */
  early: boolean;
  /** performance.now() of the click on Play, or 0 for the load of the page. */
  began: number;
  /** A new session got its id: it belongs into the address. */
  created: (id: string) => void;
  library: () => void;
  settings: () => void;
  restart: (app: { id: string; title: string }) => void;
  signedOut: () => void;
}

/** A session as it is played: picture over the whole window, controls above it. */
export class Play {
  readonly element: HTMLElement;
  readonly #parts: PlayParts;
  readonly #stage: HTMLElement;
  readonly #video: HTMLVideoElement;
  readonly #audio: HTMLAudioElement;
  readonly #still = h("canvas", { class: "still", "aria-hidden": "true", hidden: true });
  readonly #pointer = new PointerImage();
  readonly #cover = h("div", { class: "cover-box" });
  readonly #ribbon = h("div", { class: "ribbon", role: "status", hidden: true, data: { testid: "ribbon" } });
  readonly #missing = h("div", { class: "missing", role: "status", hidden: true, data: { testid: "no-picture", code: "no-picture" } });
  readonly #unlock: HTMLButtonElement;
  readonly #badge = h("div", { class: "badge", hidden: true, data: { testid: "viewer-badge" } }, icon("eye"), "Watching");
  readonly #stats = new StatsPanel();
  readonly #quality: HTMLElement;
  readonly #typing = new TypingPanel(() => this.#toggleTyping());
  readonly #toolbar: Toolbar;
  readonly #screen: Screen;
  readonly #now = h("p", { class: "muted small", role: "status" });
  readonly #title = h("span", { class: "toolbar-title" }, "");
  readonly #volume: HTMLInputElement;
  #steps: StepsPanel | null = null;
  #player: Player | null = null;
  #session: SessionState | null = null;
  #id = "";
  #error: Cause | null = null;
  #statsTimer: ReturnType<typeof setInterval> | null = null;
  #resizeTimer: ReturnType<typeof setTimeout> | null = null;
  #observer: ResizeObserver | null = null;
  #size = { width: 0, height: 0 };
  #stopped = false;
  #shown = false;
  #hinted = false;
  #settled = false;

  constructor(parts: PlayParts) {
    this.#parts = parts;
    this.#video = h("video", { class: "picture", playsinline: true, muted: true, autoplay: true, disablepictureinpicture: true, disableremoteplayback: true, data: { testid: "video" } });
    this.#video.muted = true; // The attribute alone counts only while parsing.
    this.#audio = h("audio", { autoplay: true, data: { testid: "audio" } });
    this.#audio.volume = prefs.volume;
    this.#audio.muted = prefs.muted;
    this.#stage = h(
      "div",
      { class: "stage", tabindex: "0", role: "application", "aria-label": "Live picture. Keys go to the program; Control, Alt, Shift and M together open the controls.", data: { testid: "stage" } },
      this.#video,
      this.#still,
      this.#pointer.element,
    );
    this.#unlock = h("button", { class: "button primary sound-unlock", type: "button", hidden: true, data: { testid: "sound-unlock" } }, icon("sound"), "Click for sound");
    this.#unlock.addEventListener("click", () => {
      this.#player?.sound.unlock();
      this.#stage.focus({ preventScroll: true });
    });
    this.#quality = h("section", { class: "overlay-panel quality", role: "dialog", "aria-label": "Quality and sound", hidden: true, data: { testid: "quality" } });
    this.#volume = h("input", { type: "range", min: 0, max: 100, step: 1, value: Math.round(prefs.volume * 100), "aria-label": "Volume", data: { testid: "volume" } });
    this.#volume.addEventListener("input", () => this.#setVolume(Number(this.#volume.value) / 100));
    this.#toolbar = new Toolbar(this.#title, [
      { testid: "fullscreen", icon: "fullscreen", label: "Full screen", keys: "Ctrl+Alt+Shift+X", toggles: true, act: () => void this.#screen.toggle() },
      { testid: "pointer-lock", icon: "pointer", label: "Lock pointer", keys: "Ctrl+Alt+Shift+Z", toggles: true, act: () => this.#lock() },
      { testid: "text-toggle", icon: "keyboard", label: "Type text", toggles: true, act: () => this.#toggleTyping() },
      { testid: "mute", icon: "sound", label: "Mute", keys: "Ctrl+Alt+Shift+A", toggles: true, act: () => this.#mute() },
      { testid: "stats-toggle", icon: "chart", label: "Statistics", keys: "Ctrl+Alt+Shift+S", toggles: true, act: () => this.#toggleStats() },
      { testid: "settings-toggle", icon: "sliders", label: "Quality", toggles: true, act: () => this.#toggleQuality() },
      { testid: "leave", icon: "leave", label: "Leave", keys: "Ctrl+Alt+Shift+Q", act: () => this.#leave() },
      { testid: "end", icon: "power", label: "End", danger: true, act: () => void this.#end() },
    ]);
    this.#toolbar.back = () => this.#stage.focus({ preventScroll: true });
    this.#toolbar.pinned = () => !this.#quality.hidden || !this.#typing.element.hidden;
    this.element = h(
      "main",
      { class: "player", "aria-label": "Player", data: { testid: "player" } },
      this.#toolbar.element,
      this.#stage,
      this.#audio,
      this.#stats.element,
      this.#quality,
      this.#typing.element,
      this.#badge,
      this.#ribbon,
      this.#missing,
      this.#unlock,
      this.#cover,
    );
    this.#screen = new Screen(this.element, (full) => {
      this.#toolbar.press("fullscreen", full);
      this.#stage.focus({ preventScroll: true });
    });
  }

  get player(): Player | null {
    return this.#player;
  }

  get error(): Cause | null {
    return this.#error;
  }

  get session(): SessionState | null {
    return this.#session;
  }

  /** Whether the cover is away and a picture is seen. */
  get playing(): boolean {
    return this.#cover.childElementCount === 0;
  }

  async start(): Promise<void> {
    document.body.classList.add("playing");
    this.#screen.start();
    window.addEventListener("pagehide", this.#onPageHide);
    this.#observer = new ResizeObserver(() => this.#resized());
    this.#observer.observe(this.#stage);
    this.#volumeChanged();
    this.#toolbar.hide("fullscreen", !document.fullscreenEnabled);
    if (prefs.stats) this.#toggleStats();
    if (!("RTCPeerConnection" in window)) {
      this.#fail({ code: "webrtc-missing" });
      return;
    }
    const { target } = this.#parts;
    if ("session" in target) {
      this.#cover.append((this.#steps = this.#newSteps("Fenrir", target.session, false)).element);
      this.#attach(target.session, target.watch);
      return;
    }
    this.#title.textContent = target.app.title;
    this.#cover.append((this.#steps = this.#newSteps(target.app.title, target.app.id, true)).element);
    await this.#launch(target.app);
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#release();
    this.#screen.stop();
    window.removeEventListener("pagehide", this.#onPageHide);
    this.#observer?.disconnect();
    this.#toolbar.stop();
    if (this.#statsTimer !== null) clearInterval(this.#statsTimer);
    if (this.#resizeTimer !== null) clearTimeout(this.#resizeTimer);
    document.body.classList.remove("playing");
  }

  /** Lets go of the session; it goes on. */
  #release(): void {
    this.#player?.stop();
    this.#player = null;
  }

  async #launch(app: App): Promise<void> {
    await detect();
    try {
      const session = await this.#parts.api.start(requestFor(app, this.#parts.limits));
      if (this.#stopped) return;
      this.#steps?.requested();
      this.#steps?.session(session);
      this.#parts.created(session.id);
      this.#session = session;
      set("played", true);
      this.#attach(session.id, false);
    } catch (error) {
      if (this.#stopped) return;
      const e = asApiError(error);
      this.#fail({ code: e.code, detail: e.detail });
    }
  }

  #attach(id: string, watch: boolean): void {
    this.#id = id;
    const player = new Player({
      api: this.#parts.api,
      session: id,
      peer: this.#parts.peer,
      viewOnly: watch,
      early: this.#parts.early,
      codec: prefs.codec,
      maxKbps: prefs.maxKbps,
      stage: this.#stage,
      video: this.#video,
      audio: this.#audio,
      began: this.#parts.began,
    });
    this.#player = player;
    player.capture.altGr = hasAltGr();
    player.capture.touchMode = prefs.touch;
    player.capture.shortcut = (event) => this.#shortcut(event);
    this.#typing.attach(player.input);
    player.on("session", (session) => this.#sessionChanged(session));
    player.on("grant", (grant) => {
      const viewer = !grant.keyboard && !grant.pointer;
      this.#badge.hidden = !viewer;
      for (const tool of ["pointer-lock", "text-toggle"]) this.#toolbar.hide(tool, viewer);
    });
    player.on("link", (state) => {
      this.#steps?.connected(state === "live");
      if (state === "live" || state === "down") this.#ribbon.hidden = true;
    });
    player.on("painted", () => this.#painted());
    player.on("size", (size) => {
      this.#size = size;
      this.#drawPointer();
    });
    player.on("picture", ({ missing, detail }) => this.#pictureMissing(missing, detail));
    player.on("unstable", (unstable) => (unstable ? this.#say("The connection is shaky. Looking for another way…") : (this.#ribbon.hidden = true)));
    player.on("losing", () => this.#keepStill());
    player.on("waiting", ({ ms, attempt }) => {
      this.#say(attempt > 1 ? `Connection lost. Try ${attempt} in ${Math.max(1, Math.round(ms / 1000))} s…` : "Connection lost. Trying again…");
    });
    player.on("down", (cause) => this.#fail(cause));
    player.on("notice", (cause) => toast(cause.detail ? sentence(cause.detail) : explain(cause.code).title));
    player.cursor.on("view", () => {
      this.#drawPointer();
      this.#hint();
    });
    player.capture.on("locked", (locked) => {
      this.#toolbar.press("pointer-lock", locked);
      announce(locked ? "The pointer is locked. Escape frees it." : "The pointer is free.");
      this.#drawPointer();
    });
    player.capture.on("refused", (reason) => toast(`The browser did not lock the pointer: ${reason}`, "bad"));
    player.capture.on("gesture", () => {
      if (!this.#toolbar.pinned()) this.#toolbar.close();
    });
    player.capture.on("held", () => navigator.vibrate?.(15));
    player.sound.on("locked", (locked) => {
      this.#unlock.hidden = !locked;
      if (locked) announce("The browser wants a click before it plays sound.");
    });
    player.start();
    this.#stage.focus({ preventScroll: true });
  }

  #sessionChanged(session: SessionState): void {
    this.#session = session;
    this.#title.textContent = session.app.title;
    document.title = `${session.app.title} · Fenrir`;
    this.#steps?.session(session);
    this.#tellNow();
    this.#settle(session);
    if (session.phase === "ended" && this.#player?.link.state !== "down") {
      this.#player?.link.give(session.cause ?? { code: "session-ended" });
    }
  }

  #painted(): void {
    this.#still.hidden = true;
    this.#ribbon.hidden = true;
    if (this.#steps) {
      this.#steps.element.classList.add("gone");
      fill(this.#cover);
      this.#steps = null;
      announce("The picture is there.");
    }
    this.#drawPointer();
    if (!this.#shown) {
      this.#shown = true;
      this.#toolbar.open();
    }
  }

  /** What this tab wants of a session that somebody else, or another device, began. */
  #settle(session: SessionState): void {
    if (this.#settled || session.phase !== "running" || !this.#player?.grant.keyboard) return;
    this.#settled = true;
    if ((session.peers?.length ?? 0) > 1) return; // Others play here, too.
    if (prefs.size === "window") this.#matchWindow();
    if (session.layout !== layout()) void this.#change({ layout: layout() });
  }

  /** A program that hides the pointer most often wants it locked. */
  #hint(): void {
    const player = this.#player;
    if (this.#hinted || !this.#shown || !player?.cursor.hidden || player.capture.locked || player.capture.touching || !player.grant.pointer) return;
    this.#hinted = true;
    toast("This program hides the pointer. For looking around with the mouse, lock it: Ctrl+Alt+Shift+Z.");
  }

  // --- what went wrong ---

  /** Says over the last picture that no new one is seen, and what is being done about it. */
  #pictureMissing(missing: boolean, detail: string): void {
    const was = !this.#missing.hidden;
    this.#missing.hidden = !missing || this.#error !== null;
    if (this.#missing.hidden) {
      fill(this.#missing);
      if (was && !missing) announce("The picture is back.");
      return;
    }
    const { title } = explain("no-picture");
    fill(this.#missing, h("strong", {}, title), h("p", {}, sentence(detail)), h("p", { class: "code muted" }, "no-picture"));
  }

  #fail(cause: Cause): void {
    this.#error = cause;
    this.#ribbon.hidden = true;
    this.#missing.hidden = true;
    this.#unlock.hidden = true;
    this.#steps = null;
    if (this.#player?.capture.locked) this.#player.capture.unlock();
    this.#screen.leave();
    const app = this.#session?.app ?? ("app" in this.#parts.target ? this.#parts.target.app : null);
    const again = (): void => {
      this.#error = null;
      const { target } = this.#parts;
      if (!this.#player && "app" in target) {
        fill(this.#cover, (this.#steps = this.#newSteps(target.app.title, target.app.id, true)).element);
        void this.#launch(target.app);
        return;
      }
      fill(this.#cover, (this.#steps = this.#newSteps(app?.title ?? "Fenrir", app?.id ?? this.#id, false)).element);
      this.#player?.link.retryNow();
      this.#stage.focus({ preventScroll: true });
    };
    const ways: Partial<Record<Way, () => void>> = {
      retry: again,
      takeover: again,
      library: () => this.#leave(),
      reload: () => location.reload(),
      login: () => this.#parts.signedOut(),
      settings: () => this.#parts.settings(),
      ...(app ? { restart: () => this.#parts.restart(app) } : {}),
      ...(prefs.codec === "auto"
        ? {}
        : {
            "auto-codec": () => {
              set("codec", "auto");
              if (!this.#player || !this.#id) {
                again();
                return;
              }
              // The player was made for the codec that did not work.
              this.#player.stop();
              this.#player = null;
              this.#error = null;
              fill(this.#cover, (this.#steps = this.#newSteps(app?.title ?? "Fenrir", app?.id ?? this.#id, false)).element);
              this.#attach(this.#id, "watch" in this.#parts.target && this.#parts.target.watch);
            },
          }),
    };
    const id = this.#id;
    const log = id && FAILURES.has(cause.code) ? (): Promise<LogLine[]> => this.#parts.api.log(id) : undefined;
    const panel = errorPanel(cause, ways, app?.title, log);
    const art = this.#still.hidden ? h("div", { class: "cover-art" }, landscape(app?.id ?? "fenrir", "wide")) : null;
    fill(this.#cover, h("div", { class: "cover dim" }, art, panel));
    panel.querySelector<HTMLElement>("button")?.focus();
  }

  #newSteps(title: string, art: string, fresh: boolean): StepsPanel {
    return new StepsPanel(title, art, fresh, () => this.#leave());
  }

  #say(text: string): void {
    this.#ribbon.textContent = text;
    this.#ribbon.hidden = false;
  }

  /** Keeps the last picture on the screen while there is no connection. */
  #keepStill(): void {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (width === 0 || !this.#still.hidden) return;
    this.#still.width = width;
    this.#still.height = height;
    this.#still.getContext("2d")?.drawImage(this.#video, 0, 0);
    this.#still.hidden = false;
  }

  // --- pointer, size, screen ---

  #drawPointer(): void {
    const player = this.#player;
    if (!player) return;
    const view = player.cursor.view;
    this.#stage.style.cursor = player.grant.pointer ? view.css : "default";
    this.#pointer.draw(view, player.capture.box, this.#stage.getBoundingClientRect(), this.#size.width);
  }

  #resized(): void {
    this.#player?.capture.moved();
    this.#drawPointer();
    if (prefs.size !== "window" || !this.#player?.grant.keyboard) return;
    if (this.#resizeTimer !== null) clearTimeout(this.#resizeTimer);
    this.#resizeTimer = setTimeout(() => this.#matchWindow(), RESIZE_MS);
  }

  #matchWindow(): void {
    const { width, height } = this.#stage.getBoundingClientRect();
    const size = displaySize(width, height, window.devicePixelRatio);
    const s = this.#session;
    if (s && (s.width !== size.width || s.height !== size.height)) void this.#change(size);
  }

  async #change(patch: SessionPatch): Promise<void> {
    if (!this.#id) return;
    try {
      await this.#parts.api.change(this.#id, patch);
    } catch (error) {
      const e = asApiError(error);
      toast(e.detail ? sentence(e.detail) : explain(e.code).title, "bad");
    }
  }

  readonly #onPageHide = (): void => this.#player?.link.close("left");

  #lock(): void {
    const capture = this.#player?.capture;
    if (!capture) return;
    this.#stage.focus({ preventScroll: true });
    if (capture.locked) capture.unlock();
    else void capture.lock();
  }

  // --- toolbar ---

  #shortcut(event: KeyboardEvent): boolean {
    if (!event.ctrlKey || !event.altKey || !event.shiftKey) return false;
    const actions: Record<string, () => void> = {
      KeyM: () => this.#toolbar.focus(),
      KeyX: () => void this.#screen.toggle(),
      KeyZ: () => this.#lock(),
      KeyA: () => this.#mute(),
      KeyS: () => this.#toggleStats(),
      KeyQ: () => this.#leave(),
    };
    const action = actions[event.code];
    if (!action) return false;
    this.#player?.capture.release(); // Ctrl, Alt and Shift went to the program before.
    action();
    return true;
  }

  #toggleStats(): void {
    const { element } = this.#stats;
    const open = element.hidden === true;
    element.hidden = !open;
    set("stats", open);
    this.#toolbar.press("stats-toggle", open);
    if (this.#statsTimer !== null) clearInterval(this.#statsTimer);
    this.#statsTimer = null;
    if (!open) return;
    let shown: Stats | null = null;
    const show = async (): Promise<void> => {
      const stats = await this.#player?.stats();
      if (!stats || stats === shown || element.hidden) return;
      shown = stats;
      this.#stats.show(stats, this.#player?.latency.summary(performance.now()) ?? null);
    };
    void show();
    this.#statsTimer = setInterval(() => void show(), STATS_MS);
  }

  #toggleQuality(): void {
    const open = this.#quality.hidden === true;
    this.#quality.hidden = !open;
    this.#toolbar.press("settings-toggle", open);
    if (!open) {
      this.#stage.focus({ preventScroll: true });
      return;
    }
    const mimes = browserParts.capabilities().map((c) => c.mimeType);
    const close = h("button", { class: "icon-button", type: "button", "aria-label": "Close", on: { click: () => this.#toggleQuality() } }, icon("close"));
    this.#tellNow();
    fill(
      this.#quality,
      h("div", { class: "panel-title" }, h("h2", {}, "Quality and sound"), close),
      h("div", { class: "fields" }, ...qualityFields((name) => this.#prefChanged(name), this.#parts.limits, decodable(mimes, "auto"))),
      h("label", { class: "volume" }, icon("sound"), h("span", { class: "sr-only" }, "Volume"), this.#volume),
      this.#now,
    );
    this.#quality.onkeydown = (event) => {
      if (event.key === "Escape") this.#toggleQuality();
    };
    this.#quality.querySelector<HTMLElement>("select")?.focus();
  }

  #tellNow(): void {
    const agreed = this.#player?.agreedCodec;
    const s = this.#session;
    this.#now.textContent = agreed && s ? `Now: ${codecNames[agreed]}, ${s.width} × ${s.height}, up to ${s.fps} fps. Bitrate and codec are this tab's; the rest is the session's.` : "";
  }

  #prefChanged(name: keyof Prefs): void {
    const player = this.#player;
    if (name === "size") {
      if (prefs.size === "window") this.#matchWindow();
      else void this.#change(requestSize());
    } else if (name === "fps") void this.#change({ fps: prefs.fps });
    else if (name === "layout") {
      if (player) player.capture.altGr = hasAltGr();
      void this.#change({ layout: layout() });
    } else if (name === "maxKbps") player?.setMaxKbps(prefs.maxKbps);
    else if (name === "codec") player?.setCodec(prefs.codec);
    else if (name === "touch" && player) player.capture.touchMode = prefs.touch;
  }

  #toggleTyping(): void {
    const { element } = this.#typing;
    const open = element.hidden === true;
    element.hidden = !open;
    this.#toolbar.press("text-toggle", open);
    if (open) this.#typing.focus();
    else this.#stage.focus({ preventScroll: true });
  }

  #setVolume(volume: number): void {
    set("volume", volume);
    if (prefs.muted && volume > 0) set("muted", false);
    this.#volumeChanged();
  }

  #mute(): void {
    set("muted", !prefs.muted);
    this.#volumeChanged();
  }

  #volumeChanged(): void {
    this.#audio.volume = prefs.volume;
    this.#audio.muted = prefs.muted;
    this.#toolbar.icon("mute", prefs.muted ? "mute" : "sound", prefs.muted ? "Sound on" : "Mute");
    this.#toolbar.press("mute", prefs.muted);
  }

  #leave(): void {
    this.#release();
    this.#parts.library();
  }

  async #end(): Promise<void> {
    const title = this.#session?.app.title ?? "the program";
    if (!(await confirm(`End ${title}?`, "The program is closed. What it has not saved is lost. To keep it running, leave instead.", "End it", true, "confirm-end"))) {
      this.#stage.focus({ preventScroll: true });
      return;
    }
    const id = this.#id;
    this.#release();
    try {
      if (id) await this.#parts.api.end(id);
    } catch (error) {
      const e = asApiError(error);
      if (e.status !== 404) toast(`${explain(e.code).title}. ${e.detail}`, "bad");
    }
    this.#parts.library();
  }
}

/** The chosen size as a change of a session. */
function requestSize(): SessionPatch {
  const { width, height } = requestFor({ id: "" }, null);
  return { width, height };
}
