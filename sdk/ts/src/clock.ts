/** Time, so that a test can have its own. */
export interface Clock {
  /** Milliseconds since some moment; Unix time on a real clock. */
  now(): number;
  /** Calls f after so many milliseconds, unless the timer is stopped. */
  timer(ms: number, f: () => void): () => void;
}

const longest = 2 ** 31 - 1; // what setTimeout takes

const slept = 1000; // the wall clock went so much further than the other

/**
 * Unix time that never goes back. Wall tells the time of day, which somebody
 * may set; run goes evenly, and on most systems stands still while the machine
 * sleeps, which is when the time of day goes on alone.
 */
export function steady(wall: () => number, run: () => number): () => number {
  let [now, lastWall, lastRun] = [wall(), wall(), run()];
  return () => {
    const [w, r] = [wall(), run()];
    const jump = w - lastWall - (r - lastRun);
    now += r - lastRun + (jump > slept ? jump : 0);
    [lastWall, lastRun] = [w, r];
    return now;
  };
}

export const realClock: Clock = {
  now: steady(
    () => Date.now(),
    () => performance.now(),
  ),
  timer(ms, f) {
    const t = setTimeout(f, Math.max(0, Math.min(ms, longest)));
    return () => clearTimeout(t);
  },
};

/** One timer that is set again and again. */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #stop: (() => void) | undefined;
  #at = Infinity;

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at a time, instead of when it would have; never if it is Infinity. */
  set(at: number): void {
    if (at === this.#at) return;
    this.stop();
    if (at === Infinity) return;
    this.#at = at;
    this.#stop = this.#clock.timer(at - this.#clock.now(), () => {
      this.#at = Infinity;
      this.#ring();
    });
  }

  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
    this.#at = Infinity;
  }
}

const shortest = 500;

/**
 * How long to wait before the next attempt: "full jitter", between nothing and
 * a bound that doubles from half a second up to most. Random is in [0, 1).
 */
export function backOff(tries: number, most: number, random: number): number {
  return Math.floor(random * Math.min(shortest * 2 ** Math.min(tries, 20), most));
}
