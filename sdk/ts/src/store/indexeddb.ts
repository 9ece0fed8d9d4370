import { Batches } from './batches.js';
import type { Entry, State, Store } from './store.js';

/** In the order of putting, and no page's the same as another's. */
type Key = [n: number, store: number];

interface Row {
  n: Key;
  entry: Entry;
}

interface Change {
  /** Whether it must be on disk when it is done. */
  strict: boolean;
  make(t: IDBTransaction): void;
}

/** What an access to a database that the browser closes fails with. WebKit says UnknownError. */
const closing = new Set(['InvalidStateError', 'AbortError', 'UnknownError']);
const maxTries = 6;

/**
 * A store in the browser, under a name: one for each account and device. Where
 * the browser has Web Locks, which it has on https and on localhost, a second
 * page that opens the same store waits until the first has closed it or is
 * gone.
 */
export function indexedDBStore(name: string): Store {
  let db: Promise<Opened> | undefined;
  let last = 0;
  let unlock: (() => void) | undefined;
  const closed = new AbortController();
  const mine = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const keys = new Map<string, Key>(); // of rows, by the message's id

  /**
   * Does the work in a transaction. The browser may close the database before
   * it or in its middle: it does so to pages that sleep and to a site whose
   * data is cleared. Then the work is done again, with the database opened anew.
   */
  const within = async <T>(work: (t: IDBTransaction) => Promise<T>, ...how: [IDBTransactionMode?, IDBTransactionOptions?]): Promise<T> => {
    for (let tries = 1; ; tries++) {
      try {
        const { database, closed } = await (db ??= open(name));
        return await Promise.race([work(database.transaction(['state', 'outbox'], ...how)), closed]);
      } catch (e) {
        if (!closing.has((e as Error).name) || tries === maxTries) throw e;
        await close();
        await new Promise((resolve) => setTimeout(resolve, (tries - 1) * 100)); // it may still be at it
      }
    }
  };
  const close = async (): Promise<void> => {
    (await db?.catch(() => undefined))?.database.close();
    db = undefined;
  };
  const batches = new Batches<Change>((changes) => {
    const make = (t: IDBTransaction): Promise<void> =>
      new Promise((resolve, reject) => {
        t.oncomplete = () => resolve();
        t.onabort = () => reject(t.error ?? new Error('the transaction was aborted'));
        for (const c of changes) c.make(t);
      });
    const durability = changes.some((c) => c.strict) ? 'strict' : 'relaxed'; // strict waits for the disk
    return within(make, 'readwrite', { durability });
  });

  return {
    async load(waits) {
      unlock = await lock(`posthouse:${name}`, closed.signal, waits);
      if (closed.signal.aborted) unlock();
      closed.signal.throwIfAborted();
      const [state, rows] = await within((t) =>
        Promise.all([
          result<State | undefined>(t.objectStore('state').get('state')),
          result<Row[]>(t.objectStore('outbox').getAll()),
        ]),
      );
      for (const r of rows) {
        keys.set(r.entry.id, r.n);
        last = r.n[0];
      }
      return { state: state ?? {}, outbox: rows.map((r) => r.entry) };
    },
    // If it is lost with the machine's power, a message comes again.
    save: (state) => batches.add({ strict: false, make: (t) => t.objectStore('state').put(state, 'state') }),
    put(entry) {
      const n: Key = [++last, mine];
      keys.set(entry.id, n);
      // What is made twice is one row.
      return batches.add({ strict: true, make: (t) => t.objectStore('outbox').put({ n, entry }) });
    },
    // If it is lost the message is sent again, and stored once.
    async remove(id) {
      const n = keys.get(id);
      if (n === undefined) return;
      keys.delete(id);
      await batches.add({ strict: false, make: (t) => t.objectStore('outbox').delete(n) });
    },
    async close() {
      closed.abort(); // if it still waits for the lock
      await batches.idle();
      await close();
      unlock?.();
    },
  };
}

interface Opened {
  database: IDBDatabase;
  /** Rejects when the browser closes it. Chromium may tell this and nothing of the transaction under way. */
  closed: Promise<never>;
}

async function open(name: string): Promise<Opened> {
  const r = indexedDB.open(`posthouse:${name}`, 1);
  r.onupgradeneeded = () => {
    r.result.createObjectStore('state');
    r.result.createObjectStore('outbox', { keyPath: 'n' });
  };
  const database = await result(r);
  const closed = new Promise<never>((_, reject) => {
    database.onclose = () => reject(new DOMException('the browser has closed the database', 'AbortError'));
  });
  closed.catch(() => {}); // nobody may be at work
  return { database, closed };
}

function result<T>(r: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error ?? new Error('IndexedDB failed'));
  });
}

/** Waits for a lock, which it tells unless it is free, and returns what gives it back. */
async function lock(name: string, signal: AbortSignal, waits?: () => void): Promise<() => void> {
  const locks = (globalThis.navigator as Navigator | undefined)?.locks;
  if (!locks) return () => {};
  const take = (o: LockOptions) =>
    new Promise<(() => void) | undefined>((resolve, reject) => {
      locks.request(name, o, (l) => (l ? new Promise<void>((release) => resolve(release)) : resolve(undefined))).catch(reject);
    });
  const free = await take({ ifAvailable: true });
  if (free) return free;
  waits?.();
  return (await take({ signal }))!;
}
