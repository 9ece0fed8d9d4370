import { type Bounds, type Finding, Learner, type Outcome, unknown } from './learn.js';
import { most, withRecent } from './recent.js';
import type { Change } from './way.js';

const day = 86_400_000; // more than a server can have found

/** What is known of a network. */
interface Network {
  learner: Learner;
  helped: boolean; // by the server
  primed: boolean; // others were asked what they found
  told: Finding | undefined; // what was found last, if the server has not been told
}

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
  readonly #bounds: Partial<Bounds>;
  readonly #networks = new Map<string, Network>();
  #findings: Record<string, Finding>;
  #name = '';
  #background = false;

  constructor(findings: Record<string, Finding>, now: number, bounds: Partial<Bounds> = {}) {
    this.#findings = findings;
    this.#bounds = bounds;
    this.on('', now);
  }

  /** What was found, by network. */
  get findings(): Record<string, Finding> {
    return this.#findings;
  }

  /** The device is on a network, in its own words. */
  on(name: string, now: number): void {
    this.#name = name;
    const n = this.#networks.get(name) ?? { learner: this.#begin(unknown(), now), helped: false, primed: false, told: undefined };
    this.#networks.delete(name);
    this.#networks.set(name, n); // the last of them
    for (const old of this.#networks.keys()) if (this.#networks.size > most) this.#networks.delete(old);
  }

  #begin(prior: Finding, now: number): Learner {
    return new Learner(this.#findings[this.#name] ?? unknown(), prior, now, this.#bounds);
  }

  get #here(): Network {
    return this.#networks.get(this.#name)!;
  }

  /** In the background nothing is tried out. */
  background(b: boolean): void {
    this.#background = b;
  }

  /** A server has said whether it helps, and what others found here: the first time, that is where to begin. */
  helped(helps: boolean, good: number, bad: number, now: number): void {
    const n = this.#here;
    n.helped = helps;
    if (this.#name === '') return; // others may have been elsewhere
    if (!n.primed && good > 0) n.learner = this.#begin({ good: Math.min(good, day), bad: Math.min(bad, day), at: 0 }, now);
    n.primed = true;
  }

  /** Milliseconds between heartbeats; undefined: as the server advises. */
  get wish(): number | undefined {
    const { learner: l, helped } = this.#here;
    const more = l.probe();
    // What was found without a name for where was found on any network.
    if (this.#name !== '' && (helped || more === undefined)) return l.interval;
    if (l.finding.bad === 0) return undefined;
    return (this.#background ? undefined : more) ?? l.interval;
  }

  /** The silence to be tried next beside the live connection. */
  probe(now: number): number | undefined {
    const { learner: l, helped } = this.#here;
    if (!helped || this.#name === '' || this.#background) return undefined;
    l.stale(now);
    return l.probe();
  }

  /** What the server should know, once. */
  tell(): Change {
    const n = this.#here;
    const told = n.told;
    n.told = undefined;
    return told && n.helped && told.good > 0 ? { good: told.good, ...(told.bad > 0 ? { bad: told.bad } : {}) } : {};
  }

  /**
   * A silence has ended: of a probe, or before something was said. It reports
   * whether another silence should be tried now.
   */
  ended(silence: number, how: Outcome, now: number): boolean {
    const n = this.#here;
    const before = n.learner.finding;
    if (silence > 0) n.learner.ended(silence, how, now);
    const found = n.learner.finding;
    if (n.learner.probe() === undefined && (found.good !== before.good || found.bad !== before.bad)) {
      this.#findings = withRecent(this.#findings, this.#name, found);
      n.told = found;
    }
    return how === 'silent' || found.good > before.good;
  }
}
