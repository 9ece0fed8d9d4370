/** Tells listeners what happens. E has the events by their names. */
export class Emitter<E> {
  readonly #listeners = new Map<keyof E, Set<(e: never) => void>>();

  /** Listens to an event. The result stops it. */
  on<K extends keyof E>(event: K, f: (e: E[K]) => void): () => void {
    let set = this.#listeners.get(event);
    if (!set) this.#listeners.set(event, (set = new Set()));
    set.add(f as (e: never) => void);
    return () => set.delete(f as (e: never) => void);
  }

  emit<K extends keyof E>(event: K, e: E[K]): void {
    for (const f of this.#listeners.get(event) ?? []) {
      try {
        (f as (e: E[K]) => void)(e);
      } catch (thrown) {
        queueMicrotask(() => {
          throw thrown; // the application's own; it is to be seen, and not to stop us
        });
      }
    }
  }
}
