import { Batches } from './batches.js';
import type { Entry, State, Store } from './store.js';

interface Row {
  n: number;
  entry: Entry;
}

interface Change {
  /** Whether it must be on disk when it is done. */
  strict: boolean;
  make(t: IDBTransaction): void;
}

/**
 * A store in the browser, under a name: one for each account and device. Where
 * the browser has Web Locks, which it has on https and on localhost, a second
 * page that opens the same store waits until the first has closed it or is
 * gone.
 */
export function indexedDBStore(name: string): Store {
  let db: Promise<IDBDatabase> | undefined;
  let last = 0;
  let unlock: (() => void) | undefined;
  const closed = new AbortController();
  const numbers = new Map<string, number>(); // of rows, by the message's id

  const database = (): Promise<IDBDatabase> => (db ??= open(name));
  const begin = async (...of: Parameters<IDBDatabase['transaction']>): Promise<IDBTransaction> => {
    try {
      return (await database()).transaction(...of);
    } catch {
      db = undefined; // the browser has closed it: that happens to pages that sleep
      return (await database()).transaction(...of);
    }
  };
  const commit = async (changes: Change[]): Promise<void> => {
    const durability = changes.some((c) => c.strict) ? 'strict' : 'relaxed'; // strict waits for the disk
    const t = await begin(['state', 'outbox'], 'readwrite', { durability });
    return new Promise((resolve, reject) => {
      t.oncomplete = () => resolve();
      t.onabort = () => reject(t.error ?? new Error('the transaction was aborted'));
      for (const c of changes) c.make(t);
    });
  };
  const batches = new Batches<Change>(async (changes) => {
    for (;;) {
      try {
        return await commit(changes);
      } catch (e) {
        if ((e as Error).name !== 'ConstraintError') throw e; // else another page, without Web Locks, has used a number
      }
    }
  });

  return {
    async load(waits) {
      unlock = await lock(`posthouse:${name}`, closed.signal, waits);
      if (closed.signal.aborted) unlock();
      closed.signal.throwIfAborted();
      const t = await begin(['state', 'outbox']);
      const [state, rows] = await Promise.all([
        result<State | undefined>(t.objectStore('state').get('state')),
        result<Row[]>(t.objectStore('outbox').getAll()),
      ]);
      for (const r of rows) {
        numbers.set(r.entry.id, r.n);
        last = r.n;
      }
      return { state: state ?? {}, outbox: rows.map((r) => r.entry) };
    },
    // If it is lost with the machine's power, a message comes again.
    save: (state) => batches.add({ strict: false, make: (t) => t.objectStore('state').put(state, 'state') }),
    put(entry) {
      const make = (t: IDBTransaction) => {
        numbers.set(entry.id, ++last);
        t.objectStore('outbox').add({ n: last, entry });
      };
      return batches.add({ strict: true, make });
    },
    // If it is lost the message is sent again, and stored once.
    async remove(id) {
      let n: number | undefined;
      const make = (t: IDBTransaction) => {
        n = numbers.get(id);
        if (n !== undefined) t.objectStore('outbox').delete(n);
      };
      await batches.add({ strict: false, make });
      if (numbers.get(id) === n) numbers.delete(id); // or it was put again since
    },
    async close() {
      closed.abort(); // if it still waits for the lock
      await batches.idle();
      (await db?.catch(() => undefined))?.close();
      unlock?.();
    },
  };
}

function open(name: string): Promise<IDBDatabase> {
  const r = indexedDB.open(`posthouse:${name}`, 1);
  r.onupgradeneeded = () => {
    r.result.createObjectStore('state');
    r.result.createObjectStore('outbox', { keyPath: 'n' });
  };
  return result(r);
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
