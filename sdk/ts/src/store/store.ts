// What outlives the program: how far it has read, and what it has not sent yet.

import type { Urgency } from '../codec/codes.js';
import type { Attr } from '../codec/message.js';
import type { Finding } from '../learn.js';

/** A message that is not answered yet. */
export interface Entry {
  id: string;
  to: string;
  type: string;
  data: Uint8Array;
  urgency: Urgency;
  /** When it is no longer worth delivering, Unix milliseconds; zero is never. */
  expires: number;
  attrs: Attr[];
}

/** What is known of the account and of the networks. */
export interface State {
  /** Who logged in, in the words of the credentials. */
  login?: string;
  /** The account's address. */
  address?: string;
  /** Everything up to here has been handled by the application. */
  place?: number;
  /** The way that worked last, by network. */
  ways?: Record<string, string>;
  /** How long silences may be, by network. */
  findings?: Record<string, Finding>;
}

/**
 * Keeps an Outbox and a State. One store belongs to one account and one
 * device, and to one client at a time. When a promise resolves, what it is
 * about survives the end of the program.
 */
export interface Store {
  /**
   * Called once, first. Entries come in the order in which they were put. If
   * another client has the store, it is waited for; then waits is called.
   */
  load(waits?: () => void): Promise<{ state: State; outbox: Entry[] }>;
  save(state: State): Promise<void>;
  put(e: Entry): Promise<void>;
  remove(id: string): Promise<void>;
  /** Called last. */
  close(): Promise<void>;
}
