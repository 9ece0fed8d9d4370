import type { Clock } from './clock.js';
import type { Credentials } from './credentials.js';
import type { Store } from './store/store.js';
import type { Way } from './way.js';

/** What a client is to be. */
export interface ClientOptions {
  credentials: Credentials;
  device: string;
  network: string;
  store: Store;
  /** Whether a user who asks may know that this device is online. */
  showTo?: (address: string) => boolean;
  /** In the background, for how many milliseconds the server may hold messages that can wait; not at all if zero. */
  hold?: number;
  /** Whether those of normal urgency can wait, too. */
  holdNormal?: boolean;
  /** Bounds what is learned about heartbeats. */
  learn?: { min?: number; max?: number };
  trace: ((line: string) => void) | undefined;
}

/** What a client needs of the world. */
export interface World {
  ways: Way[];
  clock: Clock;
  /** In [0, 1). */
  random: () => number;
  /** What the ids of this client's messages begin with. */
  prefix: string;
}
