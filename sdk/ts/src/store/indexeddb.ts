import type { Entry, State, Store } from './store.js';

interface Row {
  n: number;
  entry: Entry;
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
  const commit = async (table: string, durability: IDBTransactionDurability, change: (s: IDBObjectStore) => void): Promise<void> => {
    const t = await begin(table, 'readwrite', { durability });
    return new Promise((resolve, reject) => {
      t.oncomplete = () => resolve();
      t.onabort = () => reject(t.error ?? new Error('the transaction was aborted'));
      change(t.objectStore(table));
    });
  };

  return {
    async load() {
      unlock = await lock(`posthouse:${name}`, closed.signal);
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
    save: (state) => commit('state', 'relaxed', (s) => s.put(state, 'state')),
    async put(entry) {
      for (;;) {
        const n = ++last;
        try {
          await commit('outbox', 'strict', (s) => s.add({ n, entry })); // strict waits for the disk
          numbers.set(entry.id, n);
          return;
        } catch (e) {
          if ((e as Error).name !== 'ConstraintError') throw e; // else another page, without Web Locks, has used that number
        }
      }
    },
    async remove(id) {
      const n = numbers.get(id);
      if (n === undefined) return;
      numbers.delete(id);
      await commit('outbox', 'relaxed', (s) => s.delete(n)); // if it is lost the message is sent again, and stored once
    },
    async close() {
      closed.abort(); // if it still waits for the lock
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

/** Waits for a lock, and returns what gives it back. */
function lock(name: string, signal: AbortSignal): Promise<() => void> {
  const locks = (globalThis.navigator as Navigator | undefined)?.locks;
  if (!locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    locks.request(name, { signal }, () => new Promise<void>((release) => resolve(release))).catch(reject);
  });
}
