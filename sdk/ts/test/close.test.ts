// The end of a client: what is waited for, and that nothing is left.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

import { Client } from '../src/client.js';
import { encode } from '../src/codec/frame.js';
import { LinkWay } from '../src/linkway.js';
import { PollWay } from '../src/pollway.js';
import { memoryStore } from '../src/store/memory.js';
import { House, message } from './support/house.js';
import { here } from './support/paths.js';
import { settle, VirtualClock } from './support/time.js';

test('the message that is being handled is waited for, kept and acknowledged, and no other is begun', async () => {
  const store = memoryStore();
  const house = new House({ store });
  const handled: number[] = [];
  let done = () => {};
  house.client.onMessage(async (m) => {
    await new Promise<void>((resolve) => (done = resolve));
    handled.push(m.seq);
  });
  await settle();
  house.last.welcome();
  house.last.owner.message(message(1));
  house.last.owner.message(message(2));
  let closed = false;
  const over = house.client.close().then(() => (closed = true));
  assert.equal(house.client.close(), house.client.close(), 'it is closed once');
  await house.clock.pass(1000);
  assert.equal(closed, false);
  done();
  await over;
  assert.deepEqual(handled, [1]);
  assert.deepEqual(house.last.done, ['handled 1', 'close']);
  assert.equal((await store.load()).state.place, 1);
});

test('a handler that closes the client is not waited for without end', async () => {
  const store = memoryStore();
  const house = new House({ store });
  house.client.onMessage(() => house.client.close());
  await settle();
  house.last.welcome();
  house.last.owner.message(message(1));
  await house.clock.pass(2000);
  assert.equal(house.client.state.state, 'closed');
  assert.equal((await store.load()).state.place, undefined, 'so it comes again');
});

test('a look for a better way is given up', async () => {
  const clock = new VirtualClock();
  const lines: { open: boolean }[] = [];
  const better = new LinkWay('websocket', {
    clock, prefix: 'k', agent: '', maxMessage: 1 << 20,
    dial: (on) => {
      const line = { open: true };
      lines.push(line);
      if (lines.length === 1) queueMicrotask(() => on.closed('refused'));
      else queueMicrotask(() => on.open());
      return { send: () => {}, close: () => (line.open = false) };
    },
  });
  const json = (body: unknown) => new Response(JSON.stringify(body), { headers: { 'Content-Type': 'application/json' } });
  const fetch = ((url: string) => (url.includes('presence') ? Promise.resolve(json({ user: 'alice@localhost' })) : new Promise(() => {}))) as unknown as typeof globalThis.fetch;
  let tokens = 0;
  const client = new Client(
    { credentials: { token: () => (++tokens < 3 ? Promise.resolve('t') : new Promise(() => {})) }, device: 'phone', network: '', store: memoryStore(), trace: undefined },
    { ways: [better, new PollWay({ base: 'http://localhost', clock, fetch })], clock, random: () => 0.5, prefix: 'k' },
  );
  await clock.pass(6000);
  assert.equal(client.state.way, 'poll');
  assert.deepEqual(lines, [{ open: false }, { open: true }], 'the better way is open, and waits for a token');
  await client.close();
  assert.deepEqual(lines, [{ open: false }, { open: false }]);
});

/** A server that takes connections, says what it is to say, and then is as if it were not there. */
async function deaf(hello: (request: string) => Uint8Array | string): Promise<{ port: number; end: () => void }> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (s) => {
    sockets.push(s);
    s.on('error', () => {});
    s.once('data', (b: Buffer) => {
      s.write(hello(b.toString('latin1')));
      s.pause();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const end = () => {
    for (const s of sockets) s.destroy();
    server.close();
  };
  return { port: (server.address() as AddressInfo).port, end };
}

const welcome = Uint8Array.from(encode({ type: 'welcome', major: 1, minor: 0, address: 'alice@localhost', interval: 60_000, inflight: 100, peers: 4 }));
const upgrade = (request: string): string => {
  const key = /^sec-websocket-key: (.*)$/im.exec(request)![1]!.trim();
  const accept = createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`;
};
const big = "c.send({ to: 'bob', data: new Uint8Array(4 << 20) });"; // more than fits on the way
const ends: Record<string, [url: string, hello: (request: string) => Uint8Array | string, then: string]> = {
  'while it greets': ['link', () => '', "setTimeout(() => c.close(), 100)"],
  'with a server that has died under a large message': ['link', () => welcome, `c.on('state', (s) => { if (s.state === 'online') { ${big} setTimeout(() => c.close(), 200); } })`],
  'with a WebSocket that nobody closes': ['ws', upgrade, 'setTimeout(() => c.close(), 200)'],
  'while a WebSocket is being opened': ['ws', () => '', 'setTimeout(() => c.close(), 100)'],
  'during a TLS handshake that nobody answers': ['links', () => '', 'setTimeout(() => c.close(), 100)'],
};
for (const [what, [scheme, hello, then]] of Object.entries(ends)) {
  test(`a program that closes its client ends, ${what}`, { timeout: 60_000 }, async (t) => {
    const server = await deaf(hello);
    const source = `
      import { connect } from ${JSON.stringify(pathToFileURL(join(here, 'build', 'src', 'node', 'index.js')).href)};
      const c = connect({ url: '${scheme}://127.0.0.1:${server.port}', user: 'alice', password: 'secret' });
      ${then};`;
    const program = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: ['ignore', 'inherit', 'inherit'] });
    t.after(() => {
      program.kill('SIGKILL');
      server.end();
    });
    const [code] = (await once(program, 'exit')) as [number];
    assert.equal(code, 0);
  });
}
