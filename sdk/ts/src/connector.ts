import { Alarm, backOff, type Clock } from './clock.js';
import type { Entry } from './store/store.js';
import type { ClosedError, ConnectionState, EndCode } from './types.js';
import { type Connection, type End, type Go, type Login, lost, type Owner, type Way } from './way.js';

/** Whom a Connector connects: besides, its end hears what the connection tells. */
export interface ConnectorOwner extends Omit<Owner, 'ended'> {
  /** What the next connection is to say when it begins. */
  login(): Promise<Login>;
  /** Whether another attempt can bring another token. */
  renews(): boolean;
  /** The name of the way that worked last on this network. */
  worked(): string | undefined;
  /** Keeps that a way works on this network. */
  remember(way: Way['name']): void;
  become(s: ConnectionState): void;
  /** A connection is gone, and this is what it did not answer; without an end it was let go of. */
  gone(unanswered: Entry[], end?: End): void;
  /** The server does not want us back. */
  unwanted(end: End): void;
}

const longestWait = 20_000; // between attempts
const longestWaitBackground = 120_000;
const shortLife = 10_000; // of a connection that something on the way has cut
const deafLife = 60_000; // of one that something on the way has let go deaf
const shortLives = 3; // in a row, before another way is tried
const meeting = 10_000; // in which a connection that we gave up may still reach the server
const firstKnock = 5_000; // for a better way, while on a worse one
const lastKnock = 600_000;
const quickAnswer = 2_500; // to whether a connection has outlived a change

/**
 * Keeps one connection, by the best way that the network allows: it tries the
 * ways in their order, first the one that worked last on this network; waits
 * when none is open; and while it is on a worse one looks for a better.
 */
export class Connector {
  readonly #ways: Way[];
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #owner: ConnectorOwner;
  readonly #alarm: Alarm; // the next attempt
  readonly #knock: Alarm; // the next look for a better way
  readonly #proven: Alarm; // when a better way has held
  #state: ConnectionState = { state: 'connecting' };
  #connection: Connection | undefined;
  #era = 0; // of the connection; what an older one says is not heard
  #way = 0; // index of the one in use or tried
  #round: number[] = []; // ways to be tried before the next wait
  #online = false;
  #since = 0;
  #gaveUp: number; // when a connection ended of which the server may know no end
  #shortLives = 0;
  #better = false; // the connection was found by looking for a better way
  #shun: number | undefined; // the way to be tried last
  #tries = 0;
  #knocks = 0;
  #background = false;
  #look: (() => void) | undefined; // for a better way, under way: gives it up
  #begun = false;
  #ended = false;

  /** Random gives numbers in [0, 1). */
  constructor(ways: Way[], clock: Clock, random: () => number, owner: ConnectorOwner) {
    this.#ways = ways;
    this.#clock = clock;
    this.#gaveUp = clock.now(); // by the program before this one
    this.#random = random;
    this.#owner = owner;
    this.#alarm = new Alarm(clock, () => this.#attempt());
    this.#knock = new Alarm(clock, () => this.#tryBetter());
    this.#proven = new Alarm(clock, () => this.#remember());
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** The connection, which may still be greeting. */
  get connection(): Connection | undefined {
    return this.#connection;
  }

  /** Whether it is logged in. */
  get online(): boolean {
    return this.#online;
  }

  /** The way in use or tried. */
  get way(): Way {
    return this.#ways[this.#way]!;
  }

  #become(s: ConnectionState): void {
    this.#state = s;
    this.#owner.become(s);
  }

  /** Something is to be waited for before it can begin. */
  wait(reason: NonNullable<ConnectionState['reason']>): void {
    if (!this.#ended) this.#become({ state: 'waiting', reason });
  }

  begin(): void {
    this.#begun = true;
    this.#attempt();
  }

  /** Begins a round over all ways, the one that worked last on this network first. */
  #attempt(): void {
    if (this.#ended) return;
    this.#alarm.stop();
    const all = this.#ways.map((_, i) => i);
    const best = this.#ways.findIndex((w) => w.name === this.#owner.worked());
    this.#round = best > 0 ? [best, ...all.filter((i) => i !== best)] : all;
    if (this.#shun !== undefined) this.#round = [...this.#round.filter((i) => i !== this.#shun), this.#shun];
    this.#shun = undefined;
    void this.#try();
  }

  async #try(): Promise<void> {
    const way = this.#round.shift();
    if (way === undefined || this.#ended) return;
    const era = ++this.#era;
    this.#way = way;
    this.#online = this.#better = false;
    this.#become({ state: 'connecting', way: this.way.name });
    let login: Login;
    try {
      login = await this.#owner.login();
    } catch (e) {
      if (era !== this.#era) return;
      this.#round = [];
      this.#finish({ ...lost(String(e)), code: 'token' }, []);
      return;
    }
    if (era === this.#era) this.#connection = this.way.open(login, this.#ears(era));
  }

  /** What a connection of an era tells, as long as it is the one. */
  #ears(era: number): Owner {
    const o = this.#owner;
    const live = () => era === this.#era;
    return {
      welcomed: (w) => (live() ? o.welcomed(w) : undefined),
      message: (m) => live() && o.message(m),
      gap: (to) => live() && o.gap(to),
      signalled: (s) => live() && o.signalled(s),
      devices: (list) => live() && o.devices(list),
      take: () => (live() ? o.take() : undefined),
      stored: (e, seq, duplicate) => o.stored(e, seq, duplicate),
      refused: (e, code, text) => o.refused(e, code, text),
      survived: (silence) => live() && o.survived(silence),
      renewed: (expires) => live() && o.renewed(expires),
      ended: (end, unanswered) => (live() ? this.#finish(end, unanswered) : o.gone(unanswered)),
      trace: (line) => o.trace(line),
    };
  }

  /** The connection is the one that we want: we are online. */
  admit(): void {
    const now = this.#clock.now();
    this.#online = true;
    this.#since = now;
    this.#tries = 0;
    this.#round = [];
    if (this.#better) this.#proven.set(now + shortLife);
    else this.#remember();
    this.#knockLater();
    this.#become({ state: 'online', way: this.way.name });
  }

  #remember(): void {
    if (this.#online) this.#owner.remember(this.way.name);
  }

  /** Gives the connection up, and comes back. */
  lose(end: End): void {
    this.#round = [];
    this.#finish(end, this.#connection?.drop() ?? []);
  }

  /** The device has changed networks, or may have: other if that is certain. */
  networkChanged(other: boolean): void {
    if (!this.#begun || this.#ended) return;
    this.#tries = this.#knocks = this.#shortLives = 0;
    if (this.#state.state === 'waiting') {
      this.#attempt();
    } else if (this.#connection && (other || !this.#online)) {
      this.lose({ ...lost('the network has changed'), code: 'network' });
    } else {
      this.#connection?.check(quickAnswer);
      if (this.#online && this.#way > 0) this.#tryBetter();
    }
  }

  /** In the background it comes back more slowly and looks for nothing better; on leaving it, it looks at once. */
  background(b: boolean): void {
    this.#background = b;
    if (!this.#begun || this.#ended) return;
    if (b) {
      this.#knock.stop();
      return;
    }
    this.#tries = 0;
    if (this.#state.state === 'waiting' && this.#state.reason?.code !== 'draining') this.#attempt();
    else this.#connection?.check(quickAnswer);
    this.#knockLater();
  }

  /** Ends for good, with a goodbye if there is somebody to say it to. */
  async end(why: ClosedError): Promise<void> {
    const c = this.#forget();
    for (const a of [this.#alarm, this.#knock, this.#proven]) a.stop();
    this.#ended = true;
    this.#online = false;
    this.#become({ state: 'closed', reason: { code: why.code, text: why.text } });
    await c?.close();
  }

  /** Lets go of the connection: what it says is not heard any more. */
  #forget(): Connection | undefined {
    const c = this.#connection;
    this.#connection = undefined;
    this.#era++;
    this.#look?.();
    this.#look = undefined;
    return c;
  }

  /** A connection, or an attempt at one, is over. */
  #finish(end: End, unanswered: Entry[]): void {
    this.#forget();
    this.#owner.gone(unanswered, end);
    for (const a of [this.#knock, this.#proven]) a.stop();
    if (this.#ended) return;
    const now = this.#clock.now();
    if (end.told && this.#final(end, now)) return this.#owner.unwanted(end);
    if (!end.told) this.#gaveUp = now;
    if (!this.#online && this.#round.length > 0 && !end.told) {
      void this.#try(); // the next way, at once
      return;
    }
    const back = this.#online && this.#lived(end, now);
    let wait = backOff(this.#tries, this.#background ? longestWaitBackground : longestWait, this.#random());
    if (end.told) wait += end.back ?? 0;
    if (end.code === 'network' || end.code === 'place' || back || (end.unheard && this.#online)) wait = 0;
    if (!this.#online) this.#tries++;
    this.#online = false;
    this.#alarm.set(now + wait); // first: who is told may want it sooner
    this.#become({ state: 'waiting', again: wait, way: this.way.name, reason: { code: end.code as EndCode, text: end.text } });
  }

  /** Whether there is no use in coming back. */
  #final(end: End, now: number): boolean {
    if (end.code === 'expired') return !this.#owner.renews();
    if (end.code === 'replaced' && now - this.#gaveUp < meeting) {
      // It was by a connection that we gave up, which came in after this one.
      this.#gaveUp = -Infinity; // if it is again, it is not
      return false;
    }
    return end.back === undefined;
  }

  /** What the end of a connection says of its way. True: back to the one that did hold. */
  #lived(end: End, now: number): boolean {
    const short = !end.told && !end.due && end.code === 'lost' && now - this.#since < (end.unheard ? deafLife : shortLife);
    const back = short && this.#better;
    this.#shortLives = short && !back ? this.#shortLives + 1 : 0;
    if (back || this.#shortLives >= shortLives) {
      this.#shun = this.#way;
      this.#shortLives = 0;
    }
    return back;
  }

  // Better ways.

  #knockLater(): void {
    if (!this.#online || this.#way === 0 || this.#background) return;
    this.#knock.set(this.#clock.now() + Math.min(firstKnock * 2 ** this.#knocks, lastKnock));
  }

  /** Looks whether a better way is open, and changes over if one is. */
  #tryBetter(at = 0): void {
    this.#look?.();
    this.#look = undefined;
    const way = this.#ways[at];
    if (!way?.knock || at >= this.#way) {
      this.#knocks++;
      this.#knockLater();
      return;
    }
    this.#look = way.knock((go) => {
      if (!go) return this.#tryBetter(at + 1);
      this.#knocks++; // if it fails later, the next knock is later
      void this.#changeOver(at, go);
    });
  }

  async #changeOver(at: number, go: Go): Promise<void> {
    const look = this.#look;
    const login = await this.#owner.login().catch(() => undefined);
    if (look !== this.#look) return; // it was given up
    if (!login) {
      look?.();
      this.#look = undefined;
      return this.#knockLater();
    }
    this.#look = undefined;
    this.#owner.gone(this.#forget()?.drop() ?? []);
    this.#gaveUp = this.#clock.now();
    this.#round = [this.#way]; // back to it, if the better one does not hold
    this.#way = at;
    this.#online = false;
    this.#better = true;
    this.#become({ state: 'connecting', way: this.way.name });
    this.#connection = go(login, this.#ears(this.#era));
  }
}
