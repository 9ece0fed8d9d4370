import { Alarm, type Clock } from './clock.js';
import type { Heartbeats } from './heartbeat.js';
import type { Outcome } from './learn.js';
import type { Login, Way } from './way.js';

const linger = 5_000; // in which the server sees that a probe has failed: an account may not have many
const shortestPause = 4_000; // after a probe that says nothing; it doubles
const longestPause = 3600_000;

export interface ProberOwner {
  beats(): Heartbeats;
  login(): Promise<Login>;
  /** A probe has brought something new. */
  learned(): void;
}

/** Tries one silence after another beside the live connection, until enough is known. */
export class Prober {
  readonly #clock: Clock;
  readonly #owner: ProberOwner;
  readonly #later: Alarm;
  #way: Way | undefined;
  #giveUp: (() => void) | undefined; // the probe that is under way
  #era = 0;
  #nothing = 0; // probes in a row that said nothing

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
    if (how === 'unrelated') {
      this.#later.set(now + Math.min(shortestPause * 2 ** Math.min(this.#nothing++, 10), longestPause));
    } else if (how === 'silent') {
      void this.#check(silence);
    } else {
      this.#judged(this.#owner.beats().survived(silence, now));
    }
  }

  /** It was the NAT if a fresh connection works at once. */
  async #check(silence: number): Promise<void> {
    const era = this.#era;
    this.#giveUp = () => {};
    const login = await this.#owner.login().catch(() => undefined);
    if (era !== this.#era) return;
    if (!login || !this.#way?.fresh) return this.#ended('unrelated', silence);
    this.#giveUp = this.#way.fresh(login, (works) => {
      if (!works) return this.#ended('unrelated', silence);
      this.#giveUp = this.#clock.timer(linger, () => {
        this.#giveUp = undefined;
        const now = this.#clock.now();
        this.#owner.beats().silent(silence, now);
        this.#judged(this.#owner.beats().alive(now));
      });
    });
  }

  #judged(news: boolean): void {
    this.#nothing = 0;
    if (news) this.#owner.learned();
    void this.#next();
  }
}
