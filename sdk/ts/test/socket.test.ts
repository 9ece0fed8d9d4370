// What a WebSocket tells, as a browser has it and as Node 22 has it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Socket, webSocketDial } from '../src/websocket.js';
import { settle } from './support/time.js';

const cases: [what: string, happens: (s: Socket) => void, told: string[]][] = [
  ['it closes with a reason', (s) => s.onclose?.({ code: 1000, reason: 'bye' }), ['closed bye']],
  ['it closes without', (s) => s.onclose?.({ code: 1006 }), ['closed the WebSocket was closed (1006)']],
  ['it fails, and closes', (s) => (s.onerror?.({}), s.onclose?.({ code: 1006, reason: '' })), ['closed the WebSocket was closed (1006)']],
  ['it fails, and does no more', (s) => s.onerror?.({ message: 'non-101 status code' }), ['closed non-101 status code']],
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
    webSocketDial('ws://localhost/link', Fake)({ open: () => heard.push('open'), data: () => {}, closed: (why) => heard.push(`closed ${why}`) });
    happens(socket!);
    await settle();
    await new Promise((resolve) => setTimeout(resolve));
    assert.deepEqual(heard, told);
  });
}
