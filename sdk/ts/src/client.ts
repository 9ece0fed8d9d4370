import { Connector } from './connector.js';
import { Identity, Renewal } from './credentials.js';
import { entryOf } from './draft.js';
import { Emitter } from './events.js';
import { type Handler, Inbox } from './inbox.js';
import { loop } from './loop.js';
import { Outbox } from './outbox.js';
import { Presence } from './presence.js';
import { quiet, unless } from './promises.js';
import { Pulse } from './pulse.js';
import { Questions } from './questions.js';
import { withRecent } from './recent.js';
import type { Entry, State } from './store/store.js';
import { ClosedError, type ConnectionState, type Device, type Draft, type Events, type Message, type Receipt } from './types.js';
import { Wake } from './wake.js';
import { type Connection, type End, type Login, lost, type Way, type Welcomed } from './way.js';
import type { ClientOptions, World } from './world.js';

const longestHold = 86_400_000; // more than a server allows
const goodbyeTime = 2_000; // for the application to be done with a message

/** One device of a user, connected as well as the network allows. */
export class Client {
  readonly #o: ClientOptions;
  readonly #w: World;
  readonly #events = new Emitter<Events>();
  readonly #identity: Identity;
  readonly #connector: Connector;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #pulse: Pulse;
  readonly #presence: Presence;
  readonly #questions = new Questions();
  readonly #renewal: Renewal;
  readonly #wake: Wake;
  readonly #loaded: Promise<void>;
  #kept: State = {};
  #sure = false; // the stored place is of this account
  #network: string;
  #background = false;
  #last = 0; // number of the last id
  #ahead = 0; // the server's clock, by so many milliseconds
  #closed: ClosedError | undefined;
  #over: Promise<void> | undefined;

  constructor(o: ClientOptions, w: World) {
    this.#o = o;
    this.#w = w;
    this.#network = o.network;
    this.#identity = new Identity(o.credentials, w.clock);
    this.#connector = this.#makeConnector();
    this.#outbox = new Outbox(o.store, w.clock, {
      work: () => this.#connector.connection?.work(),
      queued: (id) => this.#events.emit('queued', id),
      stored: (r) => this.#events.emit('stored', r),
      refused: (e) => this.#events.emit('refused', e),
      failed: (e) => this.#events.emit('error', e),
    });
    this.#inbox = new Inbox(
      {
        save: (place) => this.#keep({ place }),
        handled: (place, more) => this.#connector.connection?.handled(place, more),
        gap: (after, before) => this.#events.emit('gap', { after, before }),
        failed: (e) => this.#events.emit('error', e),
      },
      w.clock,
    );
    this.#pulse = new Pulse(w.clock, o.learn, {
      login: () => this.#login(),
      live: () => this.#live,
      keep: (findings) => this.#keepSoon({ findings }),
      trace: (line) => this.#trace(line),
    });
    this.#presence = new Presence(
      (to, kind) => this.signal(to, kind),
      (address) => this.#safely(() => o.showTo?.(address)) ?? false,
    );
    this.#renewal = new Renewal(w.clock, this.#identity, {
      renewed: (token) => this.#connector.connection?.set({ token }),
      failed: (e) => this.#events.emit('error', e),
    });
    this.#wake = new Wake(w.clock, () => this.networkChanged());
    this.#wake.start();
    this.#loaded = this.#load().then(
      () => this.#connector.begin(),
      (e: unknown) => void this.#close(new ClosedError('store', String(e))),
    );
  }

  #makeConnector(): Connector {
    return new Connector(this.#w.ways, this.#w.clock, this.#w.random, {
      login: () => this.#login(),
      renews: () => this.#identity.renews,
      worked: () => this.#kept.ways?.[this.#network],
      remember: (way) => this.#keepSoon({ ways: withRecent(this.#kept.ways, this.#network, way) }),
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
      devices: (list) => this.#questions.answered(list),
      take: () => this.#outbox.take(),
      stored: (e, seq, duplicate) => this.#outbox.stored(e, seq, duplicate),
      refused: (e, code, text) => this.#outbox.refused(e, code, text),
      survived: (silence) => this.#pulse.survived(silence),
      renewed: (expires) => this.#renewal.begin(expires - this.#w.clock.now() - this.#ahead),
      trace: (line) => this.#trace(line),
    });
  }

  /** The connection, once it is logged in, and its way. */
  get #live(): { connection: Connection; way: Way } | undefined {
    const { connection, online, way } = this.#connector;
    return online && connection ? { connection, way } : undefined;
  }

  /** Calls what the application has given, which may throw. */
  #safely<T>(f: () => T): T | undefined {
    try {
      return f();
    } catch (e) {
      this.#events.emit('error', e);
      return undefined;
    }
  }

  #trace(line: () => string): void {
    if (this.#o.trace) this.#safely(() => this.#o.trace?.(line()));
  }

  /** How it is connected now. */
  get state(): ConnectionState {
    return this.#connector.state;
  }

  /** Resolves when the client is connected, now or later. It is rejected with a ClosedError if the client is closed before. */
  connected(): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (this.#closed) reject(this.#closed);
        else if (this.#connector.online) resolve();
        else return;
        stop();
      };
      const stop = this.on('state', look);
      look();
    });
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
   * the client is closed before, in which case the next client sends it. With
   * a TypeError if the draft cannot be sent, a RangeError if its id is queued
   * already, or the store's own error, it was not queued. Only of a TypeError
   * does nothing but the promise tell. If the signal aborts, for instance by
   * AbortSignal.timeout, nobody waits any more, and the message stays queued.
   */
  send(d: Draft, o: { signal?: AbortSignal } = {}): Promise<Receipt> {
    if (o.signal?.aborted) return Promise.reject(o.signal.reason);
    if (this.#closed) return quiet(Promise.reject(this.#closed));
    let e: Entry;
    try {
      e = entryOf(d, () => `${this.#w.prefix}.${++this.#last}`, this.#w.clock.now());
    } catch (error) {
      return Promise.reject(error);
    }
    return quiet(unless(o.signal, this.#outbox.send(e, this.#loaded)));
  }

  /**
   * Handles messages, one after another, in order. A message is acknowledged
   * when the promise of its handler has resolved: by then the application must
   * have stored it, for it will not come again. If the handler throws it is
   * called again with the same message, after a while. There is one handler,
   * the last one given; without any, messages wait.
   */
  onMessage(h: Handler): void {
    this.#inbox.handle(h);
  }

  /**
   * The messages, for a loop instead of a handler: for await (const m of
   * client.messages()). A message is acknowledged when the loop comes round
   * for the next; one that the loop is left with comes again. The loop ends
   * when the application closes the client, and throws a ClosedError if the
   * client is closed for another reason.
   */
  messages(): AsyncGenerator<Message, void, undefined> {
    return loop(this.#inbox, { closed: () => (this.state.state === 'closed' ? this.#closed : undefined), watch: (f) => this.on('state', f) });
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
    return this.#live?.connection.signal(to, kind, data ?? new Uint8Array(0)) ?? false;
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
    if (this.#closed) return Promise.reject(this.#closed);
    return this.#questions.ask(this.#live?.connection, forget);
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
    this.#pulse.on(this.#network);
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
    if (this.#connector.online) this.#hold();
    this.#connector.background(b);
    this.#pulse.background(b);
    if (b) this.#wake.stop(); // timers are late there, and on leaving it is looked anyway
    else this.#wake.start();
  }

  /** Tells the server whether it may hold messages. */
  #hold(): void {
    const hold = this.#o.hold ?? longestHold;
    if (hold <= 0) return;
    this.#connector.connection?.set(this.#background ? { hold, ...(this.#o.holdNormal ? { normal: 1 } : {}) } : { hold: 0 });
  }

  /**
   * Says goodbye and disconnects. The message that is just being handled is
   * waited for, but not for more than two seconds: then it comes again to the
   * next client. What was not sent stays in the store for that, too.
   */
  close(): Promise<void> {
    return this.#close(new ClosedError('done'));
  }

  #close(why: ClosedError): Promise<void> {
    return (this.#over ??= this.#shut(why));
  }

  async #shut(why: ClosedError): Promise<void> {
    this.#closed = why;
    this.#renewal.stop();
    this.#wake.stop();
    this.#pulse.stop();
    if (why.code !== 'done') await this.#connector.end(why);
    await this.#inbox.close(goodbyeTime);
    if (why.code === 'done') await this.#connector.end(why); // now it can acknowledge that
    this.#questions.gone();
    this.#outbox.close(why);
    await this.#o.store.close().catch((e: unknown) => this.#events.emit('error', e));
  }

  async #load(): Promise<void> {
    const { state, outbox } = await this.#o.store.load(() => this.#connector.wait({ code: 'in-use', text: 'another page has the store' }));
    this.#kept = state;
    this.#outbox.restore(outbox);
    this.#inbox.begin(state.place);
    this.#pulse.begin(state.findings ?? {}, this.#network, this.#background);
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
    const wish = this.#pulse.wish;
    if (wish !== undefined) login.interval = wish;
    // A place of another account would make the server pass over messages.
    if (this.#known && this.#inbox.place !== undefined) login.after = this.#inbox.place;
    return login;
  }

  /** Whether the stored place is of the account that logs in. */
  get #known(): boolean {
    return this.#sure || (this.#identity.whose !== '' && this.#identity.whose === this.#kept.login);
  }

  #gone(unanswered: Entry[], end?: End): void {
    this.#questions.gone();
    this.#pulse.gone(end?.silence);
    this.#renewal.stop();
    this.#outbox.giveBack(unanswered);
  }

  #welcomed(w: Welcomed): number | undefined {
    const now = this.#w.clock.now();
    if (w.address !== '' && this.#kept.address !== undefined && this.#kept.address !== w.address) {
      void this.#close(new ClosedError('wrong-account', `the store is of ${this.#kept.address}, and this is ${w.address}`));
      return undefined;
    }
    const place = this.#inbox.place;
    this.#sure = true;
    if (w.cursor !== undefined) {
      if (place === undefined) {
        this.#inbox.begin(w.cursor);
      } else if (w.cursor > place && w.asked === undefined) {
        // The server believes that we have more than we do: begin again, where we are.
        this.#connector.lose({ ...lost('begin at the stored place'), code: 'place' });
        return undefined;
      } else if (w.asked !== undefined && w.cursor < w.asked) {
        this.#inbox.begin(w.cursor); // the server has lost what was behind it
        this.#keepSoon({ place: w.cursor });
      }
    }
    if (w.address === '') return undefined; // no new connection
    this.#pulse.welcomed(w);
    this.#keepSoon({ login: this.#identity.whose, address: w.address });
    if (w.expires !== undefined) {
      this.#ahead = (w.time ?? now) - now;
      this.#renewal.begin(w.expires - now - this.#ahead);
    }
    this.#connector.admit();
    queueMicrotask(() => this.#presence.begin());
    if (this.#background) queueMicrotask(() => this.#hold());
    if (place !== undefined) queueMicrotask(() => this.#connector.connection?.handled(this.#inbox.place ?? 0, false));
    return place;
  }
}
