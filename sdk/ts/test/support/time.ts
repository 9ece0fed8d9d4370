import type { Clock } from '../../src/clock.js';

/** Lets everything run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 6; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** A clock that a test moves. */
export class VirtualClock implements Clock {
  #now: number;
  #timers: { at: number; f: () => void }[] = [];

  constructor(now = Date.parse('2000-01-01T00:00:00Z')) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  timer(ms: number, f: () => void): () => void {
    const t = { at: this.#now + Math.max(ms, 0), f };
    this.#timers.push(t);
    return () => {
      this.#timers = this.#timers.filter((o) => o !== t);
    };
  }

  /** The machine sleeps: time passes, and timers stand still. */
  sleep(ms: number): void {
    this.#now += ms;
    for (const t of this.#timers) t.at += ms;
  }

  /** Lets time pass, and what is due in it happen. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const t = this.#timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!t) break;
      this.#timers = this.#timers.filter((o) => o !== t);
      this.#now = Math.max(this.#now, t.at);
      t.f();
      await settle();
    }
    this.#now = end;
    await settle();
  }
}
