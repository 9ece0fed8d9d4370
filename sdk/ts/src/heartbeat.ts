import { type Finding, Learner, unknown } from './learn.js';
import { withRecent } from './recent.js';
import type { Change } from './way.js';

const verdict = 60_000; // in which a sign of life shows that the network is there

/**
 * Says how long the connection may be silent, from what happened on each
 * network.
 *
 * On a network that has a name, and with a server that helps, silences are
 * tried on connections beside the live one, which is never deaf for the sake
 * of knowledge. Otherwise it is as the server advises, unless the live
 * connection has been forgotten sooner: then it looks itself for the longest
 * silence that survives, since every interval is a guess there.
 */
export class Heartbeats {
  #findings: Record<string, Finding>;
  #network = '';
  #prior = unknown(); // what others found on this network
  #learner: Learner;
  #helped = false; // by the server
  #silent: { silence: number; at: number } | undefined; // not answered, and not yet known why
  #background = false;
  #untold = false; // something was found that the server does not know

  constructor(findings: Record<string, Finding>, now: number) {
    this.#findings = findings;
    this.#learner = this.#known(now);
  }

  #known(now: number): Learner {
    return new Learner(this.#findings[this.#network] ?? unknown(), this.#prior, now);
  }

  /** What was found, by network. */
  get findings(): Record<string, Finding> {
    return this.#findings;
  }

  /** The device is on a network, in its own words. */
  on(network: string, now: number): void {
    this.#silent = undefined; // it may have been the change
    if (network === this.#network) return;
    this.#network = network;
    this.#prior = unknown();
    this.#untold = this.#helped = false;
    this.#learner = this.#known(now);
  }

  /** In the background nothing is tried out. */
  background(b: boolean): void {
    this.#background = b;
  }

  /** A server that helps has told what others found here. */
  helped(helps: boolean, prior: Finding, now: number): void {
    this.#helped = helps;
    if (this.#network === '' || prior.good === 0 || this.#settled) return;
    this.#prior = prior;
    this.#learner = this.#known(now);
  }

  get #settled(): boolean {
    return this.#learner.probe() === undefined;
  }

  /** Whether silences are tried beside the live connection. */
  get #beside(): boolean {
    return this.#helped && this.#network !== '';
  }

  /** Milliseconds between heartbeats; undefined: as the server advises. */
  get wish(): number | undefined {
    const l = this.#learner;
    const worse = l.finding.bad > 0; // than some advice
    if (this.#beside) return this.#settled || worse || !this.#background ? l.interval : undefined;
    if (this.#network !== '' && this.#settled) return l.interval;
    if (!worse) return undefined;
    return (this.#background ? undefined : l.probe()) ?? l.interval;
  }

  /** The silence to be tried next beside the live connection. */
  probe(now: number): number | undefined {
    if (!this.#beside || this.#background) return undefined;
    this.#learner.stale(now);
    return this.#learner.probe();
  }

  /** What the server should know, once. */
  tell(): Change {
    const { good, bad } = this.#learner.finding;
    if (!this.#untold || !this.#beside || good === 0 || !this.#settled) return {};
    this.#untold = false;
    return { good, ...(bad > 0 ? { bad } : {}) };
  }

  /** A silence was survived: of a probe, or between two heartbeats. It reports whether that is news. */
  survived(silence: number, now: number): boolean {
    const verdict = this.alive(now);
    return this.#ended(silence, 'survived', now) || verdict;
  }

  /** A silence was not survived. Whether that was the NAT the next sign of life shows. */
  silent(silence: number, now: number): void {
    this.#silent = { silence, at: now };
  }

  /** A connection works. It reports whether that is news. */
  alive(now: number): boolean {
    const s = this.#silent;
    this.#silent = undefined;
    return s !== undefined && now - s.at < verdict && this.#ended(s.silence, 'silent', now);
  }

  #ended(silence: number, how: 'survived' | 'silent', now: number): boolean {
    const before = this.#learner.finding;
    this.#learner.ended(Math.floor(silence), how, now);
    const f = this.#learner.finding;
    if (f.good === before.good && f.bad === before.bad) return false;
    this.#findings = withRecent(this.#findings, this.#network, f);
    this.#untold = true;
    return true;
  }
}
