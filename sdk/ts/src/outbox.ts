import { RefusedError, type Receipt } from './types.js';
import type { Entry, Store } from './store/store.js';

interface Waiter {
  resolve(r: Receipt): void;
  reject(e: Error): void;
}

/** The messages that are not answered yet, in order. */
export class Outbox {
  readonly #store: Store;
  #waiting: Entry[] = []; // not given to a connection
  #waiters = new Map<string, Waiter>();
  #known = new Set<string>(); // ids, also of what a connection holds

  constructor(store: Store) {
    this.#store = store;
  }

  /** How many messages are not answered yet. */
  get size(): number {
    return this.#known.size;
  }

  /** Takes what an earlier program left. It comes before what this one sends. */
  restore(entries: Entry[]): void {
    this.#waiting.unshift(...entries.filter((e) => !this.#known.has(e.id)));
    for (const e of entries) this.#known.add(e.id);
  }

  has(id: string): boolean {
    return this.#known.has(id);
  }

  /** Takes a message that is in the store. */
  add(e: Entry): Promise<Receipt> {
    this.#known.add(e.id);
    this.#waiting.push(e);
    return new Promise((resolve, reject) => this.#waiters.set(e.id, { resolve, reject }));
  }

  /** Gives the oldest message to a connection, which answers or returns it. */
  take(): Entry | undefined {
    return this.#waiting.shift();
  }

  giveBack(entries: Entry[]): void {
    this.#waiting.unshift(...entries);
  }

  /** When a message was answered; the store forgets it first. */
  async stored(r: Receipt): Promise<void> {
    const w = this.#forget(r.id);
    try {
      await this.#store.remove(r.id);
    } finally {
      w?.resolve(r);
    }
  }

  async refused(e: RefusedError): Promise<void> {
    const w = this.#forget(e.id);
    try {
      await this.#store.remove(e.id);
    } finally {
      w?.reject(e);
    }
  }

  #forget(id: string): Waiter | undefined {
    const w = this.#waiters.get(id);
    this.#waiters.delete(id);
    this.#known.delete(id);
    return w;
  }

  /** Nobody waits any more; the messages stay in the store. */
  abandon(e: Error): void {
    for (const w of this.#waiters.values()) w.reject(e);
    this.#waiters.clear();
  }
}
