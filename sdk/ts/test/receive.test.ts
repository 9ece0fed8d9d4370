// What an application is given, in a loop and otherwise.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Heartbeats } from '../src/heartbeat.js';
import { withRecent } from '../src/recent.js';
import { memoryStore } from '../src/store/memory.js';
import { ClosedError } from '../src/types.js';
import { House, message } from './support/house.js';
import { settle } from './support/time.js';

test('a loop is done with a message when it asks for the next', async () => {
  const store = memoryStore();
  const house = new House({ store });
  const seen: number[] = [];
  let next = () => {};
  const looping = (async () => {
    for await (const m of house.client.messages()) {
      seen.push(m.seq);
      await new Promise<void>((resolve) => (next = resolve));
    }
  })();
  await settle();
  house.last.welcome();
  for (let n = 1; n <= 3; n++) house.last.owner.message(message(n));
  await settle();
  assert.deepEqual([seen, house.last.done], [[1], []]);
  next();
  await settle();
  assert.deepEqual([seen, house.last.done], [[1, 2], ['handled 1']]);
  // Closed while it is busy with the second: that is waited for, and the third not begun.
  const closed = house.client.close();
  next();
  await closed;
  await looping;
  assert.deepEqual([seen, house.last.done], [[1, 2], ['handled 1', 'handled 2', 'close']]);
  assert.equal((await store.load()).state.place, 2);
});

test('what a loop is left with comes again', async () => {
  const house = new House();
  await settle();
  house.last.welcome();
  for (let n = 1; n <= 2; n++) house.last.owner.message(message(n));
  for await (const m of house.client.messages()) if (m.seq === 1) break;
  await settle();
  assert.deepEqual(house.last.done, []);
  const seen: number[] = [];
  house.client.onMessage((m) => void seen.push(m.seq));
  await settle();
  assert.deepEqual([seen, house.last.done], [[1, 2], ['handled 1', 'handled 2']]);
  await house.client.close();
});

test('what will not come is told once, also to the next program', async () => {
  const store = memoryStore();
  const gaps: string[] = [];
  const begin = async () => {
    const house = new House({ store });
    house.client.on('gap', (g) => gaps.push(`${g.after} ${g.before}`));
    await settle();
    house.last.welcome();
    return house;
  };
  let house = await begin();
  house.last.owner.gap(5); // with nothing before it to be handled
  await settle();
  assert.deepEqual([gaps, (await store.load()).state.place], [['0 6'], 5]);
  // What came before it is handled first.
  let done = () => {};
  house.client.onMessage(() => new Promise<void>((resolve) => (done = resolve)));
  house.last.owner.message(message(6));
  await settle();
  house.last.owner.gap(9);
  await settle();
  assert.deepEqual([gaps, (await store.load()).state.place, house.last.done], [['0 6', '6 10'], 5, []]);
  done();
  await settle();
  assert.deepEqual([(await store.load()).state.place, house.last.done], [9, ['handled 9']]);
  await house.client.close();
  house = await begin();
  assert.equal(house.last.login.after, 9);
  await house.client.close();
});

test('a loop throws when the server does not want the client', async () => {
  const house = new House();
  const looping = (async () => {
    for await (const _ of house.client.messages());
  })();
  const denied = assert.rejects(looping, (e) => e instanceof ClosedError && e.code === 'denied');
  const never = assert.rejects(house.client.connected(), ClosedError);
  await settle();
  house.last.owner.ended({ told: true, code: 'denied', text: '' }, []);
  await denied;
  await never;
  await assert.rejects(house.client.connected(), ClosedError);
});

test('connected is waited for', async () => {
  const house = new House();
  const first = house.client.connected();
  await settle();
  house.last.welcome();
  await first;
  await house.client.connected();
  await house.client.close();
});

test('functions of the application that throw are told, and stop nothing', async () => {
  const house = new House({
    trace: () => {
      throw new Error('trace');
    },
    showTo: () => {
      throw new Error('showTo');
    },
  });
  const errors: string[] = [];
  house.client.on('error', (e) => errors.push(String(e)));
  await settle();
  house.last.welcome();
  house.last.owner.trace(() => 'a line');
  house.last.owner.signalled({ from: 'bob@localhost', device: 'pad', kind: 'ask', data: new Uint8Array(0) });
  assert.deepEqual(errors, ['Error: trace', 'Error: showTo']);
  await house.client.close();
});

test('of networks the last are known, and not all that there ever were', () => {
  let table: Record<string, number> | undefined;
  for (let i = 0; i < 1000; i++) table = withRecent(table, `wifi ${i % 100}`, i);
  assert.equal(Object.keys(table!).length, 64);
  assert.equal(table!['wifi 99'], 999);
  assert.equal(table!['wifi 35'], undefined);
  const beats = new Heartbeats({}, 0);
  for (let i = 0; i < 200; i++) {
    beats.on(`wifi ${i}`, 0);
    beats.ended(29 * 60_000, 'survived', 0);
  }
  assert.equal(Object.keys(beats.findings).length, 64);
});
