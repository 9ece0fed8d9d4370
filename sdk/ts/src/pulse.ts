import type { Clock } from './clock.js';
import { Heartbeats } from './heartbeat.js';
import type { Bounds, Finding, Outcome } from './learn.js';
import { Prober } from './prober.js';
import type { Connection, Login, Way, Welcomed } from './way.js';

export interface PulseOwner {
  login(): Promise<Login>;
  /** The connection, if it is logged in, and its way. */
  live(): { connection: Connection; way: Way } | undefined;
  /** Keeps what was found, by network. */
  keep(findings: Record<string, Finding>): void;
  trace(line: () => string): void;
}

const verdict = 15_000; // in which a connection must be there again, at the first attempt, for a silence to be blamed

/** Has the live connection speak as often as it must, and finds out how often that is. */
export class Pulse {
  readonly #clock: Clock;
  readonly #owner: PulseOwner;
  readonly #prober: Prober;
  readonly #bounds: Partial<Bounds> | undefined;
  #beats: Heartbeats;
  #network = '';
  #interval = 0; // agreed
  #silent: { silence: number; at: number } | undefined; // not answered, and not yet known why

  constructor(clock: Clock, bounds: Partial<Bounds> | undefined, owner: PulseOwner) {
    this.#clock = clock;
    this.#owner = owner;
    this.#bounds = bounds;
    this.#beats = new Heartbeats({}, clock.now(), bounds);
    this.#prober = new Prober(clock, {
      silence: () => this.#beats.probe(clock.now()),
      login: () => owner.login(),
      live: () => owner.live(),
      judged: (silence, how) => void this.#judge(silence, how),
      trace: (line) => owner.trace(line),
    });
  }

  /** Begins with what an earlier program found. */
  begin(findings: Record<string, Finding>, network: string, background: boolean): void {
    this.#beats = new Heartbeats(findings, this.#clock.now(), this.#bounds);
    this.#beats.background(background);
    this.on(network);
  }

  /** The device is on a network, in its own words. */
  on(network: string): void {
    this.#silent = undefined; // it may have been the change
    if (network !== this.#network) this.#prober.stop();
    this.#network = network;
    this.#beats.on(network, this.#clock.now());
  }

  background(b: boolean): void {
    this.#beats.background(b);
    if (b) this.#prober.stop();
    else this.#prober.go();
  }

  /** Milliseconds between heartbeats; undefined: as the server advises. */
  get wish(): number | undefined {
    return this.#beats.wish;
  }

  /** A connection begins. */
  welcomed(w: Welcomed): void {
    const now = this.#clock.now();
    this.#beats.helped(w.helps ?? false, w.good ?? 0, w.bad ?? 0, now);
    this.#interval = w.interval ?? 0;
    const s = this.#silent;
    this.#silent = undefined;
    // The first attempt was good: it was the silence.
    if (s && now - s.at < verdict) this.#judge(s.silence, 'silent');
    queueMicrotask(() => {
      this.#speak(); // when the client is online
      this.#prober.begin();
    });
  }

  /** The server was heard after such a silence. */
  survived(silence: number): void {
    if (this.#judge(silence, 'survived')) this.#prober.go();
  }

  /** The connection, or an attempt at one, is gone; after such a silence, if that may be why. */
  gone(silence: number | undefined): void {
    this.#prober.stop();
    this.#silent = silence === undefined ? undefined : { silence, at: this.#clock.now() };
  }

  /** Tries out nothing any more. */
  stop(): void {
    this.#prober.stop();
  }

  /** It reports whether there is something new to try. */
  #judge(silence: number, how: Outcome): boolean {
    const before = this.#beats.findings;
    const news = this.#beats.ended(silence, how, this.#clock.now());
    if (this.#beats.findings !== before) this.#owner.keep(this.#beats.findings);
    queueMicrotask(() => this.#speak());
    return news;
  }

  /** Tells the server how often we will speak, and what was found. */
  #speak(): void {
    const live = this.#owner.live();
    if (!live) return;
    const change = this.#beats.tell();
    const wish = this.#beats.wish;
    if (wish !== undefined && wish !== this.#interval) change.interval = this.#interval = wish;
    if (Object.keys(change).length > 0) live.connection.set(change);
  }
}
