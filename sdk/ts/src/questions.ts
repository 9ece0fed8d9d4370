import { type Device, OfflineError } from './types.js';
import type { Connection } from './way.js';

/** Questions for the devices of the account, which a connection answers in order. */
export class Questions {
  #asked: { answer: (list: Device[]) => void; fail: (e: Error) => void }[] = [];

  /** Asks, after a device has been removed unless forget is empty. */
  ask(connection: Connection | undefined, forget: string): Promise<Device[]> {
    return new Promise((answer, fail) => {
      if (!connection?.devices(forget)) return fail(new OfflineError('there is no long connection'));
      this.#asked.push({ answer, fail });
    });
  }

  answered(list: Device[]): void {
    this.#asked.shift()?.answer(list);
  }

  /** The connection is gone, and the answers with it. */
  gone(): void {
    for (const a of this.#asked.splice(0)) a.fail(new OfflineError('the connection broke before the answer'));
  }
}
