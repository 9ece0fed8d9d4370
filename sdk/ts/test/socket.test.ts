// What a WebSocket tells, as a browser has it and as Node 22 has it, and what TCP tells.

import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Socket as TcpSocket } from 'node:net';
import { test } from 'node:test';

import { tcpDial } from '../src/node/tcp.js';
import { type Socket, webSocketDial } from '../src/websocket.js';
import { settle } from './support/time.js';

const cases: [what: string, happens: (s: Socket) => void, told: string[]][] = [
  ['it closes with a reason', (s) => s.onclose?.({ code: 1000, reason: 'bye' }), ['closed bye']],
  ['it closes without', (s) => s.onclose?.({ code: 1006 }), ['reset the WebSocket was closed (1006)']],
  ['it fails, and closes', (s) => (s.onerror?.({}), s.onclose?.({ code: 1006, reason: '' })), ['reset the WebSocket was closed (1006)']],
  ['it fails, and does no more', (s) => s.onerror?.({ message: 'non-101 status code' }), ['reset non-101 status code']],
];
for (const [what, happens, told] of cases) {
  test(`a WebSocket: ${what}`, async () => {
    let socket: Socket | undefined;
    class Fake implements Socket {
      binaryType = '';
      onopen = null;
      onmessage = null;
      onclose = null;
      onerror = null;
      constructor() {
        socket = this;
      }
      send(): void {}
      close(): void {}
    }
    const heard: string[] = [];
    webSocketDial('ws://localhost/link', Fake)({ open: () => heard.push('open'), data: () => {}, closed: (why, reset) => heard.push(`${reset ? 'reset' : 'closed'} ${why}`) });
    happens(socket!);
    await settle();
    await new Promise((resolve) => setTimeout(resolve));
    assert.deepEqual(heard, told);
  });
}

for (const [what, happens, told] of [
  ['is reset', (s: TcpSocket) => void s.resetAndDestroy(), true],
  ['ends', (s: TcpSocket) => void s.end(), false],
] as const) {
  test(`a TCP connection that ${what}`, async () => {
    const server = createServer(happens).listen(0, '127.0.0.1');
    await new Promise((listens) => server.once('listening', listens));
    const reset = await new Promise((closed) => {
      tcpDial('127.0.0.1', (server.address() as AddressInfo).port, false)({ open: () => {}, data: () => {}, closed: (_, reset) => closed(reset) });
    });
    assert.equal(reset, told);
    server.close();
  });
}
