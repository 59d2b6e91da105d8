import { Api, asApiError } from "../core/api";
import type { App, Person, ServerInfo, SessionState } from "../core/types";
import { diagnostics } from "./diagnostics";
import { announce, fill, h } from "./dom";
import { errorPanel } from "./error-panel";
import { loginForm, setupForm } from "./forms";
import { Library } from "./library";
import { Play, type PlayTarget } from "./play";
import { detect } from "./prefs";
import { Settings } from "./settings";
import { shell } from "./shell";

const PEER_STORE = "fenrir.peer";

/** What the address asks for. */
type Route = { name: "library" } | { name: "settings" } | { name: "setup"; token: string } | { name: "play"; session: string; watch: boolean };

function route(): Route {
  const hash = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  const setup = /^setup=(.+)$/.exec(hash);
  if (setup?.[1]) return { name: "setup", token: setup[1] };
  const play = /^(play|watch)\/([\w-]+)$/.exec(hash);
  if (play?.[2]) return { name: "play", session: play[2], watch: play[1] === "watch" };
  return hash === "settings" ? { name: "settings" } : { name: "library" };
}

/** This tab's id as a peer: it survives a reload, and a second tab has another. */
function peerID(): string {
  let id = "";
  try {
    id = sessionStorage.getItem(PEER_STORE) ?? "";
  } catch {
    // Forbidden storage: a reload is a new peer then.
  }
  if (!/^[A-Za-z0-9_-]{8,64}$/.test(id)) {
    id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
    try {
      sessionStorage.setItem(PEER_STORE, id);
    } catch {
      // As above.
    }
  }
  return id;
}

/** The page: who is here, and which view they see. */
class Main {
  readonly #root: HTMLElement;
  readonly #api = new Api();
  readonly #peer = peerID();
  #person: Person | null = null;
  #server: ServerInfo | null = null;
  #view = "loading";
  #play: Play | null = null;
  #stop: () => void = () => undefined;
  /** The next change of the address is ours: nothing has to be drawn for it. */
  #expected = "";

  constructor(root: HTMLElement) {
    this.#root = root;
    window.fenrir = diagnostics({ view: () => this.#view, peer: () => this.#peer, play: () => this.#play });
    window.addEventListener("hashchange", () => {
      if (location.hash === this.#expected) {
        this.#expected = "";
        return;
      }
      this.#show();
      // Whoever went here by keyboard or screen reader goes on reading here.
      document.getElementById("main")?.focus({ preventScroll: true });
    });
    // Out of the back-forward cache: the connection is gone.
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
  }

  async start(): Promise<void> {
    try {
      this.#signedIn(await this.#api.me());
    } catch (error) {
      const e = asApiError(error);
      const r = route();
      if (e.status === 401 && (e.setup || r.name === "setup")) this.#setup(r.name === "setup" ? r.token : "", e.setup);
      else if (e.status === 401) this.#login();
      else this.#broken(e.code, e.detail);
    }
  }

  #leaveView(view: string): void {
    this.#stop();
    this.#stop = () => undefined;
    this.#play = null;
    this.#view = view;
    document.title = "Fenrir";
    window.scrollTo(0, 0);
  }

  #go(hash: string): void {
    if (location.hash === hash) this.#show();
    else location.hash = hash;
  }

  #setup(token: string, needed: boolean): void {
    this.#leaveView("setup");
    if (!needed) {
      this.#login("This server is set up already.");
      return;
    }
    setupForm(this.#root, this.#api, token, (person) => this.#welcome(person));
  }

  #login(note = ""): void {
    this.#leaveView("login");
    this.#person = null;
    loginForm(this.#root, this.#api, (person) => this.#welcome(person), note);
  }

  #welcome(person: Person): void {
    announce(`Welcome, ${person.name}.`);
    this.#signedIn(person);
  }

  #signedIn(person: Person): void {
    this.#person = person;
    void detect();
    void this.#loadServer();
    // The token in the address was used up.
    if (route().name === "setup") history.replaceState(null, "", "#/");
    this.#show();
  }

  async #loadServer(): Promise<void> {
    try {
      this.#server = await this.#api.server();
    } catch {
      // Only menus depend on it, and how soon a connection begins; whatever is out
      // of range the server refuses.
    }
  }

  #show(): void {
    if (!this.#person) return;
    const r = route();
    if (r.name === "setup") {
      history.replaceState(null, "", "#/");
      this.#show();
    } else if (r.name === "play") {
      this.#player({ session: r.session, watch: r.watch }, 0);
    } else if (r.name === "settings") this.#settings(this.#person);
    else this.#library(this.#person);
  }

  #library(person: Person): void {
    this.#leaveView("library");
    const library = new Library({
      api: this.#api,
      person,
      play: (app) => this.#start(app),
      resume: (session, watch) => this.#resume(session, watch),
      signedOut: () => this.#login("You were signed out. Sign in again to go on."),
    });
    this.#stop = () => library.stop();
    fill(this.#root, shell(person, "library", () => void this.#logout(), library.element));
    void library.start();
    warmUp();
  }

  #settings(person: Person): void {
    this.#leaveView("settings");
    document.title = "Settings · Fenrir";
    const settings = new Settings({ api: this.#api, person, signedOut: () => this.#login("You were signed out. Sign in again to go on.") });
    fill(this.#root, shell(person, "settings", () => void this.#logout(), settings.element));
    void settings.start();
  }

  #start(app: App): void {
    this.#player({ app }, performance.now());
  }

  #resume(session: SessionState, watch: boolean): void {
    const began = performance.now();
    this.#address(`#${watch ? "watch" : "play"}/${session.id}`);
    this.#player({ session: session.id, watch }, began);
  }

  /** Puts a place into the address without going there. */
  #address(hash: string): void {
    if (location.hash === hash) return;
    this.#expected = hash;
    location.hash = hash;
  }

  #player(target: PlayTarget, began: number): void {
    this.#leaveView("play");
    const play = new Play({
      api: this.#api,
      target,
      peer: this.#peer,
      limits: this.#server?.limits ?? null,
      early: this.#server?.ice_servers === 0,
      began,
      created: (id) => this.#address(`#play/${id}`),
      library: () => this.#go("#/"),
      settings: () => this.#go("#/settings"),
      restart: (app) => void this.#restart(app.id),
      signedOut: () => this.#login("Sign in again to go on. The session is still yours."),
    });
    this.#play = play;
    this.#stop = () => play.stop();
    fill(this.#root, play.element);
    void play.start();
  }

  async #restart(id: string): Promise<void> {
    const began = performance.now();
    try {
      const app = (await this.#api.apps()).find((a) => a.id === id);
      if (app) this.#player({ app }, began);
      else this.#broken("app-not-found", "");
    } catch (error) {
      const e = asApiError(error);
      this.#broken(e.code, e.detail);
    }
  }

  async #logout(): Promise<void> {
    try {
      await this.#api.logout();
    } catch {
      // The cookie may be gone already; the form below is the answer either way.
    }
    history.replaceState(null, "", "#/");
    this.#login();
  }

  #broken(code: string, detail: string): void {
    this.#leaveView("error");
    const panel = errorPanel({ code, detail }, { retry: () => location.reload(), reload: () => location.reload(), library: () => this.#go("#/"), login: () => this.#login() });
    fill(this.#root, h("main", { class: "gate", id: "main" }, panel));
  }
}

let warm = false;

/** The first peer connection of a page is slow to make: it is made while somebody still chooses. */
function warmUp(): void {
  if (warm || !("RTCPeerConnection" in window)) return;
  warm = true;
  const idle = window.requestIdleCallback ?? ((f: () => void) => setTimeout(f, 500));
  idle(() => {
    const peer = new RTCPeerConnection();
    peer.addTransceiver("video", { direction: "recvonly" });
    void peer.createOffer().finally(() => peer.close());
  });
}

const root = h("div", { id: "app" });
document.body.append(root);
void new Main(root).start();
