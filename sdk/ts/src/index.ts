/**
 * Messages over a connection that is kept.
 *
 * @packageDocumentation
 */

import type { Client } from './client.js';
import { connectOn, type Options } from './options.js';
import type { SocketConstructor } from './websocket.js';

/**
 * Makes a client, which connects at once and stays connected as well as it can
 * until it is closed. It hears by itself when the page is hidden, shown, frozen
 * or woken, and when the browser goes off line and comes back.
 */
export function connect(o: Options): Client {
  const client = connectOn({ device: 'web', WebSocket: globalThis.WebSocket as SocketConstructor | undefined, tcp: undefined }, o);
  follow(client);
  return client;
}

/** Tells the client what the browser tells the page. */
function follow(client: Client): void {
  const over = new AbortController();
  const listen = (target: EventTarget, event: string, f: (e: Event) => void) => target.addEventListener(event, f, { signal: over.signal });
  client.on('state', ({ state }) => state === 'closed' && over.abort());
  const look = () => client.networkChanged();
  listen(globalThis, 'online', look);
  listen(globalThis, 'offline', look);
  if (typeof document === 'undefined') return; // a worker
  const shown = () => client.setBackground(document.visibilityState === 'hidden');
  listen(document, 'visibilitychange', shown);
  listen(document, 'resume', look); // after the browser had frozen the page
  listen(globalThis, 'pageshow', (e) => (e as PageTransitionEvent).persisted && look()); // or had put it away, to go back to
  shown();
}

export type { Client } from './client.js';
export type { Handler } from './inbox.js';
export type { Finding } from './learn.js';
export type { Options } from './options.js';
export { indexedDBStore } from './store/indexeddb.js';
export { memoryStore } from './store/memory.js';
export type { Entry, State, Store } from './store/store.js';
export { type Attr, type ClosedCode, ClosedError, type ConnectionState, type Device, type Draft, type EndCode, type Events, Message, OfflineError, type Receipt, type RefusedCode, RefusedError, type Signal, type Urgency } from './types.js';
