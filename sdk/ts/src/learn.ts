// Finds out how long a network's NAT remembers an idle connection, without I/O
// and without a clock of its own. All times are milliseconds. It is the Go
// SDK's keepalive/learn again, rule by rule: both run the same traces.
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
// one, where the search has come to, is tried again. A change of network, or a
// restart of the server or the NAT, never counts, nor does a reset of the live
// connection. A probe that ends in a reset twice ends the search there and
// takes nothing away: shorter silences are tried, and what they find holds.

/** What is known about one network. */
export interface Finding {
  /** The longest silence that survived; zero if nothing is known. */
  good: number;
  /** The shortest silence that did not, or that ended in resets; zero if none is known. */
  bad: number;
  /** When this was last confirmed. */
  at: number;
}

/**
 * How a silence ended. "silent": no answer came, and the network is there,
 * since a new connection works. "reset": what was said after the silence was
 * answered with a reset, and the network is there: a NAT may say so of what it
 * has forgotten, a server or a proxy says so of what it has ended. "unrelated":
 * it says nothing about the NAT.
 */
export type Outcome = 'survived' | 'silent' | 'reset' | 'unrelated';

export const bounds = {
  /** The shortest heartbeat ever used, believed to be safe everywhere. */
  min: 15_000,
  /** The longest worth having. */
  max: 30 * 60_000,
  /** The part of the longest silence known to survive that is given away for safety, and never less than 250 ms. */
  margin: 0.025,
  /** The ratio of the ends of the bracket at which probing stops. */
  precision: 1.08,
  /** How many failures at a silence, or at shorter ones, count as the NAT's. */
  confirm: 2,
  /** How long a finding is believed before it is probed again. */
  fresh: 7 * 24 * 3600_000,
};

export type Bounds = typeof bounds;

// A last packet that was lost, or whose acknowledgement was, is sent again a
// retransmission timeout later, which on Linux is 200 ms, and the NAT sees it:
// by so much a silence may have been shorter than it looked.
const resent = 250;

export const unknown = (): Finding => ({ good: 0, bad: 0, at: 0 });

/** Whole milliseconds, as the wire has them: what was asked for and what came of it must meet. */
const whole = (f: Finding): Finding => ({ good: Math.floor(f.good), bad: Math.floor(f.bad), at: f.at });

/** Silences that have ended badly, the shortest first: as many as are of interest. */
class Strikes {
  #of: number[] = [];

  get shortest(): number {
    return this.#of[0] ?? Infinity;
  }

  /**
   * Takes note of one. It returns the shortest silence that n speak against,
   * and then keeps those that are shorter still; undefined is none.
   */
  add(silence: number, n: number): number | undefined {
    this.#of = [...this.#of, silence].sort((a, b) => a - b);
    const against = this.#of[n - 1];
    if (against !== undefined) this.#of = this.#of.filter((d) => d < against);
    return against;
  }

  /** Forgets those that a silence of that length shows to be wrong. */
  survived(silence: number): void {
    this.#of = this.#of.filter((d) => d > silence);
  }
}

/** Learns about one network. */
export class Learner {
  readonly #c: Bounds;
  #f = unknown();
  #prior: Finding; // what others found; not yet confirmed here
  #fails = new Strikes();
  #lastFail = -Infinity; // when a silence failed last
  #resets = new Strikes();
  #probes = 0;
  #settled = false;

  /**
   * Starts from what it found itself before, or else from prior, what others
   * found on the same network.
   */
  constructor(own: Finding, prior: Finding, now: number, c: Partial<Bounds> = {}) {
    own = whole(own);
    this.#c = { ...bounds, ...c };
    this.#prior = whole(prior);
    if (own.good > 0 && now - own.at < this.#c.fresh) {
      this.#f = own;
      this.#settle();
    } else if (own.good > 0 && this.#prior.good === 0) {
      this.#prior = own; // old, but a better place to start than nowhere
    }
  }

  /** How long the live connection may be silent. */
  get interval(): number {
    const good = Math.max(this.#f.good, this.#c.min);
    return Math.max(this.#c.min, Math.floor(good - Math.max(good * this.#c.margin, resent)));
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
    const once = this.#fails.shortest;
    const p = this.#prior.good;
    if (p > this.#f.good && (this.#f.bad === 0 || p < this.#f.bad) && p < once) return Math.min(p, this.#c.max);
    const lo = Math.max(this.#f.good, this.#c.min);
    const hi = Math.min(once, this.#resets.shortest, this.#end);
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
  ended(silence: number, how: Outcome, now: number): void {
    silence = Math.floor(silence);
    if (how === 'survived') this.#survived(silence, now);
    if (how === 'silent') this.#silent(silence, now);
    if (how === 'reset') this.#reset(silence, now);
  }

  /** A reset says nothing about shorter silences, and so nothing against what is known to be good. */
  #reset(silence: number, now: number): void {
    if (silence <= Math.max(this.#f.good, this.#c.min) || this.#settled) return;
    this.#probes++;
    const against = this.#resets.add(silence, this.#c.confirm);
    if (against !== undefined) this.#bad(against, now);
  }

  #survived(silence: number, now: number): void {
    this.#fails.survived(silence); // what failed there was not the NAT
    this.#resets.survived(silence);
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

  #silent(silence: number, now: number): void {
    // What was silent when another one failed failed of the same: of a NAT that
    // was restarted, which is no confirmation.
    if (this.#fails.shortest < Infinity && now - silence < this.#lastFail) return;
    this.#lastFail = now;
    this.#probes++;
    const against = this.#fails.add(silence, this.#c.confirm);
    if (against !== undefined) return this.#bad(against, now);
    // It must be looked into, also when all seemed known.
    this.#settled = this.#settled && this.#f.bad > 0 && silence >= this.#f.bad;
  }

  /** A silence has failed as often as it takes. */
  #bad(silence: number, now: number): void {
    const f = { ...this.#f, at: now };
    if (f.bad === 0 || silence < f.bad) f.bad = silence;
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
   * Has what was found looked into again once it is old. That the good silence
   * holds each heartbeat shows. Of the bad one it is known no more than that it
   * failed once: it is tried again, and fails, or the search goes on above it.
   */
  stale(now: number): boolean {
    if (!this.#settled || now - this.#f.at < this.#c.fresh) return false;
    this.#fails = new Strikes();
    this.#resets = new Strikes();
    if (this.#f.bad > 0) {
      for (const s of [this.#fails, this.#resets]) {
        for (let n = 1; n < this.#c.confirm; n++) s.add(this.#f.bad, Infinity);
      }
    }
    this.#f = { ...this.#f, bad: 0 };
    this.#settled = false;
    return true;
  }
}
