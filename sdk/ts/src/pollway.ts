// The way through a proxy that lets nothing but plain HTTP pass: a request that
// the server holds until there is a message, and another for each batch that is
// sent.

import type { Clock } from './clock.js';
import { base64, draft, HttpError, type Inbox, message, type Problem, reason, refusal, type Result, Unheard } from './polljson.js';
import type { Entry } from './store/store.js';
import type { Change, Connection, Login, Owner, Way } from './way.js';

export interface PollOptions {
  /** Where the server is, without a slash at the end. */
  base: string;
  clock: Clock;
  fetch: typeof fetch;
}

const longestHold = 50; // seconds; many proxies cut at 60
const shortestHold = 1;
const grace = 15_000; // beyond what the server was asked to wait
const requestTime = 30_000;
const slower = 2; // than over a connection that is there may an answer be, which perhaps needs a new one
const batch = 50; // messages in one request
const batchBytes = 512 << 10;
const soonest = 1000; // between two empty answers
const goodbyeTime = 2_000;
const maxSaying = 4; // signals on their way

interface Request {
  body?: unknown;
  /** Milliseconds to the end of the answer. */
  time?: number;
  /** Gives it up. */
  held?: AbortSignal | undefined;
  /** It outlives the page. */
  keepalive?: boolean;
}

export class PollWay implements Way {
  readonly name = 'poll';
  readonly #o: PollOptions;

  constructor(o: PollOptions) {
    this.#o = o;
  }

  open(login: Login, owner: Owner): Connection {
    return new Poll(this.#o, login, owner);
  }
}

class Poll implements Connection {
  readonly #o: PollOptions;
  readonly #owner: Owner;
  readonly #device: string;
  #stop = new AbortController();
  #authorization: string;
  #sending: Entry[] = [];
  #busy = false; // a POST is under way
  #saying = 0; // signals that are on their way
  #open = false;
  #ended = false;
  #received = 0; // the place of the last message
  #handled = 0;
  #acked = 0;
  #wake: (() => void) | undefined;
  #held: AbortController | undefined; // the poll that is under way
  #patience: number | undefined; // for an answer at once: somebody wants to know whether the server is there
  #hold = longestHold; // how long a poll asks to be held

  constructor(o: PollOptions, login: Login, owner: Owner) {
    this.#o = o;
    this.#owner = owner;
    this.#device = login.device ?? 'http';
    this.#authorization = login.token !== undefined ? `Bearer ${login.token}` : `Basic ${base64(`${login.user}:${login.password}`)}`;
    void this.#run();
  }

  async #run(): Promise<void> {
    try {
      const { user } = await this.#request<{ user: string }>('GET', '/v1/presence');
      if (this.#ended) return;
      const place = this.#owner.welcomed({ address: user, device: this.#device });
      if (this.#ended) return;
      if (place !== undefined) await this.#ack(place);
      this.#open = true;
      this.work();
      for (let next = ''; !this.#ended; ) next = await this.#read(next);
    } catch (e) {
      this.#fail(e);
    }
  }

  /** One long poll. Next acknowledges what the last one brought. */
  async #read(next: string): Promise<string> {
    const began = this.#o.clock.now();
    const patience = this.#patience;
    this.#patience = undefined;
    const hold = patience === undefined ? this.#hold : 0;
    const query = new URLSearchParams({ device: this.#device, wait: String(hold) });
    if (next !== '') query.set('after', next);
    let page: Inbox;
    try {
      if (patience === undefined) this.#held = new AbortController();
      page = await this.#request<Inbox>('GET', `/v1/inbox?${query}`, { time: patience ?? hold * 1000 + grace, held: this.#held?.signal });
    } catch (e) {
      if (this.#patience !== undefined && !this.#ended) return next; // it was asked for something quicker
      if (patience !== undefined && !(e instanceof HttpError)) throw new Unheard(String(e));
      if (this.#ended || !this.#cut(e, (this.#o.clock.now() - began) / 1000)) throw e;
      return next;
    }
    this.#held = undefined;
    if (this.#ended) return '';
    this.#acked = Math.max(this.#acked, this.#received);
    if (page.trimmed) this.#owner.gap(page.trimmed.to);
    for (const m of page.messages) {
      this.#received = m.seq;
      this.#owner.trace(() => `S: MSG ${m.seq} from ${m.from}`);
      this.#owner.message(message(m));
    }
    while (this.#handled < this.#received && !this.#ended) await this.#news();
    if (page.messages.length === 0 && hold > 0 && this.#o.clock.now() - began < soonest) await this.#pause(soonest); // ended by another session of this device
    return page.next;
  }

  /** Whether something on the way lets no request wait so long; then the next ones wait less. */
  #cut(e: unknown, held: number): boolean {
    if (e instanceof HttpError || held < 2 * shortestHold || held > this.#hold) return false;
    this.#hold = Math.max(Math.floor((held * 3) / 4), shortestHold);
    this.#owner.trace(() => `* a poll was cut after ${held} s; the next ones are held for ${this.#hold} s`);
    return true;
  }

  /** Waits until handled is called, or the connection ends. */
  #news(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#o.clock.timer(ms, resolve));
  }

  async #ack(place: number): Promise<void> {
    if (place <= this.#acked && this.#open) return;
    try {
      await this.#request('POST', '/v1/ack', { body: { seq: place, device: this.#device } });
      this.#acked = place;
    } catch (e) {
      if (!(e instanceof HttpError) || e.kind !== 'ack-beyond') throw e;
      this.#owner.welcomed({ address: '', device: this.#device, cursor: 0, asked: place }); // the server has gone back
    }
  }

  work(): void {
    if (this.#open && !this.#busy && !this.#ended) void this.#post();
  }

  async #post(): Promise<void> {
    this.#busy = true;
    try {
      while (!this.#ended) {
        let bytes = 0;
        while (this.#sending.length < batch && bytes < batchBytes) {
          const e = this.#owner.take();
          if (!e) break;
          this.#sending.push(e);
          bytes += e.data.length;
        }
        if (this.#sending.length === 0) break;
        await this.#postBatch(this.#sending.slice());
      }
    } catch (e) {
      this.#fail(e);
    }
    this.#busy = false;
  }

  async #postBatch(entries: Entry[]): Promise<void> {
    const messages = entries.map((e) => draft(e, this.#o.clock.now()));
    let results: Result[];
    try {
      const answer = await this.#request<{ results: Result[] }>('POST', `/v1/messages?device=${encodeURIComponent(this.#device)}`, { body: { messages } });
      results = answer.results;
    } catch (e) {
      // What is wrong with one message refuses the whole request.
      if (!(e instanceof HttpError) || !e.ofMessages) throw e;
      if (entries.length > 1) {
        for (const one of entries) if (!this.#ended) await this.#postBatch([one]);
        return;
      }
      results = [{ seq: 0, problem: e.problem! }];
    }
    if (results.length !== entries.length) throw new Error(`${results.length} answers to ${entries.length} messages`);
    entries.forEach((e, i) => {
      const r = results[i]!;
      if (this.#ended) return;
      this.#sending = this.#sending.filter((s) => s !== e);
      if (r.problem) {
        const { code, text } = refusal(r.problem);
        this.#owner.refused(e, code, text);
      } else this.#owner.stored(e, r.seq, r.duplicate ?? false);
    });
  }

  async #request<T>(method: string, path: string, { body, time = requestTime, held, keepalive = false }: Request = {}): Promise<T> {
    const stop = new AbortController();
    const abort = () => stop.abort();
    const disarm = this.#o.clock.timer(time, abort);
    for (const s of [this.#stop.signal, held]) s?.addEventListener('abort', abort);
    this.#owner.trace(() => `C: ${method} ${path}`);
    try {
      const init: RequestInit = {
        method, signal: stop.signal, keepalive, cache: 'no-store', credentials: 'omit', redirect: 'error',
        headers: { Authorization: this.#authorization, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      };
      const r = await this.#o.fetch(this.#o.base + path, init);
      if (r.status === 204) return undefined as T;
      const json = r.headers.get('Content-Type')?.includes('json') ? ((await r.json()) as unknown) : undefined;
      if (!r.ok || json === undefined) {
        const retry = Number(r.headers.get('Retry-After') ?? NaN);
        const problem = json as Problem | undefined;
        throw new HttpError(r.status, typeof problem?.type === 'string' ? problem : undefined, Number.isFinite(retry) ? retry * 1000 : undefined);
      }
      return json as T;
    } finally {
      disarm();
      this.#stop.signal.removeEventListener('abort', abort);
    }
  }

  #fail(e: unknown): void {
    if (this.#ended) return;
    this.#owner.ended(reason(e), this.drop());
  }

  handled(place: number, more: boolean): void {
    this.#handled = place;
    if (!more || place >= this.#received) this.#wake?.();
  }

  set(change: Change): void {
    if (change.token !== undefined) this.#authorization = `Bearer ${change.token}`;
  }

  // What others say does not come: a poll is not there at the moment.
  signal(to: string, kind: string, data: Uint8Array): boolean {
    if (!this.#open || this.#ended || this.#saying >= maxSaying || kind === '' || kind === 'online' || kind === 'offline') return false;
    this.#saying++;
    const body = { to, kind, ...(data.length > 0 ? { body64: base64(data) } : {}) };
    this.#request('POST', `/v1/signals?device=${encodeURIComponent(this.#device)}`, { body })
      .catch(() => {}) // it is lost
      .finally(() => this.#saying--);
    return true;
  }

  devices(): boolean {
    return false;
  }

  /** Ends the poll that is held, and has the next one answered at once. */
  check(patience: number): void {
    if (!this.#held) return; // a request that is not held is answered or fails by itself
    this.#patience = patience * slower;
    this.#held.abort();
    this.#held = undefined;
  }

  async close(): Promise<void> {
    if (this.#ended) return;
    this.drop();
    if (!this.#open || this.#handled <= this.#acked) return;
    this.#stop = new AbortController();
    const last = { seq: this.#handled, device: this.#device }; // which the next poll would have said
    await this.#request('POST', '/v1/ack', { body: last, time: goodbyeTime, keepalive: true }).catch(() => {}); // if it fails, the store knows
  }

  drop(): Entry[] {
    this.#ended = true;
    this.#stop.abort();
    this.#wake?.();
    return this.#sending.splice(0);
  }
}
