import { Alarm, backOff, type Clock } from './clock.js';
import { again } from './codec/codes.js';
import { Heartbeats } from './heartbeat.js';
import { type Handler, Inbox } from './inbox.js';
import { Outbox } from './outbox.js';
import { Presence } from './presence.js';
import { Prober } from './prober.js';
import type { Entry, State, Store } from './store/store.js';
import { ClosedError, type ConnectionState, type Device, type Draft, type Events, OfflineError, type Receipt, RefusedError } from './types.js';
import { type Connection, type End, type Login, lost, type Owner, type Way, type Welcomed } from './way.js';

/** A token, or what gives a fresh one; or a name and a password. */
export type Credentials = { token: string | (() => Promise<string>) } | { user: string; password: string };

export interface ClientOptions {
  credentials: Credentials;
  device: string;
  network: string;
  store: Store;
  /** Whether a user who asks may know that this device is online. */
  showTo?: (address: string) => boolean;
  /** In the background, for how many milliseconds the server may hold messages that can wait; not at all if zero. */
  hold?: number;
  /** Whether those of normal urgency can wait, too. */
  holdNormal?: boolean;
  trace: ((line: string) => void) | undefined;
}

/** What a client needs of the world. */
export interface World {
  ways: Way[];
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  /** What the ids of this client's messages begin with. */
  prefix: string;
}

const longestHold = 86_400_000; // more than a server allows
const longestWait = 20_000; // between attempts
const longestWaitBackground = 120_000;
const shortLife = 10_000; // of a connection that something on the way has cut
const shortLives = 3; // in a row, before another way is tried
const firstKnock = 5_000; // for a better way, while on a worse one
const lastKnock = 600_000;
const quickAnswer = 2_500; // to whether a connection has outlived a change
const refusedWait = 5_000; // before what could not be stored is sent again

/** One device of a user, connected as well as the network allows. */
export class Client {
  readonly #o: ClientOptions;
  readonly #w: World;
  readonly #listeners = new Map<string, Set<(e: never) => void>>();
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #alarm: Alarm;
  readonly #knock: Alarm;
  readonly #renewal: Alarm;
  readonly #proven: Alarm; // when a better way has held
  readonly #prober: Prober;
  readonly #presence: Presence;
  readonly #retry: Alarm;
  readonly #loaded: Promise<void>;
  #beats: Heartbeats;
  #kept: State = {};
  #state: ConnectionState = { state: 'connecting' };
  #connection: Connection | undefined;
  #era = 0; // of the connection; what an older one says is not heard
  #way = 0; // index of the one in use or tried
  #round: number[] = []; // ways to be tried before the next wait
  #online = false;
  #since = 0;
  #shortLives = 0;
  #better = false; // the connection was found by looking for a better way
  #shun: number | undefined; // the way to be tried last
  #tries = 0;
  #knocks = 0;
  #sure = false; // the stored place is of this account
  #login = ''; // what the credentials say of whose they are
  #network: string;
  #background = false;
  #interval = 0; // agreed, between heartbeats
  #asks: { answer: (list: Device[]) => void; fail: (e: Error) => void }[] = []; // for devices
  #refusals: Entry[] = []; // what could not be stored at present
  #last = 0; // number of the last id
  #ahead = 0; // the server's clock, by so many milliseconds
  #closed: ClosedError | undefined;

  constructor(o: ClientOptions, w: World) {
    this.#o = o;
    this.#w = w;
    this.#network = o.network;
    this.#outbox = new Outbox(o.store);
    this.#alarm = new Alarm(w.clock, () => this.#attempt());
    this.#knock = new Alarm(w.clock, () => this.#tryBetter());
    this.#retry = new Alarm(w.clock, () => {
      this.#outbox.giveBack(this.#refusals.splice(0));
      this.#connection?.work();
    });
    this.#prober = new Prober(w.clock, {
      beats: () => this.#beats,
      login: () => this.#credentials(),
      learned: () => {
        this.#keepSoon({ findings: this.#beats.findings });
        this.#speak();
      },
    });
    this.#presence = new Presence((to, kind) => this.signal(to, kind), o.showTo ?? (() => false));
    this.#proven = new Alarm(w.clock, () => this.#remember());
    this.#renewal = new Alarm(w.clock, () => void this.#renew());
    this.#beats = new Heartbeats({}, w.clock.now());
    this.#inbox = new Inbox(
      {
        save: (place) => this.#keep({ place }),
        handled: (place, more) => this.#connection?.handled(place, more),
        gap: (after, before) => this.#emit('gap', { after, before }),
        failed: (e) => this.#emit('error', e),
      },
      w.clock,
    );
    this.#loaded = this.#load();
    this.#loaded.then(() => this.#attempt()).catch((e: unknown) => this.#close(new ClosedError('store', String(e))));
  }

  /** How it is connected now. */
  get state(): ConnectionState {
    return this.#state;
  }

  /** The account's address, once it has been connected. */
  get address(): string | undefined {
    return this.#kept.address;
  }

  /** How many messages are not known to be stored yet. */
  get pending(): number {
    return this.#outbox.size;
  }

  /** Listens to an event. The result stops it. */
  on<K extends keyof Events>(event: K, f: (e: Events[K]) => void): () => void {
    let set = this.#listeners.get(event);
    if (!set) this.#listeners.set(event, (set = new Set()));
    set.add(f as (e: never) => void);
    return () => set.delete(f as (e: never) => void);
  }

  /**
   * Sends a message. The promise resolves when the server has it on disk. Until
   * then the message is in the store: it is sent when there is a connection,
   * also after a restart of the program. The promise is rejected with a
   * RefusedError if the server will not store it, or with a ClosedError if
   * the client is closed before, in which case the next client sends it.
   */
  async send(d: Draft): Promise<Receipt> {
    const e = this.#entry(d);
    await this.#loaded;
    if (this.#closed) throw this.#closed;
    if (this.#outbox.has(e.id)) throw new RangeError(`a message with the id ${e.id} is being sent`);
    const put = this.#o.store.put(e);
    const receipt = put.then(() => {
      if (this.#closed) throw this.#closed;
      const r = this.#outbox.add(e);
      this.#connection?.work();
      return r;
    });
    return receipt;
  }

  #entry(d: Draft): Entry {
    if (typeof d.to !== 'string' || d.to === '') throw new TypeError('a message needs a recipient');
    if (d.body !== undefined && d.data !== undefined) throw new TypeError('a message has either body or data');
    if (d.expires !== undefined && !(d.expires > 0)) throw new RangeError('expires is milliseconds, more than none');
    const type = d.type ?? (d.data === undefined ? '' : 'application/octet-stream');
    return {
      id: d.id ?? `${this.#w.prefix}.${++this.#last}`, to: d.to, data: d.data?.slice() ?? new TextEncoder().encode(d.body ?? ''),
      type: type === 'text/plain; charset=utf-8' ? '' : type, urgency: d.urgency ?? 'normal', attrs: d.attrs ?? [],
      expires: d.expires === undefined ? 0 : Math.ceil(this.#w.clock.now() + d.expires),
    };
  }

  /**
   * Handles messages, one after another, in order. A message is acknowledged
   * when the promise of its handler has resolved: by then the application must
   * have stored it, for it will not come again. If the handler throws it is
   * called again with the same message, after a while.
   */
  onMessage(h: Handler): void {
    this.#inbox.handle(h);
  }

  /**
   * Says a word of the moment to a user, or to one of his devices
   * ("bob/phone"): that this one is "composing", "paused", "active",
   * "inactive" or "gone", or something of the application's own. It is not
   * repeated: without a connection it is lost. False says that it is lost
   * already. Kind has at most 64 bytes and data at most 1024; the server takes
   * five in a second.
   */
  signal(to: string, kind: string, data?: Uint8Array): boolean {
    return (this.#online && this.#connection?.signal(to, kind, data ?? new Uint8Array(0))) || false;
  }

  /**
   * The devices of the account, the one seen last first, this one too. The
   * promise is rejected with an OfflineError without a long connection.
   */
  devices(): Promise<Device[]> {
    return this.#ask('');
  }

  /**
   * Removes a device of the account, and lists those that are left. The server
   * ends its connection and forgets its place; it can come back, as a new one,
   * as long as its password or token is good.
   */
  forget(device: string): Promise<Device[]> {
    if (device === '') throw new TypeError('forget which device?');
    return this.#ask(device);
  }

  #ask(forget: string): Promise<Device[]> {
    return new Promise((answer, fail) => {
      if (this.#closed) return fail(this.#closed);
      if (!this.#online || !this.#connection?.devices(forget)) return fail(new OfflineError('there is no long connection'));
      this.#asks.push({ answer, fail });
    });
  }

  /** Tells a user that this device is online, now and after each reconnect; when it is gone the server tells him that. */
  show(to: string): void {
    this.#presence.show(to);
  }

  /** Tells a user that this device is offline, and no more than that. */
  hide(to: string): void {
    this.#presence.hide(to);
  }

  /** Whether a user has said that he is online on any device, since this client was connected. */
  isOnline(address: string): boolean {
    return this.#presence.isOnline(address);
  }

  /**
   * The device has changed networks, or may have: look now. Name tells the
   * network from others, in any words; what is learned is kept by it.
   */
  networkChanged(name?: string): void {
    if (this.#closed) return;
    const other = name !== undefined && name !== this.#network;
    this.#network = name ?? this.#network;
    this.#beats.on(this.#network, this.#w.clock.now());
    this.#tries = this.#knocks = this.#shortLives = 0;
    if (this.#state.state === 'waiting') {
      this.#attempt();
    } else if (other && this.#connection) {
      this.#lost({ ...lost('the network has changed'), code: 'network' });
    } else {
      this.#connection?.check(quickAnswer);
      if (this.#online && this.#way > 0) this.#tryBetter();
    }
  }

  /**
   * In the background the client tries out nothing and comes back more slowly,
   * messages that can wait do (Options.hold), and no signals come; when it leaves the background it looks at once whether it is still
   * connected.
   */
  setBackground(b: boolean): void {
    if (this.#closed || b === this.#background) return;
    this.#background = b;
    this.#beats.background(b);
    if (this.#online) this.#hold();
    if (b) {
      this.#knock.stop();
      this.#prober.stop();
      return;
    }
    this.#tries = 0;
    if (this.#state.state === 'waiting' && this.#state.reason?.code !== 'draining') this.#attempt();
    else this.#connection?.check(quickAnswer);
    this.#knockLater();
    this.#speak();
  }

  /** Tells the server whether it may hold messages. */
  #hold(): void {
    const hold = this.#o.hold ?? longestHold;
    if (hold <= 0) return;
    this.#connection?.set(this.#background ? { hold, ...(this.#o.holdNormal ? { normal: 1 } : {}) } : { hold: 0 });
  }

  /**
   * Says goodbye and disconnects. What was not sent stays in the store for the
   * next client.
   */
  async close(): Promise<void> {
    const c = this.#connection;
    this.#connection = undefined;
    this.#era++;
    await c?.close();
    await this.#close(new ClosedError('done'));
  }

  async #close(why: ClosedError): Promise<void> {
    if (this.#closed) return;
    this.#closed = why;
    this.#era++;
    for (const a of [this.#alarm, this.#knock, this.#renewal, this.#retry, this.#proven]) a.stop();
    this.#prober.stop();
    this.#connection?.drop();
    this.#connection = undefined;
    this.#unask();
    this.#inbox.close();
    this.#become({ state: 'closed', reason: { code: why.code, text: why.message } });
    this.#outbox.abandon(why);
    await this.#o.store.close().catch((e: unknown) => this.#emit('error', e));
  }

  #emit<K extends keyof Events>(event: K, e: Events[K]): void {
    for (const f of this.#listeners.get(event) ?? []) {
      try {
        (f as (e: Events[K]) => void)(e);
      } catch (thrown) {
        queueMicrotask(() => {
          throw thrown; // the application's own; it is to be seen, and not to stop us
        });
      }
    }
  }

  #become(s: ConnectionState): void {
    this.#state = s;
    this.#emit('state', s);
  }

  async #load(): Promise<void> {
    const { state, outbox } = await this.#o.store.load();
    this.#kept = state;
    this.#outbox.restore(outbox);
    this.#inbox.begin(state.place);
    this.#beats = new Heartbeats(state.findings ?? {}, this.#w.clock.now());
    this.#beats.on(this.#network, this.#w.clock.now());
    this.#beats.background(this.#background);
  }

  #keep(change: Partial<State>): Promise<void> {
    this.#kept = { ...this.#kept, ...change };
    return this.#o.store.save(this.#kept);
  }

  #keepSoon(change: Partial<State>): void {
    this.#keep(change).catch((e: unknown) => this.#emit('error', e));
  }

  // Attempts.

  /** Begins a round over all ways, the one that worked last on this network first. */
  #attempt(): void {
    if (this.#closed) return;
    this.#alarm.stop();
    const all = this.#w.ways.map((_, i) => i);
    const best = this.#w.ways.findIndex((w) => w.name === this.#kept.ways?.[this.#network]);
    this.#round = best > 0 ? [best, ...all.filter((i) => i !== best)] : all;
    if (this.#shun !== undefined) this.#round = [...this.#round.filter((i) => i !== this.#shun), this.#shun];
    this.#shun = undefined;
    void this.#try();
  }

  async #try(): Promise<void> {
    const way = this.#round.shift();
    if (way === undefined || this.#closed) return;
    const era = ++this.#era;
    this.#way = way;
    this.#online = this.#better = false;
    this.#become({ state: 'connecting', way: this.#w.ways[way]!.name });
    let login: Login;
    try {
      login = await this.#credentials();
    } catch (e) {
      if (era !== this.#era) return;
      this.#round = [];
      this.#ended({ ...lost(String(e)), code: 'token' }, []);
      return;
    }
    if (era !== this.#era) return;
    this.#connection = this.#w.ways[way]!.open(login, this.#owner(era));
  }

  async #credentials(): Promise<Login> {
    const c = this.#o.credentials;
    const login: Login = {};
    if ('user' in c) {
      login.user = c.user;
      login.password = c.password;
      this.#login = `user ${c.user}`;
    } else {
      login.token = typeof c.token === 'string' ? c.token : await c.token();
      const sub = subject(login.token);
      this.#login = sub === undefined ? '' : `token of ${sub}`;
    }
    if (this.#o.device !== '') login.device = this.#o.device;
    if (this.#network !== '') login.network = this.#network;
    const wish = this.#beats.wish;
    if (wish !== undefined) login.interval = wish;
    // A place of another account would make the server pass over messages.
    const sure = this.#sure || (this.#login !== '' && this.#login === this.#kept.login);
    if (sure && this.#inbox.place !== undefined) login.after = this.#inbox.place;
    return login;
  }

  /** The connection is gone, and the answers with it. */
  #unask(): void {
    for (const a of this.#asks.splice(0)) a.fail(new OfflineError('the connection broke before the answer'));
  }

  #owner(era: number): Owner {
    const live = () => era === this.#era;
    return {
      welcomed: (w) => (live() ? this.#welcomed(w) : undefined),
      message: (m) => live() && this.#inbox.push(m),
      gap: (to) => live() && this.#inbox.gap(to),
      take: () => (live() ? this.#take() : undefined),
      stored: (e, seq, duplicate) => this.#stored({ id: e.id, seq, duplicate }),
      refused: (e, code, text) => this.#refused(e, code, text),
      devices: (list) => live() && this.#asks.shift()?.answer(list),
      signalled: (s) => {
        if (!live()) return;
        this.#presence.heard(s);
        this.#emit('signal', s);
      },
      survived: (silence) => live() && this.#survived(silence),
      renewed: (expires) => live() && this.#renewLater(expires),
      ended: (end, unanswered) => {
        if (live()) this.#ended(end, unanswered);
        else this.#outbox.giveBack(unanswered);
      },
      trace: (line) => this.#o.trace?.(line()),
    };
  }

  #welcomed(w: Welcomed): number | undefined {
    const now = this.#w.clock.now();
    if (w.address !== '' && this.#kept.address !== undefined && this.#kept.address !== w.address) {
      const c = this.#connection;
      this.#connection = undefined;
      this.#era++; // it is given nothing to send in another's name
      void c?.close();
      void this.#close(new ClosedError('wrong-account', `the store is of ${this.#kept.address}, and this is ${w.address}`));
      return undefined;
    }
    const place = this.#inbox.place;
    const knew = this.#sure || (this.#login !== '' && this.#login === this.#kept.login);
    this.#sure = true;
    if (w.cursor !== undefined) {
      if (place === undefined) {
        this.#inbox.begin(w.cursor);
      } else if (w.cursor > place && !knew) {
        // The server believes that we have more than we do: begin again, where we are.
        this.#lost({ ...lost('begin at the stored place'), code: 'place' });
        return undefined;
      } else if (w.cursor < place && knew) {
        this.#inbox.begin(w.cursor); // the server has lost what was behind it
        this.#keepSoon({ place: w.cursor });
      }
    }
    if (w.address === '') return undefined; // no new connection
    this.#online = true;
    this.#since = now;
    this.#tries = 0;
    this.#round = [];
    this.#beats.helped(w.helps ?? false, { good: w.good ?? 0, bad: w.bad ?? 0, at: now }, now);
    this.#beats.alive(now);
    this.#interval = w.interval ?? 0;
    const name = this.#w.ways[this.#way]!.name;
    this.#keepSoon({ login: this.#login, address: w.address, findings: this.#beats.findings });
    if (this.#better) this.#proven.set(now + shortLife);
    else this.#remember();
    if (w.expires !== undefined) {
      this.#ahead = (w.time ?? now) - now;
      this.#renewLater(w.expires);
    }
    this.#knockLater();
    this.#become({ state: 'online', way: name });
    queueMicrotask(() => this.#speak());
    queueMicrotask(() => this.#presence.begin());
    if (this.#background) queueMicrotask(() => this.#hold());
    if (place !== undefined) queueMicrotask(() => this.#connection?.handled(this.#inbox.place ?? 0, false));
    return place;
  }

  /** Keeps that the way works on this network. */
  #remember(): void {
    if (this.#online) this.#keepSoon({ ways: { ...this.#kept.ways, [this.#network]: this.#w.ways[this.#way]!.name } });
  }

  #take(): Entry | undefined {
    const now = this.#w.clock.now();
    for (let e = this.#outbox.take(); e; e = this.#outbox.take()) {
      if (e.expires === 0 || e.expires > now) return e;
      this.#refused(e, 'expired', 'it was not sent in time');
    }
    return undefined;
  }

  #stored(r: Receipt): void {
    this.#outbox.stored(r).catch((e: unknown) => this.#emit('error', e));
    this.#emit('stored', r);
  }

  #refused(e: Entry, code: string, text: string): void {
    if (again(code)) {
      this.#refusals.push(e);
      this.#retry.set(this.#w.clock.now() + refusedWait);
      return;
    }
    const error = new RefusedError(e.id, code, text);
    this.#outbox.refused(error).catch((e: unknown) => this.#emit('error', e));
    this.#emit('refused', error);
  }

  #survived(silence: number): void {
    if (!this.#beats.survived(silence, this.#w.clock.now())) return;
    this.#keepSoon({ findings: this.#beats.findings });
    queueMicrotask(() => this.#speak());
  }

  /** Speaks as often as is known to be needed, and tries out what is not known. */
  #speak(): void {
    if (!this.#online || !this.#connection) return;
    const change = this.#beats.tell();
    const wish = this.#beats.wish;
    if (wish !== undefined && wish !== this.#interval) change.interval = this.#interval = wish;
    if (Object.keys(change).length > 0) this.#connection.set(change);
    this.#prober.go(this.#w.ways[this.#way]!);
  }

  /** We give the connection up. */
  #lost(end: End): void {
    this.#round = [];
    this.#ended(end, this.#connection?.drop() ?? []);
  }

  #ended(end: End, unanswered: Entry[]): void {
    this.#era++;
    this.#unask();
    this.#prober.stop();
    this.#connection = undefined;
    this.#outbox.giveBack(unanswered);
    for (const a of [this.#knock, this.#renewal, this.#proven]) a.stop();
    if (this.#closed) return;
    const now = this.#w.clock.now();
    const fresh = end.code === 'expired' && 'token' in this.#o.credentials && typeof this.#o.credentials.token === 'function';
    if (end.told && (end.code === 'expired' ? !fresh : end.back === undefined)) {
      void this.#close(new ClosedError(end.code, end.text));
      return;
    }
    if (end.silence !== undefined) this.#beats.silent(end.silence, now);
    const reason = { code: end.code, text: end.text };
    if (!this.#online && this.#round.length > 0 && !end.told) {
      void this.#try(); // the next way, at once
      return;
    }
    let back = false; // to what did hold
    if (this.#online) {
      const short = !end.told && end.silence === undefined && end.code === 'lost' && now - this.#since < shortLife;
      back = short && this.#better;
      this.#shortLives = short && !back ? this.#shortLives + 1 : 0;
      if (back || this.#shortLives >= shortLives) {
        this.#shun = this.#way;
        this.#shortLives = 0;
      }
    }
    let wait = backOff(this.#tries, this.#background ? longestWaitBackground : longestWait, this.#w.random());
    if (end.told) wait += end.back ?? 0;
    if (end.code === 'network' || end.code === 'place' || back || (end.unheard && this.#online)) wait = 0;
    if (!this.#online) this.#tries++;
    this.#online = false;
    this.#become({ state: 'waiting', again: wait, way: this.#w.ways[this.#way]!.name, reason });
    this.#alarm.set(now + wait);
  }

  // Better ways.

  #knockLater(): void {
    if (!this.#online || this.#way === 0 || this.#background) return;
    this.#knock.set(this.#w.clock.now() + Math.min(firstKnock * 2 ** this.#knocks, lastKnock));
  }

  /** Looks whether a better way is open, and changes over if one is. */
  #tryBetter(at = 0): void {
    const era = this.#era;
    const way = this.#w.ways[at];
    if (!way?.knock || at >= this.#way) {
      this.#knocks++;
      this.#knockLater();
      return;
    }
    way.knock((go) => {
      if (era !== this.#era || this.#closed) return;
      if (!go) return this.#tryBetter(at + 1);
      this.#knocks++; // if it fails later, the next knock is later
      void this.#changeOver(at, go);
    });
  }

  async #changeOver(at: number, go: (login: Login, owner: Owner) => Connection): Promise<void> {
    const era = this.#era;
    const login = await this.#credentials().catch(() => undefined);
    if (!login || era !== this.#era) return;
    this.#era++;
    this.#unask();
    this.#prober.stop();
    this.#outbox.giveBack(this.#connection?.drop() ?? []);
    this.#round = [this.#way]; // back to it, if the better one does not hold
    this.#way = at;
    this.#online = false;
    this.#better = true;
    this.#become({ state: 'connecting', way: this.#w.ways[at]!.name });
    this.#connection = go(login, this.#owner(this.#era));
  }

  // Tokens.

  /** Brings a fresh token when the last one has used up four fifths of its time. */
  #renewLater(expires: number): void {
    if (!('token' in this.#o.credentials) || typeof this.#o.credentials.token === 'string') return;
    const now = this.#w.clock.now();
    this.#renewal.set(now + (Math.max(expires - now - this.#ahead, 1000) * 4) / 5);
  }

  async #renew(): Promise<void> {
    const c = this.#o.credentials;
    const era = this.#era;
    if (!('token' in c) || typeof c.token === 'string') return;
    try {
      const token = await c.token();
      if (era === this.#era) this.#connection?.set({ token });
    } catch (e) {
      // The server will say when the old one has ended, and then the next
      // attempt asks again.
      this.#emit('error', e);
    }
  }
}

/** Whose a token is, if it is one that says so (RFC 7519). */
function subject(token: string): string | undefined {
  try {
    const part = token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/');
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0)))) as { sub?: unknown };
    return typeof claims.sub === 'string' ? claims.sub : undefined;
  } catch {
    return undefined;
  }
}
