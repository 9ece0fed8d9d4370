// Finds out how long a network's NAT remembers an idle connection, without I/O
// and without a clock of its own. All times are milliseconds.
//
// A NAT forgets a mapping some fixed time after the last packet. A heartbeat
// must come more often than that, but each one wakes the radio, so it should
// come only a little more often. A Learner keeps a bracket: the longest
// silence that is known to have survived, and the shortest that is known not
// to have.
//
//	min          good                bad                max
//	 ├────────────┼───────────────────┼──────────────────┤
//	              │   next probe = √(good·bad)
//	              └ interval = good less the margin
//
// A failure counts against the NAT only when it was seen twice, since a lost
// packet looks the same once. What fails after some silence would have failed
// after a longer one: so a failure confirms all those at longer silences, and
// the search goes on below a single failure as if it were true. Only the last
// one, where the search has come to, is tried again. A reset, a change of
// network, a restart of the server never count.

/** What is known about one network. */
export interface Finding {
  /** The longest silence that survived; zero if nothing is known. */
  good: number;
  /** The shortest silence that did not; zero if none is known. */
  bad: number;
  /** When this was last confirmed. */
  at: number;
}

/**
 * How a silence ended. "silent": no answer came, and the network is there,
 * since a new connection works. "unrelated": it says nothing about the NAT.
 */
export type Outcome = 'survived' | 'silent' | 'unrelated';

const bounds = {
  /** The shortest heartbeat ever used, believed to be safe everywhere. */
  min: 15_000,
  /** The longest worth having. */
  max: 30 * 60_000,
  /** The part of the longest silence known to survive that is given away for safety. */
  margin: 0.025,
  /** The ratio of the ends of the bracket at which probing stops. */
  precision: 1.08,
  /** How many failures at a silence, or at shorter ones, count as the NAT's. */
  confirm: 2,
  /** How long a finding is believed before it is probed again. */
  fresh: 7 * 24 * 3600_000,
};

export type Bounds = typeof bounds;

export const unknown = (): Finding => ({ good: 0, bad: 0, at: 0 });

/** Learns about one network. */
export class Learner {
  readonly #c: Bounds;
  #f = unknown();
  #prior: Finding; // what others found; not yet confirmed here
  #fails: number[] = []; // silences that failed and are not confirmed, the shortest first
  #probes = 0;
  #settled = false;

  /**
   * Starts from what it found itself before, or else from prior, what others
   * found on the same network.
   */
  constructor(own: Finding, prior: Finding, now: number, c: Partial<Bounds> = {}) {
    this.#c = { ...bounds, ...c };
    this.#prior = prior;
    if (own.good > 0 && now - own.at < this.#c.fresh) {
      this.#f = own;
      this.#settle();
    } else if (own.good > 0 && prior.good === 0) {
      this.#prior = own; // old, but a better place to start than nowhere
    }
  }

  /** How long the live connection may be silent. */
  get interval(): number {
    const good = Math.max(this.#f.good, this.#c.min);
    return Math.max(this.#c.min, Math.floor(good * (1 - this.#c.margin)));
  }

  get finding(): Finding {
    return this.#f;
  }

  /** How many silences have been judged, confirmations included. */
  get probes(): number {
    return this.#probes;
  }

  /** What silence to try next; undefined when enough is known. */
  probe(): number | undefined {
    if (this.#settled) return undefined;
    const once = this.#fails[0] ?? Infinity;
    const p = this.#prior.good;
    if (p > this.#f.good && (this.#f.bad === 0 || p < this.#f.bad) && p < once) return Math.min(p, this.#c.max);
    const lo = Math.max(this.#f.good, this.#c.min);
    const hi = Math.min(once, this.#end);
    if (hi <= lo * this.#c.precision && hi < this.#end) return hi; // the search has come to a failure: is it true?
    return Math.floor(Math.sqrt(lo * hi));
  }

  /** The shortest silence that need not be tried. */
  get #end(): number {
    return this.#f.bad > 0 ? Math.min(this.#c.max, this.#f.bad) : this.#c.max;
  }

  /**
   * Tells the outcome of a silence: of a probe, or of the live connection
   * between two of its heartbeats.
   */
  ended(silence: number, o: Outcome, now: number): void {
    if (o === 'survived') this.#survived(silence, now);
    if (o === 'silent') this.#failed(silence, now);
  }

  #survived(silence: number, now: number): void {
    this.#fails = this.#fails.filter((d) => d > silence); // what failed there was not the NAT
    if (silence < this.#f.good) return this.#settle();
    const probed = silence > this.#f.good;
    this.#f = { ...this.#f, good: silence, at: now };
    if (this.#f.bad > 0 && this.#f.bad <= silence) this.#f.bad = 0; // it was wrong, or the network is better now
    if (!probed) return;
    this.#probes++;
    const p = this.#prior;
    if (p.good > 0 && silence >= Math.min(p.good, this.#c.max)) {
      // As others found: then their upper end is believed too.
      if (p.bad > silence && (this.#f.bad === 0 || p.bad < this.#f.bad)) this.#f.bad = p.bad;
      this.#prior = unknown();
    }
    this.#settle();
  }

  #failed(silence: number, now: number): void {
    this.#probes++;
    this.#fails = [...this.#fails, silence].sort((a, b) => a - b);
    const against = this.#fails[this.#c.confirm - 1];
    if (against === undefined) {
      // It must be looked into, also when all seemed known.
      this.#settled = this.#settled && this.#f.bad > 0 && silence >= this.#f.bad;
      return;
    }
    this.#fails = this.#fails.filter((d) => d < against);
    const f = { ...this.#f, at: now };
    if (f.bad === 0 || against < f.bad) f.bad = against;
    if (f.good >= f.bad) f.good = 0; // the network is worse than it was: begin below
    this.#f = f;
    if (this.#prior.good >= f.bad) this.#prior = unknown();
    this.#settle();
  }

  /** Ends the search when the bracket is narrow enough. */
  #settle(): void {
    this.#settled = this.#end <= Math.max(this.#f.good, this.#c.min) * this.#c.precision;
  }

  /**
   * Has what was found probed again once it is old: first whether it still
   * holds, then whether more would do.
   */
  stale(now: number): boolean {
    if (!this.#settled || now - this.#f.at < this.#c.fresh) return false;
    this.#prior = this.#f;
    this.#f = unknown();
    this.#fails = [];
    this.#settled = false;
    return true;
  }
}
