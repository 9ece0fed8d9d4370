import type { Entry, State, Store } from './store.js';

/**
 * A store that ends with the program, though a client may close it and another
 * load it again.
 */
export function memoryStore(): Store {
  let state: State = {};
  const outbox = new Map<string, Entry>();
  return {
    load: () => Promise.resolve({ state: structuredClone(state), outbox: [...outbox.values()] }),
    save(s) {
      state = structuredClone(s);
      return Promise.resolve();
    },
    put(e) {
      outbox.set(e.id, e);
      return Promise.resolve();
    },
    remove(id) {
      outbox.delete(id);
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
}
