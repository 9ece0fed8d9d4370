import { backOff, type Clock } from './clock.js';
import type { Message } from './types.js';

/** What an application does with a message. When it is done, it has stored it. */
export type Handler = (m: Message) => void | Promise<void>;

/** A message that the application has not handled, and how far it is when it has. */
interface Waiting {
  readonly message: Message;
  place: number;
}

export interface InboxOwner {
  /** The application has handled everything up to here: keep it. */
  save(place: number): Promise<void>;
  /** It is kept. More says that more will follow soon. */
  handled(place: number, more: boolean): void;
  gap(after: number, before: number): void;
  failed(e: unknown): void;
}

/**
 * Gives messages to the application, one after another, each once: what it was
 * given before a break, or before a restart, it is not given again.
 */
export class Inbox {
  readonly #owner: InboxOwner;
  readonly #clock: Clock;
  #queue: Waiting[] = [];
  #handler: Handler | undefined;
  #running = false;
  #done = Promise.resolve(); // when it does not run any more
  #closed = false;
  #era = 0;
  #wake = () => {}; // ends a pause
  /** The application has handled everything up to here; undefined on a new device. */
  place: number | undefined;
  #got = -1; // the last one received

  constructor(owner: InboxOwner, clock: Clock) {
    this.#owner = owner;
    this.#clock = clock;
  }

  /** Begins behind a place, and forgets what was received behind it. */
  begin(place: number | undefined): void {
    this.#era++;
    this.place = place;
    this.#got = place ?? -1;
    this.#queue = [];
  }

  handle(h: Handler): void {
    this.#handler = h;
    this.#go();
  }

  /** Takes the handler away. What it was just given it is not done with: the next one gets it. */
  release(): void {
    this.#handler = undefined;
    this.#era++;
  }

  /** Takes a message that came. */
  push(m: Message): void {
    if (m.seq <= this.#got) return; // had it before the connection broke
    if (m.prev > this.#got && this.#got >= 0) this.gap(m.prev);
    this.#got = m.seq;
    this.#queue.push({ message: m, place: m.seq });
    this.#go();
  }

  /** Everything up to a place will not come. */
  gap(to: number): void {
    const after = this.#got;
    if (to <= after) return;
    this.#got = to;
    this.#owner.gap(Math.max(after, 0), to + 1);
    // It is told once: the place goes over it with what came before.
    const last = this.#queue.at(-1);
    if (last) last.place = to;
    else void this.#keep(to);
  }

  /** Gives the application nothing more. What it is just handling is waited for, but not longer than patience. */
  async close(patience: number): Promise<void> {
    this.#closed = true;
    this.#wake();
    if (this.#running) await Promise.race([this.#done, this.#pause(patience)]);
    this.#wake();
    this.#era++;
  }

  #go(): void {
    if (this.#running) return;
    this.#running = true;
    this.#done = this.#pump();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.#clock.timer(ms, resolve);
      this.#wake = () => {
        stop();
        resolve();
      };
    });
  }

  async #pump(): Promise<void> {
    let failures = 0;
    while (!this.#closed && this.#handler && this.#queue[0]) {
      const first = this.#queue[0];
      const era = this.#era;
      try {
        await this.#handler(first.message);
        failures = 0;
      } catch (e) {
        this.#owner.failed(e);
        await this.#pause(1000 + backOff(++failures, 60_000, 1));
        continue;
      }
      if (era !== this.#era) continue;
      this.#queue.shift();
      await this.#keep(first.place);
      if (era === this.#era) this.#owner.handled(first.place, this.#queue.length > 0 && !this.#closed);
    }
    this.#running = false;
  }

  async #keep(place: number): Promise<void> {
    this.place = place;
    // If it cannot be kept, the worst is that a restart brings it again.
    await this.#owner.save(place).catch((e: unknown) => this.#owner.failed(e));
  }
}
