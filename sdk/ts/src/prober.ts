import { Alarm, type Clock } from './clock.js';
import type { Outcome } from './learn.js';
import type { Connection, Login, Way } from './way.js';

const linger = 5_000; // in which the server sees that a probe has failed: an account may not have many
const shortestPause = 4_000; // after a probe that says nothing; it doubles
const longestPause = 3600_000; // and then it is seen whether what is known has grown old

export interface ProberOwner {
  /** What is to be tried; undefined if enough is known. */
  silence(): number | undefined;
  login(): Promise<Login>;
  /** The live connection, and its way. */
  live(): { connection: Connection; way: Way } | undefined;
  judged(silence: number, how: Outcome): void;
  trace(line: () => string): void;
}

/** Tries one silence after another beside the live connection, until enough is known. */
export class Prober {
  readonly #clock: Clock;
  readonly #owner: ProberOwner;
  readonly #later: Alarm;
  #giveUp: (() => void) | undefined; // the probe that is under way
  #era = 0;
  #nothing = 0; // probes in a row that said nothing
  #again = false; // it is to be looked at once when that is over

  constructor(clock: Clock, owner: ProberOwner) {
    this.#clock = clock;
    this.#owner = owner;
    this.#later = new Alarm(clock, () => this.go());
  }

  /** Begins beside a new live connection. */
  begin(): void {
    this.#nothing = 0;
    this.go();
  }

  /** Looks now whether there is something to try. */
  go(): void {
    if (this.#giveUp) {
      this.#again = true;
      return;
    }
    const live = this.#owner.live();
    const silence = live?.way.probe && this.#owner.silence();
    if (!live || silence === undefined) this.#later.set(this.#clock.now() + longestPause);
    else void this.#try(live, silence);
  }

  /** Gives up what is under way. */
  stop(): void {
    this.#era++;
    if (this.#giveUp) this.#nothing++;
    this.#giveUp?.();
    this.#giveUp = undefined;
    this.#later.stop();
  }

  async #try({ connection, way }: { connection: Connection; way: Way }, silence: number): Promise<void> {
    const era = this.#era;
    this.#later.stop();
    this.#again = false;
    let how = await this.#ask(era, way, silence);
    if (how === 'silent' || how === 'reset') how = await this.#attribute(era, connection, way, how);
    if (era !== this.#era) return;
    this.#giveUp = undefined;
    if (how === 'unrelated') this.#nothing++;
    else {
      this.#nothing = 0;
      this.#owner.judged(silence, how);
    }
    if (this.#nothing === 0 || this.#again) this.go();
    else this.#later.set(this.#clock.now() + Math.min(shortestPause * 2 ** Math.min(this.#nothing - 1, 10), longestPause));
  }

  /**
   * It was the silence if a fresh connection works at once, and if the live
   * one, which is never silent for long, has lived all the while and lives
   * still: else something has happened to all of them.
   */
  async #attribute(era: number, live: Connection, way: Way, how: Outcome): Promise<Outcome> {
    if ((await this.#ask(era, way)) !== 'survived' || era !== this.#era) return 'unrelated';
    const asked = this.#clock.now();
    live.check();
    await new Promise<void>((passed) => {
      this.#giveUp = this.#clock.timer(linger, passed);
    });
    return this.#owner.live()?.connection === live && (live.heard ?? 0) >= asked ? how : 'unrelated';
  }

  /** How a probe ends. */
  async #ask(era: number, way: Way, silence?: number): Promise<Outcome> {
    this.#giveUp = () => {};
    const login = await this.#owner.login().catch(() => undefined);
    if (!login || era !== this.#era) return 'unrelated';
    return new Promise((ended) => {
      this.#giveUp = way.probe!(login, silence, { ended, trace: this.#owner.trace });
    });
  }
}
