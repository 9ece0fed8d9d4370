import type { Clock } from './clock.js';

/** A promise that need not be looked at, since the events tell the same. */
export function quiet<T>(p: Promise<T>): Promise<T> {
  p.catch(() => {});
  return p;
}

/** P, or the signal's reason if that is sooner. */
export function unless<T>(signal: AbortSignal | undefined, p: Promise<T>): Promise<T> {
  if (!signal) return p;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
    p.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

/** P, or an error if that takes longer than so many milliseconds. */
export function within<T>(clock: Clock, ms: number, what: string, p: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = clock.timer(ms, () => reject(new Error(`${what} took longer than ${ms / 1000} s`)));
    p.then(resolve, reject).finally(stop);
  });
}
