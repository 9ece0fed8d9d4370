/**
 * Messages over a connection that is kept, in Node: besides what a browser has,
 * TCP, TLS and a store in a file.
 *
 * @packageDocumentation
 */

import type { Client } from '../client.js';
import { connectOn, type Options } from '../options.js';
import { tcpDial } from './tcp.js';
import { NodeWebSocket } from './websocket.js';

/**
 * Makes a client, which connects at once and stays connected as well as it can
 * until it is closed.
 */
export function connect(o: Options): Client {
  return connectOn({ device: 'node', WebSocket: NodeWebSocket, tcp: tcpDial }, o);
}

export * from '../index.js';
export { fileStore } from './file.js';
