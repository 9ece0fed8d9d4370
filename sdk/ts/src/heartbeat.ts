import { type Finding, Learner, unknown } from './learn.js';

const verdict = 60_000; // in which a new connection shows that the network is there

/**
 * Says how long the connection may be silent, from what happened on each
 * network. Where nothing spoke against it that is what the server advises. On
 * a network that forgot the connection sooner the live connection itself looks
 * for the longest silence that survives, since every interval is a guess there.
 */
export class Heartbeats {
  #findings: Record<string, Finding>;
  #network = '';
  #learner: Learner;
  #silent: { silence: number; at: number } | undefined; // not answered, and not yet known why
  #background = false;

  constructor(findings: Record<string, Finding>, now: number) {
    this.#findings = findings;
    this.#learner = this.#known(now);
  }

  #known(now: number): Learner {
    return new Learner(this.#findings[this.#network] ?? unknown(), unknown(), now);
  }

  /** The device is on a network, in its own words. */
  on(network: string, now: number): void {
    this.#silent = undefined; // it may have been the change
    if (network === this.#network) return;
    this.#network = network;
    this.#learner = this.#known(now);
  }

  /** In the background nothing is tried out. */
  background(b: boolean): void {
    this.#background = b;
  }

  /** Milliseconds between heartbeats; undefined: as the server advises. */
  get wish(): number | undefined {
    const l = this.#learner;
    if (l.finding.bad === 0) return undefined;
    return (this.#background ? undefined : l.probe()) ?? l.interval;
  }

  /** What was found, by network. */
  get findings(): Record<string, Finding> {
    return this.#findings;
  }

  /** A heartbeat was answered that came after such a silence. */
  survived(silence: number, now: number): boolean {
    return this.#ended(silence, 'survived', now);
  }

  /** A heartbeat was not answered. Whether that was the NAT the next connection shows. */
  silent(silence: number, now: number): void {
    this.#silent = { silence, at: now };
  }

  /** A connection works. */
  online(now: number): boolean {
    const s = this.#silent;
    this.#silent = undefined;
    return s !== undefined && now - s.at < verdict && this.#ended(s.silence, 'silent', now);
  }

  /** Reports whether there is something new to keep. */
  #ended(silence: number, how: 'survived' | 'silent', now: number): boolean {
    const before = this.#learner.finding;
    this.#learner.stale(now);
    this.#learner.ended(Math.floor(silence), how, now);
    const f = this.#learner.finding;
    if (f.good === before.good && f.bad === before.bad) return false;
    this.#findings = { ...this.#findings, [this.#network]: f };
    return true;
  }
}
