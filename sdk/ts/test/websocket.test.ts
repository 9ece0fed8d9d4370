// Our WebSocket for Node, against a server that says what a test wants.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';

import { NodeWebSocket } from '../src/node/websocket.js';
import { hex } from '../src/codec/text.js';
import { unhex } from './support/parse.js';

/** Opens a socket to a server that says yes, and returns both ends. */
async function pair(accept = true) {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const events: string[] = [];
  const ws = new NodeWebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/link`, ['posthouse.link.1']);
  let wake = () => {};
  const tell = (e: string) => (events.push(e), wake());
  ws.onopen = () => tell('open');
  ws.onmessage = (e) => tell(`message ${hex(new Uint8Array(e.data as ArrayBuffer))}`);
  ws.onclose = (e) => tell(`close ${e.code} ${e.reason}`);
  const [peer] = (await once(server, 'connection')) as [Socket];
  server.close();
  let request = '';
  while (!request.includes('\r\n\r\n')) request += String(((await once(peer, 'data')) as [Buffer])[0]);
  const key = /^sec-websocket-key: (.*)$/im.exec(request)![1]!.trim();
  const sum = createHash('sha1').update(key + (accept ? '258EAFA5-E914-47DA-95CA-C5AB0DC85B11' : 'x')).digest('base64');
  peer.write(
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${sum}\r\nSec-WebSocket-Protocol: posthouse.link.1\r\n\r\n`,
  );
  const next = async () => {
    while (events.length === 0) await new Promise<void>((r) => (wake = r));
    return events.shift();
  };
  return { ws, peer, next, said: () => once(peer, 'data').then(([b]) => b as Buffer) };
}

/** Takes the mask off one short frame of the client's. */
function unmask(b: Buffer): string {
  assert.ok(b[1]! & 0x80, 'a client masks');
  const n = b[1]! & 0x7f;
  return hex(b.subarray(0, 1)) + ' ' + hex(b.subarray(6, 6 + n).map((c, i) => c ^ b[2 + (i & 3)]!));
}

test('messages in both directions, byte by byte', async () => {
  const { ws, peer, next, said } = await pair();
  assert.equal(await next(), 'open');
  ws.send(unhex('0400'));
  assert.equal(unmask(await said()), '82 0400');
  for (const b of unhex('82020500' + '8200')) peer.write(Uint8Array.of(b));
  assert.equal(await next(), 'message 0500');
  assert.equal(await next(), 'message ');
  ws.close();
  assert.equal(unmask(await said()), '88 03e8');
  assert.equal(await next(), 'close 1000 ');
});

test('a message in three parts', async () => {
  const { peer, next, said, ws } = await pair();
  assert.equal(await next(), 'open');
  peer.write(unhex('02020102' + '890170' + '000103' + '800104'));
  assert.equal(await next(), 'message 01020304');
  assert.equal(unmask(await said()), '8a 70');
  peer.write(Buffer.concat([unhex('827e0080'), Buffer.alloc(128, 7)]));
  assert.equal(await next(), `message ${'07'.repeat(128)}`);
  peer.write(unhex('880203e8'));
  assert.equal(await next(), 'close 1000 ');
  ws.send(unhex('00')); // and nothing happens
});

for (const [what, bytes] of [
  ['text', '810161'],
  ['a masked frame', '828100000000aa'],
  ['an extension', 'c20100'],
  ['a part of nothing', '000100'],
  ['a message within a message', '020101820102'],
  ['a message that is too long', '827f0000000100000000'],
  ['a frame, a ping of too many bytes,', '897e0080'],
  ['a frame, a ping in parts,', '090170'],
] as const) {
  test(`${what} ends the connection`, async () => {
    const { peer, next } = await pair();
    peer.on('error', () => {});
    assert.equal(await next(), 'open');
    peer.write(unhex(bytes));
    assert.match(String(await next()), /^close 1006 a (frame|message)/);
  });
}

test('a large message in many pieces, and parts that hold nothing', async () => {
  const { peer, next, ws } = await pair();
  assert.equal(await next(), 'open');
  const n = 1 << 20;
  const all = Buffer.concat([unhex('027f' + n.toString(16).padStart(16, '0')), Buffer.alloc(n, 7), unhex('0000'.repeat(1000)), unhex('800108')]);
  for (let at = 0; at < all.length; at += 10_007) peer.write(all.subarray(at, at + 10_007));
  assert.equal(await next(), `message ${'07'.repeat(n)}08`);
  ws.close();
});

test('an answer that is not to our question', async () => {
  const { next, peer } = await pair(false);
  peer.on('error', () => {});
  assert.equal(await next(), 'close 1006 not a WebSocket at the other end');
});

test('a plain HTTP answer', async () => {
  const server = createServer((s) => s.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const ws = new NodeWebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/`, []);
  const reason = await new Promise((r) => (ws.onclose = (e) => r(e.reason)));
  assert.equal(reason, 'HTTP status 403 where a WebSocket was hoped for');
  server.close();
});
