import { Alarm, type Clock } from './clock.js';
import { again } from './codec/codes.js';
import { type Receipt, RefusedError } from './types.js';
import type { Entry, Store } from './store/store.js';

export interface OutboxOwner {
  /** There is something to send. */
  work(): void;
  /** A message is in the store. */
  queued(id: string): void;
  stored(r: Receipt): void;
  refused(e: RefusedError): void;
  /** The store failed. */
  failed(e: unknown): void;
}

interface Waiter {
  resolve(r: Receipt): void;
  reject(e: unknown): void;
}

const refusedWait = 5_000; // before what could not be stored is sent again

/** The messages that are not answered yet, in order. */
export class Outbox {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #owner: OutboxOwner;
  readonly #again: Alarm;
  readonly #unanswered = new Map<Entry, Waiter | undefined>(); // all of them; a waiter if this program sends it
  readonly #ids = new Set<string>(); // of what is in the store
  #waiting: Entry[] = []; // not given to a connection yet, from #at
  #at = 0;
  #first: Entry[] = []; // given back, and sent before those that wait; the next one is the last
  #refused: Entry[] = []; // what could not be stored at present; the others wait for it
  #closed = false;

  constructor(store: Store, clock: Clock, owner: OutboxOwner) {
    this.#store = store;
    this.#clock = clock;
    this.#owner = owner;
    this.#again = new Alarm(clock, () => {
      this.giveBack(this.#refused.splice(0));
      owner.work();
    });
  }

  /** How many messages are not answered yet. */
  get size(): number {
    return this.#unanswered.size;
  }

  /** Takes what an earlier program left. It comes before what this one sends. */
  restore(entries: Entry[]): void {
    for (const e of entries) {
      this.#unanswered.set(e, undefined);
      this.#ids.add(e.id);
    }
    this.giveBack(entries);
  }

  /** Puts a message into the store when that is loaded, and then sends it. The promise is of the answer. */
  send(e: Entry, loaded: Promise<void>): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      this.#unanswered.set(e, { resolve, reject });
      void this.#put(e, loaded);
    });
  }

  async #put(e: Entry, loaded: Promise<void>): Promise<void> {
    await loaded;
    if (this.#closed) return;
    if (this.#ids.has(e.id)) {
      this.#forget(e)?.reject(new RangeError(`a message with the id ${e.id} is queued already`));
      return;
    }
    this.#ids.add(e.id);
    try {
      await this.#store.put(e);
    } catch (error) {
      this.#ids.delete(e.id);
      this.#forget(e)?.reject(error);
      this.#owner.failed(error);
      return;
    }
    if (this.#closed) return;
    this.#waiting.push(e);
    this.#owner.queued(e.id);
    this.#owner.work();
  }

  #forget(e: Entry): Waiter | undefined {
    const w = this.#unanswered.get(e);
    this.#unanswered.delete(e);
    return w;
  }

  /** Gives the oldest message to a connection, which answers or returns it. */
  take(): Entry | undefined {
    for (let e = this.#next(); e; e = this.#next()) {
      if (e.expires === 0 || e.expires > this.#clock.now()) return e;
      this.refused(e, 'expired', 'it was not sent in time');
    }
    return undefined;
  }

  #next(): Entry | undefined {
    if (this.#refused.length > 0) return undefined;
    const e = this.#first.pop();
    if (e || this.#at === this.#waiting.length) return e;
    if (this.#at > 1000 && this.#at > this.#waiting.length / 2) {
      this.#waiting.splice(0, this.#at);
      this.#at = 0;
    }
    return this.#waiting[this.#at++];
  }

  giveBack(entries: Entry[]): void {
    for (let i = entries.length - 1; i >= 0; i--) this.#first.push(entries[i]!);
  }

  /** The server has a message. */
  stored(e: Entry, seq: number, duplicate: boolean): void {
    const r: Receipt = { id: e.id, seq, duplicate };
    void this.#answered(e, (w) => w?.resolve(r));
    this.#owner.stored(r);
  }

  /** The server will not have a message, or not now. */
  refused(e: Entry, code: string, text: string): void {
    if (again(code)) {
      this.#refused.push(e);
      this.#again.set(this.#clock.now() + refusedWait);
      return;
    }
    const error = new RefusedError(e.id, code, text);
    void this.#answered(e, (w) => w?.reject(error));
    this.#owner.refused(error);
  }

  /** Has the store forget a message, and then tells who waits. */
  async #answered(e: Entry, tell: (w: Waiter | undefined) => void): Promise<void> {
    const w = this.#forget(e);
    this.#ids.delete(e.id);
    try {
      await this.#store.remove(e.id);
    } catch (error) {
      this.#owner.failed(error); // the next program sends it again, and the server knows its id
    }
    tell(w);
  }

  /** Nobody waits any more; the messages stay in the store. */
  close(why: Error): void {
    this.#closed = true;
    this.#again.stop();
    for (const w of this.#unanswered.values()) w?.reject(why);
  }
}
