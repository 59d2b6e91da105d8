import { Emitter } from "./emitter";

/**
 * The sound of a stream in an audio element of its own, so that a browser that
 * refuses sound before a gesture still shows the picture. `locked` tells
 * whether a gesture is missing.
 */
export class Sound extends Emitter<{ locked: boolean }> {
  readonly #element: HTMLAudioElement;
  #track: MediaStreamTrack | null = null;
  #context: AudioContext | null = null;
  #analyser: AnalyserNode | null = null;
  #source: MediaStreamAudioSourceNode | null = null;
  #locked = false;

  constructor(element: HTMLAudioElement) {
    super();
    this.#element = element;
  }

  /** Whether there is a stream to hear. */
  get playing(): boolean {
    return this.#track !== null;
  }

  get locked(): boolean {
    return this.#locked;
  }

  get muted(): boolean {
    return this.#element.muted || this.#element.volume === 0;
  }

  play(track: MediaStreamTrack): void {
    this.#track = track;
    this.#source?.disconnect();
    this.#source = null;
    this.#element.srcObject = new MediaStream([track]);
    void this.#start();
  }

  /** A gesture happened: try again, if it was missing. */
  unlock(): void {
    if (this.#locked) void this.#start();
    if (this.#context?.state === "suspended") void this.#context.resume();
  }

  stop(): void {
    this.#source?.disconnect();
    this.#source = null;
    this.#track = null;
    this.#element.srcObject = null;
    void this.#context?.close();
    this.#context = null;
    this.#analyser = null;
  }

  /**
   * How loud the stream is at this moment: root mean square of the last 43 ms,
   * 0…1, before volume and mute. 0 while a gesture is missing.
   */
  level(): number {
    const analyser = this.#listen();
    if (!analyser) return 0;
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    return Math.sqrt(samples.reduce((sum, s) => sum + s * s, 0) / samples.length);
  }

  /** The loudest frequency at this moment in Hz, 0 when there is silence. */
  peak(): number {
    const analyser = this.#listen();
    if (!analyser) return 0;
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    let best = 0;
    for (let i = 1; i < bins.length; i++) if ((bins[i] ?? -Infinity) > (bins[best] ?? -Infinity)) best = i;
    if ((bins[best] ?? -Infinity) < -90) return 0;
    return (best * analyser.context.sampleRate) / analyser.fftSize;
  }

  async #start(): Promise<void> {
    try {
      await this.#element.play();
      this.#setLocked(false);
    } catch (error) {
      // AbortError: a newer stream took over while this one began.
      if (error instanceof DOMException && error.name === "NotAllowedError") this.#setLocked(true);
    }
  }

  #setLocked(locked: boolean): void {
    if (this.#locked === locked) return;
    this.#locked = locked;
    this.emit("locked", locked);
  }

  /** The analyser is made when somebody first asks: it costs a thread. */
  #listen(): AnalyserNode | null {
    if (!this.#track || this.#locked) return null;
    if (!this.#context || !this.#analyser) {
      this.#context = new AudioContext({ latencyHint: "interactive" });
      this.#analyser = this.#context.createAnalyser();
      this.#analyser.fftSize = 2048;
      this.#analyser.smoothingTimeConstant = 0;
    }
    if (this.#context.state === "suspended") void this.#context.resume();
    if (!this.#source) {
      this.#source = this.#context.createMediaStreamSource(new MediaStream([this.#track]));
      this.#source.connect(this.#analyser);
    }
    return this.#analyser;
  }
}
