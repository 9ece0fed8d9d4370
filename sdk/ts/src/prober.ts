import { Alarm, type Clock } from './clock.js';
import type { Heartbeats } from './heartbeat.js';
import type { Outcome } from './learn.js';
import type { Login, Way } from './way.js';

/** How long the live connection has to answer after a probe was not answered, in milliseconds. */
export const liveAnswer = 10_000;

const pause = 60_000; // after a probe that says nothing

export interface ProberOwner {
  beats(): Heartbeats;
  login(): Promise<Login>;
  /** A probe has brought something new. */
  learned(): void;
  /** Asks whether the live connection is there. */
  check(): void;
}

/** Tries one silence after another beside the live connection, until enough is known. */
export class Prober {
  readonly #clock: Clock;
  readonly #owner: ProberOwner;
  readonly #later: Alarm;
  #way: Way | undefined;
  #giveUp: (() => void) | undefined; // the probe that is under way
  #era = 0;

  constructor(clock: Clock, owner: ProberOwner) {
    this.#clock = clock;
    this.#owner = owner;
    this.#later = new Alarm(clock, () => void this.#next());
  }

  /** Goes on, on the way that the live connection has taken. */
  go(way: Way): void {
    this.#way = way;
    void this.#next();
  }

  /** Gives up what is under way. */
  stop(): void {
    this.#era++;
    this.#giveUp?.();
    this.#giveUp = undefined;
    this.#later.stop();
  }

  get #silence(): number | undefined {
    return this.#owner.beats().probe(this.#clock.now());
  }

  async #next(): Promise<void> {
    if (this.#giveUp || !this.#way?.probe || this.#silence === undefined) return;
    const era = this.#era;
    this.#giveUp = () => {};
    const login = await this.#owner.login().catch(() => undefined);
    if (era !== this.#era) return;
    const silence = this.#silence;
    this.#giveUp = undefined;
    if (login && silence !== undefined) this.#giveUp = this.#way.probe(login, silence, (how, silence) => this.#ended(how, silence));
  }

  #ended(how: Outcome, silence: number): void {
    const now = this.#clock.now();
    this.#giveUp = undefined;
    if (how === 'silent') {
      this.#owner.beats().silent(silence, now); // if the live connection answers, it was the NAT
      this.#owner.check();
      this.#later.set(now + liveAnswer);
    } else if (how === 'survived' && this.#owner.beats().survived(silence, now)) {
      this.#owner.learned();
    } else {
      this.#later.set(now + pause);
    }
  }
}
