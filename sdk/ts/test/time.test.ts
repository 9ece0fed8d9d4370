// Clocks that are set, timers that are late, machines that sleep.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { steady } from '../src/clock.js';
import { encode } from '../src/codec/frame.js';
import { LinkWay } from '../src/linkway.js';
import { within } from '../src/promises.js';
import type { CarrierEvents } from '../src/way.js';
import { House } from './support/house.js';
import { settle, VirtualClock } from './support/time.js';

test('time goes on in sleep, and never back', () => {
  let [wall, run] = [1_000_000, 50];
  const now = steady(
    () => wall,
    () => run,
  );
  const pass = (w: number, r: number) => {
    wall += w;
    run += r;
    return now() - 1_000_000;
  };
  assert.equal(pass(0, 0), 0);
  assert.equal(pass(100, 100), 100);
  assert.equal(pass(3600_000, 5), 3600_100, 'an hour of sleep, in which only the wall clock goes on');
  assert.equal(pass(-7200_000, 10), 3600_110, 'somebody has set the wall clock back');
  assert.equal(pass(10, 10), 3600_120);
  for (let i = 0; i < 1000; i++) pass(i % 2 ? 2 : 0, 1); // milliseconds are rounded
  assert.equal(pass(0, 0), 3601_120);
});

test('a promise that takes too long', async () => {
  const clock = new VirtualClock();
  const never = within(clock, 5000, 'this', new Promise(() => {}));
  const refused = assert.rejects(never, /this took longer than 5 s/);
  await clock.pass(5000);
  await refused;
  assert.equal(await within(clock, 5000, '', Promise.resolve(7)), 7);
});

test('after the machine has slept it is looked at once whether the connection is there', async () => {
  const house = new House();
  await settle();
  house.last.welcome();
  await house.clock.pass(3600_000);
  assert.deepEqual(house.last.done, []);
  house.clock.sleep(3600_000);
  await house.clock.pass(10_000);
  assert.deepEqual(house.last.done, ['check']);
  // In the background timers are late anyway, and on leaving it is looked.
  house.client.setBackground(true);
  house.clock.sleep(3600_000);
  await house.clock.pass(60_000);
  assert.deepEqual(house.last.done, ['check']);
  house.client.setBackground(false);
  assert.deepEqual(house.last.done, ['check', 'check']);
  await house.client.close();
});

test('after sleep an attempt is not waited for that may be on a network that is gone', async () => {
  const house = new House();
  await settle();
  assert.equal(house.connections.length, 1);
  house.clock.sleep(60_000);
  await house.clock.pass(10_000);
  assert.equal(house.connections[0]!.open, false);
  assert.equal(house.connections.length, 2);
  await house.client.close();
});

test('a token that does not come is not waited for without end', async () => {
  let asked = 0;
  const house = new House({ credentials: { token: () => (++asked === 1 ? new Promise(() => {}) : Promise.resolve('t')) } });
  const states: string[] = [];
  house.client.on('state', (s) => states.push(`${s.state} ${s.reason?.code ?? ''}`));
  await house.clock.pass(31_000);
  assert.deepEqual(states, ['connecting ', 'waiting token', 'connecting ']);
  assert.equal(house.last.login.token, 't');
  await house.client.close();
});

for (const [what, sleep, verdict] of [['in time', 0, 'silent'], ['after the machine has slept', 3600_000, 'unrelated']] as const) {
  test(`a probe that asks ${what} and is not answered`, async () => {
    const clock = new VirtualClock();
    let server: CarrierEvents | undefined;
    const way = new LinkWay('tcp', {
      clock, prefix: 'k', agent: '', maxMessage: 1 << 20,
      dial: (on) => {
        server = on;
        return { send: () => {}, close: () => {} };
      },
    });
    const ends: string[] = [];
    way.probe({ user: 'alice', password: 'secret' }, 60_000, { ended: (how) => ends.push(how), trace: () => {} });
    server!.open();
    server!.data(encode({ type: 'welcome', major: 1, minor: 0, interval: 60_000 }));
    await clock.pass(30_000);
    clock.sleep(sleep);
    await clock.pass(40_000);
    assert.deepEqual(ends, [verdict]);
  });
}
