import type { Signal } from './types.js';

/** Who has said that he is online, and who is told so of this device. */
export class Presence {
  readonly #say: (to: string, kind: string) => void;
  readonly #may: (address: string) => boolean;
  readonly #shows = new Set<string>();
  readonly #online = new Map<string, Set<string>>();

  /** Say says a word of the moment; may answers whether somebody who asks may know. */
  constructor(say: (to: string, kind: string) => void, may: (address: string) => boolean) {
    this.#say = say;
    this.#may = may;
  }

  /** A connection begins: what was heard on the last one may be over. */
  begin(): void {
    this.#online.clear();
    for (const to of this.#shows) this.#say(to, 'online');
  }

  show(to: string): void {
    this.#shows.add(to);
    this.#say(to, 'online');
  }

  hide(to: string): void {
    this.#shows.delete(to);
    this.#say(to, 'offline');
  }

  isOnline(address: string): boolean {
    return this.#online.has(address);
  }

  heard({ from, device, kind }: Signal): void {
    const devices = this.#online.get(from) ?? new Set();
    if (kind === 'online') this.#online.set(from, devices.add(device));
    if (kind === 'offline' && devices.delete(device) && devices.size === 0) this.#online.delete(from);
    if (kind === 'ask' && this.#may(from)) this.show(from);
  }
}
