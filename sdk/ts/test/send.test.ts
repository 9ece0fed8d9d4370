// What an application may hand over to be sent, and what it is told.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { memoryStore } from '../src/store/memory.js';
import type { Entry } from '../src/store/store.js';
import { ClosedError, type Draft, RefusedError } from '../src/types.js';
import { House } from './support/house.js';
import { settle } from './support/time.js';

const wrong: Record<string, unknown> = {
  'no recipient': { body: 'x' },
  'an empty recipient': { to: '', body: 'x' },
  'a number as body': { to: 'bob', body: 5 },
  'text as data': { to: 'bob', data: 'x' },
  'body and data': { to: 'bob', body: 'x', data: new Uint8Array(1) },
  'an empty id': { to: 'bob', id: '' },
  'a number as id': { to: 'bob', id: 7 },
  'a type that is none': { to: 'bob', type: 1 },
  'an urgency that there is not': { to: 'bob', urgency: 'very high' },
  'attributes as an object': { to: 'bob', attrs: { a: 'b' } },
  'an attribute without a value': { to: 'bob', attrs: [['a']] },
  'an attribute that is a number': { to: 'bob', attrs: [['a', 1]] },
  'an expiry in the past': { to: 'bob', expires: 0 },
  'an expiry without end': { to: 'bob', expires: Infinity },
  'an expiry that is no number': { to: 'bob', expires: NaN },
};
for (const [what, draft] of Object.entries(wrong)) {
  test(`${what} is refused before it is queued`, async () => {
    const { client } = new House();
    await assert.rejects(client.send(draft as Draft), TypeError);
    assert.equal(client.pending, 0);
    await client.close();
  });
}

test('a draft may be changed after it was handed over', async () => {
  const house = new House();
  const draft = { to: 'bob', data: Uint8Array.of(1), attrs: [['a', 'b']] as [string, string][] };
  const sent = house.client.send(draft);
  draft.data[0] = 2;
  draft.attrs[0]![1] = 'c';
  await settle();
  house.last.welcome();
  const [e] = house.last.taken;
  assert.deepEqual([e!.data, e!.attrs], [Uint8Array.of(1), [['a', 'b']]]);
  house.last.owner.stored(e!, 1, false);
  assert.deepEqual(await sent, { id: 'k.1', seq: 1, duplicate: false });
  await house.client.close();
});

test('an id that is queued already', async () => {
  const house = new House();
  const first = house.client.send({ to: 'bob', body: 'one', id: 'x' });
  await assert.rejects(house.client.send({ to: 'bob', body: 'two', id: 'x' }), RangeError);
  assert.equal(house.client.pending, 1);
  await settle();
  house.last.welcome();
  assert.equal(house.last.taken.length, 1);
  house.last.owner.stored(house.last.taken[0]!, 1, false);
  assert.equal((await first).id, 'x');
  const again = house.client.send({ to: 'bob', body: 'one', id: 'x' }); // it is answered: the server says what it was
  await settle();
  house.last.owner.stored(house.last.taken[1]!, 1, true);
  assert.equal((await again).duplicate, true);
  await house.client.close();
});

test('nobody need wait for the promise of a message', async () => {
  const unhandled: unknown[] = [];
  const hear = (e: unknown) => unhandled.push(e);
  process.on('unhandledRejection', hear);
  const failing = { ...memoryStore(), put: () => Promise.reject(new Error('disk full')) };
  const told: string[] = [];
  const one = new House({ store: failing });
  one.client.on('error', (e) => told.push(String(e)));
  void one.client.send({ to: 'bob', body: 'x' });
  const two = new House();
  two.client.on('refused', (e) => told.push(e.message));
  void two.client.send({ to: 'nobody', body: 'x' });
  void two.client.send({ to: 'bob', body: 'x' });
  await settle();
  two.last.welcome();
  two.last.owner.refused(two.last.taken[0]!, 'unknown-recipient', '');
  await settle();
  await one.client.close();
  await two.client.close();
  void two.client.send({ to: 'bob', body: 'x' });
  await settle();
  process.off('unhandledRejection', hear);
  assert.deepEqual(told, ['Error: disk full', 'refused: unknown-recipient']);
  assert.deepEqual(unhandled, []);
});

test('what a promise is rejected with', async () => {
  const house = new House();
  const sent = [house.client.send({ to: 'nobody' }), house.client.send({ to: 'bob' })] as const;
  await settle();
  house.last.welcome();
  house.last.owner.refused(house.last.taken[0]!, 'unknown-recipient', 'no such recipient');
  await assert.rejects(sent[0], (e) => e instanceof RefusedError && e.code === 'unknown-recipient' && e.id === 'k.1');
  const closed = assert.rejects(sent[1], (e) => e instanceof ClosedError && e.code === 'done');
  await house.client.close();
  await closed;
  await assert.rejects(house.client.send({ to: 'bob' }), ClosedError);
});

test('a signal ends the waiting, not the message', async () => {
  const house = new House();
  const stop = new AbortController();
  const sent = house.client.send({ to: 'bob', body: 'x' }, { signal: stop.signal });
  stop.abort(new Error('enough'));
  await assert.rejects(sent, /enough/);
  assert.equal(house.client.pending, 1);
  await assert.rejects(house.client.send({ to: 'bob', body: 'y' }, { signal: stop.signal }), /enough/);
  assert.equal(house.client.pending, 1, 'it was not even begun');
  await settle();
  house.last.welcome();
  house.last.owner.stored(house.last.taken[0]!, 1, false);
  assert.equal(house.client.pending, 0);
  await house.client.close();
});

test('a store that cannot be loaded', async () => {
  const house = new House({ store: { ...memoryStore(), load: () => Promise.reject(new Error('no such disk')) } });
  const states: string[] = [];
  house.client.on('state', (s) => states.push(`${s.state} ${s.reason?.code}`));
  await assert.rejects(house.client.send({ to: 'bob' }), (e) => e instanceof ClosedError && e.code === 'store' && /no such disk/.test(e.message));
  assert.deepEqual(states, ['closed store']);
  assert.equal(house.connections.length, 0);
});

test('a store that is being loaded when the client is closed', async () => {
  const house = new House({ store: { ...memoryStore(), load: () => new Promise(() => {}) } });
  const sent = assert.rejects(house.client.send({ to: 'bob' }), ClosedError);
  await settle();
  assert.equal(house.client.pending, 1);
  await house.client.close();
  await sent;
});

test('a queue of 200,000, which an earlier program left, in order', async () => {
  const store = memoryStore();
  const entry = (id: string): Entry => ({ id, to: 'bob', type: '', data: new Uint8Array(0), urgency: 'normal', expires: 0, attrs: [] });
  const n = 200_000;
  for (let i = 0; i < n; i++) await store.put(entry(`${i}`));
  const house = new House({ store });
  const queued: string[] = [];
  house.client.on('queued', (id) => queued.push(id));
  void house.client.send({ to: 'bob', body: 'last' });
  await settle();
  assert.equal(house.client.pending, n + 1);
  assert.deepEqual(queued, ['k.1']);
  house.last.welcome();
  assert.equal(house.last.taken.length, n + 1);
  assert.ok(house.last.taken.every((e, i) => e.id === (i < n ? `${i}` : 'k.1')));
  await house.client.close();
});
