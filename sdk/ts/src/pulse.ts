import type { Clock } from './clock.js';
import { Heartbeats } from './heartbeat.js';
import type { Finding } from './learn.js';
import { Prober } from './prober.js';
import type { Connection, Login, Way, Welcomed } from './way.js';

export interface PulseOwner {
  login(): Promise<Login>;
  /** The connection, if it is logged in, and its way. */
  live(): { connection: Connection; way: Way } | undefined;
  /** Keeps what was found, by network. */
  keep(findings: Record<string, Finding>): void;
}

/** Has the live connection speak as often as it must, and finds out how often that is. */
export class Pulse {
  readonly #clock: Clock;
  readonly #owner: PulseOwner;
  readonly #prober: Prober;
  #beats: Heartbeats;
  #interval = 0; // agreed

  constructor(clock: Clock, owner: PulseOwner) {
    this.#clock = clock;
    this.#owner = owner;
    this.#beats = new Heartbeats({}, clock.now());
    this.#prober = new Prober(clock, {
      beats: () => this.#beats,
      login: () => owner.login(),
      learned: () => this.#learned(true),
    });
  }

  /** Begins with what an earlier program found. */
  begin(findings: Record<string, Finding>, network: string, background: boolean): void {
    this.#beats = new Heartbeats(findings, this.#clock.now());
    this.#beats.on(network, this.#clock.now());
    this.#beats.background(background);
  }

  /** The device is on a network, in its own words. */
  on(network: string): void {
    this.#beats.on(network, this.#clock.now());
  }

  background(b: boolean): void {
    this.#beats.background(b);
    if (b) this.#prober.stop();
    else this.#speak();
  }

  /** Milliseconds between heartbeats; undefined: as the server advises. */
  get wish(): number | undefined {
    return this.#beats.wish;
  }

  /** A connection begins. */
  welcomed(w: Welcomed): void {
    const now = this.#clock.now();
    this.#beats.helped(w.helps ?? false, { good: w.good ?? 0, bad: w.bad ?? 0, at: now }, now);
    this.#interval = w.interval ?? 0;
    this.#learned(this.#beats.alive(now));
    queueMicrotask(() => this.#speak()); // when the client is online
  }

  /** A heartbeat was answered that came after such a silence. */
  survived(silence: number): void {
    this.#learned(this.#beats.survived(silence, this.#clock.now()));
  }

  /** The connection is gone; after such a silence, if that is why. */
  gone(silence: number | undefined): void {
    this.#prober.stop();
    if (silence !== undefined) this.#beats.silent(silence, this.#clock.now());
  }

  /** Tries out nothing any more. */
  stop(): void {
    this.#prober.stop();
  }

  #learned(news: boolean): void {
    if (!news) return;
    this.#owner.keep(this.#beats.findings);
    queueMicrotask(() => this.#speak());
  }

  /** Speaks as often as is known to be needed, and tries out what is not known. */
  #speak(): void {
    const live = this.#owner.live();
    if (!live) return;
    const change = this.#beats.tell();
    const wish = this.#beats.wish;
    if (wish !== undefined && wish !== this.#interval) change.interval = this.#interval = wish;
    if (Object.keys(change).length > 0) live.connection.set(change);
    this.#prober.go(live.way);
  }
}
