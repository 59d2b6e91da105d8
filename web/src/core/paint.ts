import { Emitter } from "./emitter";
import type { PaintedFrame } from "./latency";
import type { PaintSample } from "./stats";

/** What requestVideoFrameCallback tells of a frame; not all of it everywhere. */
interface Frame {
  presentedFrames: number;
  presentationTime: number;
  expectedDisplayTime: number;
  width: number;
  height: number;
  rtpTimestamp?: number;
  receiveTime?: number;
  captureTime?: number;
  /** Seconds. */
  processingDuration?: number;
}

/**
 * Counts frames that the browser really put on the screen: decoded is not yet
 * painted. `first` tells the first frame after a start or reset, by
 * performance.now() when it is to be visible; `shown` tells each frame of which
 * the browser says when it was received.
 */
export class PaintMeter extends Emitter<{ first: number; frame: { width: number; height: number }; shown: PaintedFrame }> {
  readonly #video: HTMLVideoElement;
  #handle: number | null = null;
  #last = 0;
  #fresh = true;
  #frames = 0;
  #rtp = 0;
  #at = 0;
  #delays: number[] = [];
  #ages: number[] = [];

  constructor(video: HTMLVideoElement) {
    super();
    this.#video = video;
  }

  /** Frames painted since the start or the last reset. */
  get frames(): number {
    return this.#frames;
  }

  /** RTP timestamp of the last frame, 0 where the browser keeps it. */
  get rtpTimestamp(): number {
    return this.#rtp;
  }

  /** performance.now() of the last painted frame, 0 before the first. */
  get lastPainted(): number {
    return this.#at;
  }

  start(): void {
    if (this.#handle === null && "requestVideoFrameCallback" in this.#video) this.#request();
  }

  stop(): void {
    if (this.#handle !== null) this.#video.cancelVideoFrameCallback(this.#handle);
    this.#handle = null;
  }

  /** The next frame is the first of a new connection. */
  reset(): void {
    this.#fresh = true;
    this.#frames = 0;
    this.#at = 0;
    this.#delays = [];
    this.#ages = [];
  }

  /** What was painted since the last call. */
  take(): PaintSample {
    const average = (values: number[]): number | null =>
      values.length > 0 ? values.reduce((sum, v) => sum + v, 0) / values.length : null;
    const sample = { frames: this.#frames, receivedToScreen: average(this.#delays), age: average(this.#ages) };
    this.#delays = [];
    this.#ages = [];
    return sample;
  }

  #request(): void {
    this.#handle = this.#video.requestVideoFrameCallback((now, metadata) => {
      this.#painted(now, metadata as unknown as Frame);
      this.#request();
    });
  }

  #painted(now: number, frame: Frame): void {
    const step = frame.presentedFrames - this.#last;
    this.#last = frame.presentedFrames;
    const first = this.#fresh;
    // The counter belongs to the element: on a new stream only its change counts.
    this.#frames += first ? 1 : Math.max(1, step);
    this.#fresh = false;
    this.#rtp = frame.rtpTimestamp ?? 0;
    this.#at = now;
    if (frame.receiveTime !== undefined && this.#delays.length < 1000) {
      this.#delays.push(Math.max(0, frame.expectedDisplayTime - frame.receiveTime));
    }
    if (frame.captureTime !== undefined && this.#ages.length < 1000) {
      this.#ages.push(frame.expectedDisplayTime - frame.captureTime);
    }
    if (frame.rtpTimestamp !== undefined && frame.receiveTime !== undefined) {
      this.emit("shown", {
        rtp: frame.rtpTimestamp,
        received: frame.receiveTime,
        presented: frame.presentationTime,
        shown: Math.max(frame.presentationTime, frame.expectedDisplayTime),
        decode: (frame.processingDuration ?? 0) * 1000,
      });
    }
    if (first) this.emit("first", Math.max(now, frame.expectedDisplayTime));
    if (first || frame.width !== this.#video.videoWidth) this.emit("frame", { width: frame.width, height: frame.height });
  }
}
