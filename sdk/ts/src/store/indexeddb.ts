import type { Entry, State, Store } from './store.js';

interface Row {
  n: number;
  entry: Entry;
}

/**
 * A store in the browser, under a name: one for each account and device. Where
 * the browser has Web Locks, a second page that opens the same store waits
 * until the first has closed it or is gone.
 */
export function indexedDBStore(name: string): Store {
  let db: IDBDatabase | undefined;
  let last = 0;
  let unlock: (() => void) | undefined;
  const closed = new AbortController();
  const numbers = new Map<string, number>(); // of rows, by the message's id

  const commit = (table: string, change: (s: IDBObjectStore) => void): Promise<void> =>
    new Promise((resolve, reject) => {
      // "strict" waits for the disk: a promise that is kept over a crash.
      const t = db!.transaction(table, 'readwrite', { durability: 'strict' });
      t.oncomplete = () => resolve();
      t.onabort = () => reject(t.error ?? new Error('the transaction was aborted'));
      change(t.objectStore(table));
    });

  return {
    async load() {
      unlock = await lock(`posthouse:${name}`, closed.signal);
      db = await open(name);
      const t = db.transaction(['state', 'outbox']);
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
    save: (state) => commit('state', (s) => s.put(state, 'state')),
    put(entry) {
      const n = numbers.get(entry.id) ?? ++last;
      numbers.set(entry.id, n);
      return commit('outbox', (s) => s.put({ n, entry }));
    },
    remove(id) {
      const n = numbers.get(id);
      if (n === undefined) return Promise.resolve();
      numbers.delete(id);
      return commit('outbox', (s) => s.delete(n));
    },
    close() {
      closed.abort(); // if it still waits for the lock
      db?.close();
      unlock?.();
      return Promise.resolve();
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
