import { Alarm, type Clock } from './clock.js';
import { again } from './codec/codes.js';
import { Connector } from './connector.js';
import { type Credentials, Identity } from './credentials.js';
import { Emitter } from './events.js';
import { Heartbeats } from './heartbeat.js';
import { type Handler, Inbox } from './inbox.js';
import { Outbox } from './outbox.js';
import { Presence } from './presence.js';
import { Prober } from './prober.js';
import type { Entry, State, Store } from './store/store.js';
import { ClosedError, type ConnectionState, type Device, type Draft, type Events, OfflineError, type Receipt, RefusedError } from './types.js';
import { type End, type Login, lost, type Way, type Welcomed } from './way.js';

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
const refusedWait = 5_000; // before what could not be stored is sent again

/** One device of a user, connected as well as the network allows. */
export class Client {
  readonly #o: ClientOptions;
  readonly #w: World;
  readonly #events = new Emitter<Events>();
  readonly #identity: Identity;
  readonly #connector: Connector;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #prober: Prober;
  readonly #presence: Presence;
  readonly #renewal: Alarm;
  readonly #retry: Alarm;
  readonly #loaded: Promise<void>;
  #beats: Heartbeats;
  #kept: State = {};
  #sure = false; // the stored place is of this account
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
    this.#identity = new Identity(o.credentials);
    this.#connector = this.#makeConnector();
    this.#outbox = new Outbox(o.store);
    this.#inbox = new Inbox(
      {
        save: (place) => this.#keep({ place }),
        handled: (place, more) => this.#connector.connection?.handled(place, more),
        gap: (after, before) => this.#events.emit('gap', { after, before }),
        failed: (e) => this.#events.emit('error', e),
      },
      w.clock,
    );
    this.#beats = new Heartbeats({}, w.clock.now());
    this.#prober = new Prober(w.clock, {
      beats: () => this.#beats,
      login: () => this.#login(),
      learned: () => {
        this.#keepSoon({ findings: this.#beats.findings });
        this.#speak();
      },
    });
    this.#presence = new Presence((to, kind) => this.signal(to, kind), o.showTo ?? (() => false));
    this.#renewal = new Alarm(w.clock, () => void this.#renew());
    this.#retry = new Alarm(w.clock, () => {
      this.#outbox.giveBack(this.#refusals.splice(0));
      this.#connector.connection?.work();
    });
    this.#loaded = this.#load();
    this.#loaded.then(() => this.#connector.attempt()).catch((e: unknown) => this.#close(new ClosedError('store', String(e))));
  }

  #makeConnector(): Connector {
    return new Connector(this.#w.ways, this.#w.clock, this.#w.random, {
      login: () => this.#login(),
      renews: () => this.#identity.renew !== undefined,
      worked: () => this.#kept.ways?.[this.#network],
      remember: (way) => this.#keepSoon({ ways: { ...this.#kept.ways, [this.#network]: way } }),
      become: (s) => this.#events.emit('state', s),
      gone: (unanswered, end) => this.#gone(unanswered, end),
      unwanted: (end) => void this.#close(new ClosedError(end.code, end.text)),
      welcomed: (w) => this.#welcomed(w),
      message: (m) => this.#inbox.push(m),
      gap: (to) => this.#inbox.gap(to),
      signalled: (s) => {
        this.#presence.heard(s);
        this.#events.emit('signal', s);
      },
      devices: (list) => this.#asks.shift()?.answer(list),
      take: () => this.#take(),
      stored: (e, seq, duplicate) => this.#stored({ id: e.id, seq, duplicate }),
      refused: (e, code, text) => this.#refused(e, code, text),
      survived: (silence) => this.#survived(silence),
      renewed: (expires) => this.#renewLater(expires),
      trace: (line) => this.#o.trace?.(line()),
    });
  }

  /** How it is connected now. */
  get state(): ConnectionState {
    return this.#connector.state;
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
    return this.#events.on(event, f);
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
      this.#connector.connection?.work();
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
    return (this.#connector.online && this.#connector.connection?.signal(to, kind, data ?? new Uint8Array(0))) || false;
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
      if (!this.#connector.online || !this.#connector.connection?.devices(forget)) return fail(new OfflineError('there is no long connection'));
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
    this.#connector.networkChanged(other);
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
    if (this.#connector.online) this.#hold();
    if (b) this.#prober.stop();
    this.#connector.background(b);
    if (!b) this.#speak();
  }

  /** Tells the server whether it may hold messages. */
  #hold(): void {
    const hold = this.#o.hold ?? longestHold;
    if (hold <= 0) return;
    this.#connector.connection?.set(this.#background ? { hold, ...(this.#o.holdNormal ? { normal: 1 } : {}) } : { hold: 0 });
  }

  /**
   * Says goodbye and disconnects. What was not sent stays in the store for the
   * next client.
   */
  async close(): Promise<void> {
    await this.#close(new ClosedError('done'));
  }

  async #close(why: ClosedError): Promise<void> {
    if (this.#closed) return;
    this.#closed = why;
    this.#renewal.stop();
    this.#retry.stop();
    this.#prober.stop();
    this.#unask();
    this.#inbox.close();
    await this.#connector.end(why);
    this.#outbox.abandon(why);
    await this.#o.store.close().catch((e: unknown) => this.#events.emit('error', e));
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
    this.#keep(change).catch((e: unknown) => this.#events.emit('error', e));
  }

  async #login(): Promise<Login> {
    const login = await this.#identity.bring();
    if (this.#o.device !== '') login.device = this.#o.device;
    if (this.#network !== '') login.network = this.#network;
    const wish = this.#beats.wish;
    if (wish !== undefined) login.interval = wish;
    // A place of another account would make the server pass over messages.
    if (this.#known && this.#inbox.place !== undefined) login.after = this.#inbox.place;
    return login;
  }

  /** Whether the stored place is of the account that logs in. */
  get #known(): boolean {
    return this.#sure || (this.#identity.whose !== '' && this.#identity.whose === this.#kept.login);
  }

  /** The connection is gone, and the answers with it. */
  #unask(): void {
    for (const a of this.#asks.splice(0)) a.fail(new OfflineError('the connection broke before the answer'));
  }

  #gone(unanswered: Entry[], end?: End): void {
    this.#unask();
    this.#prober.stop();
    this.#renewal.stop();
    this.#outbox.giveBack(unanswered);
    if (end?.silence !== undefined) this.#beats.silent(end.silence, this.#w.clock.now());
  }

  #welcomed(w: Welcomed): number | undefined {
    const now = this.#w.clock.now();
    if (w.address !== '' && this.#kept.address !== undefined && this.#kept.address !== w.address) {
      void this.#close(new ClosedError('wrong-account', `the store is of ${this.#kept.address}, and this is ${w.address}`));
      return undefined;
    }
    const place = this.#inbox.place;
    const knew = this.#known;
    this.#sure = true;
    if (w.cursor !== undefined) {
      if (place === undefined) {
        this.#inbox.begin(w.cursor);
      } else if (w.cursor > place && !knew) {
        // The server believes that we have more than we do: begin again, where we are.
        this.#connector.lose({ ...lost('begin at the stored place'), code: 'place' });
        return undefined;
      } else if (w.cursor < place && knew) {
        this.#inbox.begin(w.cursor); // the server has lost what was behind it
        this.#keepSoon({ place: w.cursor });
      }
    }
    if (w.address === '') return undefined; // no new connection
    this.#beats.helped(w.helps ?? false, { good: w.good ?? 0, bad: w.bad ?? 0, at: now }, now);
    this.#beats.alive(now);
    this.#interval = w.interval ?? 0;
    this.#keepSoon({ login: this.#identity.whose, address: w.address, findings: this.#beats.findings });
    if (w.expires !== undefined) {
      this.#ahead = (w.time ?? now) - now;
      this.#renewLater(w.expires);
    }
    this.#connector.admit();
    queueMicrotask(() => this.#speak());
    queueMicrotask(() => this.#presence.begin());
    if (this.#background) queueMicrotask(() => this.#hold());
    if (place !== undefined) queueMicrotask(() => this.#connector.connection?.handled(this.#inbox.place ?? 0, false));
    return place;
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
    this.#outbox.stored(r).catch((e: unknown) => this.#events.emit('error', e));
    this.#events.emit('stored', r);
  }

  #refused(e: Entry, code: string, text: string): void {
    if (again(code)) {
      this.#refusals.push(e);
      this.#retry.set(this.#w.clock.now() + refusedWait);
      return;
    }
    const error = new RefusedError(e.id, code, text);
    this.#outbox.refused(error).catch((e: unknown) => this.#events.emit('error', e));
    this.#events.emit('refused', error);
  }

  #survived(silence: number): void {
    if (!this.#beats.survived(silence, this.#w.clock.now())) return;
    this.#keepSoon({ findings: this.#beats.findings });
    queueMicrotask(() => this.#speak());
  }

  /** Speaks as often as is known to be needed, and tries out what is not known. */
  #speak(): void {
    const connection = this.#connector.online ? this.#connector.connection : undefined;
    if (!connection) return;
    const change = this.#beats.tell();
    const wish = this.#beats.wish;
    if (wish !== undefined && wish !== this.#interval) change.interval = this.#interval = wish;
    if (Object.keys(change).length > 0) connection.set(change);
    this.#prober.go(this.#connector.way);
  }

  /** Brings a fresh token when the last one has used up four fifths of its time. */
  #renewLater(expires: number): void {
    if (!this.#identity.renew) return;
    const now = this.#w.clock.now();
    this.#renewal.set(now + (Math.max(expires - now - this.#ahead, 1000) * 4) / 5);
  }

  async #renew(): Promise<void> {
    const connection = this.#connector.connection;
    try {
      const token = await this.#identity.renew!();
      if (connection === this.#connector.connection) connection?.set({ token });
    } catch (e) {
      // The server will say when the old one has ended, and then the next
      // attempt asks again.
      this.#events.emit('error', e);
    }
  }
}
