// Long poll behind a proxy that lets no request take long.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Client } from '../src/client.js';
import { PollWay } from '../src/pollway.js';
import { memoryStore } from '../src/store/memory.js';
import { VirtualClock } from './support/time.js';

test('a poll that is cut is held less long from then on, and nothing is lost', async () => {
  const clock = new VirtualClock();
  const limit = 5000; // of the proxy
  const holds: number[] = [];
  let seq = 0; // of the last message that the server has
  let acked = 0;
  const answer = (body: unknown) => new Response(JSON.stringify(body), { headers: { 'Content-Type': 'application/json' } });
  const inbox = (after: number) => {
    const messages = Array.from({ length: seq - after }, (_, i) => {
      const n = after + i + 1;
      return { seq: n, prev: n - 1, id: `m${n}`, from: 'alice@localhost', to: 'bob@localhost', time: '2000-01-01T00:00:00Z', type: 'text/plain', body: `${n}` };
    });
    return answer({ messages, next: `${seq}` });
  };
  const fetch = (async (input: string) => {
    const u = new URL(input);
    if (u.pathname !== '/v1/inbox') return answer({ user: 'bob@localhost' });
    const hold = Number(u.searchParams.get('wait')) * 1000;
    acked = Math.max(acked, Number(u.searchParams.get('after') ?? 0));
    if (seq > acked) return inbox(acked);
    holds.push(hold / 1000);
    return new Promise<Response>((resolve, reject) => {
      if (hold < limit) clock.timer(hold, () => resolve(inbox(acked)));
      else clock.timer(limit, () => reject(new TypeError('fetch failed')));
    });
  }) as unknown as typeof globalThis.fetch;

  const client = new Client(
    { credentials: { user: 'bob', password: 'secret' }, device: 'phone', network: '', store: memoryStore(), trace: undefined },
    { ways: [new PollWay({ base: 'http://localhost', clock, fetch })], clock, random: () => 0.5, prefix: 'k' },
  );
  const states: string[] = [];
  const bodies: string[] = [];
  client.on('state', (s) => states.push(s.state));
  client.onMessage((m) => void bodies.push(m.body));
  for (let i = 0; i < 30; i++) {
    await clock.pass(1700);
    seq++;
  }
  await clock.pass(60_000);
  assert.deepEqual(states, ['connecting', 'online']);
  assert.deepEqual(bodies, Array.from({ length: 30 }, (_, i) => `${i + 1}`));
  assert.equal(acked, 30);
  assert.deepEqual(holds.slice(0, 3), [50, 3, 3]);
  await client.close();
});

test('when the network may have changed the poll that is held is given up, and one is answered at once', async () => {
  const clock = new VirtualClock();
  const asked: string[] = [];
  let dead = false;
  const fetch = ((input: string, init: RequestInit) => {
    const u = new URL(input);
    asked.push(u.searchParams.get('wait') ?? u.pathname);
    return new Promise<Response>((resolve, reject) => {
      init.signal!.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
      const answer = () => resolve(new Response(JSON.stringify({ user: 'bob@localhost', messages: [], next: '' }), { headers: { 'Content-Type': 'application/json' } }));
      if (!dead) clock.timer(Number(u.searchParams.get('wait') ?? 0) * 1000, answer);
    });
  }) as unknown as typeof globalThis.fetch;
  const client = new Client(
    { credentials: { user: 'bob', password: 'secret' }, device: 'phone', network: '', store: memoryStore(), trace: undefined },
    { ways: [new PollWay({ base: 'http://localhost', clock, fetch })], clock, random: () => 0.5, prefix: 'k' },
  );
  const states: string[] = [];
  client.on('state', (s) => states.push(`${s.state} ${s.again ?? ''}`));
  await clock.pass(10_000);
  client.networkChanged();
  await clock.pass(1000);
  assert.deepEqual(asked, ['/v1/presence', '50', '0', '50']);
  assert.deepEqual(states, ['connecting ', 'online ']);
  dead = true;
  client.networkChanged();
  await clock.pass(4999);
  assert.equal(states.length, 2);
  await clock.pass(1);
  assert.deepEqual(states.slice(2), ['waiting 0', 'connecting ']);
  await client.close();
});

test('who asks again and again whether the server is there hears its answer', async () => {
  const clock = new VirtualClock();
  const asked: string[] = [];
  const fetch = ((input: string, init: RequestInit) => {
    const u = new URL(input);
    const wait = u.searchParams.get('wait') ?? '0';
    asked.push(wait);
    const [body, status] = u.pathname === '/v1/inbox' && wait === '0' ? [{ type: 'urn:posthouse:problem:token-expired' }, 401] : [{ user: 'bob@localhost' }, 200];
    return new Promise<Response>((resolve, reject) => {
      init.signal!.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
      const answer = () => resolve(new Response(JSON.stringify(body), { status, headers: { 'Content-Type': 'application/json' } }));
      clock.timer(300 + Number(wait) * 1000, answer);
    });
  }) as unknown as typeof globalThis.fetch;
  const client = new Client(
    { credentials: { token: 't' }, device: 'phone', network: '', store: memoryStore(), trace: undefined },
    { ways: [new PollWay({ base: 'http://localhost', clock, fetch })], clock, random: () => 0.5, prefix: 'k' },
  );
  const states: string[] = [];
  client.on('state', (s) => states.push(`${s.state} ${s.reason?.code ?? ''}`));
  await clock.pass(1000);
  for (let i = 0; i < 10; i++) {
    client.networkChanged();
    await clock.pass(100);
  }
  assert.deepEqual(asked, ['0', '50', '0']);
  assert.deepEqual(states, ['connecting ', 'online ', 'closed expired']);
  await client.close();
});
